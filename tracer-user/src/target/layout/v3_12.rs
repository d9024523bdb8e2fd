//! CPython 3.12, x86-64: what differs from 3.11. Offsets are what `offsetof` gives for 3.12.1.
//!
//! Calls from C have a frame of their own (`Include/internal/pycore_frame.h`, `FRAME_OWNED_BY_CSTACK`), and the current thread state is a thread-local variable.

use tracer_common::layout::{Entry, PyLayout};

use super::{IntSize, Layout, Objects, Pools, States, Threads, Waits, v3_11};

pub(super) mod kinds;

/// CPython 3.12.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: 136,
        cframe_current_frame: 0,
        frame_at: 0,
        frame_len: 72,
        frame_code: 0,
        frame_previous: 8,
        frame_instr: 56,
        entry: Entry::Shim as u32,
        // `owner` is byte 70: byte 6 of the word at 64.
        frame_entry_word: 64,
        frame_entry_shift: 48,
        code_bytecode: 192,
        unicode_data: 40,
        ..v3_11::LAYOUT.walk
    },
    objects: Objects {
        int_size: IntSize::Tagged,
        ht_qualname: 872,
        unicode_ascii_data: 40,
        unicode_data: 56,
        code_firstlineno: 68,
        waits: Waits::Unasked,
        ..v3_11::LAYOUT.objects
    },
    threads: Threads { runtime_tstate_current: None, interpreter_threads_head: 72, ..v3_11::LAYOUT.threads },
    pools: Pools {
        states: States::PerInterpreter { next: 0, obmalloc: 3960, is_pointer: false, arenas: 512 },
        ..v3_11::LAYOUT.pools
    },
    kinds: kinds::KINDS,
    pages: None,
    runtime_allocators: Some(96),
};
