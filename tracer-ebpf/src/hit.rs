//! What every hit passes first: is counting on, is it the target's, what does the cookie say. Then it goes to its room.

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_common::config::TraceConfig;
use tracer_common::domain::Domain;
use tracer_common::event::EventKind;
use tracer_common::hook::{HitKind, Hook, Register, Role};

use crate::loss::add;
use crate::maps::{CONFIG, HITS, NOWHERE, PROCESS};
use crate::{alloc, free, inflight, ints, process, resize, stack};

/// Reads one field of the context, in assembly: LLVM merges reads of different fields, volatile or not, into one read at a computed
/// offset, which the verifier refuses ("dereference of modified ctx ptr").
macro_rules! read_field {
    ($regs:expr, $field:ident) => {{
        let value: u64;
        // SAFETY: `regs` is the context that the kernel passed, and the offset is that of a field in it.
        unsafe {
            asm!(
                "{value} = *(u64 *)({regs} + {offset})",
                value = out(reg) value,
                regs = in(reg) $regs,
                offset = const core::mem::offset_of!(pt_regs, $field),
                options(pure, readonly, nostack),
            );
        }
        value
    }};
}

/// `armed` never has this value; see [`NOWHERE`].
const HAND_OVER: u32 = 0x756e_7368;

/// One hit that counts.
#[derive(Clone, Copy)]
pub struct Hit {
    /// The thread's id inside the target's PID namespace.
    pub tid: u32,
    /// What the probe point says of itself.
    pub hook: Hook,
    /// The stack pointer: as it was at the function's entry, or after its return.
    pub sp: u64,
}

/// A hit at an allocator's entry.
#[inline(always)]
pub fn entered(ctx: &ProbeContext) {
    let Some(config) = CONFIG.get_ptr_mut(0) else { return };
    // SAFETY: the pointer came from the map a line above; the loader does not write while probes are attached, but for `armed`.
    let Some(mut hit) = accept(ctx, unsafe { &*config }, HitKind::Entry) else { return };
    let regs = ctx.regs;
    hit.sp = read_field!(regs, rsp) + 8 * u64::from(hit.hook.pushed_words);
    learn_slot(read_field!(regs, rip), hit.hook.tstate_delta);
    let a = register(regs, hit.hook.a);
    match hit.hook.role {
        Role::Malloc => inflight::begin(&hit, a, 0),
        // A product that wraps is refused by every calloc: its size is never used.
        Role::Calloc => inflight::begin(&hit, a.wrapping_mul(register(regs, hit.hook.b)), 0),
        Role::Realloc => resize::begin(&hit, a, register(regs, hit.hook.b)),
        Role::Free => free::free(&hit, a),
        Role::AlignedAlloc => inflight::begin(&hit, register(regs, hit.hook.b), 0),
        Role::PosixMemalign => inflight::begin(&hit, register(regs, hit.hook.b), a),
        Role::IntFromLong => ints::begin(&hit, a as i64),
        Role::Finalize => process::disarm(config, EventKind::Finalize),
        Role::Return | Role::IntReturn => {}
    }
}

/// A hit at the return of an allocating function.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) {
    let Some(config) = CONFIG.get(0) else { return };
    let Some(mut hit) = accept(ctx, config, HitKind::Return) else { return };
    let regs = ctx.regs;
    hit.sp = read_field!(regs, rsp);
    let result = read_field!(regs, rax);
    let Some(thread) = inflight::thread(hit.tid) else { return };
    // The stack is walked in one place only: the verifier follows each copy of the walk for itself.
    let is_int = hit.hook.role == Role::IntReturn;
    let (address, domain, caller) = if is_int {
        match ints::end(thread, &hit) {
            Some(0) => (0, Domain::Object as u8, thread.int_caller),
            Some(site) => return ints::count(thread, site),
            None => return,
        }
    } else {
        match alloc::end(thread, &hit, result) {
            Some(address) => (address, thread.domain, thread.caller),
            None => return,
        }
    };
    let site = stack::site(thread, hit.tid, config, domain, caller);
    if is_int {
        ints::count(thread, site);
    } else {
        alloc::born(thread, site, address);
    }
}

/// Decides whether a hit counts, and counts it.
#[inline(always)]
fn accept<C: EbpfContext>(ctx: &C, config: &TraceConfig, kind: HitKind) -> Option<Hit> {
    // SAFETY: `config` is a map value; the field is one aligned word, which may change under us.
    let armed = unsafe { (&raw const config.armed).read_volatile() };
    if armed == HAND_OVER {
        // SAFETY: the map is empty, so this returns; it is here for what it makes the kernel do at load time.
        unsafe { NOWHERE.tail_call(ctx, 0) };
    }
    if armed != 1 {
        return None;
    }
    let tid = process::target_tid(config)?;
    // SAFETY: the helper only reads the context.
    let hook = Hook::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })?;
    if let Some(hits) = HITS.get_ptr_mut(kind as u32) {
        add(hits, 1);
    }
    Some(Hit { tid, hook, sp: 0 })
}

/// For a process that had not mapped its interpreter when the trace began: the thread state's slot lies in the same file as
/// the probed instruction, at a distance that the cookie carries.
#[inline(always)]
fn learn_slot(instruction: u64, delta: i32) {
    if delta != 0
        && let Some(process) = PROCESS.get_ptr_mut(0)
    {
        // SAFETY: the pointer came from the map; every hit writes the same value.
        unsafe {
            if (*process).tstate_slot == 0 {
                (*process).tstate_slot = instruction.wrapping_add(delta as i64 as u64);
            }
        }
    }
}

/// A register of the probed thread.
#[inline(always)]
fn register(regs: *const pt_regs, register: Register) -> u64 {
    match register {
        Register::Rax => read_field!(regs, rax),
        Register::Rcx => read_field!(regs, rcx),
        Register::Rdx => read_field!(regs, rdx),
        Register::Rbx => read_field!(regs, rbx),
        Register::Rsp => read_field!(regs, rsp),
        Register::Rbp => read_field!(regs, rbp),
        Register::Rsi => read_field!(regs, rsi),
        Register::Rdi => read_field!(regs, rdi),
        Register::R8 => read_field!(regs, r8),
        Register::R9 => read_field!(regs, r9),
        Register::R10 => read_field!(regs, r10),
        Register::R11 => read_field!(regs, r11),
        Register::R12 => read_field!(regs, r12),
        Register::R13 => read_field!(regs, r13),
        Register::R14 => read_field!(regs, r14),
        Register::R15 => read_field!(regs, r15),
    }
}
