//! CPython 3.8, x86-64: what differs from 3.9. Offsets are what `offsetof` gives for 3.8.18.

use super::{Layout, Objects, Threads, v3_9};

pub(super) mod kinds;

/// CPython 3.8.
pub const LAYOUT: Layout = Layout {
    objects: Objects { ht_qualname: 864, ..v3_9::LAYOUT.objects },
    threads: Threads { runtime_tstate_current: Some(1368), ..v3_9::LAYOUT.threads },
    kinds: kinds::KINDS,
    ..v3_9::LAYOUT
};
