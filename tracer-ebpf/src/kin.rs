//! Who belongs to the family of a target: children are entered the moment they are forked, so that their own children are known, whatever the loader is doing.
//! Not part of any hit: these programs run where processes begin, change and end, of the whole host.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::kin::{Kin, KinKind};

use crate::gate::WAKE;
use crate::loss::{add, now_ns};
use crate::maps::{FAMILY, KIN, RING};

/// A process or thread was made; it has not run yet (kernel/fork.c, `kernel_clone`), and has its memory.
#[inline(always)]
pub fn forks(ctx: &RawTracePointContext) {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    if FAMILY.get_ptr(parent).is_none() {
        return;
    }
    let Some(config) = KIN.get(0) else { return };
    // include/trace/events/sched.h: the parent, then the child.
    let (from, to): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let Some(child) = field(to, config.tgid_at).map(|both| both as u32).filter(|child| *child != parent)
    else {
        return;
    };
    let borrows = field(from, config.mm_at) == field(to, config.mm_at);
    let mut flags = if borrows { Kin::BORROWS } else { 0 };
    if FAMILY.insert(child, 1, u64::from(BPF_NOEXIST)).is_err() {
        flags |= Kin::UNKNOWN;
    }
    tell(KinKind::Forked, flags, parent, child);
}

/// A process became another program.
#[inline(always)]
pub fn execs() {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    if FAMILY.get_ptr(process).is_some() {
        tell(KinKind::Execed, 0, process, process);
    }
}

/// A thread ends. The first one of a process ends with it, or the process is one that makes no others any more.
#[inline(always)]
pub fn exits() {
    let both = bpf_get_current_pid_tgid();
    let process = (both >> 32) as u32;
    if process == both as u32 && FAMILY.get_ptr(process).is_some() {
        let _ = FAMILY.remove(process);
        tell(KinKind::Exited, 0, process, process);
    }
}

/// Eight bytes of a kernel structure.
#[inline(always)]
fn field(structure: u64, at: u32) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the helper checks what it reads; the destination is eight bytes of our own.
    let status = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 8, structure.wrapping_add(u64::from(at)) as *const _)
    };
    (status == 0).then_some(value)
}

#[inline(always)]
fn tell(kind: KinKind, flags: u32, parent: u32, child: u32) {
    let record = Kin { kind: kind as u32, flags, parent, child, at_ns: now_ns() };
    if RING.output::<Kin>(record, WAKE).is_err()
        && let Some(config) = KIN.get_ptr_mut(0)
    {
        // SAFETY: the pointer came from the map a line above.
        add(unsafe { &raw mut (*config).lost }, 1);
    }
}
