//! The workloads: Python programs that work for so many CPU-seconds when they are told to, and say what they did.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::contest::Target;
use super::figures::Run;
use super::interpreter::Interpreter;
use crate::run::{self, Guarded};

/// One workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// In `tests/programs`.
    script: &'static str,
    args: &'static [&'static str],
}

const SCRIPT: &str = "bench_workloads.py";

/// The workloads of the contest, in the order of its tables.
pub(crate) const ALL: [Workload; 7] = [
    Workload { name: "json", script: SCRIPT, args: &["json"] },
    Workload { name: "class", script: SCRIPT, args: &["class"] },
    Workload { name: "template", script: SCRIPT, args: &["template"] },
    Workload { name: "http", script: SCRIPT, args: &["http"] },
    Workload { name: "dictlist", script: SCRIPT, args: &["dictlist"] },
    Workload { name: "alloc", script: "bench_alloc.py", args: &[] },
    Workload { name: "realistic", script: "bench_realistic.py", args: &[] },
];

/// Churn at the end of a stack of so many Python frames, for the price of a hit.
pub(crate) const DEPTHS: [(u32, Workload); 3] = [
    (5, Workload { name: "depth 5", script: SCRIPT, args: &["depth", "5"] }),
    (20, Workload { name: "depth 20", script: SCRIPT, args: &["depth", "20"] }),
    (60, Workload { name: "depth 60", script: SCRIPT, args: &["depth", "60"] }),
];

/// The same under so many C frames, evaluators included, give or take five; `gdb` counts 10, 28 and 58 with pyenv's 3.11.7 and 12, 27 and 52 with Debian's.
pub(crate) const C_DEPTHS: [(u32, Workload); 3] = [
    (10, Workload { name: "10 C frames", script: SCRIPT, args: &["falls", "1"] }),
    (30, Workload { name: "30 C frames", script: SCRIPT, args: &["falls", "4"] }),
    (60, Workload { name: "60 C frames", script: SCRIPT, args: &["falls", "9"] }),
];

/// How long a workload may take to start, and to end a run that was too slow once nothing disturbs it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one run may last by the clock: its CPU-seconds are below one, and a busy machine shares its processors.
const RUN_PATIENCE: Duration = Duration::from_secs(20);

/// A running workload: told `run SECONDS`, it works that long and answers with one line of JSON.
pub(crate) struct Working {
    child: Guarded,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Working {
    /// Starts a workload and waits until it is ready.
    pub(crate) fn start(workload: &Workload, python: &Interpreter) -> Result<Self> {
        let script = run::root().join("tests/programs").join(workload.script);
        if !script.is_file() {
            bail!("there is no {}", script.display());
        }
        let mut command = python.command();
        command.arg("-u").arg(script).args(workload.args).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::spawn(&mut command).with_context(|| format!("workload {}", workload.name))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = Guarded(run::dying_with_us(command).spawn().context("cannot start")?);
        let pipes = child.0.stdin.take().zip(child.0.stdout.take());
        let (orders, stdout) = pipes.context("it has no pipes")?;
        let working = Self { child, orders, answers: run::lines_of(stdout) };
        let greeting = working.answers.recv_timeout(PATIENCE).context("it does not get ready")?;
        if greeting.starts_with("READY") { Ok(working) } else { bail!("it said {greeting:?}, not READY") }
    }
}

impl Target for Working {
    fn pid(&self) -> u32 {
        self.child.0.id()
    }

    fn run(&mut self, seconds: f64) -> Result<Option<Run>> {
        writeln!(self.orders, "run {seconds}").context("the workload has ended")?;
        match self.answers.recv_timeout(RUN_PATIENCE) {
            Ok(line) => parse_run(&line).map(Some).with_context(|| format!("the workload answered {line:?}")),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the workload has ended in the middle of a run"),
        }
    }

    fn catch_up(&mut self) -> Result<()> {
        self.answers.recv_timeout(PATIENCE).context("the workload does not end a run any more")?;
        Ok(())
    }
}

fn parse_run(line: &str) -> Option<Run> {
    let value: Value = serde_json::from_str(line).ok()?;
    let field = |name| value.get(name).and_then(Value::as_f64).filter(|n| *n > 0.0);
    Some(Run { work: field("work")?, cpu_seconds: field("cpu_seconds")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python;

    #[test]
    fn only_a_line_with_both_numbers_is_an_answer() {
        assert!(parse_run(r#"{"work":5,"cpu_seconds":1.5,"allocations_hint":3}"#).is_some());
        assert!(parse_run(r#"{"work":5,"cpu_seconds":0}"#).is_none());
        assert!(parse_run("READY").is_none());
    }

    #[test]
    fn every_workload_keeps_the_protocol() {
        let found = python::found();
        let python = found.first().expect("there is a CPython 3.11");
        let python = Interpreter::as_is(python);
        for workload in ALL.iter().chain(DEPTHS.iter().chain(&C_DEPTHS).map(|(_, workload)| workload)) {
            let mut working = Working::start(workload, &python).expect("it starts");
            let run = working.run(0.05).expect("it works").expect("it answers in time");
            assert!(run.work >= 1.0 && run.cpu_seconds >= 0.05, "{}: {run:?}", workload.name);
        }
    }
}
