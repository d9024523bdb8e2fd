//! Pairs an allocator call's entry with its return, per thread; the outermost call owns the block.
//!
//! No depth is counted. The stack grows down, so a call with a lower stack pointer than the one in flight is nested in it; a call at
//! the very same stack pointer is nested if it is a tail call into a deeper domain (`PyMem_RawMalloc` ends in `jmp malloc`); anything
//! else means that the call in flight never returned.

use tracer_common::block::Block;
use tracer_common::domain::Domain;
use tracer_common::event::StackRecord;
use tracer_common::hook::Role;
use tracer_common::loss::Loss;
use tracer_common::native::Native;
use tracer_common::walk::Scratch;

use crate::birth::Birth;
use crate::hit::{Caller, Hit, caller};
use crate::loss::lose;
use crate::maps::{BLOCKS, EMPTY_THREAD, THREADS};
use crate::object::{self, RECENT, Recent};

/// What is remembered per thread. Only the thread's own hits touch it, and a thread is in one hit at a time: it is private without a lock,
/// unlike per-CPU room, which a preempted hit would share (facts/ebpf.md §2.6).
#[repr(C)]
pub struct Thread {
    /// Stack pointer at the entry of the outermost call in flight; 0 when there is none.
    pub sp: u64,
    /// Which code asked for the memory.
    pub caller: Caller,
    /// Bytes asked for by that call.
    pub size_bytes: u64,
    /// `realloc`: the old block; `posix_memalign`: where the result will be stored.
    pub old: u64,
    /// `realloc`: the old block's entry, taken out of the map until the outcome is known.
    pub old_block: Block,
    /// 1 if `old_block` is filled.
    pub old_known: u32,
    /// Role of the call in flight.
    pub role: u8,
    /// Domain of the call in flight.
    pub domain: u8,
    /// Nesting rank of that domain.
    pub rank: u8,
    /// Nesting rank of the `free` behind `last_freed`.
    pub freed_rank: u8,
    /// The block that the last outer `free` was given: the same pointer passes the inner domains' `free` as well.
    pub last_freed: u64,
    /// `PyLong_FromLong` in flight: its stack pointer (0: none), its value, and the site of the allocation inside it (0: none yet).
    pub int_sp: u64,
    /// See `int_sp`.
    pub int_value: i64,
    /// See `int_sp`.
    pub int_site: u64,
    /// Who called that `PyLong_FromLong`.
    pub int_caller: Caller,
    /// The window that all this is of; 0 in a trace, which has none.
    pub window: u32,
    /// Where the next of `recent` goes.
    pub recent_next: u32,
    /// When the hit began that a birth is of.
    pub started_ns: u64,
    /// Blocks of this window in which no object has been born yet.
    pub recent: [Recent; RECENT],
    /// The block that is about to be inserted.
    pub block: Block,
    /// What the stack is walked for now.
    pub birth: Birth,
    /// The walk along the C frames.
    pub native: Native,
    /// Room for the walk along the Python frames.
    pub scratch: Scratch,
    /// The stack, as it will be sent.
    pub record: StackRecord,
}

const _: () = assert!(
    size_of::<Thread>()
        == 192
            + RECENT * size_of::<Recent>()
            + size_of::<Native>()
            + size_of::<Scratch>()
            + size_of::<StackRecord>()
);

/// Where a function returns to whose return is probed: in the highest page of user space, or above that of four-level page tables (kernel/events/uprobes.c, `xol_add_vma`). No code of the
/// target lies there.
const RETURN_PROBES: u64 = 0x7fff_ffff_e000;

/// The entry of the hit's thread, made if need be. What it holds of another window is forgotten: while the gate was shut, calls have come and gone unseen.
#[inline(always)]
pub fn thread(hit: &Hit<'_>) -> Option<&'static mut Thread> {
    let thread = entry(hit.tid)?;
    if thread.window != hit.pass.window {
        thread.window = hit.pass.window;
        thread.sp = 0;
        thread.int_sp = 0;
        thread.last_freed = 0;
        object::forget(thread);
    }
    Some(thread)
}

/// The entry of a thread, made if need be.
#[inline(always)]
pub fn entry(tid: u32) -> Option<&'static mut Thread> {
    if let Some(thread) = THREADS.get_ptr_mut(tid) {
        // SAFETY: only this thread's hits use the entry, one at a time, and only its exit removes it.
        return Some(unsafe { &mut *thread });
    }
    let empty = EMPTY_THREAD.get(0)?;
    if THREADS.insert(tid, empty, 0).is_err() {
        lose(Loss::ThreadMapFull);
        return None;
    }
    // SAFETY: as above.
    THREADS.get_ptr_mut(tid).map(|thread| unsafe { &mut *thread })
}

/// Whether a call at `hit` happens inside the call that the thread has in flight.
#[inline(always)]
pub fn nested(thread: &Thread, hit: &Hit<'_>) -> bool {
    thread.sp != 0 && (hit.sp < thread.sp || (hit.sp == thread.sp && hit.domain.rank() > thread.rank))
}

/// Whether the innermost allocator, at `hit`, works for the call that the thread has in flight. Nothing is nested in it, so a call in flight at the
/// very same stack pointer has ended in a jump to it. A call in flight that never returned is given up.
#[inline(always)]
pub fn owned(thread: &mut Thread, hit: &Hit<'_>) -> bool {
    if thread.sp == 0 {
        return false;
    }
    if hit.sp <= thread.sp {
        return true;
    }
    give_up(thread);
    false
}

/// Forgets a call that never returned.
#[inline(always)]
fn give_up(thread: &mut Thread) {
    lose(Loss::CallUnfinished);
    restore(thread);
    thread.sp = 0;
}

/// Remembers an allocating call, unless it is nested.
#[inline(always)]
pub fn begin(hit: &Hit<'_>, size_bytes: u64, old: u64) {
    // `sbrk` asks, or gives back.
    if hit.hook.domain == Domain::Map as u8 && size_bytes as i64 <= 0 {
        return;
    }
    if let Some(thread) = thread(hit)
        && claim(thread, hit)
    {
        thread.size_bytes = size_bytes;
        thread.old = old;
    }
}

/// Makes the call the thread's outermost one; `false` if it is nested. A call in flight that never returned is given up, its old block put back.
#[inline(always)]
pub fn claim(thread: &mut Thread, hit: &Hit<'_>) -> bool {
    if nested(thread, hit) {
        return false;
    }
    let caller = if hit.asker.address != 0 { hit.asker } else { caller(hit) };
    // `PyMem_Realloc` ends in a jump to whatever function the table of allocators names: the call in flight goes on there.
    if thread.sp == hit.sp && caller.address >= RETURN_PROBES {
        return false;
    }
    if thread.sp != 0 {
        give_up(thread);
    }
    thread.sp = hit.sp;
    thread.caller = caller;
    thread.role = hit.hook.role;
    thread.domain = hit.domain as u8;
    thread.rank = hit.domain.rank();
    thread.old_known = 0;
    true
}

/// Closes the call in flight if `hit` is its return; a return is where the stack pointer is one word above the entry's.
#[inline(always)]
pub fn close(thread: &mut Thread, hit: &Hit<'_>) -> bool {
    if thread.sp == 0 || hit.sp != thread.sp + 8 {
        return false;
    }
    thread.sp = 0;
    true
}

/// Puts the old block of a `realloc` back: it still lives.
#[inline(always)]
pub fn restore(thread: &mut Thread) {
    if thread.role == Role::Realloc as u8 && thread.old_known == 1 {
        thread.old_known = 0;
        if BLOCKS.insert(thread.old, &thread.old_block, 0).is_err() {
            lose(Loss::BlockMapMemory);
        }
    }
}
