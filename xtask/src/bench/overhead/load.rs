//! The workloads, and one of them at work: told to work through a phase, it says what it did.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::phase::Phase;
use crate::bench::interpreter::Interpreter;
use crate::run::{self, Guarded};

/// One workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// In `tests/programs`.
    script: &'static str,
    /// Whether it is made of a program of pyperformance, which has to be installed.
    pub(crate) is_of_pyperformance: bool,
}

const fn own(name: &'static str) -> Workload {
    Workload { name, script: "load.py", is_of_pyperformance: false }
}

const fn pyperformance(name: &'static str) -> Workload {
    Workload { name, script: "load.py", is_of_pyperformance: true }
}

/// The workloads, in the order of their table.
pub(crate) const ALL: [Workload; 13] = [
    own("json"),
    own("class"),
    own("template"),
    own("float"),
    own("dictlist"),
    own("strings"),
    own("generators"),
    own("coroutines"),
    Workload { name: "http", script: "load_http.py", is_of_pyperformance: false },
    pyperformance("chaos"),
    pyperformance("deltablue"),
    pyperformance("raytrace"),
    pyperformance("richards"),
];

/// How long it may take to start, and to end a phase beyond its length.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where pyperformance keeps its programs, from the folder of packages on.
const PROGRAMS: &str = "pyperformance/data-files/benchmarks";

/// A process that works on demand.
pub(crate) trait Worker {
    /// The process id of what is traced.
    fn pid(&self) -> u32;

    /// Begins to work for so many seconds.
    fn begin(&mut self, phase: &str, seconds: f64) -> Result<()>;

    /// Waits for the end of what was begun.
    fn end(&mut self) -> Result<Phase>;

    /// Works for so many seconds.
    fn work(&mut self, phase: &str, seconds: f64) -> Result<Phase> {
        self.begin(phase, seconds)?;
        self.end()
    }
}

/// A running workload.
pub(crate) struct Load {
    child: Guarded,
    orders: ChildStdin,
    answers: Receiver<String>,
    patience: Duration,
}

impl Load {
    /// Starts a workload and waits until it is ready; `packages` is the folder of packages that it may import.
    pub(crate) fn start(workload: &Workload, python: &Interpreter, packages: Option<&Path>) -> Result<Self> {
        let script = run::root().join("tests/programs").join(workload.script);
        let mut command = python.command();
        command.arg("-u").arg(&script).arg(workload.name).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(packages) = packages {
            command.arg(packages.join(PROGRAMS)).env("PYTHONPATH", packages);
        }
        let child = run::preferred(&mut command);
        let mut child = Guarded(child.with_context(|| format!("cannot start {}", script.display()))?);
        let pipes = child.0.stdin.take().zip(child.0.stdout.take());
        let (orders, stdout) = pipes.context("it has no pipes")?;
        let load = Self { child, orders, answers: run::lines_of(stdout), patience: PATIENCE };
        let greeting = load.answers.recv_timeout(PATIENCE).context("it does not get ready")?;
        if greeting.starts_with("READY") { Ok(load) } else { bail!("it said {greeting:?}, not READY") }
    }
}

impl Worker for Load {
    fn pid(&self) -> u32 {
        self.child.0.id()
    }

    fn begin(&mut self, phase: &str, seconds: f64) -> Result<()> {
        self.patience = PATIENCE + Duration::from_secs_f64(seconds);
        writeln!(self.orders, "measure {phase} {seconds}").context("the workload has ended")
    }

    fn end(&mut self) -> Result<Phase> {
        let line = self.answers.recv_timeout(self.patience).context("the workload does not end a phase")?;
        Phase::parse(&line)
    }
}

/// One works, and another process of the same interpreter's file is traced: what the first pays for that.
pub(crate) struct Beside {
    pub(crate) works: Load,
    pub(crate) traced: Load,
}

impl Worker for Beside {
    fn pid(&self) -> u32 {
        self.traced.pid()
    }

    fn begin(&mut self, phase: &str, seconds: f64) -> Result<()> {
        self.works.begin(phase, seconds)
    }

    fn end(&mut self) -> Result<Phase> {
        self.works.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python;

    #[test]
    fn every_workload_of_our_own_keeps_the_protocol() {
        let found = python::found();
        let python = Interpreter::as_is(found.first().expect("there is a CPython 3.11"));
        for workload in ALL.iter().filter(|workload| !workload.is_of_pyperformance) {
            let mut load = Load::start(workload, &python, None).expect("it starts");
            let phase = load.work("a", 0.05).expect("it works");
            assert!(phase.wall_seconds >= 0.05 && phase.latency.max >= phase.latency.p50, "{phase:?}");
        }
    }
}
