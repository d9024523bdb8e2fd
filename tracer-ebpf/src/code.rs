//! What is remembered of code objects, and when it must be forgotten. Reading a code object's identity on every hit would be half the price of a stack; it is
//! read again only if one may have died since, which a free of its block tells.

use core::arch::asm;

use tracer_common::config::{TraceConfig, work};
use tracer_common::frame::place;
use tracer_common::limits::CODE_BITS as BITS;
use tracer_common::walk::epoch_of;

use crate::maps::{CODE_BITS, PROCESS};

/// The epoch in which fingerprints may be trusted now; 0 if they never may. `window` as for [`epoch_of`].
#[inline(always)]
pub fn epoch(config: &TraceConfig, window: u32) -> u32 {
    if config.work & work::REMEMBER_CODE == 0 {
        return 0;
    }
    PROCESS.get(0).map_or(0, |state| {
        // SAFETY: the field is one aligned word of a map value, which may change under us.
        epoch_of(window, unsafe { (&raw const state.code_epoch).read_volatile() })
    })
}

/// Marks the code object of a frame as seen.
#[inline(always)]
pub fn seen(address: u64) {
    let bit = bit(address);
    if let Some(word) = CODE_BITS.get_ptr_mut(bit / 64) {
        let mask = 1u64 << (bit % 64);
        // SAFETY: the pointer came from the map lookup above, so it is aligned and lives until the program ends.
        unsafe { asm!("lock *(u64 *)({word} + 0) |= {mask}", word = in(reg) word, mask = in(reg) mask) };
    }
}

/// A block is freed: if a code object was seen there, nothing that is remembered of code objects may be trusted any more.
#[inline(always)]
pub fn freed(address: u64, config: &TraceConfig) {
    if config.work & work::REMEMBER_CODE == 0 {
        return;
    }
    let bit = bit(address);
    let Some(word) = CODE_BITS.get(bit / 64) else { return };
    // A word that changes at this moment is changed by a code object that is read now, and not by the one that dies.
    if *word >> (bit % 64) & 1 == 1
        && let Some(state) = PROCESS.get_ptr_mut(0)
    {
        // SAFETY: the pointer came from the map; the field is one aligned word. Two threads that free at once make one new epoch, which is enough.
        unsafe {
            let epoch = (&raw const (*state).code_epoch).read_volatile().wrapping_add(1);
            (&raw mut (*state).code_epoch).write_volatile(if epoch == 0 { 1 } else { epoch });
        }
    }
}

/// The place of an address in the set.
#[inline(always)]
const fn bit(address: u64) -> u32 {
    place(address, BITS as usize) as u32
}
