//! Who is recorded: a process that runs, or a command that was started and waits before its first instruction.

use std::ops::Deref;
use std::os::fd::BorrowedFd;

use tokio::io::unix::AsyncFd;

use crate::cli::plan::Whom;
use crate::error::{Context, Error, Kind, Result};
use crate::session::descriptors::Before;
use crate::session::launch::Launched;
use crate::target::layout::Layout;
use crate::target::process::Process;
use crate::target::python::Python;
use crate::target::whereabouts::Whereabouts;

/// What fails when its end cannot be waited for.
const DESCRIPTOR: &str = "the target's descriptor";

/// The target, opened.
pub(super) struct Subject {
    pub(super) process: Process,
    pub(super) python: Python,
    pub(super) layout: &'static Layout,
    pub(super) whereabouts: Whereabouts,
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
        let whereabouts = Whereabouts::of(process.pid());
        Ok(Self { process, python, layout, whereabouts, launched })
    }

    /// A process whose interpreter is known, because its parent's is.
    pub(super) fn known(process: Process, python: Python, layout: &'static Layout) -> Self {
        let whereabouts = Whereabouts::of(process.pid());
        Self { process, python, layout, whereabouts, launched: None }
    }

    /// How messages name it.
    pub(super) fn name(&self) -> String {
        format!("process {} ({})", self.process.pid(), self.process.comm())
    }

    /// It was started by us and has not run yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.launched.is_some()
    }

    /// Its interpreter as it runs; of a command that was started by us, not before it is mapped.
    pub(super) fn running(&self) -> Option<Running<'_>> {
        if self.is_fresh() {
            return None;
        }
        if self.python.image.bias.is_some() {
            return Some(Running::Known(&self.python));
        }
        Python::find(&self.process).ok().map(|python| Running::Found(Box::new(python)))
    }

    /// What tells that it has ended.
    pub(super) fn end(&self) -> Result<End<'_>> {
        // SAFETY: the descriptor is the process's, which is borrowed as long as the result lives and keeps it open.
        unsafe { AsyncFd::register(self.process.pidfd()) }.context(DESCRIPTOR).map(End)
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

/// An interpreter as it runs.
pub(super) enum Running<'s> {
    /// It ran when it was opened.
    Known(&'s Python),
    /// It was found since.
    Found(Box<Python>),
}

impl Deref for Running<'_> {
    type Target = Python;

    fn deref(&self) -> &Python {
        match self {
            Self::Known(python) => python,
            Self::Found(python) => python,
        }
    }
}

/// Waits for the end of a target.
pub(super) struct End<'s>(AsyncFd<BorrowedFd<'s>>);

impl End<'_> {
    /// Comes when the target has ended, and at once from then on.
    pub(super) async fn come(&self) -> Result<()> {
        self.0.readable().await.context(DESCRIPTOR)?.retain_ready();
        Ok(())
    }
}
