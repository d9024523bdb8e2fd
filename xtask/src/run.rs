//! Commands with a voice: what is being done, how long it has taken, and on failure the end of what they said.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A long step says every so often that it lives.
const PULSE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(50);
/// Lines of a failed command's output that are shown.
const TAIL: usize = 25;

/// One line of progress.
pub(crate) fn say(line: impl AsRef<str>) {
    eprintln!("· {}", line.as_ref());
}

/// Runs a long step quietly: its output goes to a log, the end of which is shown if it fails.
pub(crate) fn quietly(what: &str, command: &mut Command) -> Result<()> {
    let log = log_path(what)?;
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = pulsed(what, command)?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("    {line}");
    }
    bail!("{what}: failed with {status}; all it said is in {}", log.display())
}

/// Runs a long step whose own output is shown.
pub(crate) fn loudly(what: &str, command: &mut Command) -> Result<()> {
    let status = pulsed(what, command)?;
    if status.success() { Ok(()) } else { bail!("{what}: failed with {status}; its messages are above") }
}

/// Runs a step that reports its own progress and has the last word.
pub(crate) fn handing_over(what: &str, command: &mut Command) -> Result<()> {
    say(format!("{what} …"));
    let status = command.status().with_context(|| format!("{what}: cannot start the command"))?;
    if status.success() { Ok(()) } else { bail!("{what}: failed with {status}") }
}

/// Whether a command exists, runs and succeeds; nothing is shown.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// What a command prints on stdout, or why it failed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed with {}: {}", output.status, said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no UTF-8"))
}

/// The cargo that runs us, or the one on PATH.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The top of the workspace. Where the sources were when we were built, unless cargo says otherwise.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Whether we are root: the owner of our own entry in /proc.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A child that is killed and reaped when its owner is done with it, however that ends.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let ended = matches!(self.0.try_wait(), Ok(Some(_)));
        if !ended && self.0.kill().is_ok() && self.0.wait().is_err() {
            eprintln!("· process {} was killed, but not reaped", self.0.id());
        }
    }
}

/// Has the child killed when we end without a chance to do it ourselves.
pub(crate) fn dying_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: `prctl` with PR_SET_PDEATHSIG is one system call on the child's own attributes; it takes no lock and
    // allocates nothing, so it may run between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// Starts a command that the scheduler prefers to what else runs here, so that a busy machine disturbs less what is measured. It dies with us.
pub(crate) fn preferred(command: &mut Command) -> Result<Child> {
    // The scheduler shares a processor among sessions first (sched(7), "The autogroup feature"), then among the processes of each.
    // SAFETY: `setsid` is one system call on the child's own attributes; it takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let child = dying_with_us(command).spawn().context("cannot start what is to be measured")?;
    let group = format!("/proc/{}/autogroup", child.id());
    if Path::new(&group).exists() {
        std::fs::write(&group, MOST_PREFERRED.to_string()).context("cannot raise its session's priority")?;
    }
    // SAFETY: `setpriority` touches no memory of ours, and the child is not reaped, so that its id is not another's.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, child.id(), MOST_PREFERRED) };
    if set == 0 {
        Ok(child)
    } else {
        Err(std::io::Error::last_os_error()).context("cannot raise its priority")
    }
}

/// The lowest "nice" value.
const MOST_PREFERRED: i32 = -20;

/// What Ctrl-C would do to one child.
pub(crate) fn interrupt(child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id()).context("a process id beyond i32")?;
    // SAFETY: `kill` touches no memory of ours, and the child is not reaped, so that its id is not another's.
    let sent = unsafe { libc::kill(pid, libc::SIGINT) };
    if sent == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).context(format!("cannot interrupt {pid}"))
    }
}

/// The lines of a child's stream as they come, so that a wait for one can have an end.
pub(crate) fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens any more: still read on, or the child would block on a full pipe.
            sender.send(line).unwrap_or_default();
        }
    });
    lines
}

fn pulsed(what: &str, command: &mut Command) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut next = PULSE;
    say(format!("{what} …"));
    let mut child = Guarded(command.spawn().with_context(|| format!("{what}: cannot start {name}"))?);
    loop {
        if let Some(status) = child.0.try_wait()? {
            if started.elapsed() > PULSE {
                say(format!("{what}: {} s", started.elapsed().as_secs()));
            }
            return Ok(status);
        }
        if started.elapsed() >= next {
            say(format!("{what} … {} s", next.as_secs()));
            next += PULSE;
        }
        std::thread::sleep(GLANCE);
    }
}

fn log_path(what: &str) -> Result<PathBuf> {
    let folder = target_dir().join("xtask-logs");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder.join(format!("{name}.log")))
}
