//! Who is recorded: a process that runs, or a command that was started and waits before its first instruction.

use crate::cli::plan::Whom;
use crate::error::{Error, Kind, Result};
use crate::session::descriptors::Before;
use crate::session::launch::Launched;
use crate::target::layout::Layout;
use crate::target::process::Process;
use crate::target::python::Python;

/// The target, opened.
pub(super) struct Subject {
    pub(super) process: Process,
    pub(super) python: Python,
    pub(super) layout: &'static Layout,
    launched: Option<Launched>,
}

impl Subject {
    /// Opens a process, or starts a command, with the limit of file descriptors that was before, and stops it where its interpreter's image begins.
    pub(super) fn open(whom: &Whom, before: Option<Before>) -> Result<Self> {
        let (process, python, launched) = match whom {
            Whom::Pid(pid) => {
                let process = Process::open(*pid)?;
                let python = Python::find(&process)?;
                (process, python, None)
            }
            Whom::Command(command) => {
                let (launched, python) = Launched::start(command, before)?;
                (Process::open(launched.pid())?, python, Some(launched))
            }
        };
        let layout = python.layout_or("the target")?;
        Ok(Self { process, python, layout, launched })
    }

    /// How messages name it.
    pub(super) fn name(&self) -> String {
        format!("process {} ({})", self.process.pid(), self.process.comm())
    }

    /// It was started by us and has not run yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.launched.is_some()
    }

    /// Fails if the pid has a new owner, or none, since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        if self.process.still_same() {
            return Ok(());
        }
        Err(Error::new(Kind::Target, format!("{} ended before it could be traced", self.name()))
            .next("list the Pythons of this host with `unshed ps`"))
    }

    /// Lets a command that waits run.
    pub(super) fn release(&mut self) -> Result<()> {
        self.launched.take().map_or(Ok(()), Launched::release)
    }
}
