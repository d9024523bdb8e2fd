//! CPython 3.15, x86-64: what differs from 3.14. Offsets are what `offsetof` gives for Debian's 3.15.2.

use tracer_common::layout::{Entry, PyLayout};

use super::{Layout, Objects, Pools, States, Threads, v3_14};

/// CPython 3.15.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: 176,
        // `PyThreadState.base_frame` lies behind all others.
        entry: Entry::ShimAndBase as u32,
        ..v3_14::LAYOUT.walk
    },
    // `PyTypeObject` has 8 bytes more (`Include/cpython/object.h`).
    objects: Objects { ht_qualname: 880, small_ints: 1025, ..v3_14::LAYOUT.objects },
    threads: Threads {
        runtime_interpreters_head: 936,
        interpreter_threads_head: 7336,
        ..v3_14::LAYOUT.threads
    },
    pools: Pools {
        states: States::PerInterpreter { next: 7264, obmalloc: 10880, is_pointer: true, arenas: 512 },
        ..v3_14::LAYOUT.pools
    },
    runtime_allocators: Some(1008),
    ..v3_14::LAYOUT
};

/// CPython 3.15 without the GIL: what differs from 3.14 without it is what differs with it.
pub const FREE_THREADED: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: LAYOUT.walk.tstate_thread_id,
        entry: LAYOUT.walk.entry,
        ..v3_14::FREE_THREADED.walk
    },
    objects: Objects { ht_qualname: 896, small_ints: 1025, ..v3_14::FREE_THREADED.objects },
    threads: LAYOUT.threads,
    runtime_allocators: LAYOUT.runtime_allocators,
    ..v3_14::FREE_THREADED
};
