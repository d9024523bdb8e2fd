//! The death of a block: its entry is copied, then deleted, then subtracted from its own site.

use tracer_common::block::Block;
use tracer_common::config::TraceConfig;
use tracer_common::loss::Loss;
use tracer_common::site::lifetime_bucket;

use crate::code;
use crate::hit::Hit;
use crate::inflight;
use crate::loss::{add, add_u32, lose, now_ns};
use crate::maps::{BLOCKS, SITES};

/// A call of `free(address)`. The entry must go before the allocator has the block back: a moment later the address may be another thread's.
#[inline(always)]
pub fn free(hit: &Hit<'_>, config: &TraceConfig, address: u64) {
    if address == 0 {
        return;
    }
    code::freed(address, config);
    let known = take(address, account);
    let innermost = hit.domain.rank() == 2;
    if known && innermost {
        return;
    }
    let Some(thread) = inflight::thread(hit.tid) else { return };
    if !known && !inflight::nested(thread, hit) && thread.last_freed != address {
        lose(Loss::UnknownFree);
    }
    thread.last_freed = if innermost { 0 } else { address };
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
