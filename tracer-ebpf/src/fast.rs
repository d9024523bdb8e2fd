//! pymalloc's fast paths, wherever the compiler has put them: block and size are at hand, one trap is the whole event. And the slow path behind
//! them, `allocate_from_new_pool`, whose return is waited for.

use tracer_common::config::TraceConfig;
use tracer_common::hook::{BlockFrom, SizeFrom, SlowCall};
use tracer_common::loss::Loss;
use tracer_common::walk::UserMemory;

use crate::birth::{Birth, What};
use crate::free::{account, take, told};
use crate::hit::{Caller, Hit, caller};
use crate::inflight::{self, Thread};
use crate::loss::lose;
use crate::user_memory::HitMemory;
use crate::{code, gate, slow_call};

/// `pool_header.freeblock` and `pool_header.szidx`, in bytes from the pool; the same from CPython 3.8 to 3.15 (`Objects/obmalloc.c`, facts/cpython.md §2.1).
const FREEBLOCK: u64 = 8;
const SZIDX: u64 = 36;

/// Bytes of a pool's header (`POOL_OVERHEAD`), the same in these versions.
const POOL_OVERHEAD: u64 = 48;

/// The largest block of pymalloc (`SMALL_REQUEST_THRESHOLD`): a register that holds more does not hold a size.
const LARGEST_BYTES: u64 = 512;

/// Bytes between size classes.
const CLASS_BYTES: u64 = 16;

/// A block is handed out. `None` if a call in flight owns it.
#[inline(always)]
pub fn alloc(hit: &Hit<'_>, config: &TraceConfig, a: u64, b: u64) -> Option<&'static mut Thread> {
    let thread = inflight::thread(hit)?;
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
    thread.birth =
        Birth { address: a, caller: caller(hit), domain: u32::from(hit.hook.domain), what: What::BLOCK };
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
    if gate::logs(config) {
        return log(hit, address);
    }
    if take(address, account) {
        return;
    }
    let Some(thread) = inflight::thread(hit) else { return };
    // An outer `free` of the same block has closed its books already.
    if !told(thread, address) && !inflight::owned(thread, hit) {
        lose(Loss::UnknownFree);
    }
}

/// The same in a window, where nothing is known of blocks: a death, unless an outer `free` or a `realloc` in flight tells it.
#[inline(always)]
fn log(hit: &Hit<'_>, address: u64) {
    let Some(thread) = inflight::thread(hit) else { return };
    let told = told(thread, address);
    // Nothing is freed inside this.
    thread.last_freed = 0;
    if address != 0 && !told && !inflight::owned(thread, hit) {
        gate::died(hit.pass, address);
    }
}

/// The entry of `allocate_from_new_pool`, called in the place of a fast path: its return will be the block. What it allocates for its own books
/// meanwhile is the allocator's. `register` reads a register of the hit.
#[inline(always)]
pub fn new_pool(hit: &Hit<'_>, register: impl Fn(u8) -> u64) {
    let (from, call) = slow_call::of(hit);
    let Some(thread) = inflight::thread(hit) else { return };
    if !inflight::claim(thread, hit) {
        return;
    }
    thread.size_bytes = 0;
    thread.old = 0;
    thread.caller = Caller { address: from, slot: hit.sp };
    let Some(call) = call else { return };
    thread.domain = call.domain as u8;
    if call.size_register < SlowCall::NO_REGISTER {
        thread.size_bytes = register(call.size_register as u8);
    }
    thread.caller = slow_call::caller(hit, from, call);
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

/// A block of a pool.
#[derive(Clone, Copy)]
pub struct PoolBlock {
    /// Its address.
    pub address: u64,
    /// Bytes of its size class.
    pub size_bytes: u64,
}

/// The block of pymalloc's that begins at most so many bytes, in steps of [`CLASS_BYTES`], before an address; `None` if what is around it is no pool. A pool's header
/// says how large its blocks are twice, and where no header is, hardly any memory does.
#[inline(always)]
pub fn block_around(address: u64, before: u64, config: &TraceConfig) -> Option<PoolBlock> {
    let pool_bytes = u64::from(config.pool_bytes);
    let pool = address & !pool_bytes.wrapping_sub(1);
    let class = HitMemory.word(pool.wrapping_add(SZIDX - 4)).ok()? >> 32;
    // `nextoffset` and, above it, `maxnextoffset`, which `allocate_from_pool` sets to the place of the last block (`POOL_SIZE - size`).
    let last = HitMemory.word(pool.wrapping_add(SZIDX + 4)).ok()? >> 32;
    let size_bytes = (class + 1) * CLASS_BYTES;
    if size_bytes > LARGEST_BYTES || last.wrapping_add(size_bytes) != pool_bytes {
        return None;
    }
    let inside = address.wrapping_sub(pool).wrapping_sub(POOL_OVERHEAD);
    if inside >= pool_bytes {
        return None;
    }
    let behind = inside % size_bytes;
    (behind <= before && behind % CLASS_BYTES == 0)
        .then_some(PoolBlock { address: address.wrapping_sub(behind), size_bytes })
}

/// The pool of a block.
#[inline(always)]
pub fn pool_of(block: u64, config: &TraceConfig) -> u64 {
    block & !(u64::from(config.pool_bytes).wrapping_sub(1))
}

/// The bytes of each block in the pool of a block.
#[inline(always)]
pub fn class_bytes(block: u64, config: &TraceConfig) -> u64 {
    let pool = pool_of(block, config);
    // The word before is half of another field; a word is what can be read.
    let word = HitMemory.word(pool.wrapping_add(SZIDX - 4)).unwrap_or(0);
    ((word >> 32) + 1) * CLASS_BYTES
}
