//! `memleak-bpfcc -p PID`: uprobes on the C library's malloc family. It knows no Python, so that only a leak in C can have a place in its report.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{BASE, Beside, Case, Stack, WARM, World, rank};
use crate::bench::accuracy::service::Service;
use crate::bench::headers;
use crate::bench::tools::Memleak;
use crate::run::{self, Guarded};

/// Stacks that it prints at most.
const TOP: &str = "1000";
/// How long it may take to compile, to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAD: &str = "stacks with outstanding allocations";

/// Attaches, has it print once after so many seconds, and reads that.
pub(crate) fn attempt(world: &World, case: Case, seconds: f64) -> Result<Beside> {
    if !run::works(Memleak::PROGRAM, &["--help"]) {
        bail!("there is no {} here; `apt-get install bpfcc-tools`, and {}", Memleak::PROGRAM, headers::HINT);
    }
    let mut service = Service::start(world, case, &[])?;
    let base = service.base(WARM, BASE)?;
    let mut command = Command::new(Memleak::PROGRAM);
    // It prints what is at least two seconds old, as the sessions of the service live.
    command.args(["-p", &service.pid().to_string(), "-o", "2000", "-T", TOP, &format!("{seconds:.0}"), "1"]);
    command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(headers) = headers::found()? {
        command.env(headers::VARIABLE, headers);
    }
    let mut child = Guarded(run::dying_with_us(&mut command).spawn().context("cannot start memleak")?);
    let lines = run::lines_of(child.0.stdout.take().context("memleak has no stdout")?);
    let (until, mut begun, mut report, mut ended) = (Instant::now() + PATIENCE, None, Vec::new(), None);
    let until = until + Duration::from_secs_f64(seconds);
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if line.starts_with("Attaching") {
            begun = Some(service.mark()?);
        } else if line.contains(HEAD) {
            ended = Some(service.mark()?);
        }
        report.push(line);
    }
    let (begun, ended) = begun.zip(ended).with_context(|| format!("it says: {}", report.join(" / ")))?;
    let truth = service.truth()?;
    let stacks = parse(&report);
    Ok(Beside {
        rank: rank(&stacks, &truth),
        rows: stacks.len(),
        slowdown: ended.cpu_per_request(&begun) / base,
        longest_ms: ended.longest_ms,
    })
}

/// Its stacks, the largest first: it prints the largest last.
fn parse(report: &[String]) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    for line in report.iter().skip_while(|line| !line.contains(HEAD)).skip(1) {
        if line.contains(" bytes in ") {
            stacks.push(Stack { frames: Vec::new() });
        } else if let Some((stack, frame)) = stacks.last_mut().zip(frame(line)) {
            stack.frames.push(frame);
        }
    }
    stacks.reverse();
    stacks
}

/// `0x00007f77 malloc_out+0xe [leaks.so]`.
fn frame(line: &str) -> Option<Value> {
    let mut words = line.split_whitespace().filter(|word| !word.starts_with("0x"));
    let function = words.next()?.split('+').next()?;
    let module = words.next().unwrap_or_default().trim_matches(['[', ']']);
    Some(json!({"function": function, "module": module}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stack_is_the_largest() {
        let report = "Attaching to pid 7, Ctrl+C to quit.
[19:51:02] Top 10 stacks with outstanding allocations:
\t38865 bytes in 8 allocations from stack
\t\t0x00007f779f9af898\t_PyObject_Malloc+0x78 [libpython3.11.so.1.0]
\t405594 bytes in 522 allocations from stack
\t\t0x00007f779ecae85e\tmalloc_out+0xe [leaks.so]
\t\t0x00007f779e7f0a80\t[unknown]";
        let lines: Vec<String> = report.lines().map(str::to_owned).collect();
        let stacks = parse(&lines);
        assert_eq!(stacks.len(), 2);
        assert_eq!(stacks[0].frames[0], json!({"function": "malloc_out", "module": "leaks.so"}));
        assert_eq!(stacks[0].frames.len(), 2);
        assert!(parse(&lines[..1]).is_empty());
    }
}
