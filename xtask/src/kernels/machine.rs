//! A kernel in an emulated machine, and what came out of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::guest;
use crate::run::{self, Guarded, say};

/// Emulated, everything takes ten to fifty times as long.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const GLANCE: Duration = Duration::from_millis(100);
const MEMORY_MIB: &str = "3072";
/// A panic is to end the machine at once (`panic=-1`, with qemu's `-no-reboot`). On a busy host an emulated timer comes late, which is no fault of
/// the machine's (`no_timer_check`, `nowatchdog`).
const COMMAND_LINE: &str = "console=ttyS0 8250.nr_uarts=4 panic=-1 mitigations=off nowatchdog no_timer_check clocksource=tsc tsc=reliable";
/// Lines of the kernel's console that are shown when a machine fails.
const CONSOLE_TAIL: usize = 15;

/// What a kernel said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Its release; empty if it did not get so far.
    pub(crate) release: String,
    /// Each program, by name, with what the verifier said of it.
    pub(crate) programs: Vec<(String, Verdict)>,
    /// Each test, with the end of what it said if it failed.
    pub(crate) tests: Vec<(String, Result<(), String>)>,
    /// What the kernel itself complained of in its log.
    pub(crate) complaints: Vec<String>,
    /// Why it did not get to the end.
    pub(crate) failed: Option<String>,
}

/// What the verifier says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Accepted: instructions that it followed, and the frames in bytes.
    Accepted {
        /// Instructions.
        insns: u64,
        /// `48+0`.
        stack: String,
    },
    /// Refused, with the end of its log.
    Refused(String),
}

/// Boots a kernel and waits for its end; what it says is kept in files in `folder`.
pub(crate) fn boot(name: &str, kernel: &Path, archive: &Path, folder: &Path) -> Result<Outcome> {
    let (console, results) = (folder.join("console.log"), folder.join("results.jsonl"));
    for file in [&console, &results] {
        std::fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let started = Instant::now();
    let end = ended(&mut emulator(kernel, archive, &console, &results))?;
    say(format!("{name}: {end} after {} s", started.elapsed().as_secs()));
    let mut outcome = read(&text(&results))?;
    outcome.complaints = complaints(&text(&console));
    if let Some(why) = &mut outcome.failed
        && outcome.release.is_empty()
    {
        let console = text(&console);
        let lines: Vec<&str> = console.lines().collect();
        *why = format!("{why}\n{}", lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n"));
    }
    Ok(outcome)
}

fn emulator(kernel: &Path, archive: &Path, console: &Path, results: &Path) -> Command {
    let port = |path: &Path| format!("file:{}", path.display());
    // /dev/kvm alone says nothing: without the processor's support a machine hangs in it.
    let (accelerator, processor) = if virtualises() { ("kvm", "host") } else { ("tcg", "qemu64") };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", accelerator, "-cpu", processor, "-m", MEMORY_MIB, "-smp", "2"])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-serial", &port(console), "-serial", &port(results)])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .arg("-append")
        .arg(format!("{COMMAND_LINE} rdinit={} -- kernels --guest", guest::INIT))
        .stdin(Stdio::null());
    qemu
}

/// Whether the processor can run machines at its own speed, and lets us.
fn virtualises() -> bool {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = processor.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    able && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Waits for the emulator's end and says how it came.
fn ended(qemu: &mut Command) -> Result<&'static str> {
    let mut child = Guarded(run::dying_with_us(qemu).spawn().context("cannot start qemu-system-x86_64")?);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.0.try_wait()? {
            return if status.success() { Ok("done") } else { bail!("qemu failed with {status}") };
        }
        std::thread::sleep(GLANCE);
    }
    Ok("killed, it took too long,")
}

fn text(path: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Warnings and worse in a kernel's log, each with the line before it, which tells what it is about.
fn complaints(console: &str) -> Vec<String> {
    let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
    let about = |at: usize| lines.get(at.saturating_sub(1)).copied().unwrap_or_default();
    let bad =
        |line: &str| ["WARNING: ", "BUG: ", "Oops: ", "Kernel panic"].iter().any(|word| line.contains(word));
    let found = lines.iter().enumerate().filter(|(_, line)| bad(line));
    found.map(|(at, line)| format!("{}\n{line}", about(at))).collect()
}

/// Reads the lines of [`guest`].
fn read(results: &str) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut whole = false;
    for line in results.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // The last line may be cut off.
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let word = |name: &str| value[name].as_str().map(str::to_owned);
        if let Some(release) = word("release") {
            outcome.release = release;
        } else if let Some(program) = word("program") {
            outcome.programs.push((program, verdict(&value)?));
        } else if let Some(test) = word("test") {
            let passed = value["passed"] == true;
            let said = word("said").unwrap_or_default();
            outcome.tests.push((test, if passed { Ok(()) } else { Err(said) }));
        } else if let Some(why) = word("failed") {
            outcome.failed = Some(why);
        } else {
            whole |= value["end"] == true;
        }
    }
    if !whole && outcome.failed.is_none() {
        outcome.failed = Some("it did not get to its end".to_owned());
    }
    Ok(outcome)
}

fn verdict(line: &Value) -> Result<Verdict> {
    if let Some(why) = line["refused"].as_str() {
        return Ok(Verdict::Refused(why.to_owned()));
    }
    let insns = line["insns"].as_u64().with_context(|| format!("no `insns` in {line}"))?;
    let stack = line["stack"].as_str().with_context(|| format!("no `stack` in {line}"))?;
    Ok(Verdict::Accepted { insns, stack: stack.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_said_is_read() {
        let outcome = read(
            "{\"release\":\"6.1.0\"}\r\n\
             {\"program\":\"on_entry\",\"insns\":900,\"stack\":\"48+0\",\"max_frame\":48,\"tail_call\":true}\r\n\
             {\"program\":\"on_exec\",\"refused\":\"unknown func\"}\r\n\
             {\"test\":\"a::b\",\"passed\":true,\"said\":\"\"}\r\n\
             {\"test\":\"a::c\",\"passed\":false,\"said\":\"no\"}\r\n{\"end\":true}\r\n",
        )
        .unwrap();
        assert_eq!(outcome.release, "6.1.0");
        let accepted = Verdict::Accepted { insns: 900, stack: "48+0".to_owned() };
        assert_eq!(outcome.programs[0], ("on_entry".to_owned(), accepted));
        assert_eq!(outcome.programs[1].1, Verdict::Refused("unknown func".to_owned()));
        assert_eq!(outcome.tests[0].1, Ok(()));
        assert_eq!(outcome.tests[1].1, Err("no".to_owned()));
        assert_eq!(outcome.failed, None);
    }

    #[test]
    fn what_a_kernel_complains_of_is_found() {
        let log = "[ 1.0] trace type BPF program uses run-time allocation\r\n[ 1.0] WARNING: CPU: 1 PID: 35 at x.c:1\r\nfine\r\n";
        assert_eq!(
            complaints(log),
            [
                "[ 1.0] trace type BPF program uses run-time allocation\n[ 1.0] WARNING: CPU: 1 PID: 35 at x.c:1"
            ]
        );
        assert_eq!(complaints("fine\n"), [""; 0]);
    }

    #[test]
    fn a_machine_that_stopped_half_way_has_failed() {
        let cut = read("{\"release\":\"6.1.0\"}\n{\"prog").unwrap();
        assert!(cut.failed.is_some());
        assert!(read("").unwrap().failed.is_some());
        assert!(read("{\"program\":\"x\"}").is_err());
    }
}
