//! `realloc` in its four cases: grow, shrink, move, fail. The old block is taken out of the map at entry, because another thread may be
//! given its address before the call returns, and is put back if the call fails. In a window nothing is kept of blocks: a call that succeeds is a death and a birth.

use tracer_common::config::TraceConfig;
use tracer_common::domain::Domain;
use tracer_common::loss::Loss;

use crate::gate::Pass;
use crate::hit::Hit;
use crate::inflight::{self, Thread};
use crate::loss::lose;
use crate::maps::BLOCKS;
use crate::{code, free, gate};

/// The entry of `realloc(old, size_bytes)`.
#[inline(always)]
pub fn begin(hit: &Hit<'_>, config: &TraceConfig, old: u64, size_bytes: u64) {
    let Some(thread) = inflight::thread(hit) else { return };
    let logs = gate::logs(config);
    // SAFETY: only whether there is an entry is asked; the value is not read.
    if !logs && hit.hook.size_bytes == 1 && unsafe { BLOCKS.get(old) }.is_none() {
        return;
    }
    if !inflight::claim(thread, hit) {
        return;
    }
    thread.size_bytes = size_bytes;
    thread.old = old;
    // The block may move, and leave its place to another.
    code::freed(old, config);
    if logs {
        return;
    }
    if old != 0 && free::take(old, |block| thread.old_block = *block) {
        thread.old_known = 1;
    }
}

/// The outcome: closes the old block's books or logs its death, or puts it back. `true` if there is a new block to enter.
#[inline(always)]
pub fn settle(thread: &mut Thread, pass: Pass, address: u64) -> bool {
    // Only the C library frees on `realloc(p, 0)`; CPython asks it for one byte instead (Objects/obmalloc.c, `_PyMem_RawRealloc`).
    let freed = address == 0 && thread.size_bytes == 0 && thread.domain == Domain::Libc as u8;
    if address == 0 && !freed {
        inflight::restore(thread);
        lose(Loss::FailedAlloc);
        return false;
    }
    if pass.window != 0 {
        if thread.old != 0 {
            gate::died(pass, thread.old);
        }
    } else if thread.old_known == 1 {
        thread.old_known = 0;
        free::account(&thread.old_block);
        // An item array that outgrows pymalloc stays what it was, whichever allocator has it now.
        if let Some(domain) = thread.old_block.domain() {
            thread.domain = domain as u8;
        }
    } else if thread.old != 0 {
        lose(Loss::UnknownRealloc);
    }
    !freed
}
