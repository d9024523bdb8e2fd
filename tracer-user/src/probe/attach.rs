//! Plan to links. Dropping [`Links`] takes every trap out; so does our death, however it comes, because nothing is pinned.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Builder;

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};

use crate::error::{Context, Error, Result};
use crate::kernel;
use crate::probe::load::{Probes, STAGES, refused};
use crate::probe::multi::Programs;
use crate::probe::sites::Point;

/// The two ways to put traps in; the programs are loaded for one of them.
pub enum Method {
    /// All points of a file in one link.
    Multi(Programs),
    /// One perf event per point: slow to attach and to detach, but known to kernels before 6.10.
    PerfEvents,
}

/// Holds traps in until it is dropped.
pub enum Link {
    /// A descriptor that holds all of them.
    Multi(OwnedFd),
    /// One aya link each.
    PerfEvents(Vec<UProbeLink>),
}

/// What holds all the traps of a plan in. It may be dropped on any thread.
#[derive(Default)]
pub struct Links(Vec<Link>);

/// Traps that are on their way out: each link's thread says when it is.
pub struct Leaving(Vec<Receiver<()>>);

/// Threads that take traps out. They are kept, because windows come several times a second, and to make a thread is dearer than what it does.
#[derive(Default)]
pub struct Exits(Vec<Exit>);

/// One of them.
struct Exit {
    /// What it is to close; the second part goes when it has.
    work: Sender<(Link, Sender<()>)>,
    is_busy: Arc<AtomicBool>,
}

impl Exits {
    /// Closes a link on a thread that has nothing else to do; where none can be had, here and now. What comes back is disconnected when it is closed.
    fn close(&mut self, link: Link) -> Receiver<()> {
        let (done, when_done) = channel();
        let idle = self.0.iter().position(|exit| !exit.is_busy.load(Ordering::Acquire));
        let exit = idle.or_else(|| {
            self.0.push(Exit::start()?);
            Some(self.0.len() - 1)
        });
        if let Some(exit) = exit.and_then(|at| self.0.get(at)) {
            exit.is_busy.store(true, Ordering::Release);
            // Of a thread that is gone the link comes back, and goes here.
            let _ = exit.work.send((link, done));
        }
        when_done
    }
}

impl Exit {
    fn start() -> Option<Self> {
        let (work, incoming) = channel::<(Link, Sender<()>)>();
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let run = move || {
            for (link, done) in incoming {
                drop(link);
                busy.store(false, Ordering::Release);
                drop(done);
            }
        };
        Builder::new().name("detach".to_owned()).spawn(run).ok()?;
        Some(Self { work, is_busy })
    }
}

impl Links {
    /// Takes all traps out, without waiting for it. The kernel removes the breakpoints of a link as soon as it is closed, and then waits, 30 to 90 ms, until nobody can be in a
    /// program any more (kernel/events/uprobes.c, `uprobe_unregister_sync`); so each link is closed on a thread of its own, lest the breakpoints of one wait for the
    /// end of another.
    #[must_use]
    pub fn take_out(self, exits: &mut Exits) -> Leaving {
        // The largest first; the last is the one that most points are in.
        Leaving(self.0.into_iter().rev().map(|link| exits.close(link)).collect())
    }
}

impl Leaving {
    /// Whether all of them are out, and the kernel has forgotten them.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.iter().all(|link| link.try_recv() == Err(TryRecvError::Disconnected))
    }

    /// Waits for it.
    pub fn wait(self) {
        for link in self.0 {
            // Nothing is ever sent; it ends when the other side has gone.
            let _ = link.recv();
        }
    }
}

impl Method {
    /// Loads the programs, for `uprobe_multi` or for perf events.
    ///
    /// # Errors
    /// What the verifier says.
    pub fn load(probes: &mut Probes, multi: bool) -> Result<Self> {
        if multi {
            return Ok(Self::Multi(Programs::load(probes)?));
        }
        for returns in [false, true] {
            program(probes, returns)?.load().map_err(|cause| refused(&cause))?;
        }
        for (stage, name) in STAGES {
            let program = named(probes, name)?;
            program.load().map_err(|cause| refused(&cause))?;
            let fd = program.fd().context(name)?.try_clone().context(name)?;
            probes.set_stage(stage, fd.as_fd())?;
        }
        Ok(Self::PerfEvents)
    }

    /// Puts traps into one file, at (file offset, cookie) pairs, for one process.
    ///
    /// # Errors
    /// What the kernel says; none of them stays in then.
    pub fn link(
        &self,
        probes: &mut Probes,
        path: &Path,
        points: &[(u64, u64)],
        returns: bool,
        pid: u32,
    ) -> Result<Link> {
        if let Self::Multi(programs) = self {
            return programs.link(path, points, returns, pid).map(Link::Multi);
        }
        let program = program(probes, returns)?;
        let scope =
            NonZeroU32::new(pid).map(UProbeScope::OneProcess).ok_or_else(|| Error::failed("process 0"))?;
        let mut links = Vec::new();
        for &(offset, cookie) in points {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(offset),
                cookie: Some(cookie),
            };
            let link = program.attach(point, path, scope).map_err(|cause| refused(&cause))?;
            links.push(program.take_link(link).context("taking a link")?);
        }
        Ok(Link::PerfEvents(links))
    }

    /// Puts all traps of a plan in; a point's cookie is its place in the plan, from 1 on. Returns come first: a return without its entry is ignored, an entry without its return would be a
    /// call that never ends. The link with the most points comes last: of several links only the first waits for the kernel, some milliseconds, before any of
    /// its traps is in (`percpu_down_write` in `register_for_each_vma`), so the many are in for no longer than they must.
    ///
    /// # Errors
    /// What the kernel says; nothing stays attached then.
    pub fn attach(&self, probes: &mut Probes, points: &[Point], pid: u32) -> Result<Links> {
        self.attach_some(probes, points, pid, |_| true)
    }

    /// The same for some of them.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_some(
        &self,
        probes: &mut Probes,
        points: &[Point],
        pid: u32,
        which: impl Fn(&Point) -> bool,
    ) -> Result<Links> {
        let mut files = BTreeMap::<(bool, PathBuf), Vec<(u64, u64)>>::new();
        for (cookie, point) in (1u64..).zip(points).filter(|(_, point)| which(point)) {
            let file = files.entry((!point.returns, point.file.clone())).or_default();
            file.push((point.file_offset, cookie));
        }
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|((entry, _), points)| (*entry, points.len()));
        let links = files.iter().map(|((entry, path), points)| self.link(probes, path, points, !entry, pid));
        Ok(Links(links.collect::<Result<_>>()?))
    }

    /// Run time in nanoseconds and runs of the programs, as far as the kernel has measured them.
    #[must_use]
    pub fn run_time(&self, probes: &mut Probes) -> (u64, u64) {
        match self {
            Self::Multi(programs) => programs.run_time(),
            Self::PerfEvents => {
                let times = [false, true].map(|returns| {
                    let program = program(probes, returns).ok();
                    let fd = program.as_ref().and_then(|program| program.fd().ok());
                    fd.and_then(|fd| kernel::run_time(fd.as_fd())).unwrap_or_default()
                });
                (times[0].0 + times[1].0, times[0].1 + times[1].1)
            }
        }
    }
}

/// aya's own program for entries or returns.
fn program(probes: &mut Probes, returns: bool) -> Result<&mut UProbe> {
    named(probes, if returns { "on_return" } else { "on_entry" })
}

fn named<'p>(probes: &'p mut Probes, name: &str) -> Result<&'p mut UProbe> {
    probes
        .ebpf()
        .program_mut(name)
        .ok_or_else(|| Error::failed("the object has no probe programs"))?
        .try_into()
        .context("the object")
}
