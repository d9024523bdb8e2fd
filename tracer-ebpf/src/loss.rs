//! The only way to give up: count why.

use core::arch::asm;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracer_common::loss::Loss;

use crate::maps::LOSSES;

/// Adds one to a row of the loss table.
#[inline(always)]
pub fn lose(loss: Loss) {
    if let Some(row) = LOSSES.get_ptr_mut(loss as u32) {
        add(row, 1);
    }
}

/// Adds to a word of a map value, atomically: hits of other threads add to the same word.
///
/// In assembly, because `core` has no atomic additions for this target (it claims no compare-and-swap).
#[inline(always)]
pub fn add(word: *mut u64, amount: u64) {
    // SAFETY: the pointer came from a map lookup of this hit, so it is aligned and lives until the program ends; the verifier checks it again.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {amount}", word = in(reg) word, amount = in(reg) amount) };
}

/// Adds to a half word of a map value, atomically.
#[inline(always)]
pub fn add_u32(word: *mut u32, amount: u32) {
    // SAFETY: as for `add`.
    unsafe { asm!("lock *(u32 *)({word} + 0) += {amount}", word = in(reg) word, amount = in(reg) amount) };
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
