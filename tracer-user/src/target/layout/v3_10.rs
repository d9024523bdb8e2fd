//! CPython 3.10, x86-64: what differs from 3.11. Offsets are what `offsetof` gives for 3.10.13.
//!
//! Frames are objects of their own (`Include/cpython/frameobject.h`, `struct _frame`), and code objects know no qualified name.

use tracer_common::layout::{Entry, PyLayout};

use super::{Layout, Lines, Objects, Threads, Waits, v3_11};

pub(super) mod kinds;

/// The first byte of a frame that the walk reads: `f_back`.
const FRAME_AT: u32 = 24;
/// The first byte of a code object that the walk reads: `co_consts`. The tuples of constants and names are a function's own, and both of its names lie within.
const CODE_AT: u32 = 56;

/// CPython 3.10.
pub const LAYOUT: Layout = Layout {
    walk: PyLayout {
        tstate_thread_id: 176,
        tstate_frame: 24,
        cframe_current_frame: PyLayout::NONE,
        frame_at: FRAME_AT,
        frame_len: 80,
        frame_code: 32 - FRAME_AT,
        frame_previous: 24 - FRAME_AT,
        frame_instr: 96 - FRAME_AT,
        // `f_lasti` counts instructions (PEP 626), of two bytes each.
        instr_bytes: 2,
        entry: Entry::Each as u32,
        frame_entry_word: 0,
        frame_entry_shift: 0,
        code_at: CODE_AT,
        code_bytecode: 0,
        code_filename: 104 - CODE_AT,
        code_qualname: 112 - CODE_AT,
        ..v3_11::LAYOUT.walk
    },
    objects: Objects {
        code_firstlineno: 40,
        code_filename: 104,
        code_qualname: 112,
        code_linetable: 120,
        lines: Lines::Pep626,
        waits: Waits::BeforeYieldFrom { co_code: 48, opcode: 72 },
        // No managed dicts yet.
        pre_header: 16,
        ..v3_11::LAYOUT.objects
    },
    threads: Threads {
        runtime_tstate_current: Some(568),
        runtime_interpreters_head: 32,
        interpreter_threads_head: 8,
        ..v3_11::LAYOUT.threads
    },
    kinds: kinds::KINDS,
    ..v3_11::LAYOUT
};
