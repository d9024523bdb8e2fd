//! Whose hit this is, and what becomes of the process: threads that end, images that are replaced.

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_ns_current_pid_tgid, bpf_probe_read_kernel,
};
use tracer_common::config::{ProcessState, TraceConfig, work};
use tracer_common::event::{EventHead, EventKind};

use crate::gate::WAKE;
use crate::maps::{CONFIG, PROCESS, RING, THREADS};

/// Whether the current thread belongs to the target, and its id in the kernel's own namespace. The question is asked in the target's namespace
/// once, and answered by a comparison from then on.
#[inline(always)]
pub fn target_thread(config: &TraceConfig, state: *mut ProcessState) -> Option<u32> {
    let both = bpf_get_current_pid_tgid();
    let tgid = (both >> 32) as u32;
    // SAFETY: the pointer came from the map; the field is one aligned word, and every hit of the target writes the same value.
    unsafe {
        if (&raw const (*state).kernel_tgid).read_volatile() != tgid {
            target_tid(config)?;
            (&raw mut (*state).kernel_tgid).write_volatile(tgid);
        }
    }
    Some(both as u32)
}

/// The current thread's id inside the target's PID namespace, if it belongs to the target.
///
/// The kernel already filters by address space, but a child that was forked a moment ago may hit a trap that it inherited, before
/// the kernel takes it out (facts/ebpf.md §6, row "fork"); its frees are not the target's.
#[inline(always)]
pub fn target_tid(config: &TraceConfig) -> Option<u32> {
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the destination is ours and of the size that is passed.
    let status = unsafe {
        bpf_get_ns_current_pid_tgid(
            config.ns_dev,
            config.ns_ino,
            &raw mut ids,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    (status == 0 && ids.tgid == config.ns_tgid).then_some(ids.pid)
}

/// The thread pointer of the current thread, which tells it from all others of its process; 0 if the running kernel has not said where it keeps it.
#[inline(always)]
pub fn thread_pointer(config: &TraceConfig) -> u64 {
    let mut pointer = 0u64;
    if config.thread_pointer_at != 0 {
        // SAFETY: the helper gives the address of the current task, and the next one checks what it reads; the destination is eight bytes of our own.
        unsafe {
            let task = bpf_get_current_task();
            let place = task.wrapping_add(u64::from(config.thread_pointer_at));
            bpf_probe_read_kernel((&raw mut pointer).cast(), 8, place as *const _);
        }
    }
    pointer
}

/// Forgets a thread that ends, so that the map of threads holds only living ones. Where processes take turns it may be of one whose turn it is not.
#[inline(always)]
pub fn thread_exits() {
    let takes_turns = CONFIG.get(0).is_some_and(|config| config.work & work::TURNS != 0);
    if let Some(state) = PROCESS.get(0)
        && (takes_turns || state.kernel_tgid == (bpf_get_current_pid_tgid() >> 32) as u32)
    {
        let tid = bpf_get_current_pid_tgid() as u32;
        // A thread that never allocated has no entry; that is no loss.
        let _ = THREADS.remove(tid);
    }
}

/// Tells the loader that the target's image, and with it every address, was replaced. Counting stops at once.
#[inline(always)]
pub fn execs() {
    if let Some(config) = CONFIG.get_ptr_mut(0)
        // SAFETY: the pointer came from the map a line above.
        && let Some(_) = target_tid(unsafe { &*config })
    {
        disarm(config, EventKind::Exec);
    }
}

/// Stops counting and says why. Says nothing when counting had stopped (or not begun) already.
#[inline(always)]
pub fn disarm(config: *mut TraceConfig, kind: EventKind) {
    // SAFETY: the caller got the pointer from the map; `armed` is the only field that the kernel side writes, one aligned word.
    let was_armed = unsafe {
        let was_armed = (&raw const (*config).armed).read_volatile();
        (&raw mut (*config).armed).write_volatile(0);
        was_armed
    };
    if was_armed == 1 {
        let head = EventHead { kind: kind as u32, ..EventHead::default() };
        // The ring can only be full of stacks; the loader then learns from `armed` that counting has stopped.
        let _ = RING.output::<EventHead>(head, WAKE);
    }
}
