//! The birth of a block: its entry in the map and its site's sums, or in a window its line in the log.

use tracer_common::block::Block;
use tracer_common::config::{TraceConfig, work};
use tracer_common::domain::Domain;
use tracer_common::event::EventKind;
use tracer_common::hook::Role;
use tracer_common::loss::Loss;
use tracer_common::sample::Happening;
use tracer_common::site::SiteTotals;
use tracer_common::walk::UserMemory;

use crate::birth::{Birth, What};
use crate::hit::Hit;
use crate::inflight::{self, Thread};
use crate::loss::{add, lose, now_ns};
use crate::maps::BLOCKS;
use crate::user_memory::HitMemory;
use crate::{fast, free, gate, object, resize};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const ONLY_NEW: u64 = 1;
/// `BPF_ANY` of the same.
const OLD_OR_NEW: u64 = 0;
/// What the kernel refuses is one of the 4095 highest numbers (include/linux/err.h, `MAX_ERRNO`); `MAP_FAILED` is the highest.
const FIRST_ERROR: u64 = -4095i64 as u64;
/// `-EEXIST`, `-E2BIG`.
const EEXIST: i32 = -17;
const E2BIG: i32 = -7;

/// The return of an allocating call: closes it, and gives the new block's address if there is one.
#[inline(always)]
pub fn end(thread: &mut Thread, hit: &Hit<'_>, config: &TraceConfig, result: u64) -> Option<u64> {
    if !inflight::close(thread, hit) {
        return None;
    }
    let mut address = result;
    if thread.role == Role::PosixMemalign as u8 {
        // 0 is success here, and the address is where the caller wanted it.
        address = if result as u32 == 0 { HitMemory.word(thread.old).unwrap_or(0) } else { 0 };
    } else if thread.role == Role::Realloc as u8 && !resize::settle(thread, hit.pass, address) {
        return None;
    } else if thread.role == Role::NewPool as u8 {
        if address == 0 {
            // No loss: the fast path turns to the raw allocator now.
            return None;
        }
        if config.work & work::POOLS != 0 {
            thread.size_bytes = Block::pool_size(fast::class_bytes(address, config));
            return Some(fast::pool_of(address, config));
        }
        thread.size_bytes = fast::new_pool_bytes(thread.size_bytes, address, config);
    } else if thread.domain == Domain::Map as u8 && address >= FIRST_ERROR {
        address = 0;
    }
    if address == 0 {
        lose(Loss::FailedAlloc);
        return None;
    }
    Some(address)
}

/// Enters a new block into the books.
#[inline(always)]
pub fn born(
    thread: &mut Thread,
    config: &TraceConfig,
    (site, totals): (u64, Option<*mut SiteTotals>),
    address: u64,
) {
    thread.int_site = site;
    if config.work & work::BIRTHS != 0
        && thread.birth.what == What::BLOCK
        && thread.domain == Domain::Object as u8
    {
        object::allocated(thread, address, thread.size_bytes);
    }
    thread.block =
        Block { site, birth_ns: now_ns(), size_and_domain: Block::pack(thread.size_bytes, thread.domain) };
    if thread.block.pool_class_bytes().is_some() {
        return opened(thread, address);
    }
    if config.work & work::BLOCKS != 0
        && let Err(cause) = BLOCKS.insert(address, &thread.block, ONLY_NEW)
        && !reborn(thread, address, cause)
    {
        return;
    }
    if let Some(totals) = totals {
        // SAFETY: sites are never removed while a trace runs; the fields are added to atomically.
        unsafe {
            add(&raw mut (*totals).allocated_bytes, thread.block.size_bytes());
            add(&raw mut (*totals).allocated_blocks, 1);
        }
    }
}

/// Logs a birth, in a window.
#[inline(always)]
pub fn log(thread: &mut Thread, site: u64) {
    let Birth { address, what, .. } = thread.birth;
    if address == 0 {
        return;
    }
    // Whatever was freed last, its address may be this one now.
    thread.last_freed = 0;
    let mut detail = u32::from(thread.domain);
    if what == What::REUSED {
        detail |= Happening::REUSED;
    } else if thread.domain == Domain::Object as u8 {
        object::allocated(thread, address, thread.size_bytes);
    }
    gate::log(Happening {
        kind: EventKind::Born as u32,
        detail,
        site,
        address,
        size_bytes: thread.size_bytes,
        at_ns: thread.started_ns,
    });
}

/// Remembers a pool. One that was opened again, which is no loss, has a new owner.
#[inline(always)]
fn opened(thread: &Thread, address: u64) {
    if let Err(cause) = BLOCKS.insert(address, &thread.block, OLD_OR_NEW) {
        lose(if cause == E2BIG { Loss::BlockMapFull } else { Loss::BlockMapMemory });
    }
}

/// Deals with a refused insert. `true` if the block is in the map after all: its address had a tenant whose free went unseen, which is counted and closed.
#[inline(always)]
fn reborn(thread: &mut Thread, address: u64, cause: i32) -> bool {
    if cause != EEXIST {
        lose(if cause == E2BIG { Loss::BlockMapFull } else { Loss::BlockMapMemory });
        return false;
    }
    let reused = thread.birth.what == What::REUSED;
    // Parts of mappings come and go unseen; an object out of a freelist is in the block of another.
    if thread.domain != Domain::Map as u8 && !reused {
        lose(Loss::AddressReborn);
    }
    free::take(address, |old| {
        free::account(old);
        if reused {
            // The block is as large as it was asked for.
            thread.block.size_and_domain = old.size_and_domain;
        }
    });
    BLOCKS.insert(address, &thread.block, 0).is_ok()
}
