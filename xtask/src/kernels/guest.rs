//! The first and only own process of the small system: it mounts what a system has, asks the tool what the verifier says, runs the
//! tests, and writes all that to the second serial port, one JSON object a line.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Its path.
pub(crate) const INIT: &str = "/unshed-init";
/// What it reads to know what to do.
pub(crate) const PLAN: &str = "/unshed-plan.json";
/// File systems and where they go.
pub(crate) const MOUNTS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];
/// The first port is the kernel's console.
const PORT: &str = "/dev/ttyS1";

/// What every kernel can be asked for: a million blocks through perf events, and all the C code of a stack.
const TESTS: [&str; 2] = [
    "truth::perf_events_tell_the_same_and_leave_no_trap",
    "native::the_interpreters_functions_between_c_and_python_are_named",
];
/// What needs `uprobe_multi`, because Debian's build has too many points for perf events: both builds.
const TEST_OF_MULTI: &str = "truth::a_list_on_a_class";
/// The release from which the tool uses `uprobe_multi` (tracer-user/src/probe/multi.rs).
const MULTI: (u32, u32) = (6, 10);
/// Characters of a failed command's words that are passed on.
const TAIL: usize = 6000;

/// The tests that a kernel of this release is to pass.
pub(crate) fn tests_for(release: &str) -> Vec<&'static str> {
    let mut tests = TESTS.to_vec();
    if series_of(release) >= MULTI {
        tests.push(TEST_OF_MULTI);
    }
    tests
}

/// The first two numbers of a release: `5.15.135` is of 5.15.
pub(crate) fn series_of(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Does everything and resets the machine, which ends it (`qemu -no-reboot`).
pub(crate) fn run() -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is for the first process of the small system that `cargo xtask kernels` boots");
    }
    for (kind, folder) in MOUNTS {
        mount(kind, folder)?;
    }
    let mut port = File::options().write(true).open(PORT).with_context(|| format!("cannot open {PORT}"))?;
    if let Err(error) = report(&mut port) {
        say(&mut port, &json!({ "failed": format!("{error:#}") }))?;
    }
    say(&mut port, &json!({ "end": true }))?;
    // SAFETY: `tcdrain` waits until an open descriptor's output has left and touches no memory of ours.
    unsafe { libc::tcdrain(std::os::fd::AsRawFd::as_raw_fd(&port)) };
    // SAFETY: the call takes one number. Nothing of this system is worth keeping.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    bail!("the machine did not reset")
}

fn report(port: &mut File) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    say(port, &json!({ "release": release.trim() }))?;
    let plan: Value = serde_json::from_str(&std::fs::read_to_string(PLAN)?)?;
    let (said, good) = asked(&plan, "unshed", &["verifier"])?;
    for line in said.lines().filter(|line| line.starts_with('{')) {
        say(port, &serde_json::from_str(line)?)?;
    }
    if !good {
        bail!("`unshed verifier`: {}", tail(&said));
    }
    if plan["tests"].is_null() {
        return Ok(());
    }
    let named: Vec<&str> = plan["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for test in if named.is_empty() { tests_for(&release) } else { named } {
        let (said, passed) = asked(&plan, "tests", &[test, "--exact", "--nocapture"])?;
        // A name that no test has is no success.
        let passed = passed && said.contains("1 passed");
        let said = if passed { "" } else { tail(&said) };
        say(port, &json!({ "test": test, "passed": passed, "said": said }))?;
    }
    Ok(())
}

/// What a program of the plan prints, on both streams, and whether it succeeded.
fn asked(plan: &Value, program: &str, args: &[&str]) -> Result<(String, bool)> {
    let path = plan[program].as_str().with_context(|| format!("the plan names no {program}"))?;
    let mut command = Command::new(path);
    command.args(args).env_clear().stdin(Stdio::null());
    for (name, value) in plan["environment"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    let output = command.output().with_context(|| format!("cannot start {path}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8_lossy(&said).into_owned(), output.status.success()))
}

fn say(port: &mut File, value: &Value) -> Result<()> {
    writeln!(port, "{value}").with_context(|| format!("cannot write to {PORT}"))
}

fn tail(said: &str) -> &str {
    let start = said.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
    &said[start..]
}

fn mount(kind: &str, folder: &str) -> Result<()> {
    let (c_kind, c_folder) = (CString::new(kind)?, CString::new(folder)?);
    // SAFETY: the three strings end with a zero and outlive the call; the kernel takes no data for these file systems.
    let done =
        unsafe { libc::mount(c_kind.as_ptr(), c_folder.as_ptr(), c_kind.as_ptr(), 0, std::ptr::null()) };
    let cause = std::io::Error::last_os_error();
    // Some kernels mount /dev themselves.
    if done == 0 || cause.raw_os_error() == Some(libc::EBUSY) {
        Ok(())
    } else {
        Err(cause).with_context(|| format!("cannot mount {kind} on {folder}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_series() {
        assert_eq!(series_of("5.15.135"), (5, 15));
        assert_eq!(series_of("6.1.0-50-cloud-amd64"), (6, 1));
        assert_eq!(series_of("6.18.15+deb13-cloud-amd64"), (6, 18));
        assert_eq!(series_of("7.3+x"), (7, 3));
        assert_eq!(series_of("next"), (0, 0));
    }

    #[test]
    fn old_kernels_are_asked_for_one_build_only() {
        assert_eq!(tests_for("6.1.0"), TESTS);
        assert_eq!(tests_for("6.10.1"), [TESTS[0], TESTS[1], TEST_OF_MULTI]);
    }

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        let long = format!("begin{}end", "ä".repeat(TAIL));
        assert!(tail(&long).ends_with("end") && tail(&long).chars().count() == TAIL);
        assert_eq!(tail("short"), "short");
    }
}
