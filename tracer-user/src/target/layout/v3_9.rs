//! CPython 3.9, x86-64: what differs from 3.10. Offsets are what `offsetof` gives for 3.9.18.

use tracer_common::layout::PyLayout;

use super::{Layout, Lines, Objects, Pools, v3_10};

pub(super) mod kinds;

/// CPython 3.9.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        frame_len: 88,
        // `f_lasti` counts bytes.
        frame_instr: 104 - v3_10::LAYOUT.walk.frame_at,
        instr_bytes: 1,
        ..v3_10::LAYOUT.walk
    },
    objects: Objects { ht_qualname: 856, lines: Lines::Lnotab, ..v3_10::LAYOUT.objects },
    // Objects/obmalloc.c: `POOL_BITS` 12 and `ARENA_BITS` 18; they became 14 and 20 in 3.10.
    pools: Pools { pool_size: 4 << 10, arena_size: 256 << 10, ..v3_10::LAYOUT.pools },
    kinds: kinds::KINDS,
    ..v3_10::LAYOUT
};
