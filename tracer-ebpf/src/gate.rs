//! The gate of the sample engine: which hits are let through, what they cost, and the log of births and deaths. Without `work::LOG` it stands open.
//!
//! What a hit costs is its trap, as the loader has measured it, and the time from its first instruction to the last of the last program that it went through.
//! Every hit that was let through pays both, however early it ended.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use tracer_common::config::{TraceConfig, work};
use tracer_common::event::{EventHead, EventKind};
use tracer_common::sample::{Gate, Happening};

use crate::loss::{add, now_ns};
use crate::maps::{GATE, RING};

/// Wake the reader of the ring in any case (`BPF_RB_FORCE_WAKEUP` of include/uapi/linux/bpf.h). Without it the kernel wakes only a reader that has read all
/// that came before, and in a window nothing has been read (kernel/bpf/ringbuf.c, `bpf_ringbuf_commit`).
pub const WAKE: u64 = 2;
/// The most that a hit's programs are charged with: five times what one with 128 frames of each kind takes.
const LONGEST_NS: u64 = 50_000;
/// Do not wake it (`BPF_RB_NO_WAKEUP`).
const QUIET: u64 = 1;

/// How a record that can wait is sent: in a window the reader sleeps until it closes.
#[inline(always)]
pub fn patient(config: &TraceConfig) -> u64 {
    if logs(config) { QUIET } else { 0 }
}

/// Whether hits go through the gate and into the log.
#[inline(always)]
pub fn logs(config: &TraceConfig) -> bool {
    config.work & work::LOG != 0
}

/// A hit's pass.
#[derive(Clone, Copy)]
pub struct Pass {
    /// The window that it is in; 0: there are none.
    pub window: u32,
    /// When the hit began; not asked where there are no windows.
    pub started_ns: u64,
    /// The window has ended: births are the ends of what was there before, and nothing else.
    pub is_late: bool,
    /// [`Gate::thin`].
    pub thin: u32,
}

impl Pass {
    /// The pass where there are no windows.
    pub const TRACE: Self = Self { window: 0, started_ns: 0, is_late: false, thin: 0 };
}

/// Lets a hit through, if the gate is open; the first hit that finds the window used up ends it.
#[inline(always)]
pub fn enter(tid: u32) -> Option<Pass> {
    let gate = GATE.get_ptr_mut(0)?;
    // SAFETY: the pointer came from the map; the field is one aligned word, which may change under us.
    let open = unsafe { (&raw const (*gate).open).read_volatile() };
    if open == Gate::SHUT {
        return None;
    }
    // SAFETY: as above; the loader writes the other fields while the gate is shut, and sums that grow meanwhile are those of a moment later.
    let seen = unsafe { &*gate };
    let started_ns = now_ns();
    if started_ns < seen.opened_ns {
        return None;
    }
    let late = Some(Pass { window: seen.window, started_ns, is_late: true, thin: 0 });
    if open != Gate::OPEN {
        return late;
    }
    let elapsed_ns = started_ns - seen.opened_ns;
    if seen.is_used_up(elapsed_ns) {
        end(gate, started_ns);
        return late;
    }
    if seen.early_cost_ns == 0 && seen.own_ns(elapsed_ns) >= seen.early_ns {
        // SAFETY: one aligned word of a map value; two hits that pass the mark at once write nearly the same.
        unsafe { (&raw mut (*gate).early_cost_ns).write_volatile(seen.cost_ns.max(1)) };
    }
    if let Some(between_ns) = seen.since_mark(elapsed_ns, tid) {
        // SAFETY: one aligned word of a map value; of two threads that learn at once, one has not.
        unsafe { (&raw mut (*gate).trap_ns).write_volatile(seen.trap_after(between_ns)) };
    }
    // SAFETY: taking the address of a field of a map value.
    add(unsafe { &raw mut (*gate).hits }, 1);
    Some(Pass { window: seen.window, started_ns, is_late: false, thin: seen.thin as u32 })
}

/// Ends the window and wakes the reader.
#[inline(always)]
fn end(gate: *mut Gate, now_ns: u64) {
    // SAFETY: the pointer came from the map; each field is one aligned word. Two hits that end it at once write nearly the same.
    unsafe {
        (&raw mut (*gate).open).write_volatile(Gate::ENDED);
        (&raw mut (*gate).closed_ns).write_volatile(now_ns);
    }
    let head = EventHead { kind: EventKind::Closed as u32, ..EventHead::default() };
    // When the ring is full the loader learns it from the gate.
    let _ = RING.output::<EventHead>(head, WAKE);
}

/// Whether a birth gets no stack.
#[inline(always)]
pub fn is_passed_over(pass: Pass) -> bool {
    // SAFETY: the helper has no arguments.
    pass.is_late || (pass.thin != 0 && unsafe { bpf_get_prandom_u32() } & pass.thin != 0)
}

/// Charges the window with a hit that ends here. A hit that outlived its window is nobody's.
#[inline(always)]
pub fn settle(pass: Pass, tid: u32) {
    if pass.window == 0 {
        return;
    }
    let Some(gate) = GATE.get_ptr_mut(0) else { return };
    // SAFETY: the pointer came from the map; the fields are aligned words.
    let (window, seen) = unsafe { ((&raw const (*gate).window).read_volatile(), &*gate) };
    if window == pass.window {
        let ended_ns = now_ns();
        // SAFETY: one aligned word of a map value; of two threads that write at once, the other's is lost.
        unsafe {
            (&raw mut (*gate).marked).write_volatile(Gate::mark(ended_ns.wrapping_sub(seen.opened_ns), tid));
        }
        // A hit that took longer was interrupted: the thread waited for its processor, which is no work of ours.
        let took_ns = ended_ns.wrapping_sub(pass.started_ns);
        let cost_ns = seen.trap_ns.wrapping_add(if took_ns < LONGEST_NS { took_ns } else { LONGEST_NS });
        // SAFETY: taking the address of a field of a map value.
        let sum =
            unsafe { if pass.is_late { &raw mut (*gate).tail_cost_ns } else { &raw mut (*gate).cost_ns } };
        add(sum, cost_ns);
    }
}

/// Logs what happened.
#[inline(always)]
pub fn log(happening: Happening) {
    if RING.output::<Happening>(happening, QUIET).is_err()
        && let Some(gate) = GATE.get_ptr_mut(0)
    {
        // SAFETY: taking the address of a field of a map value.
        add(unsafe { &raw mut (*gate).refused }, 1);
    }
}

/// Logs a death.
#[inline(always)]
pub fn died(pass: Pass, address: u64) {
    log(Happening { kind: EventKind::Died as u32, address, at_ns: pass.started_ns, ..Happening::default() });
}
