//! `--ints`: what `PyLong_FromLong` makes. A cached small int allocates nothing, so no allocation probe can see that a reference to it leaks.

use tracer_common::config::TraceConfig;
use tracer_common::loss::Loss;
use tracer_common::site::{IntTotals, IntValueKey};

use crate::hit::{Hit, caller};
use crate::inflight::{self, Thread};
use crate::loss::{add, lose};
use crate::maps::{INT_VALUES, INTS};

/// The least of the ints that CPython makes once and shares (`_PY_NSMALLNEGINTS`; Include/internal/pycore_global_objects.h, 3.11).
const LEAST_SMALL: i64 = -5;

/// The entry of `PyLong_FromLong(value)`.
#[inline(always)]
pub fn begin(hit: &Hit<'_>, value: i64) {
    let Some(thread) = inflight::thread(hit) else { return };
    thread.int_sp = hit.sp;
    thread.int_value = value;
    thread.int_caller = caller(hit);
    thread.int_site = 0;
}

/// Its return: the site that the allocation inside has found, or 0 if nothing was allocated (a small int) and the stack is still to be walked.
#[inline(always)]
pub fn end(thread: &mut Thread, hit: &Hit<'_>) -> Option<u64> {
    if thread.int_sp == 0 || hit.sp != thread.int_sp + 8 {
        return None;
    }
    thread.int_sp = 0;
    Some(thread.int_site)
}

/// Counts the call.
#[inline(always)]
pub fn count(thread: &Thread, config: &TraceConfig, site: u64) {
    let value = thread.int_value;
    let small = u64::from(value >= LEAST_SMALL && value < i64::from(config.small_ints));
    if let Some(totals) = INTS.get_ptr_mut(site) {
        // SAFETY: elements of this map are never removed; the fields are added to atomically.
        unsafe {
            add(&raw mut (*totals).calls, 1);
            add(&raw mut (*totals).small, small);
        }
    } else if INTS.insert(site, IntTotals { calls: 1, small }, 0).is_err() {
        lose(Loss::IntValuesFull);
    }
    let key = IntValueKey { site, value };
    if let Some(calls) = INT_VALUES.get_ptr_mut(key) {
        add(calls, 1);
    } else if INT_VALUES.insert(key, 1u64, 0).is_err() {
        lose(Loss::IntValuesFull);
    }
}
