//! Where each CPython version keeps what unshed reads: one file per minor version, and no offset anywhere else.

use tracer_common::layout::PyLayout;

pub mod kinds;
pub mod v3_11;

/// Everything about one minor version's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the frame walk needs, in the kernel and here.
    pub walk: PyLayout,
    /// What naming code and objects needs.
    pub objects: Objects,
    /// How the threads hang together.
    pub threads: Threads,
    /// How the allocator of small blocks keeps its books.
    pub pools: Pools,
    /// How an object is told from its successor.
    pub kinds: kinds::Kinds,
}

/// Offsets in bytes of the objects that are read from outside; the names are CPython's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub struct Objects {
    pub ob_refcnt: u64,
    pub ob_type: u64,
    pub ob_size: u64,
    pub ob_digit: u64,
    /// Bits of a digit of `int` (`PyLong_SHIFT`).
    pub digit_bits: u32,
    pub tp_name: u64,
    pub tp_flags: u64,
    /// `PyHeapTypeObject.ht_qualname`; only there in types with `Py_TPFLAGS_HEAPTYPE`.
    pub ht_qualname: u64,
    pub unicode_length: u64,
    pub unicode_state: u64,
    /// Where the characters of a compact ASCII string begin.
    pub unicode_ascii_data: u64,
    /// Where the characters of any other compact string begin.
    pub unicode_data: u64,
    pub bytes_data: u64,
    pub code_firstlineno: u64,
    pub code_filename: u64,
    pub code_qualname: u64,
    pub code_linetable: u64,
    /// Bytes of a code object before its bytecode.
    pub code_size: u64,
    /// The opcode `YIELD_VALUE` (`Include/opcode.h`), at which a generator waits; it is never specialised.
    pub opcode_yield_value: u8,
    /// `PyGC_Head`, before every object that the collector follows.
    pub gc_head: u64,
    /// `PyGC_Head` and the pointers to `__dict__` and its values, before an instance of a class with a managed dict.
    pub pre_header: u64,
}

/// Offsets in bytes on the way from `_PyRuntime` to the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// `_PyRuntimeState.gilstate.tstate_current`: the thread state of the GIL's holder.
    pub runtime_tstate_current: u64,
    /// `_PyRuntimeState.interpreters.head`.
    pub runtime_interpreters_head: u64,
    /// `PyInterpreterState.threads.head`.
    pub interpreter_threads_head: u64,
    /// `PyThreadState.next`.
    pub tstate_next: u64,
}

/// pymalloc: sizes in bytes, and offsets in bytes in the header of a pool and in an entry of the table of arenas; the names are
/// CPython's (`Objects/obmalloc.c`; from 3.12 on `Include/internal/pycore_obmalloc.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is named after the CPython field or constant that it is about")]
pub struct Pools {
    /// Pools lie at multiples of their size.
    pub pool_size: u64,
    /// `POOL_OVERHEAD`: the header, before the first block.
    pub pool_overhead: u64,
    pub arena_size: u64,
    /// `ALIGNMENT`: size classes are this many bytes apart.
    pub alignment: u64,
    pub size_classes: u32,
    pub pool_ref: usize,
    pub pool_freeblock: usize,
    pub pool_arenaindex: usize,
    pub pool_szidx: usize,
    pub pool_nextoffset: usize,
    pub pool_maxnextoffset: usize,
    /// Bytes of a `struct arena_object`.
    pub arena_object_size: usize,
    /// `INITIAL_ARENA_OBJECTS`: the table begins with so many entries, and doubles.
    pub initial_arena_objects: usize,
    pub arena_address: usize,
    pub arena_pool_address: usize,
    pub arena_nfreepools: usize,
    pub arena_ntotalpools: usize,
    pub arena_nextarena: usize,
}

/// The layout of `major.minor`, if this unshed knows it.
#[must_use]
pub const fn of(major: u8, minor: u8) -> Option<&'static Layout> {
    match (major, minor) {
        (3, 11) => Some(&v3_11::LAYOUT),
        _ => None,
    }
}

/// The versions of [`of`], as errors list them.
pub const SUPPORTED: &str = "3.11";
