//! CPython 3.14, x86-64: what differs from 3.13. Offsets are what `offsetof` gives for Debian's 3.14.10.

use tracer_common::layout::PyLayout;

use super::{Layout, Objects, Pools, States, Threads, v3_13};

pub(super) mod kinds;

/// CPython 3.14.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        frame_len: 80,
        // `owner` is byte 74: byte 2 of the word at 72.
        frame_entry_word: 72,
        frame_entry_shift: 16,
        // `Include/internal/pycore_stackref.h`: the lowest two bits of a `_PyStackRef` are tags.
        code_tags: 3,
        code_bytecode: 208,
        ..v3_13::LAYOUT.walk
    },
    objects: Objects {
        // `Include/refcount.h`: 32 bits; flags of the object above.
        refcnt_bits: 32,
        freelist_links: true,
        int_freelist: true,
        ..v3_13::LAYOUT.objects
    },
    threads: Threads { runtime_interpreters_head: 808, ..v3_13::LAYOUT.threads },
    pools: Pools {
        states: States::PerInterpreter { next: 7272, obmalloc: 10904, is_pointer: true, arenas: 512 },
        ..v3_13::LAYOUT.pools
    },
    kinds: kinds::KINDS,
    pages: None,
    runtime_allocators: Some(880),
};

/// CPython 3.14 without the GIL: what differs from 3.13 without it, as far as 3.14 with it does not. Each thread runs a copy of the bytecode of its own (`Include/internal/pycore_code.h`, `_PyCodeArray`).
pub const FREE_THREADED: Layout = Layout {
    walk: PyLayout {
        // `owner` is byte 78, behind `tlbc_index` at 72.
        frame_entry_shift: 48,
        code_at: v3_13::FREE_THREADED.walk.code_at,
        code_bytecode: 232,
        code_tlbc: 224,
        frame_tlbc: 72,
        unicode_data: v3_13::FREE_THREADED.walk.unicode_data,
        ..LAYOUT.walk
    },
    objects: Objects { unicode_kind_bit: 8, ..v3_13::FREE_THREADED.objects },
    ..LAYOUT
};
