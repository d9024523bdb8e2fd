//! Starting a command so that its first bytecode is traced. It is followed by `ptrace` through as many `exec`s as it takes to become a CPython
//! (a shim, `env`, a shell script), stands still before that image's first instruction until the probes are in, and is then let go for good.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::{io, ptr};

use crate::error::{Context, Error, Kind, Result};
use crate::session::descriptors::Before;
use crate::target::python::Python;

/// A command that stands still. Dropped before it was released, it is killed: it has not run an instruction.
pub(super) struct Launched {
    pid: i32,
    released: bool,
}

impl Launched {
    /// Starts a command and stops it as soon as it is a CPython.
    pub(super) fn start(command: &[OsString], before: Option<Before>) -> Result<(Self, Python)> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| Error::new(Kind::Usage, "no command was given"))?;
        let mut child = Command::new(program);
        child.args(arguments);
        let prepare = move || {
            before.map_or(Ok(()), Before::restore)?;
            request(libc::PTRACE_TRACEME, 0, 0)
        };
        // SAFETY: between fork and exec only these system calls run; they allocate nothing and take no lock.
        unsafe { child.pre_exec(prepare) };
        let shown = program.to_string_lossy().into_owned();
        let child = child.spawn().map_err(|cause| {
            Error::new(Kind::Usage, format!("{shown} cannot be started: {cause}"))
                .next("give the command after `--`, as in `unshed record -- python3 app.py`")
        })?;
        let launched = Self { pid: i32::try_from(child.id()).context("the child's pid")?, released: false };
        let python = launched.run_until_python(&shown)?;
        Ok((launched, python))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Lets it run, untraced by `ptrace` from here on.
    pub(super) fn release(mut self) -> Result<()> {
        request(libc::PTRACE_DETACH, self.pid, 0).context("letting the command run")?;
        self.released = true;
        Ok(())
    }

    /// From one exec to the next, until the image is a CPython.
    fn run_until_python(&self, shown: &str) -> Result<Python> {
        self.wait_for_exec(shown, true)?;
        request(libc::PTRACE_SETOPTIONS, self.pid, libc::PTRACE_O_TRACEEXEC)
            .context("following the command")?;
        loop {
            let what = "the command's image";
            let image: PathBuf = std::fs::read_link(format!("/proc/{}/exe", self.pid)).context(what)?;
            let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).context(what)?;
            match Python::of_started(self.pid(), &variables(&environment)) {
                Ok(python) => return Ok(python),
                // Only a Python may say why it will not do; anything else is a shim until it has ended.
                Err(error)
                    if image.file_name().is_some_and(|name| name.to_string_lossy().contains("python")) =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
            request(libc::PTRACE_CONT, self.pid, 0).context("following the command")?;
            self.wait_for_exec(shown, false)?;
        }
    }

    /// Waits until the command has replaced its image, handing on every signal that comes before. The first exec stops with a
    /// plain SIGTRAP, the later ones with the event that was asked for.
    fn wait_for_exec(&self, shown: &str, first: bool) -> Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: the destination is ours; the pid is our child's.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if waited < 0 {
                return Err(io::Error::last_os_error()).context("waiting for the command");
            }
            if !libc::WIFSTOPPED(status) {
                return Err(Error::new(
                    Kind::Target,
                    format!("{shown} ended without having become a CPython"),
                )
                .next("give the interpreter itself, as in `unshed record -- python3 app.py`"));
            }
            let is_exec = status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8;
            let signal = libc::WSTOPSIG(status);
            if is_exec || first && signal == libc::SIGTRAP {
                return Ok(());
            }
            request(libc::PTRACE_CONT, self.pid, signal).context("following the command")?;
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.released {
            // SAFETY: the pid is that of our own child, which nobody else has waited for.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, ptr::null_mut(), libc::__WALL);
            }
        }
    }
}

/// The variables of an environment as the kernel shows it.
fn variables(environment: &[u8]) -> Vec<(OsString, OsString)> {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
        let equals = variable.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((text(&variable[..equals]), text(&variable[equals + 1..])))
    });
    variables.collect()
}

/// One `ptrace` request with a number for data.
fn request(what: libc::c_uint, pid: i32, data: i32) -> io::Result<()> {
    // SAFETY: these requests take no pointers; the kernel checks that the pid is our child.
    let status = unsafe { libc::ptrace(what, pid, ptr::null_mut::<libc::c_void>(), i64::from(data)) };
    if status == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
