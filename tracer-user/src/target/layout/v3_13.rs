//! CPython 3.13, x86-64: what differs from 3.12. Offsets are what `offsetof` gives for 3.13.0 and 3.13.18.

use tracer_common::layout::PyLayout;

use super::{Layout, Objects, Pages, Pools, States, Threads, v3_12};

pub(super) mod kinds;

/// CPython 3.13.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: 152,
        tstate_frame: 72,
        cframe_current_frame: PyLayout::NONE,
        code_bytecode: 200,
        ..v3_12::LAYOUT.walk
    },
    threads: Threads {
        runtime_interpreters_head: 632,
        interpreter_threads_head: 7344,
        ..v3_12::LAYOUT.threads
    },
    pools: Pools {
        states: States::PerInterpreter { next: 7264, obmalloc: 10800, is_pointer: true, arenas: 512 },
        ..v3_12::LAYOUT.pools
    },
    kinds: kinds::KINDS,
    runtime_allocators: Some(704),
    ..v3_12::LAYOUT
};

/// CPython 3.13 without the GIL (`Py_GIL_DISABLED`). An object's head (`Include/object.h`) is 16 bytes longer, there is no `PyGC_Head`, and the count of references is that of the thread that
/// made the object.
pub const FREE_THREADED: Layout = Layout {
    walk: PyLayout { code_at: 88, code_bytecode: 216, unicode_data: 56, ..LAYOUT.walk },
    objects: Objects {
        ob_refcnt: 12,
        refcnt_bits: 32,
        ob_ref_shared: Some(16),
        ob_type: 24,
        ob_size: 32,
        ob_digit: 40,
        tp_name: 40,
        tp_flags: 184,
        ht_qualname: 888,
        unicode_length: 32,
        unicode_state: 48,
        unicode_ascii_data: 56,
        unicode_data: 72,
        bytes_data: 48,
        code_firstlineno: 84,
        code_filename: 128,
        code_qualname: 144,
        code_linetable: 152,
        gc_head: 0,
        pre_header: 16,
        ..LAYOUT.objects
    },
    kinds: kinds::FREE_THREADED,
    pages: Some(Pages {
        segment_size: 32 << 20,
        slice_size: 64 << 10,
        segment_kind: 240,
        slice_entries: 248,
        slices: 264,
        slice_len: 96,
        slice_offset: 4,
        capacity: 10,
        free: 16,
        used: 24,
        xblock_size: 28,
        local_free: 32,
        xthread_free: 40,
        xheap: 48,
        heap_thread_delayed_free: 2840,
    }),
    ..LAYOUT
};
