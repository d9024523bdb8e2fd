//! What every hit passes first: is counting on, is it the target's, what does its probe point say. Then it goes to its room; a hit at which a
//! block is born goes on to the next program.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use tracer_common::config::TraceConfig;
use tracer_common::domain::Domain;
use tracer_common::event::EventKind;
use tracer_common::hook::{CallerFrom, HitKind, Hook, Role};
use tracer_common::walk::UserMemory;

use crate::birth::{self, Birth, Registers, What};
use crate::gate::{self, Pass};
use crate::inflight::Thread;
use crate::loss::add;
use crate::maps::{CONFIG, HITS, HOOKS, PROCESS};
use crate::registers::Context;
use crate::user_memory::HitMemory;
use crate::{alloc, fast, free, inflight, ints, object, process, resize, slow_call};

/// One hit that counts.
#[derive(Clone, Copy)]
pub struct Hit<'m> {
    /// The thread's id in the kernel's own namespace.
    pub tid: u32,
    /// What the probe point says of itself.
    pub hook: &'m Hook,
    /// The domain of the allocator.
    pub domain: Domain,
    /// The stack pointer: as it was at the allocator's entry, or after its return.
    pub sp: u64,
    /// The stack pointer at the hit.
    pub stack: u64,
    /// The probed instruction.
    pub ip: u64,
    /// Where the function returns to, on processors that keep that in a register while it begins.
    pub link: Option<u64>,
    /// Who asked, for [`CallerFrom::Table`].
    pub asker: Caller,
    /// The window that it is in.
    pub pass: Pass,
}

/// A hit, at an instruction or at a return.
#[inline(always)]
pub fn hit<C: EbpfContext>(ctx: &C) {
    let Some(config) = CONFIG.get_ptr_mut(0) else { return };
    // SAFETY: the pointer came from the map a line above; the loader does not write while probes are attached, but for `armed`.
    let Some(hit) = accept(ctx, unsafe { &*config }) else { return };
    admitted(ctx, config, hit);
    // A program that was called goes on in the place of this one: only what ends here comes back.
    gate::settle(hit.pass, hit.tid);
}

/// A hit that counts.
#[inline(always)]
fn admitted<C: EbpfContext>(ctx: &C, config: *mut TraceConfig, mut hit: Hit<'_>) {
    let Some(role) = hit.hook.role() else { return };
    let regs = Context::of(ctx);
    hit.stack = regs.stack();
    hit.ip = regs.ip();
    hit.link = regs.link();
    hit.sp = hit.stack.wrapping_add((i64::from(hit.hook.entry_words) * 8) as u64);
    learn_runtime(hit.ip, hit.hook.runtime_delta);
    if hit.hook.caller_from == CallerFrom::Table as u8 && !slow_call::is_known(&mut hit) {
        return;
    }
    let a = regs.register(hit.hook.a);
    let b = regs.register(hit.hook.b);
    // SAFETY: the caller got the pointer from the map; the loader does not write while probes are attached, but for `armed`.
    let settings = unsafe { &*config };
    let thread = match role {
        Role::FastAlloc => match fast::alloc(&hit, settings, a, b) {
            Some(thread) => thread,
            None => return,
        },
        Role::FastFree => return fast::free(&hit, settings, a),
        Role::NewPool => return fast::new_pool(&hit, |number| regs.register(number)),
        Role::Malloc | Role::Calloc | Role::AlignedAlloc | Role::PosixMemalign => {
            let (size_bytes, old) = match role {
                // A product that wraps is refused by every calloc: its size is never used.
                Role::Calloc => (a.wrapping_mul(b), 0),
                Role::AlignedAlloc => (b, 0),
                Role::PosixMemalign => (b, a),
                _ => (a, 0),
            };
            return inflight::begin(&hit, size_bytes, old);
        }
        Role::Realloc => return resize::begin(&hit, settings, a, b),
        Role::Free => return free::free(&hit, settings, a),
        Role::IntFromLong => return ints::begin(&hit, a as i64),
        Role::Birth => match object::born(&hit, settings, a) {
            Some(thread) => thread,
            None => return,
        },
        Role::Finalize => return process::disarm(config, EventKind::Finalize),
        Role::Return | Role::IntReturn | Role::NewPoolReturn => match returned(&hit, role, settings, a) {
            Some(thread) => thread,
            None => return,
        },
    };
    if gate::is_passed_over(hit.pass) {
        if role != Role::Birth {
            // The birth of the object in it is the same event, and passed over too.
            object::allocated(thread, thread.birth.address, thread.size_bytes);
        }
        // Whatever was there before is there no more.
        return gate::died(hit.pass, thread.birth.address);
    }
    thread.started_ns = hit.pass.started_ns;
    birth::begin(
        ctx,
        thread,
        settings,
        Registers { ip: hit.ip, sp: hit.stack, rbp: regs.frame(), returned: hit.hook.returns == 1 },
    );
}

/// The return of an allocating function, or of `PyLong_FromLong`.
#[inline(always)]
fn returned(hit: &Hit<'_>, role: Role, config: &TraceConfig, result: u64) -> Option<&'static mut Thread> {
    if role == Role::NewPoolReturn && result != 0 {
        count(HitKind::NewPoolBlock);
    }
    let thread = inflight::thread(hit)?;
    if role == Role::IntReturn {
        let site = ints::end(thread, hit)?;
        if site != 0 {
            ints::count(thread, config, site);
            return None;
        }
        thread.birth =
            Birth { address: 0, caller: thread.int_caller, domain: Domain::Object as u32, what: What::INT };
        return Some(thread);
    }
    let address = alloc::end(thread, hit, config, result)?;
    thread.birth =
        Birth { address, caller: thread.caller, domain: u32::from(thread.domain), what: What::BLOCK };
    Some(thread)
}

/// Decides whether a hit counts, and counts it.
#[inline(always)]
fn accept<C: EbpfContext>(ctx: &C, config: &TraceConfig) -> Option<Hit<'static>> {
    // SAFETY: `config` is a map value; the field is one aligned word, which may change under us.
    let armed = unsafe { (&raw const config.armed).read_volatile() };
    if armed != 1 {
        return None;
    }
    let state = PROCESS.get_ptr_mut(0)?;
    let tid = process::target_thread(config, state)?;
    // SAFETY: the helper only reads the context.
    let hook = HOOKS.get(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32)?;
    // That the interpreter ends is of interest at any time.
    let pass = if gate::logs(config) && hook.role != Role::Finalize as u8 {
        let Some(pass) = gate::enter(tid) else {
            count(HitKind::Shut);
            return None;
        };
        pass
    } else {
        Pass::TRACE
    };
    count(if hook.returns == 1 {
        HitKind::Return
    } else if hook.role == Role::FastAlloc as u8 {
        HitKind::PoolAlloc
    } else if hook.role == Role::FastFree as u8 {
        HitKind::PoolFree
    } else {
        HitKind::Entry
    });
    Some(Hit {
        tid,
        hook,
        domain: hook.domain(),
        sp: 0,
        stack: 0,
        ip: 0,
        link: None,
        asker: Caller { address: 0, slot: 0 },
        pass,
    })
}

/// Counts something that happens at hits.
#[inline(always)]
pub fn count(kind: HitKind) {
    if let Some(hits) = HITS.get_ptr_mut(kind as u32) {
        add(hits, 1);
    }
}

/// Who asked for the memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    /// An address behind the instruction that did; 0 if it could not be read.
    pub address: u64,
    /// Where on the stack that address lies; 0: the hit is in the very function that asked.
    pub slot: u64,
}

/// Who asks for memory at a hit. A return probe replaces a return address only after the entry's hit (kernel/events/uprobes.c, `handler_chain`).
#[inline(always)]
pub fn caller(hit: &Hit<'_>) -> Caller {
    if hit.hook.caller_from == CallerFrom::Here as u8 {
        return Caller { address: hit.ip.wrapping_add(1), slot: 0 };
    }
    let words = i64::from(hit.hook.caller_words);
    if let Some(link) = hit.link
        && words == 0
    {
        return Caller { address: link, slot: 0 };
    }
    let slot = hit.stack.wrapping_add((words * 8) as u64);
    Caller { address: HitMemory.word(slot).unwrap_or(0), slot }
}

/// For a process that had not mapped its interpreter when the trace began: the runtime lies in the same file as
/// the probed instruction, at a distance that the probe point knows.
#[inline(always)]
fn learn_runtime(instruction: u64, delta: i32) {
    if delta != 0
        && let Some(process) = PROCESS.get_ptr_mut(0)
    {
        // SAFETY: the pointer came from the map; every hit writes the same value.
        unsafe {
            if (*process).runtime == 0 {
                (*process).runtime = instruction.wrapping_add(delta as i64 as u64);
            }
        }
    }
}
