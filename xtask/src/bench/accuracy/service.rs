//! The service that leaks: started, asked what it has done, and what it knows to be true.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::World;
use super::cases::Case;
use crate::run::{self, Guarded};

const SCRIPT: &str = "tests/programs/service.py";
/// How long it may take to start (it measures in another process what an item takes) and to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running service.
pub(crate) struct Service {
    child: Guarded,
    orders: ChildStdin,
    answers: Receiver<String>,
}

/// What is different about the way in which a service is started.
pub(crate) enum Way {
    /// An option of the interpreter.
    Option(&'static str),
    /// A folder of packages that it may import.
    Packages(PathBuf),
}

impl Service {
    /// Starts a service with a cause and waits until it serves.
    pub(crate) fn start(world: &World, case: Case, ways: &[Way]) -> Result<Self> {
        let mut command = world.python.command();
        let mut path = vec![world.extension.clone()];
        for way in ways {
            match way {
                Way::Option(option) => drop(command.arg(option)),
                Way::Packages(folder) => path.push(folder.clone()),
            }
        }
        let path = std::env::join_paths(path).context("a folder whose name has a colon")?;
        command.env("PYTHONPATH", path).arg("-u").arg(run::root().join(SCRIPT));
        command.args([
            "--cause",
            case.name,
            "--rate",
            &world.rate.to_string(),
            "--per-second",
            &world.requests.to_string(),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = run::preferred(&mut command);
        let mut child = Guarded(child.context("cannot start the service")?);
        let pipes = child.0.stdin.take().zip(child.0.stdout.take());
        let (orders, stdout) = pipes.context("the service has no pipes")?;
        let service = Self { child, orders, answers: run::lines_of(stdout) };
        let greeting = service.answers.recv_timeout(PATIENCE).context("the service does not get ready")?;
        if greeting.starts_with("READY") { Ok(service) } else { bail!("the service said {greeting:?}") }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Its answer to a word.
    pub(crate) fn ask(&mut self, word: &str) -> Result<Value> {
        writeln!(self.orders, "{word}").context("the service has ended")?;
        let line = self.answers.recv_timeout(PATIENCE).context("the service does not answer")?;
        serde_json::from_str(&line).with_context(|| format!("the service answered {line:?}"))
    }

    /// How far it is.
    pub(crate) fn mark(&mut self) -> Result<Mark> {
        let answer = self.ask("mark")?;
        Mark::of(&answer).with_context(|| format!("no mark: {answer}"))
    }

    /// What is true of its leak.
    pub(crate) fn truth(&mut self) -> Result<Truth> {
        let answer = self.ask("truth")?;
        Truth::of(&answer).with_context(|| format!("no truth: {answer}"))
    }

    /// Lets it get warm and then measures its CPU per request, in seconds.
    pub(crate) fn base(&mut self, warm: Duration, base: Duration) -> Result<f64> {
        std::thread::sleep(warm);
        let begun = self.mark()?;
        std::thread::sleep(base);
        Ok(self.mark()?.cpu_per_request(&begun))
    }
}

/// How far a service is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) at_seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) requests: f64,
    /// Items leaked.
    pub(crate) items: f64,
    /// Bytes of the tables that hold them.
    pub(crate) table_bytes: f64,
    /// The longest request since the last mark, in milliseconds.
    pub(crate) longest_ms: f64,
}

impl Mark {
    fn of(answer: &Value) -> Option<Self> {
        let number = |name: &str| answer[name].as_f64();
        Some(Self {
            at_seconds: number("at_seconds")?,
            cpu_seconds: number("cpu_seconds")?,
            requests: number("requests")?,
            items: number("items")?,
            table_bytes: number("table_bytes")?,
            longest_ms: answer["request_ms"]["max"].as_f64()?,
        })
    }

    /// CPU per request since an earlier mark, in seconds.
    pub(crate) fn cpu_per_request(&self, since: &Self) -> f64 {
        (self.cpu_seconds - since.cpu_seconds) / (self.requests - since.requests).max(1.0)
    }

    /// Requests per second since an earlier mark.
    pub(crate) fn pace(&self, since: &Self) -> f64 {
        (self.requests - since.requests) / (self.at_seconds - since.at_seconds)
    }
}

/// A line of Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u64,
}

impl Place {
    /// Whether a frame or a line of a report stands there.
    pub(crate) fn is_of(&self, frame: &Value) -> bool {
        frame["file"] == self.file.as_str() && frame["line"] == self.line
    }
}

/// What is true of a leak.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Truth {
    /// The lines that allocate what is leaked.
    pub(crate) lines: Vec<Place>,
    /// Lines at which the interpreter allocates for the leak while none of these runs.
    pub(crate) beside: Vec<Place>,
    /// The function of C that does.
    pub(crate) c_function: Option<String>,
    /// Bytes and blocks of what is leaked at a time.
    pub(crate) item_bytes: f64,
    pub(crate) item_blocks: f64,
}

/// How much was leaked, per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Leaked {
    /// Bytes asked for, tables included.
    pub(crate) bytes: f64,
    /// Blocks, tables left out: they are few.
    pub(crate) blocks: f64,
}

impl Truth {
    fn of(answer: &Value) -> Option<Self> {
        let place = |value: &Value| {
            Some(Place { file: value["file"].as_str()?.to_owned(), line: value["line"].as_u64()? })
        };
        let places = |name: &str| answer[name].as_array()?.iter().map(place).collect::<Option<_>>();
        Some(Self {
            lines: places("lines")?,
            beside: places("beside")?,
            c_function: answer["c_function"].as_str().map(str::to_owned),
            item_bytes: answer["item"]["bytes"].as_f64()?,
            item_blocks: answer["item"]["blocks"].as_f64()?,
        })
    }

    /// What was leaked between two marks.
    pub(crate) fn leaked(&self, begun: &Mark, ended: &Mark) -> Leaked {
        let seconds = ended.at_seconds - begun.at_seconds;
        let items = (ended.items - begun.items) / seconds;
        let tables = (ended.table_bytes - begun.table_bytes) / seconds;
        Leaked { bytes: items * self.item_bytes + tables, blocks: items * self.item_blocks }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_truth_and_two_marks_are_a_pace() {
        let truth = json!({"lines": [{"file": "a.py", "line": 7, "function": "f"}], "beside": [], "c_function": null,
            "item": {"bytes": 300.0, "given": 320, "blocks": 4}});
        let truth = Truth::of(&truth).expect("a whole truth");
        assert_eq!(truth.lines, [Place { file: "a.py".to_owned(), line: 7 }]);
        let begun = Mark {
            at_seconds: 10.0,
            cpu_seconds: 1.0,
            requests: 100.0,
            items: 50.0,
            table_bytes: 800.0,
            longest_ms: 1.0,
        };
        let ended = Mark {
            at_seconds: 20.0,
            cpu_seconds: 1.5,
            requests: 2100.0,
            items: 1050.0,
            table_bytes: 8800.0,
            longest_ms: 1.0,
        };
        assert_eq!(truth.leaked(&begun, &ended), Leaked { bytes: 30_800.0, blocks: 400.0 });
        assert!((ended.cpu_per_request(&begun) - 0.00025).abs() < 1e-12);
        assert!((ended.pace(&begun) - 200.0).abs() < 1e-9);
        assert!(Mark::of(&json!({"at_seconds": 1})).is_none() && Truth::of(&json!({})).is_none());
    }
}
