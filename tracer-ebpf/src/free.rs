//! The death of a block: its entry is copied, then deleted, then subtracted from its own site.

use tracer_common::block::Block;
use tracer_common::config::{TraceConfig, work};
use tracer_common::domain::Domain;
use tracer_common::loss::Loss;
use tracer_common::site::lifetime_bucket;

use crate::code;
use crate::gate;
use crate::hit::Hit;
use crate::inflight::{self, Thread};
use crate::loss::{add, add_u32, lose, now_ns};
use crate::maps::{BLOCKS, SITES};

/// Bytes that CPython's debug hooks put before a block (`Objects/obmalloc.c`, `_PyMem_DebugRawAlloc`): what they free lies that much lower.
const DEBUG_PREFIX: u64 = 16;

/// A call of `free(address)`. The entry must go before the allocator has the block back: a moment later the address may be another thread's.
#[inline(always)]
pub fn free(hit: &Hit<'_>, config: &TraceConfig, address: u64) {
    if address == 0 {
        return;
    }
    code::freed(address, config);
    if gate::logs(config) {
        return log(hit, address);
    }
    let known = take(address, account);
    let innermost = hit.domain.rank() >= Domain::Libc.rank();
    // What is unmapped may be a part of what was mapped, or older than the trace: the loader looks at what is left.
    if (known && innermost) || hit.domain.rank() == Domain::Map.rank() {
        return;
    }
    let Some(thread) = inflight::thread(hit) else { return };
    // Behind the debug hooks a large block is freed twice more in the raw domain, each time from a little before; blocks of malloc are not so near to each other.
    let before = hit.domain.rank() > 0 || config.work & work::TWICE != 0;
    let told = thread.last_freed == address || (told(thread, address) && before);
    if !known && !told && !inflight::nested(thread, hit) {
        lose(Loss::UnknownFree);
    }
    thread.last_freed = if innermost { 0 } else { address };
}

/// The same in a window, where nothing is known of blocks: a death, unless an outer `free` has told it, or it is a block that the allocator has for itself.
#[inline(always)]
fn log(hit: &Hit<'_>, address: u64) {
    let Some(thread) = inflight::thread(hit) else { return };
    let rank = hit.domain.rank();
    let told = told(thread, address) && rank > thread.freed_rank;
    thread.last_freed = if rank == 2 { 0 } else { address };
    thread.freed_rank = rank;
    if !told && !inflight::nested(thread, hit) {
        gate::died(hit.pass, address);
    }
}

/// Whether an outer `free` has been given the block, or one that begins up to [`DEBUG_PREFIX`] behind it.
#[inline(always)]
pub fn told(thread: &Thread, address: u64) -> bool {
    thread.last_freed.wrapping_sub(address) <= DEBUG_PREFIX
}

/// Takes a block out of the map and hands a copy to `then`; `false` if it is not there. The copy comes first: once deleted, the
/// element may be another CPU's.
#[inline(always)]
pub fn take(address: u64, then: impl FnOnce(&Block)) -> bool {
    // SAFETY: the value is copied at once; elements of a map without preallocation stay readable until the program ends.
    let Some(block) = (unsafe { BLOCKS.get(address) }).copied() else { return false };
    if BLOCKS.remove(address).is_err() {
        return false;
    }
    then(&block);
    true
}

/// Subtracts a dead block from its site.
#[inline(always)]
pub fn account(block: &Block) {
    let Some(totals) = SITES.get_ptr_mut(block.site) else { return };
    let bucket = lifetime_bucket(now_ns() - block.birth_ns);
    // SAFETY: sites are never removed while a trace runs; the fields are added to atomically.
    unsafe {
        add(&raw mut (*totals).freed_bytes, block.size_bytes());
        add(&raw mut (*totals).freed_blocks, 1);
        add_u32(&raw mut (*totals).lifetimes[bucket], 1);
    }
}
