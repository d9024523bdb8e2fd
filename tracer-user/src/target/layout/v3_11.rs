//! CPython 3.11, x86-64, little-endian: offsets as `offsetof` gives them for 3.11.2 and 3.11.7, which agree.
//!
//! The definitions are in CPython's `Include/internal/pycore_frame.h` (`_PyInterpreterFrame`), `Include/cpython/pystate.h` (`_ts`, `_PyCFrame`),
//! `Include/internal/pycore_runtime.h`, `pycore_interp.h`, `pycore_gil.h`, `Include/cpython/code.h`, `unicodeobject.h`, `object.h` and `longintrepr.h`;
//! those of the pools in `Objects/obmalloc.c` (`struct pool_header`, `struct arena_object`).

use tracer_common::layout::{Entry, PyLayout};

use super::{IntSize, Layout, Lines, Objects, Pools, States, Threads, Waits};

pub(super) mod kinds;

/// The first byte of a frame that the walk reads: `_PyInterpreterFrame.f_code`.
const FRAME_AT: u32 = 32;

/// CPython 3.11.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: 152,
        tstate_frame: 56,
        cframe_current_frame: 8,
        frame_at: FRAME_AT,
        frame_len: 40,
        frame_code: 32 - FRAME_AT,
        frame_previous: 48 - FRAME_AT,
        frame_instr: 56 - FRAME_AT,
        instr_bytes: 0,
        entry: Entry::Flag as u32,
        // `is_entry` is byte 68 of the frame: byte 4 of the word at 64.
        frame_entry_word: 64 - FRAME_AT,
        frame_entry_shift: 32,
        code_tags: 0,
        code_at: 72,
        code_bytecode: 184,
        code_filename: 112 - 72,
        code_qualname: 128 - 72,
        code_tlbc: PyLayout::NONE,
        frame_tlbc: 0,
        unicode_data: 48,
    },
    objects: Objects {
        ob_refcnt: 0,
        refcnt_bits: 64,
        ob_ref_shared: None,
        freelist_links: false,
        int_freelist: false,
        small_ints: 257,
        ob_type: 8,
        ob_size: 16,
        ob_digit: 24,
        int_size: IntSize::Signed,
        digit_bits: 30,
        tp_name: 24,
        tp_flags: 168,
        ht_qualname: 864,
        unicode_length: 16,
        unicode_state: 32,
        unicode_kind_bit: 2,
        unicode_ascii_data: 48,
        unicode_data: 72,
        bytes_data: 32,
        code_firstlineno: 72,
        code_filename: 112,
        code_qualname: 128,
        code_linetable: 136,
        lines: Lines::Pep657,
        waits: Waits::AtYieldValue { opcode: 86 },
        gc_head: 16,
        pre_header: 32,
    },
    threads: Threads {
        runtime_tstate_current: Some(576),
        runtime_interpreters_head: 40,
        interpreter_threads_head: 16,
        tstate_next: 8,
    },
    pools: Pools {
        pool_size: 16 << 10,
        pool_overhead: 48,
        arena_size: 1 << 20,
        alignment: 16,
        size_classes: 32,
        pool_ref: 0,
        pool_freeblock: 8,
        pool_arenaindex: 32,
        pool_szidx: 36,
        pool_nextoffset: 40,
        pool_maxnextoffset: 44,
        arena_object_size: 48,
        initial_arena_objects: 16,
        arena_address: 0,
        arena_pool_address: 8,
        arena_nfreepools: 16,
        arena_ntotalpools: 20,
        arena_nextarena: 32,
        states: States::One,
    },
    pages: None,
    runtime_allocators: None,
    kinds: kinds::KINDS,
};
