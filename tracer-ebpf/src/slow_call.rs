//! Who calls a function that many call: by its return address, for `allocate_from_new_pool` and for the C library's allocator.

use tracer_common::domain::Domain;
use tracer_common::hook::SlowCall;
use tracer_common::walk::UserMemory;

use crate::hit::{Caller, Hit};
use crate::maps::{PROCESS, SLOW_CALLS};
use crate::user_memory::HitMemory;

/// The return address of the function at whose entry a hit is, and what is known of that call.
#[inline(always)]
pub fn of(hit: &Hit<'_>) -> (u64, Option<&'static SlowCall>) {
    let from = HitMemory.word(hit.sp).unwrap_or(0);
    let runtime = PROCESS.get(0).map_or(0, |process| process.runtime);
    let key = from.wrapping_sub(runtime) as i64;
    // SAFETY: the loader wrote the map before the probes were attached, and nobody writes it since.
    (from, unsafe { SLOW_CALLS.get(key) })
}

/// Who asked for memory in such a call.
#[inline(always)]
pub fn caller(hit: &Hit<'_>, from: u64, call: &SlowCall) -> Caller {
    if call.caller_words < 0 {
        // The function itself asked: at the call, or at the instruction that the fast path in whose place it is made would have been hit at.
        return Caller {
            address: from.wrapping_add(call.here_delta as i64 as u64).wrapping_add(1),
            slot: hit.sp,
        };
    }
    let slot = hit.sp.wrapping_add(call.caller_words as u64 * 8);
    Caller { address: HitMemory.word(slot).unwrap_or(from), slot }
}

/// Whether a hit of the C library's allocator is of interest. The interpreter's are of the domain that the call serves, and of who asked there; all others are C
/// code's own, if that is wanted.
#[inline(always)]
pub fn is_known(hit: &mut Hit<'_>) -> bool {
    let (from, call) = of(hit);
    let Some(call) = call else {
        hit.domain = Domain::Libc;
        hit.asker = Caller { address: from, slot: hit.sp };
        return hit.hook.domain == Domain::Libc as u8;
    };
    hit.domain = match Domain::from_code(call.domain as u8) {
        Some(domain) => domain,
        None => Domain::Raw,
    };
    hit.asker = caller(hit, from, call);
    true
}
