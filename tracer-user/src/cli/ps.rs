//! `unshed ps`: the CPython processes of this host, and whether hooks would see everything in them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::PathBuf;

use tracer_common::domain::Domain;

use crate::error::Result;
use crate::probe::sites::allocators::Table;
use crate::probe::sites::{self, How, Purpose, Wish};
use crate::report::plain;
use crate::report::processes::{self, ProcessRow};
use crate::session::home;
use crate::target::memory::Memory;
use crate::target::process::Process;
use crate::target::python::Python;
use crate::target::{self, PythonRow};

/// The domains that a plain `unshed record` hooks.
const DOMAINS: [Domain; 3] = [Domain::Object, Domain::Mem, Domain::Raw];

/// The column that says where a process lives, if that is not where we do: its container, service, root directory or id inside.
const HOME: &str = "LIVES IN";

/// The widest that this column gets.
const MOST_HOME: usize = 28;

/// The table, or the same as JSON.
pub(super) fn table(as_json: bool) -> Result<String> {
    let known = RefCell::new(Known::new());
    let rows = target::list(|process, python| judge(&mut known.borrow_mut(), process, python));
    if as_json {
        return processes::write(&rows.iter().map(facts).collect::<Vec<_>>());
    }
    let homes: Vec<String> = rows.iter().map(|row| home::of(&row.whereabouts).word()).collect();
    let room =
        homes.iter().map(|home| home.chars().count()).chain([HOME.len()]).max().unwrap_or(0).min(MOST_HOME);
    let mut text = String::new();
    let _ =
        writeln!(text, "{:>7}  {:<8} {:<8} {:<10} {HOME:<room$} COMMAND", "PID", "PYTHON", "BUILD", "HOOKS");
    for (row, home) in rows.iter().zip(&homes) {
        let hooks = if row.complete { "complete" } else { "INCOMPLETE" };
        let version = row.version.to_string();
        let _ = writeln!(
            text,
            "{:>7}  {version:<8} {:<8} {hooks:<10} {:<room$} {}",
            row.pid,
            row.build,
            plain::shorten(home, room),
            plain::clean(&row.command.join(" "))
        );
        if !row.complete {
            let _ = writeln!(text, "{:>7}  {}", "", row.reason);
        }
    }
    for (version, reason) in complete_builds(&rows) {
        let _ = writeln!(
            text,
            "{version}: hooks complete: {reason} (checked against the heap while a trace runs)"
        );
    }
    if rows.is_empty() {
        text.push_str("no CPython process was found; those of other users are seen by root only\n");
    }
    Ok(text)
}

/// What is complete and why, once for all the processes that share it.
fn complete_builds(rows: &[PythonRow]) -> BTreeSet<(String, &str)> {
    let complete = rows.iter().filter(|row| row.complete);
    complete.map(|row| (row.version.to_string(), row.reason.as_str())).collect()
}

fn facts(row: &PythonRow) -> ProcessRow {
    ProcessRow {
        pid: row.pid,
        python: row.version.to_string(),
        build: row.build.clone(),
        complete: row.complete,
        reason: row.reason.clone(),
        command: row.command.clone(),
        home: home::of(&row.whereabouts),
    }
}

/// What was found of a build with an allocator table: workers of one service have the same, and reading the code takes a moment.
type Known = HashMap<(PathBuf, Option<Vec<u8>>), Vec<(Table, target::Judgement)>>;

/// What hooks would be on a Python.
fn judge(known: &mut Known, process: &Process, python: &Python) -> target::Judgement {
    let table = Table::read(python, Some(&Memory::new(process.pid())));
    let build = (python.image.path.clone(), python.image.elf.build_id().map(<[u8]>::to_vec));
    let same = known.entry(build).or_default();
    // A build id is the file's; without one, another container's file of the same name may be another.
    let has_id = python.image.elf.build_id().is_some();
    if let Some((_, judgement)) = same.iter().find(|(other, _)| has_id && other.same_functions(&table)) {
        return judgement.clone();
    }
    let wish = Wish {
        live: Some(process),
        domains: &DOMAINS,
        ints: false,
        libc: None,
        how: How::Sites,
        purpose: Purpose::Trace,
    };
    let flavour = python.flavour.to_string();
    let judgement = match sites::plan(python, &wish) {
        Ok(plan) => (flavour, plan.completeness.complete, plan.completeness.reason),
        Err(error) => (flavour, false, error.to_string().replace('\n', "; ")),
    };
    same.push((table, judgement.clone()));
    judgement
}
