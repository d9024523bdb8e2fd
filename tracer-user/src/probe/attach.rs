//! Plan to links. Dropping [`Links`] takes every trap out; so does our death, however it comes, because nothing is pinned.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

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

/// What holds all the traps of a plan in.
#[derive(Default)]
pub struct Links(#[expect(dead_code, reason = "held to be dropped")] Vec<Link>);

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
    /// call that never ends.
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
