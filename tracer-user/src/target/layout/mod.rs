//! Where each CPython version keeps what unshed reads: one file per minor version, and no offset anywhere else.

use tracer_common::layout::{Entry, PyLayout};
use tracer_common::limits::{CODE_CHUNK, WINDOW};

pub mod debug_offsets;
pub mod kinds;
pub mod proven;
pub mod v3_10;
pub mod v3_11;
pub mod v3_12;
pub mod v3_13;
pub mod v3_14;
pub mod v3_15;
pub mod v3_8;
pub mod v3_9;

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
    /// The same of mimalloc, where that serves in its place and its books are known.
    pub pages: Option<Pages>,
    /// `_PyRuntimeState.allocators.standard`: the entries of the raw, the mem and the object domain, one behind the other; `None` up to 3.11, where they are variables of their own.
    pub runtime_allocators: Option<u64>,
    /// How an object is told from its successor.
    pub kinds: kinds::Kinds,
}

/// More references than an object can have; a pointer into a library or an arena is larger.
const MOST_REFERENCES: u64 = 1 << 40;

/// Where user space ends.
const USER_SPACE: u64 = 1 << 47;

/// Offsets in bytes of the objects that are read from outside; the names are CPython's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub struct Objects {
    /// `ob_refcnt`; without the GIL `ob_ref_local`.
    pub ob_refcnt: u64,
    /// Bits of the reference count, from the lowest; above them there may be flags.
    pub refcnt_bits: u32,
    /// `ob_ref_shared`: without the GIL there are two counts.
    pub ob_ref_shared: Option<u64>,
    /// The objects and key tables of a freelist have the address of the next in their first word (`_PyFreeList_Push`, Include/internal/pycore_freelist.h, from 3.14 on), and so no
    /// count of 0, but for the last.
    pub freelist_links: bool,
    /// Ints of one digit have a freelist too (`long_dealloc`, `Objects/longobject.c`, from 3.14 on).
    pub int_freelist: bool,
    /// So many ints from 0 on are made once for all (`_PY_NSMALLPOSINTS`).
    pub small_ints: u32,
    pub ob_type: u64,
    pub ob_size: u64,
    pub ob_digit: u64,
    /// How an `int` says how many digits it has.
    pub int_size: IntSize,
    /// Bits of a digit of `int` (`PyLong_SHIFT`).
    pub digit_bits: u32,
    pub tp_name: u64,
    pub tp_flags: u64,
    /// `PyHeapTypeObject.ht_qualname`; only there in types with `Py_TPFLAGS_HEAPTYPE`.
    pub ht_qualname: u64,
    pub unicode_length: u64,
    pub unicode_state: u64,
    /// Bits of `state` below `kind`; above `kind`, which has three, are `compact` and `ascii`.
    pub unicode_kind_bit: u32,
    /// Where the characters of a compact ASCII string begin.
    pub unicode_ascii_data: u64,
    /// Where the characters of any other compact string begin.
    pub unicode_data: u64,
    pub bytes_data: u64,
    pub code_firstlineno: u64,
    pub code_filename: u64,
    pub code_qualname: u64,
    pub code_linetable: u64,
    pub lines: Lines,
    pub waits: Waits,
    /// `PyGC_Head`, before every object that the collector follows.
    pub gc_head: u64,
    /// `PyGC_Head` and the pointers to `__dict__` and its values, before an instance of a class with a managed dict.
    pub pre_header: u64,
}

/// How an `int` says how many digits it has, in the word at `ob_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntSize {
    /// It is their number, negative for a negative one (`Include/cpython/longintrepr.h`, up to 3.11).
    Signed,
    /// It is `lv_tag`: the number from bit 3 on, and 2 in the lowest two bits of a negative one (from 3.12 on).
    Tagged,
}

impl IntSize {
    /// The number of digits, and whether the number is negative.
    #[must_use]
    pub const fn digits(self, word: u64) -> (u64, bool) {
        match self {
            Self::Signed => (word.cast_signed().unsigned_abs(), word.cast_signed() < 0),
            Self::Tagged => (word >> 3, word & 3 == 2),
        }
    }
}

impl Objects {
    /// How many references an object has, whose words are read by their offsets; `None` where what is there cannot be a count.
    pub fn references(&self, word: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let count = word(self.ob_refcnt)?;
        match self.ob_ref_shared {
            None => self.counted(count),
            // `ob_ref_local` has the lower half of the word.
            Some(shared) => biased(count as u32, word(shared)?.cast_signed()),
        }
    }

    /// The reference count, of the word at `ob_refcnt`.
    const fn counted(&self, word: u64) -> Option<u64> {
        if self.refcnt_bits >= 64 {
            return if word < MOST_REFERENCES { Some(word) } else { None };
        }
        // `ob_overflow` is 0 in all builds with a GIL (Include/object.h, 3.14): what has bits there is a pointer.
        let overflow = word >> self.refcnt_bits & 0xffff;
        if overflow == 0 { Some(word & ((1 << self.refcnt_bits) - 1)) } else { None }
    }

    /// The next object of the same freelist, of the word at `ob_refcnt`, if it can be that.
    #[must_use]
    pub const fn free_link(&self, word: u64) -> Option<u64> {
        let is_link = self.freelist_links && word.is_multiple_of(16) && word >> 32 != 0 && word < USER_SPACE;
        if is_link { Some(word) } else { None }
    }
}

/// The references of an object of a build without the GIL (`Include/refcount.h`, `Py_REFCNT`): the count of the thread that made it, with all bits set if the object lives for ever, and that of all others,
/// above two flags, which may be negative. From 3.14 on, what only the collector frees has `_Py_REF_DEFERRED` more (`Include/internal/pycore_object.h`).
const fn biased(local: u32, shared: i64) -> Option<u64> {
    let shared = shared >> REF_SHARED_SHIFT;
    // A pointer in its place has too many for a count, and too few for a deferred one.
    if shared < -OTHERS_MOST || (shared > OTHERS_MOST && shared < REF_DEFERRED - OTHERS_MOST) {
        return None;
    }
    if local == u32::MAX {
        return Some(MOST_REFERENCES);
    }
    let all = shared + local as i64;
    if all < 0 { None } else { Some(all.cast_unsigned()) }
}

/// `_Py_REF_SHARED_SHIFT`.
const REF_SHARED_SHIFT: u32 = 2;
/// `_Py_REF_DEFERRED`: `PY_SSIZE_T_MAX / 8`.
const REF_DEFERRED: i64 = i64::MAX / 8;
/// More references than an object gets from other threads; a pointer, shifted, is larger.
const OTHERS_MOST: i64 = 1 << 33;

/// Where a frame stands whose generator waits, so that no evaluator runs it. Who asks, and why: `symbol::splice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nobody asks: such a frame is linked nowhere (3.8), or is told apart without it (from 3.12 on).
    Unasked,
    /// Before the opcode `YIELD_FROM` (Objects/genobject.c, `_PyGen_yf`, up to 3.10); the bytecode is a `bytes` object at this offset.
    BeforeYieldFrom {
        /// `PyCodeObject.co_code`.
        co_code: u64,
        /// The opcode (`Include/opcode.h`).
        opcode: u8,
    },
    /// At the opcode `YIELD_VALUE` (3.11), which is never specialised.
    AtYieldValue {
        /// The opcode.
        opcode: u8,
    },
}

/// The form of a code object's line table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// `co_lnotab` (up to 3.9, `Objects/lnotab_notes.txt`).
    Lnotab,
    /// `co_linetable` of PEP 626 (3.10).
    Pep626,
    /// `co_linetable` of PEP 657 (from 3.11 on).
    Pep657,
}

/// Offsets in bytes on the way from `_PyRuntime` to the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// `_PyRuntimeState.gilstate.tstate_current`: the thread state of the GIL's holder; `None` from 3.12 on, where it is in the thread-local variable `_Py_tss_tstate`.
    pub runtime_tstate_current: Option<u64>,
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
    pub states: States,
}

/// mimalloc: sizes in bytes, and offsets in bytes in a segment, in a slice, which is a page's head, and in a heap; the names are its own (`Include/internal/mimalloc/mimalloc/types.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is named after the field or constant of mimalloc that it is about"
)]
pub struct Pages {
    /// Segments lie at multiples of their size.
    pub segment_size: u64,
    pub slice_size: u64,
    pub segment_kind: u64,
    pub slice_entries: u64,
    pub slices: u64,
    /// Bytes of a `mi_slice_t`.
    pub slice_len: u64,
    pub slice_offset: usize,
    /// It has two bytes.
    pub capacity: usize,
    pub free: usize,
    pub used: usize,
    pub xblock_size: usize,
    pub local_free: usize,
    pub xthread_free: usize,
    pub xheap: usize,
    pub heap_thread_delayed_free: u64,
}

/// Where the allocators' states are, of which each has a table of arenas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// There is one for all, among the interpreter's variables (up to 3.11).
    One,
    /// An interpreter may have its own (from 3.12 on, PEP 684).
    PerInterpreter {
        /// `PyInterpreterState.next`.
        next: u64,
        /// `PyInterpreterState.obmalloc`.
        obmalloc: u64,
        /// It is a pointer, from 3.13 on; in 3.12 the state itself.
        is_pointer: bool,
        /// `mgmt.arenas` in a state.
        arenas: u64,
    },
}

/// The layout of a build of `major.minor` without the GIL (PEP 703, from 3.13 on), if this unshed knows it.
#[must_use]
pub const fn of_free_threaded(major: u8, minor: u8) -> Option<&'static Layout> {
    match (major, minor) {
        (3, 13) => Some(&v3_13::FREE_THREADED),
        (3, 14) => Some(&v3_14::FREE_THREADED),
        (3, 15) => Some(&v3_15::FREE_THREADED),
        _ => None,
    }
}

/// The layout of `major.minor`, with the GIL, if this unshed knows it.
#[must_use]
pub const fn of(major: u8, minor: u8) -> Option<&'static Layout> {
    match (major, minor) {
        (3, 8) => Some(&v3_8::LAYOUT),
        (3, 9) => Some(&v3_9::LAYOUT),
        (3, 10) => Some(&v3_10::LAYOUT),
        (3, 11) => Some(&v3_11::LAYOUT),
        (3, 12) => Some(&v3_12::LAYOUT),
        (3, 13) => Some(&v3_13::LAYOUT),
        (3, 14) => Some(&v3_14::LAYOUT),
        (3, 15) => Some(&v3_15::LAYOUT),
        _ => None,
    }
}

/// The versions of [`of`], as errors list them.
pub const SUPPORTED: &str = "3.8 to 3.15";

/// The least and the most of them.
const MINORS: std::ops::RangeInclusive<u8> = 8..=15;

const _: () = {
    let mut minor = *MINORS.start();
    while minor <= *MINORS.end() {
        match of(3, minor) {
            Some(layout) => check(layout),
            None => panic!("a version between the first and the last is missing"),
        }
        if let Some(layout) = of_free_threaded(3, minor) {
            check(layout);
        }
        minor += 1;
    }
};

/// What the walk in the kernel counts on, in each table.
const fn check(layout: &Layout) {
    assert!(is_sound(layout), "what the walk reads lies outside of what it reads at once");
}

/// Whether the walk in the kernel can use a layout: all that it wants of a frame lies in the bytes that it reads of it, and the fingerprint covers both names.
#[must_use]
pub const fn is_sound(layout: &Layout) -> bool {
    let (walk, objects) = (&layout.walk, &layout.objects);
    let is_whole = walk.frame_at.is_multiple_of(8) && walk.frame_len.is_multiple_of(8);
    let fits = walk.frame_len >= 8 && walk.frame_len as usize <= WINDOW;
    if !is_whole || !fits {
        return false;
    }
    let last = walk.frame_len - 8;
    let frame = walk.frame_code <= last
        && walk.frame_previous <= last
        && walk.frame_instr <= last
        && walk.frame_entry_word <= last
        && walk.frame_tlbc <= last;
    let (name, file) = (walk.code_qualname, walk.code_filename);
    let names = file <= CODE_CHUNK as u32 - 8 && name <= CODE_CHUNK as u32 - 8;
    let instructions = (walk.instr_bytes == 0) == (walk.code_bytecode != 0)
        && (walk.entry == Entry::Each as u32) == (walk.instr_bytes != 0);
    frame
        && names
        && instructions
        && objects.code_filename == walk.code_at as u64 + file as u64
        && objects.code_qualname == walk.code_at as u64 + name as u64
        && objects.unicode_ascii_data == walk.unicode_data as u64
}
