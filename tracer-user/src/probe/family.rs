//! The family of a target, watched by the kernel from its first process on; and the way to take out of children the traps that they have inherited.
//!
//! A child that is forked has a copy of its parent's code, traps and all. The kernel runs no probe for them, but it does not take them out either as long as the parent's link
//! lives (uprobe_multi; facts/ebpf.md §6, row "fork"): the child would pay for every one. It takes them out of everybody who is in no link's scope when any link on the same
//! places is closed (kernel/events/uprobes.c, `register_for_each_vma` with `filter_chain`), so a link of ours on ourselves, who never run that code, does it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::RawTracePoint;
use tracer_common::kin::KinConfig;
use tracer_common::limits::MAX_FAMILY;

use crate::error::{Context, Error, Result};
use crate::probe::btf;
use crate::probe::load::{Probes, refused};
use crate::probe::multi::Programs;

/// The inode of the first PID namespace (include/uapi/linux/nsfs.h of 6.18, `PID_NS_INIT_INO`; include/linux/proc_ns.h before).
const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// Programs and where they are attached.
const WATCHERS: [(&str, &str); 3] = [
    ("on_kin_exit", "sched_process_exit"),
    ("on_kin_exec", "sched_process_exec"),
    ("on_kin_fork", "sched_process_fork"),
];

/// The watched family.
pub struct Family {
    probes: Probes,
    /// What is linked to sweep; `None` on kernels that need no sweeping.
    broom: Option<Programs>,
}

impl Family {
    /// Watches, for now nobody; and the ring that tells of whom is entered.
    ///
    /// # Errors
    /// When the kernel does not say where it keeps process ids, or numbers processes otherwise than we see them, or what it says else.
    pub fn watch() -> Result<(Self, RingBuf<MapData>)> {
        let namespace = std::fs::metadata("/proc/self/ns/pid").context("our PID namespace")?.ino();
        if namespace != FIRST_NAMESPACE {
            return Err(Error::failed(
                "children are seen by their process ids on the host, which are not known in a PID namespace",
            )
            .next("run unshed on the host, or in a container with the host's PID namespace (--pid=host)"));
        }
        let config = btf::kin().ok_or_else(|| {
            Error::failed("this kernel does not say where it keeps process ids (it has no /sys/kernel/btf/vmlinux), so children cannot be seen")
        })?;
        let mut probes = Probes::load_for_family()?;
        let mut map: Array<_, KinConfig> = probes.typed("KIN")?;
        map.set(0, config, 0).context("the configuration of the family")?;
        for (program, tracepoint) in WATCHERS {
            let found = probes.ebpf().program_mut(program);
            let found = found.ok_or_else(|| Error::failed(format!("the object has no program {program}")))?;
            let program: &mut RawTracePoint = found.try_into().context("the object")?;
            program.load().map_err(|cause| refused(&cause))?;
            program.attach(tracepoint).context(format!("tracepoint {tracepoint}"))?;
        }
        // Its maps must all be there still: the ring is taken after it.
        let broom = Programs::load_counting(&probes).ok();
        let ring = probes.take_ring()?;
        Ok((Self { probes, broom }, ring))
    }

    /// From now on forks and execs of this process are told, and those of all that it forks.
    ///
    /// # Errors
    /// When the family is too large.
    pub fn adopt(&mut self, pid: u32) -> Result<()> {
        let mut family: HashMap<_, u32, u32> = self.probes.typed("FAMILY")?;
        family.insert(pid, 1, 0).context(format!("a family of more than {MAX_FAMILY} processes"))
    }

    /// Forks and execs that the ring had no room for.
    pub fn lost(&mut self) -> u64 {
        let map = self.probes.typed::<Array<_, KinConfig>>("KIN").ok();
        map.and_then(|map| map.get(&0, 0).ok()).map_or(0, |config| config.lost)
    }

    /// Takes the traps at these points out of all processes that are not traced themselves. Only needed where links hold all points of a file (`uprobe_multi`): with perf
    /// events the kernel does it at a child's first hit.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self, places: Vec<(PathBuf, Vec<u64>)>) -> Result<()> {
        let Some(broom) = &self.broom else { return Ok(()) };
        for (path, mut offsets) in places {
            offsets.sort_unstable();
            offsets.dedup();
            let points: Vec<_> = offsets.into_iter().map(|offset| (offset, 0)).collect();
            drop(broom.link(&path, &points, false, std::process::id())?);
        }
        Ok(())
    }
}
