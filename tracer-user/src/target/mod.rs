//! Who is traced: a process, its memory, its files, and the CPython in it. Nothing here writes to the target or stops it.

use crate::target::process::{Process, all_pids};
use crate::target::python::{Python, Version};
use crate::target::whereabouts::Whereabouts;

pub mod census;
pub mod cgroup;
pub mod current;
pub mod elf;
pub mod frame_table;
pub mod image;
pub mod layout;
pub mod maps;
pub mod modules;
pub mod memory;
pub mod process;
pub mod offsets;
pub mod program;
pub mod python;
pub mod recorded;
pub(crate) mod root;
pub mod survivors;
mod verified;
pub mod version;
pub mod whereabouts;

/// One CPython process of this host, as `unshed ps` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonRow {
    /// Its id in our PID namespace.
    pub pid: u32,
    /// Its version.
    pub version: Version,
    /// How it was built, as far as it matters for hooks; `"shared"` or `"static"` at least.
    pub build: String,
    /// Whether hooks would see every block.
    pub complete: bool,
    /// Why they would not, or what else there is to say; may be empty.
    pub reason: String,
    /// Its command line.
    pub command: Vec<String>,
    /// Where it lives.
    pub whereabouts: Whereabouts,
}

/// What hooks would be on a Python: build kind, complete or not, and the reason.
pub type Judgement = (String, bool, String);

/// The CPython processes of this host, by pid. What is unreadable or ends meanwhile is skipped.
///
/// Only processes with "python" in the name of their executable or of a mapped library are looked at, so that listing does not
/// read every program of the host. `judge` says what hooks would be on a Python of a supported version.
#[must_use]
pub fn list(judge: impl Fn(&Process, &Python) -> Judgement) -> Vec<PythonRow> {
    all_pids().into_iter().filter_map(|pid| row(pid, &judge)).collect()
}

fn row(pid: u32, judge: &impl Fn(&Process, &Python) -> Judgement) -> Option<PythonRow> {
    let process = Process::open(pid).ok()?;
    let named = |mapping: &maps::Mapping| mapping.file_name().to_ascii_lowercase().contains("python");
    if !process.mappings().ok()?.iter().any(named) {
        return None;
    }
    let python = Python::locate(&process).ok()?;
    let (build, complete, reason) = match python.layout_or("it") {
        Ok(_) => judge(&process, &python),
        Err(_) => (python.flavour.to_string(), false, refusal(&python)),
    };
    let unproven = python.unproven().map(str::to_owned);
    let reason = [unproven, Some(reason)].into_iter().flatten().filter(|said| !said.is_empty());
    let reason = reason.collect::<Vec<_>>().join("; ");
    Some(PythonRow {
        pid,
        version: python.version,
        build,
        complete,
        reason,
        command: process.command().to_vec(),
        whereabouts: Whereabouts::of(pid),
    })
}

fn refusal(python: &Python) -> String {
    match &python.offsets {
        offsets::Offsets::Unknown(Some(why)) => format!("CPython {} is not supported: {why}", python.version),
        _ => format!("CPython {} is not supported", python.version),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
