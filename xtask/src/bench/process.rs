//! A tool as a child process: started, awaited until it says that it watches, ended, and quoted when it fails.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{self, Guarded};

/// How long a tool may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(10);
/// How long the last words of a tool that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Which stream says that the tool watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A tool that watches.
pub(crate) struct Watching {
    child: Guarded,
    stdout: Receiver<String>,
}

impl Watching {
    /// Starts a tool and waits for the line that says that it watches; on failure the error quotes it.
    pub(crate) fn start(command: &mut Command, on: Stream, ready: fn(&str) -> bool) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let mut child =
            Guarded(run::dying_with_us(command).spawn().with_context(|| format!("cannot start {name}"))?);
        let pipes = child.0.stdout.take().zip(child.0.stderr.take());
        let (stdout, stderr) = pipes.with_context(|| format!("{name} has no pipes"))?;
        let (stdout, stderr) = (run::lines_of(stdout), run::lines_of(stderr));
        let (signal, other) = if on == Stream::Stdout { (&stdout, &stderr) } else { (&stderr, &stdout) };
        let (started, mut said) = (Instant::now(), Vec::new());
        while let Ok(line) = signal.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
            if ready(line.trim()) {
                return Ok(Self { child, stdout });
            }
            said.push(line);
        }
        while let Ok(line) = other.recv_timeout(LAST_WORDS) {
            said.push(line);
        }
        bail!("{name} does not watch; it says: {}", quoted(&said))
    }

    /// Ends it as Ctrl-C does; returns how it ended and what it still had to say on stdout.
    pub(crate) fn interrupt(mut self) -> Result<(ExitStatus, Vec<String>)> {
        run::interrupt(&self.child.0)?;
        let started = Instant::now();
        let status = loop {
            match self.child.0.try_wait()? {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => bail!("it does not end on SIGINT"),
                None => std::thread::sleep(GLANCE),
            }
        };
        let mut said = Vec::new();
        while let Ok(line) = self.stdout.recv_timeout(LAST_WORDS) {
            said.push(line);
        }
        Ok((status, said))
    }

    /// Ends it at once; the kernel takes the probes out before the process is reaped.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.0.kill().context("cannot be ended")?;
        self.child.0.wait().context("cannot be reaped")?;
        Ok(())
    }
}

/// The lines of a tool's output that tell why it failed, in its own words: its first complaint and its last, or else its
/// last lines.
fn quoted(said: &[String]) -> String {
    const WORDS: usize = 3;
    const COMPLAINTS: [&str; 4] = ["unable", "error", "exception", "cannot"];
    let lines: Vec<&str> = said.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let complains = |line: &&&str| {
        let line = line.to_lowercase();
        COMPLAINTS.iter().any(|word| line.contains(word))
    };
    let first = lines.iter().find(complains);
    let last = lines.iter().rev().find(complains);
    match (first, last) {
        (Some(first), Some(last)) if first == last => (*first).to_owned(),
        (Some(first), Some(last)) => format!("{first} … {last}"),
        _ if lines.is_empty() => "nothing".to_owned(),
        _ => lines[lines.len().saturating_sub(WORDS)..].join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_failed_tool_is_quoted() {
        let memleak = "sh: 1: modprobe: not found\nUnable to find kernel headers.\nTraceback\n  File \"x\"\nException: Failed";
        assert_eq!(quoted(&lines(memleak)), "Unable to find kernel headers. … Exception: Failed");
        assert_eq!(quoted(&lines("error: no such process\n\n")), "error: no such process");
        assert_eq!(quoted(&lines("one\ntwo\nthree\n\nfour")), "two / three / four");
        assert_eq!(quoted(&[]), "nothing");
    }

    #[test]
    fn a_tool_that_ends_without_the_word_is_an_error_with_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo starting; echo 'error: no probes today' >&2; exit 3"]);
        let failed = Watching::start(&mut command, Stream::Stdout, |line| line == "up");
        let words = failed.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert_eq!(words, "sh does not watch; it says: error: no probes today");
    }

    #[test]
    fn a_tool_that_watches_is_interrupted_and_heard() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.01; done"]);
        let watching =
            Watching::start(&mut command, Stream::Stdout, |line| line == "up").expect("it says up");
        let (status, said) = watching.interrupt().expect("it ends");
        assert!(status.success());
        assert_eq!(said, ["bye"]);
    }
}
