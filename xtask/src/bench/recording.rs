//! One run of `unshed record` as the benches see it: when it watches, what it costs itself, and what it reports.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::own::{self, Own};
use crate::run::{self, Guarded};

/// How long it may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Its last words that an error quotes.
const WORDS: usize = 4;

/// The binary, and how it is told to record.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) binary: PathBuf,
    /// Flags of `record`, as `--budget 1`.
    pub(crate) args: Vec<String>,
}

/// A recording that goes on.
pub(crate) struct Recording {
    child: Guarded,
    stderr: Receiver<String>,
    said: Vec<String>,
    own: JoinHandle<Option<Own>>,
    report: PathBuf,
    started: Instant,
}

/// What is left of a recording.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The report, `unshed.report/1`.
    pub(crate) report: Value,
    /// What it cost by itself, start-up included.
    pub(crate) own: Own,
    /// Seconds by the clock from start to end.
    pub(crate) seconds: f64,
}

impl Recorder {
    /// Starts to record a process, until it is interrupted or `seconds` are over; does not wait for anything.
    pub(crate) fn start(&self, pid: u32, seconds: f64, more: &[&str], report: &Path) -> Result<Recording> {
        let mut command = Command::new(&self.binary);
        command.args(["record", "-p", &pid.to_string(), "-d", &seconds.to_string(), "--force", "-o"]);
        command.args([report.as_os_str()]).args(&self.args).args(more.iter().map(OsStr::new));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = run::preferred(&mut command);
        let mut child = Guarded(child.with_context(|| format!("cannot start {}", self.binary.display()))?);
        let stderr = run::lines_of(child.0.stderr.take().context("unshed has no stderr")?);
        let pid = child.0.id();
        let own = std::thread::spawn(move || own::to_the_end(pid, PATIENCE.as_secs_f64() + seconds));
        let report = report.to_path_buf();
        Ok(Recording { child, stderr, said: Vec::new(), own, report, started: Instant::now() })
    }
}

impl Recording {
    /// Whether it has said that it watches, waiting for the word for so long.
    ///
    /// # Errors
    /// When it ends before; the error quotes it.
    pub(crate) fn watches(&mut self, patience: Duration) -> Result<bool> {
        let until = Instant::now() + patience;
        loop {
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("tracing") => return Ok(true),
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("unshed does not record; it says: {}", self.last_words())
                }
            }
        }
    }

    /// Waits until it watches.
    pub(crate) fn await_watching(&mut self) -> Result<()> {
        if self.watches(PATIENCE)? { Ok(()) } else { bail!("unshed does not say that it records") }
    }

    /// Its own CPU until now, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        own::cpu_seconds(self.child.0.id()).context("unshed has ended too early")
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&self) -> Result<()> {
        run::interrupt(&self.child.0)
    }

    /// Whether it has ended; it is still there to be asked what it cost.
    pub(crate) fn has_ended(&self) -> bool {
        self.own.is_finished()
    }

    /// Waits for its end and reads what it wrote.
    pub(crate) fn finish(mut self) -> Result<Recorded> {
        let own = self.own.join().ok().flatten().context("unshed does not end")?;
        let status = self.child.0.wait().context("unshed cannot be reaped")?;
        self.said.extend(self.stderr.try_iter());
        if !status.success() {
            let said = self.said[self.said.len().saturating_sub(WORDS)..].join(" / ");
            bail!("unshed ended with {status}; it says: {said}");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let text = std::fs::read_to_string(&self.report).context("unshed wrote no report")?;
        let report = serde_json::from_str(&text).context("the report is no JSON")?;
        Ok(Recorded { report, own, seconds })
    }

    fn last_words(&self) -> String {
        self.said[self.said.len().saturating_sub(WORDS)..].join(" / ")
    }
}

impl Recorded {
    /// A number of the report.
    pub(crate) fn number(&self, path: &str) -> Option<f64> {
        self.report.pointer(path).and_then(Value::as_f64)
    }
}
