//! The tools of the contest: unshed in its variants, and what people use today.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::contest::{Attached, Tool};
use super::figures::Seen;
use super::headers;
use super::process::{Stream, Watching};
use crate::run;

/// `unshed record`, with further arguments.
pub(crate) struct Unshed {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Unshed {
    /// A variant of the binary by its further arguments, which are words without spaces.
    pub(crate) fn new(name: impl Into<String>, binary: &Path, args: &str) -> Self {
        let args = args.split_whitespace().map(str::to_owned).collect();
        Self { name: name.into(), binary: binary.to_path_buf(), args }
    }
}

struct Recording {
    watching: Watching,
    report: PathBuf,
}

impl Tool for Unshed {
    fn name(&self) -> &str {
        &self.name
    }

    fn attach(&self, pid: u32) -> Result<Box<dyn Attached>> {
        let report = run::target_dir().join(format!("bench-{}.json", std::process::id()));
        let mut command = Command::new(&self.binary);
        command
            .args([
                "record",
                "--exact",
                "--max-slowdown",
                "inf",
                "-p",
                &pid.to_string(),
                "-d",
                "3600",
                "--force",
            ])
            .args(&self.args);
        command.arg("-o").arg(&report);
        let watching = Watching::start(&mut command, Stream::Stderr, |line| line.starts_with("tracing"))?;
        Ok(Box::new(Recording { watching, report }))
    }
}

impl Attached for Recording {
    fn detach(self: Box<Self>) -> Result<Seen> {
        let (status, _) = self.watching.interrupt()?;
        if !status.success() {
            bail!("unshed ended with {status}");
        }
        let text = std::fs::read_to_string(&self.report).context("unshed wrote no report")?;
        std::fs::remove_file(&self.report)?;
        seen_by_unshed(&text)
    }
}

fn seen_by_unshed(report: &str) -> Result<Seen> {
    let report: Value = serde_json::from_str(report).context("the report is no JSON")?;
    let number = |path| report.pointer(path).and_then(Value::as_f64);
    let hits = number("/cost/hits").context("the report has no cost.hits")?;
    Ok(Seen { hits: Some(hits), allocations: number("/totals/allocated_blocks") })
}

/// `memleak-bpfcc -p PID`: libc's malloc family.
pub(crate) struct Memleak;

impl Memleak {
    /// Where Debian's bpfcc-tools puts it.
    pub(crate) const PROGRAM: &'static str = "memleak-bpfcc";
}

struct MemleakAtWork(Watching);

impl Tool for Memleak {
    fn name(&self) -> &'static str {
        "memleak (libc), 1 run"
    }

    /// About five seconds to attach and detach, and no goal against it.
    fn most_rounds(&self) -> usize {
        1
    }

    fn attach(&self, pid: u32) -> Result<Box<dyn Attached>> {
        let mut command = Command::new(Self::PROGRAM);
        // It says before it attaches that it does; its first table, after the interval of one second, is the proof.
        command.args(["-p", &pid.to_string(), "1"]).env("PYTHONUNBUFFERED", "1");
        if let Some(headers) = headers::found()? {
            command.env(headers::VARIABLE, headers);
        }
        let table = |line: &str| line.contains("stacks with outstanding allocations");
        match Watching::start(&mut command, Stream::Stdout, table) {
            Ok(watching) => Ok(Box::new(MemleakAtWork(watching))),
            Err(error) if error.to_string().contains("kernel headers") => {
                bail!("{error:#}; {}", headers::HINT)
            }
            Err(error) => Err(error),
        }
    }
}

impl Attached for MemleakAtWork {
    fn detach(self: Box<Self>) -> Result<Seen> {
        // On SIGINT it would print for seconds, which is no cost of the target.
        self.0.kill()?;
        Ok(Seen::default())
    }
}

/// A bpftrace script as people write it for CPython: entry and return of the allocator, and a map of what is outstanding.
pub(crate) struct Bpftrace {
    /// The file that holds `PyObject_Malloc`.
    pub(crate) object: PathBuf,
}

impl Bpftrace {
    /// The program.
    pub(crate) const PROGRAM: &'static str = "bpftrace";
    /// The default of 4096 keys would make it lose nearly all and look cheap.
    const KEYS: &'static str = "1000000";

    fn script(&self, pid: u32) -> Result<String> {
        let object = self.object.to_str().filter(|path| !path.contains([':', ' ', '"']));
        let object = object
            .with_context(|| format!("{} is a path that a script cannot hold", self.object.display()))?;
        Ok(format!(
            "uprobe:{object}:PyObject_Malloc /pid == {pid}/ {{ @asked[tid] = arg0; }}
             uretprobe:{object}:PyObject_Malloc /pid == {pid} && @asked[tid]/ {{
                 @live[retval] = @asked[tid]; @bytes += @asked[tid]; @calls += 1; delete(@asked[tid]);
             }}
             uprobe:{object}:PyObject_Free /pid == {pid} && @live[arg0]/ {{
                 @bytes -= @live[arg0]; delete(@live[arg0]);
             }}
             interval:ms:100 {{ printf(\"watching\\n\"); }}
             END {{ printf(\"calls %d\\n\", @calls); clear(@asked); clear(@live); clear(@bytes); clear(@calls); }}"
        ))
    }
}

struct BpftraceAtWork(Watching);

impl Tool for Bpftrace {
    fn name(&self) -> &'static str {
        "bpftrace script"
    }

    fn attach(&self, pid: u32) -> Result<Box<dyn Attached>> {
        let mut command = Command::new(Self::PROGRAM);
        command.args(["-B", "line", "-p", &pid.to_string(), "-e", &self.script(pid)?]);
        // bpftrace ≥ 0.20 reads the second.
        command.env("BPFTRACE_MAP_KEYS_MAX", Self::KEYS).env("BPFTRACE_MAX_MAP_KEYS", Self::KEYS);
        // It prints nothing before all probes are in (0.17, `BPFtrace::run`): so the first line is the proof.
        Ok(Box::new(BpftraceAtWork(Watching::start(&mut command, Stream::Stdout, |line| {
            line == "watching"
        })?)))
    }
}

impl Attached for BpftraceAtWork {
    fn detach(self: Box<Self>) -> Result<Seen> {
        let (status, said) = self.0.interrupt()?;
        if !status.success() {
            bail!("bpftrace ended with {status}");
        }
        Ok(Seen { hits: None, allocations: Some(calls(&said).context("bpftrace did not print its sum")?) })
    }
}

fn calls(said: &[String]) -> Option<f64> {
    said.iter().find_map(|line| line.trim().strip_prefix("calls ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_read_from_the_report() {
        let report = r#"{"cost":{"hits":30},"totals":{"allocated_blocks":10}}"#;
        let seen = seen_by_unshed(report).expect("a whole report");
        assert_eq!(seen, Seen { hits: Some(30.0), allocations: Some(10.0) });
        assert!(seen_by_unshed("{}").is_err());
        assert!(seen_by_unshed("no JSON").is_err());
    }

    #[test]
    fn the_script_is_for_one_process_and_one_file() {
        let tool = Bpftrace { object: PathBuf::from("/tmp/libpython3.11.so.1.0") };
        let script = tool.script(4711).expect("a plain path");
        assert_eq!(script.matches("probe:/tmp/libpython3.11.so.1.0:PyObject_").count(), 3);
        assert_eq!(script.matches("pid == 4711").count(), 3);
        assert!(Bpftrace { object: PathBuf::from("/tmp/a b") }.script(1).is_err());
    }

    #[test]
    fn the_sum_is_read_from_what_bpftrace_says() {
        let said = ["watching", "", "calls 4711"].map(str::to_owned);
        assert_eq!(calls(&said), Some(4711.0));
        assert_eq!(calls(&said[..2]), None);
    }
}
