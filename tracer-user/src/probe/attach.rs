//! Plan to links. Dropping [`Links`] takes every trap out; so does our death, however it comes, because nothing is pinned.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};

use crate::error::{Context, Error, Result};
use crate::probe::load::{Probes, refused};
use crate::probe::multi::Programs;
use crate::probe::sites::Point;

/// What holds the traps in.
pub enum Links {
    /// One link per file and kind.
    Multi {
        /// The links; closing them takes the traps out.
        links: Vec<OwnedFd>,
        /// The programs, kept for their run times.
        programs: Programs,
    },
    /// One perf event per point, owned by aya.
    PerfEvents,
}

/// Probe points of one file, as (offset, cookie), by whether they are returns. Returns come first: a return without its entry is
/// ignored, an entry without its return would be a call that never ends.
fn by_file(points: &[Point]) -> BTreeMap<(bool, PathBuf), Vec<(u64, u64)>> {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for point in points {
        files
            .entry((!point.returns, point.file.clone()))
            .or_default()
            .push((point.file_offset, point.hook.to_cookie()));
    }
    files
}

impl Links {
    /// Puts the traps in: all of a file at once with `programs`, the ones for `uprobe_multi`; without, one by one.
    ///
    /// # Errors
    /// What the kernel says; nothing stays attached then.
    pub fn attach(
        probes: &mut Probes,
        points: &[Point],
        pid: u32,
        programs: Option<Programs>,
    ) -> Result<Self> {
        if let Some(programs) = programs {
            let links = by_file(points)
                .iter()
                .map(|((entry, path), points)| programs.link(path, points, !entry, pid))
                .collect::<Result<_>>()?;
            return Ok(Self::Multi { links, programs });
        }
        for ((entry, path), points) in by_file(points) {
            let program: &mut UProbe = probes
                .ebpf()
                .program_mut(if entry { "on_entry" } else { "on_return" })
                .ok_or_else(|| Error::failed("the object has no probe programs"))?
                .try_into()
                .context("the object")?;
            if program.fd().is_err() {
                program.load().map_err(|cause| refused(&cause))?;
            }
            let scope = NonZeroU32::new(pid)
                .map(UProbeScope::OneProcess)
                .ok_or_else(|| Error::failed("process 0"))?;
            for (offset, cookie) in points {
                let point = UProbeAttachPoint {
                    location: UProbeAttachLocation::AbsoluteOffset(offset),
                    cookie: Some(cookie),
                };
                program.attach(point, &path, scope).map_err(|cause| refused(&cause))?;
            }
        }
        Ok(Self::PerfEvents)
    }

    /// Takes every trap out and returns when they are out.
    pub fn detach(self, probes: &mut Probes) {
        match self {
            Self::Multi { links, .. } => drop(links),
            Self::PerfEvents => {
                for name in ["on_entry", "on_return"] {
                    if let Some(Ok(program)) = probes.ebpf().program_mut(name).map(<&mut UProbe>::try_from) {
                        // Unloading drops the program's links with it.
                        let _ = program.unload();
                    }
                }
            }
        }
    }

    /// Run time in nanoseconds and runs of the entry and return programs, where the kernel measured them.
    #[must_use]
    pub fn run_times(&self) -> [(u64, u64); 2] {
        match self {
            Self::Multi { programs, .. } => programs.run_times(),
            Self::PerfEvents => [(0, 0); 2],
        }
    }
}
