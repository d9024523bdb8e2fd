//! `unshed ps`: the CPython processes of this host, and whether hooks would see everything in them.

use std::fmt::Write;

use tracer_common::domain::Domain;

use crate::error::Result;
use crate::probe::sites::{self, How, Wish};
use crate::report::plain;
use crate::report::processes::{self, ProcessRow};
use crate::target::process::Process;
use crate::target::python::Python;
use crate::target::{self, PythonRow};

/// The domains that a plain `unshed record` hooks.
const DOMAINS: [Domain; 3] = [Domain::Object, Domain::Mem, Domain::Raw];

/// The table, or the same as JSON.
pub(super) fn table(as_json: bool) -> Result<String> {
    let rows = target::list(judge);
    if as_json {
        return processes::write(&rows.iter().map(facts).collect::<Vec<_>>());
    }
    let mut text = String::new();
    let _ = writeln!(text, "{:>7}  {:<8} {:<8} {:<10} COMMAND", "PID", "PYTHON", "BUILD", "HOOKS");
    for row in &rows {
        let hooks = if row.complete { "complete" } else { "INCOMPLETE" };
        let version = row.version.to_string();
        let _ = writeln!(
            text,
            "{:>7}  {version:<8} {:<8} {hooks:<10} {}",
            row.pid,
            row.build,
            plain::clean(&row.command.join(" "))
        );
        if !row.complete {
            let _ = writeln!(text, "{:>7}  {}", "", row.reason);
        }
    }
    if rows.is_empty() {
        text.push_str("no CPython process was found; those of other users are seen by root only\n");
    }
    Ok(text)
}

fn facts(row: &PythonRow) -> ProcessRow {
    ProcessRow {
        pid: row.pid,
        python: row.version.to_string(),
        build: row.build.clone(),
        complete: row.complete,
        reason: row.reason.clone(),
        command: row.command.clone(),
    }
}

/// What hooks would be on a Python.
fn judge(process: &Process, python: &Python) -> target::Judgement {
    let build = python.flavour.to_string();
    let wish = Wish { live: Some(process), domains: &DOMAINS, ints: false, libc: None, how: How::Sites };
    match sites::plan(python, &wish) {
        Ok(plan) => (build, plan.completeness.complete, plan.completeness.reason),
        Err(error) => (build, false, error.to_string().replace('\n', "; ")),
    }
}
