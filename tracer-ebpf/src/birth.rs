//! The birth of a block, from its hit to the books: what is known of it goes through the thread's own memory, from one program to the next, because the
//! verifier looks at each program for itself and gives each a million instructions.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::config::TraceConfig;
use tracer_common::frame::mix;
use tracer_common::loss::Loss;
use tracer_common::native::{Begin, Mode, NativeEnd, Stage};

use crate::gate::{self, Pass};
use crate::hit::Caller;
use crate::inflight::{self, Thread};
use crate::loss::lose;
use crate::maps::{CONFIG, PROGRAMS};
use crate::{alloc, ints, stack};

/// What a stack is walked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Birth {
    /// The address of the block that is born; 0 for a call of `PyLong_FromLong` that allocated nothing.
    pub address: u64,
    /// Who asked for it.
    pub caller: Caller,
    /// Its domain's code.
    pub domain: u32,
    /// A [`What`].
    pub what: u32,
}

/// What is born.
pub struct What;

impl What {
    /// A block.
    pub const BLOCK: u32 = 0;
    /// Nothing: `PyLong_FromLong` was called, and had no need to allocate.
    pub const INT: u32 = 1;
    /// An object, in a block that one of CPython's freelists kept.
    pub const REUSED: u32 = 2;
}

/// Where the thread is.
pub struct Registers {
    /// The instruction that runs next.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// `rbp`.
    pub rbp: u64,
    /// A function has just returned here.
    pub returned: bool,
}

/// Sends a hit whose [`Birth`] is known on its way.
#[inline(always)]
pub fn begin<C: EbpfContext>(ctx: &C, thread: &mut Thread, config: &TraceConfig, registers: Registers) {
    let seed = u64::from(thread.birth.domain);
    thread.scratch.progress.reset();
    if config.native == Mode::Off as u32 {
        thread.native.end = NativeEnd::Off as u32;
        thread.native.depth = 0;
        thread.native.hash = mix(0, seed);
        return hand_over(ctx, Stage::Books);
    }
    let Caller { address, slot } = thread.birth.caller;
    thread.native.begin(Begin {
        ip: registers.ip,
        sp: registers.sp,
        rbp: registers.rbp,
        slot: if registers.returned { registers.sp.wrapping_sub(8) } else { 0 },
        caller_slot: slot,
        caller: address,
        seed,
    });
    thread.scratch.window.forget();
    hand_over(ctx, Stage::Native);
}

/// Calls another program, which goes on in the place of this one; it comes back only if there is none to call, and the hit ends.
#[inline(always)]
pub fn hand_over<C: EbpfContext>(ctx: &C, stage: Stage) {
    // SAFETY: the context is the one that the kernel passed.
    unsafe { PROGRAMS.tail_call(ctx, stage as u32) };
    lose(Loss::HandOver);
}

/// The thread that is in a hit, and the configuration.
#[inline(always)]
pub fn context() -> Option<(&'static mut Thread, &'static TraceConfig)> {
    let config = CONFIG.get(0)?;
    Some((inflight::entry(bpf_get_current_pid_tgid() as u32)?, config))
}

/// Walks the Python frames, as many as one program may, calls itself for the rest, and at their end enters the block.
#[inline(always)]
pub fn books<C: EbpfContext>(ctx: &C) {
    let Some((thread, config)) = context() else { return };
    if stack::walk(thread, config) {
        hand_over(ctx, Stage::Books);
        return settle(thread);
    }
    let site = stack::site(thread, config);
    let birth = thread.birth;
    if gate::logs(config) {
        alloc::log(thread, site.0);
    } else if birth.address != 0 {
        alloc::born(thread, config, site, birth.address);
    }
    if birth.what == What::INT {
        ints::count(thread, config, site.0);
    }
    settle(thread);
}

/// Charges the window with the thread's hit, which ends here.
#[inline(always)]
pub fn settle(thread: &Thread) {
    let pass = Pass { window: thread.window, started_ns: thread.started_ns, is_late: false, thin: 0 };
    gate::settle(pass, bpf_get_current_pid_tgid() as u32);
}
