//! `layouts`: every offset that the product believes, held against real builds: their debug information, what they say of themselves, and their header files.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::target::layout::debug_offsets::{DebugOffsets, LENGTH};
use crate::target::layout::{self, Layout};
use crate::{no_arguments, run};

mod builds;
mod debug;
mod dwarf;
mod fields;
mod kinds;
mod probe;

use builds::Build;
use fields::{Fact, Facts, Field};

/// Where a table differs from a build.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    field: &'static str,
    table: u64,
    build: u64,
}

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("layouts", args)?;
    let builds = builds::found()?;
    let (mut failed, mut checked, mut seen) = (0, 0, BTreeSet::new());
    for build in &builds {
        let said = look(build).with_context(|| format!("cannot look at {build}"))?;
        let Some((facts, findings)) = said else { continue };
        // An executable of a shared build describes its `main` alone.
        if facts == 0 {
            continue;
        }
        checked += 1;
        seen.insert((build.minor, build.free_threaded));
        println!("{build}: {facts} facts, {} differ", findings.len());
        for Finding { field, table, build } in &findings {
            println!("  {field}: the table says {table}, the build {build}");
        }
        failed += findings.len();
    }
    for (minor, free_threaded) in (8..=15).flat_map(|minor| [(minor, false), (minor, true)]) {
        let known = table(minor, free_threaded).is_some();
        if known && !seen.contains(&(minor, free_threaded)) {
            let free = if free_threaded { " without the GIL" } else { "" };
            run::say(format!("no build or headers of 3.{minor}{free} were found: its table was not checked"));
        }
    }
    if failed > 0 {
        bail!("layouts: {failed} differences, in tracer-user/src/target/layout");
    }
    run::say(format!("layouts: {checked} builds and sets of headers agree with the tables"));
    Ok(())
}

fn table(minor: u8, free_threaded: bool) -> Option<&'static Layout> {
    if free_threaded { layout::of_free_threaded(3, minor) } else { layout::of(3, minor) }
}

/// How many facts a build tells, and which of them are others; `None` for a version without a table.
fn look(build: &Build) -> Result<Option<(usize, Vec<Finding>)>> {
    let Some(layout) = table(build.minor, build.free_threaded) else { return Ok(None) };
    match &build.source {
        builds::Source::Debug(path) => by_debug_information(path, build, layout).map(Some),
        builds::Source::Headers(folder) => {
            let made = probe::compiled(folder, build.minor, build.free_threaded)?;
            by_debug_information(made.path(), build, layout).map(Some)
        }
        builds::Source::Itself(path) => {
            let Some(bytes) = debug::runtime(path, LENGTH)? else { return Ok(None) };
            let told = DebugOffsets::read(&bytes, build.minor).map_err(anyhow::Error::msg)?;
            let differences = told.differences(layout).into_iter();
            let findings = differences
                .map(|found| Finding { field: found.name, table: found.table, build: found.told })
                .collect();
            Ok(Some((told.len(), findings)))
        }
    }
}

fn by_debug_information(path: &Path, build: &Build, layout: &Layout) -> Result<(usize, Vec<Finding>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let data = dwarf::Data::of(&bytes)?;
    let types = dwarf::Types::of(&data, &fields::wanted())?;
    let mut compared = compare(&types, build.minor, layout);
    // Where it describes `_Py_DebugOffsets`, the positions in that are held against it, too.
    for row in DebugOffsets::positions(build.minor) {
        if let Some(at) = types.fact(Fact::Offset("_Py_DebugOffsets", row.0)) {
            compared.0 += 1;
            if at != row.1 {
                compared.1.push(Finding { field: row.0, table: row.1, build: at });
            }
        }
    }
    Ok(compared)
}

/// The facts that a source tells of a version, and those of them that the table says otherwise.
fn compare(facts: &impl Facts, minor: u8, layout: &Layout) -> (usize, Vec<Finding>) {
    let (mut count, mut findings) = (0, Vec::new());
    for Field { name, ours, theirs } in fields::all() {
        let Some(table) = ours(layout) else { continue };
        let fact = theirs.iter().find(|(from, to, _)| (*from..=*to).contains(&minor)).map(|(.., fact)| *fact);
        let Some(build) = fact.and_then(|fact| facts.fact(fact)) else { continue };
        count += 1;
        if build != table {
            findings.push(Finding { field: name, table, build });
        }
    }
    (count, findings)
}

#[cfg(test)]
mod tests;
