//! The birth of an object, where it gets its first reference: it is in memory that was allocated a moment ago, which is the same event, or it comes out of one of
//! CPython's freelists, which no allocation tells. Asked are the log of a window, and a trace that follows ints.

use tracer_common::config::TraceConfig;

use crate::birth::{Birth, What};
use crate::fast;
use crate::hit::{Hit, caller};
use crate::inflight::{self, Thread};

/// Allocations that a thread remembers until their objects are born, a power of two: what an object's constructor allocates before the object itself is born.
pub const RECENT: usize = 8;

/// A block (of this window) that was allocated and in which no object has been born yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Recent {
    /// Its address.
    address: u64,
    /// Its size in bytes; 0: none.
    size_bytes: u64,
}

/// What lies between a block and its object is at most this: `PyGC_Head` and the two pointers of a managed `__dict__`, in bytes
/// (Include/internal/pycore_object.h, `_PyType_PreHeaderSize`).
const PRE_HEADER: u64 = 32;

/// Remembers a block that an object may be born in.
#[inline(always)]
pub fn allocated(thread: &mut Thread, address: u64, size_bytes: u64) {
    let place = thread.recent_next as usize & (RECENT - 1);
    thread.recent[place] = Recent { address, size_bytes };
    thread.recent_next = thread.recent_next.wrapping_add(1);
}

/// Forgets them all: another window has begun.
#[inline(always)]
pub fn forget(thread: &mut Thread) {
    for recent in &mut thread.recent {
        recent.size_bytes = 0;
    }
}

/// An object is born. `None` if its block's allocation was the same event, or if it is in no pool of pymalloc: no freelist keeps such an object, and
/// what else comes here is static, or was allocated longer ago than is remembered.
#[inline(always)]
pub fn born(hit: &Hit<'_>, config: &TraceConfig, object: u64) -> Option<&'static mut Thread> {
    let thread = inflight::thread(hit)?;
    let mut fresh = false;
    for recent in &mut thread.recent {
        // Blocks do not overlap, so the object in it is its own.
        let inside = object.wrapping_sub(recent.address);
        if inside < recent.size_bytes && inside <= PRE_HEADER {
            recent.size_bytes = 0;
            fresh = true;
        }
    }
    if fresh {
        return None;
    }
    let block = fast::block_around(object, PRE_HEADER, config)?;
    thread.size_bytes = block.size_bytes;
    thread.domain = hit.hook.domain;
    thread.birth = Birth {
        address: block.address,
        caller: caller(hit),
        domain: u32::from(hit.hook.domain),
        what: What::REUSED,
    };
    Some(thread)
}
