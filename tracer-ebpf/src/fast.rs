//! pymalloc's fast paths, wherever the compiler has put them: block and size are at hand, one trap is the whole event. And the slow path behind
//! them, `allocate_from_new_pool`, whose return is waited for.

use tracer_common::config::TraceConfig;
use tracer_common::hook::{BlockFrom, SizeFrom, SlowCall};
use tracer_common::loss::Loss;
use tracer_common::walk::UserMemory;

use crate::birth::Birth;
use crate::code;
use crate::free::{account, take};
use crate::hit::{Caller, Hit, caller};
use crate::inflight::{self, Thread};
use crate::loss::lose;
use crate::maps::{PROCESS, SLOW_CALLS};
use crate::user_memory::HitMemory;

/// `pool_header.freeblock` and `pool_header.szidx`, in bytes from the pool; the same from CPython 3.8 to 3.15 (`Objects/obmalloc.c`, facts/cpython.md §2.1).
const FREEBLOCK: u64 = 8;
const SZIDX: u64 = 36;

/// The largest block of pymalloc (`SMALL_REQUEST_THRESHOLD`): a register that holds more does not hold a size.
const LARGEST_BYTES: u64 = 512;

/// Bytes between size classes.
const CLASS_BYTES: u64 = 16;

/// Bytes that CPython's debug hooks put before a block (`Objects/obmalloc.c`, `_PyMem_DebugRawAlloc`): what they free lies that much lower.
const DEBUG_PREFIX: u64 = 16;

/// A block is handed out. `None` if a call in flight owns it.
#[inline(always)]
pub fn alloc(hit: &Hit<'_>, config: &TraceConfig, a: u64, b: u64) -> Option<&'static mut Thread> {
    let thread = inflight::thread(hit.tid)?;
    if inflight::owned(thread, hit) {
        return None;
    }
    thread.size_bytes = if hit.hook.size_from == SizeFrom::Constant as u8 {
        u64::from(hit.hook.size_bytes)
    } else if hit.hook.size_from == SizeFrom::Register as u8 && b.wrapping_sub(1) < LARGEST_BYTES {
        b
    } else {
        class_bytes(a, config)
    };
    thread.domain = hit.hook.domain;
    thread.birth = Birth { address: a, caller: caller(hit), domain: u32::from(hit.hook.domain), is_int: 0 };
    Some(thread)
}

/// A block is taken back. pymalloc runs under the GIL: no other thread can be given it before this hit is over.
#[inline(always)]
pub fn free(hit: &Hit<'_>, config: &TraceConfig, a: u64) {
    let mut address = a;
    if hit.hook.block_from == BlockFrom::Freeblock as u8 {
        address = HitMemory.word(a.wrapping_add(FREEBLOCK)).unwrap_or(0);
    }
    code::freed(address, config);
    if take(address, account) {
        return;
    }
    let Some(thread) = inflight::thread(hit.tid) else { return };
    // An outer `free` of the same block has closed its books already.
    if thread.last_freed.wrapping_sub(address) > DEBUG_PREFIX && !inflight::owned(thread, hit) {
        lose(Loss::UnknownFree);
    }
}

/// The entry of `allocate_from_new_pool`, called in the place of a fast path: its return will be the block. What it allocates for its own books
/// meanwhile is the allocator's. `register` reads a register of the hit.
#[inline(always)]
pub fn new_pool(hit: &Hit<'_>, register: impl Fn(u8) -> u64) {
    let from = HitMemory.word(hit.sp).unwrap_or(0);
    let slot = PROCESS.get(0).map_or(0, |process| process.tstate_slot);
    let key = from.wrapping_sub(slot) as i64;
    let Some(thread) = inflight::thread(hit.tid) else { return };
    if !inflight::claim(thread, hit) {
        return;
    }
    thread.size_bytes = 0;
    thread.old = 0;
    thread.caller = Caller { address: from, slot: hit.sp };
    // SAFETY: the loader wrote the map before the probes were attached, and nobody writes it since.
    let Some(call) = (unsafe { SLOW_CALLS.get(key) }) else { return };
    thread.domain = call.domain as u8;
    if call.size_register < SlowCall::NO_REGISTER {
        thread.size_bytes = register(call.size_register as u8);
    }
    if call.caller_words < 0 {
        // The function itself asked: at the instruction that its fast path would have been hit at.
        thread.caller.address = from.wrapping_add(call.here_delta as i64 as u64).wrapping_add(1);
    } else {
        let slot = hit.sp.wrapping_add(call.caller_words as u64 * 8);
        thread.caller = Caller { address: HitMemory.word(slot).unwrap_or(from), slot };
    }
}

/// The size of a block from a new pool: what was asked for, if that was known and is of the pool's size class, else the class.
#[inline(always)]
pub fn new_pool_bytes(asked_bytes: u64, block: u64, config: &TraceConfig) -> u64 {
    let class = class_bytes(block, config);
    if asked_bytes != 0 && asked_bytes <= class && class - asked_bytes < CLASS_BYTES {
        asked_bytes
    } else {
        class
    }
}

/// The bytes of each block in the pool of a block.
#[inline(always)]
pub fn class_bytes(block: u64, config: &TraceConfig) -> u64 {
    let pool = block & !(u64::from(config.pool_bytes).wrapping_sub(1));
    // The word before is half of another field; a word is what can be read.
    let word = HitMemory.word(pool.wrapping_add(SZIDX - 4)).unwrap_or(0);
    ((word >> 32) + 1) * CLASS_BYTES
}
