//! Which structure and member each number of a layout is of, in which minor versions: data.

use std::collections::HashSet;

use crate::target::layout::{Layout, Waits};

use Fact::{Bit, Constant, Offset, Size};

/// What a build can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Bytes from the begin of a structure to a member, by its path.
    Offset(&'static str, &'static str),
    /// Bits from the begin of a member to a part of it, both by their paths.
    Bit(&'static str, &'static str, &'static str),
    /// Bytes of a structure.
    Size(&'static str),
    /// The value of a constant.
    Constant(&'static str),
}

/// Who answers.
pub(super) trait Facts {
    fn fact(&self, fact: Fact) -> Option<u64>;
}

/// One number of ours.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Its value; `None` where a version has none.
    pub(super) ours: fn(&Layout) -> Option<u64>,
    /// What it is, from one minor version to another.
    pub(super) theirs: &'static [(u8, u8, Fact)],
}

/// All numbers of ours.
pub(super) fn all() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain(super::kinds::FIELDS)
}

/// The names of all structures.
pub(super) fn wanted() -> HashSet<&'static str> {
    let structures = all().flat_map(|field| field.theirs).filter_map(|(.., fact)| match *fact {
        Offset(structure, _) | Bit(structure, ..) | Size(structure) => Some(structure),
        Constant(_) => None,
    });
    structures.chain(["_Py_DebugOffsets"]).collect()
}

/// The last version, and one that has not come.
const LAST: u8 = 15;

macro_rules! field {
    ($name:literal, $layout:ident => $ours:expr, $($theirs:expr),+ $(,)?) => {
        Field { name: $name, ours: |$layout| Some(($ours).into()), theirs: &[$($theirs),+] }
    };
}

macro_rules! maybe {
    ($name:literal, $layout:ident => $ours:expr, $($theirs:expr),+ $(,)?) => {
        Field { name: $name, ours: |$layout| $ours, theirs: &[$($theirs),+] }
    };
}

const NONE: u32 = tracer_common::layout::PyLayout::NONE;

static FIELDS: &[Field] = &[
    field!("walk.tstate_thread_id", l => l.walk.tstate_thread_id, (8, LAST, Offset("_ts", "thread_id"))),
    field!("walk.tstate_frame", l => l.walk.tstate_frame, (8, 10, Offset("_ts", "frame")), (11, 12, Offset("_ts", "cframe")), (13, LAST, Offset("_ts", "current_frame"))),
    maybe!("walk.cframe_current_frame", l => present(l.walk.cframe_current_frame), (11, 12, Offset("_PyCFrame", "current_frame"))),
    field!("walk.frame_code", l => l.walk.frame_at + l.walk.frame_code, (8, 10, Offset("_frame", "f_code")), (11, 12, Offset("_PyInterpreterFrame", "f_code")), (13, LAST, Offset("_PyInterpreterFrame", "f_executable"))),
    field!("walk.frame_previous", l => l.walk.frame_at + l.walk.frame_previous, (8, 10, Offset("_frame", "f_back")), (11, LAST, Offset("_PyInterpreterFrame", "previous"))),
    field!("walk.frame_instr", l => l.walk.frame_at + l.walk.frame_instr, (8, 10, Offset("_frame", "f_lasti")), (11, 12, Offset("_PyInterpreterFrame", "prev_instr")), (13, LAST, Offset("_PyInterpreterFrame", "instr_ptr"))),
    field!("walk.frame_entry_word", l => l.walk.frame_at + l.walk.frame_entry_word + l.walk.frame_entry_shift / 8, (11, 11, Offset("_PyInterpreterFrame", "is_entry")), (12, LAST, Offset("_PyInterpreterFrame", "owner"))),
    maybe!("walk.frame_tlbc", l => present(l.walk.code_tlbc).map(|_| u64::from(l.walk.frame_at + l.walk.frame_tlbc)), (14, LAST, Offset("_PyInterpreterFrame", "tlbc_index"))),
    maybe!("walk.code_tlbc", l => present(l.walk.code_tlbc), (14, LAST, Offset("PyCodeObject", "co_tlbc"))),
    maybe!("walk.code_bytecode", l => Some(u64::from(l.walk.code_bytecode)), (11, LAST, Offset("PyCodeObject", "co_code_adaptive"))),
    field!("Entry::SHIM_OWNER", _l => tracer_common::layout::Entry::SHIM_OWNER, (12, 13, Constant("FRAME_OWNED_BY_CSTACK")), (14, LAST, Constant("FRAME_OWNED_BY_INTERPRETER"))),
    field!("objects.ob_type", l => l.objects.ob_type, (8, LAST, Offset("_object", "ob_type"))),
    maybe!("objects.ob_refcnt", l => (l.objects.ob_refcnt == 0).then_some(0), (8, LAST, Offset("_object", "ob_refcnt"))),
    maybe!("objects.ob_ref_local", l => (l.objects.ob_refcnt != 0).then_some(l.objects.ob_refcnt), (13, LAST, Offset("_object", "ob_ref_local"))),
    field!("objects.ob_size", l => l.objects.ob_size, (8, LAST, Offset("PyVarObject", "ob_size"))),
    field!("objects.ob_digit", l => l.objects.ob_digit, (8, 11, Offset("_longobject", "ob_digit")), (12, LAST, Offset("_longobject", "long_value.ob_digit"))),
    field!("objects.digit_bits", l => l.objects.digit_bits, (8, LAST, Constant("UNSHED_DIGIT_BITS"))),
    field!("objects.tp_name", l => l.objects.tp_name, (8, LAST, Offset("_typeobject", "tp_name"))),
    field!("objects.tp_flags", l => l.objects.tp_flags, (8, LAST, Offset("_typeobject", "tp_flags"))),
    field!("objects.ht_qualname", l => l.objects.ht_qualname, (8, LAST, Offset("_heaptypeobject", "ht_qualname"))),
    field!("objects.unicode_length", l => l.objects.unicode_length, (8, LAST, Offset("PyASCIIObject", "length"))),
    field!("objects.unicode_state", l => l.objects.unicode_state, (8, LAST, Offset("PyASCIIObject", "state"))),
    field!("objects.unicode_kind_bit", l => l.objects.unicode_kind_bit, (8, LAST, Bit("PyASCIIObject", "state.kind", "state"))),
    field!("objects.unicode_kind_bit (compact)", l => l.objects.unicode_kind_bit + 3, (8, LAST, Bit("PyASCIIObject", "state.compact", "state"))),
    field!("objects.unicode_kind_bit (ascii)", l => l.objects.unicode_kind_bit + 4, (8, LAST, Bit("PyASCIIObject", "state.ascii", "state"))),
    field!("objects.unicode_ascii_data", l => l.objects.unicode_ascii_data, (8, LAST, Size("PyASCIIObject"))),
    field!("objects.unicode_data", l => l.objects.unicode_data, (8, LAST, Size("PyCompactUnicodeObject"))),
    field!("objects.bytes_data", l => l.objects.bytes_data, (8, LAST, Offset("PyBytesObject", "ob_sval"))),
    field!("objects.code_firstlineno", l => l.objects.code_firstlineno, (8, LAST, Offset("PyCodeObject", "co_firstlineno"))),
    field!("objects.code_filename", l => l.objects.code_filename, (8, LAST, Offset("PyCodeObject", "co_filename"))),
    field!("objects.code_qualname", l => l.objects.code_qualname, (8, 10, Offset("PyCodeObject", "co_name")), (11, LAST, Offset("PyCodeObject", "co_qualname"))),
    field!("objects.code_linetable", l => l.objects.code_linetable, (8, 9, Offset("PyCodeObject", "co_lnotab")), (10, LAST, Offset("PyCodeObject", "co_linetable"))),
    maybe!("objects.waits (opcode)", l => match l.objects.waits { Waits::AtYieldValue { opcode } => Some(u64::from(opcode)), _ => None }, (8, LAST, Constant("UNSHED_YIELD_VALUE"))),
    maybe!("objects.waits (co_code)", l => match l.objects.waits { Waits::BeforeYieldFrom { co_code, .. } => Some(co_code), _ => None }, (8, 10, Offset("PyCodeObject", "co_code"))),
    maybe!("objects.gc_head", l => (l.objects.ob_refcnt == 0).then_some(l.objects.gc_head), (8, LAST, Size("PyGC_Head"))),
    maybe!("threads.runtime_tstate_current", l => l.threads.runtime_tstate_current, (8, 11, Offset("_PyRuntimeState", "gilstate.tstate_current"))),
    field!("threads.runtime_interpreters_head", l => l.threads.runtime_interpreters_head, (8, LAST, Offset("_PyRuntimeState", "interpreters.head"))),
    field!("threads.interpreter_threads_head", l => l.threads.interpreter_threads_head, (8, 10, Offset("_is", "tstate_head")), (11, LAST, Offset("_is", "threads.head"))),
    field!("threads.tstate_next", l => l.threads.tstate_next, (8, LAST, Offset("_ts", "next"))),
    field!("pools.pool_size", l => l.pools.pool_size, (12, LAST, Constant("UNSHED_POOL_SIZE"))),
    field!("pools.pool_overhead", l => l.pools.pool_overhead, (8, LAST, Size("pool_header"))),
    field!("pools.arena_size", l => l.pools.arena_size, (12, LAST, Constant("UNSHED_ARENA_SIZE"))),
    field!("pools.alignment", l => l.pools.alignment, (12, LAST, Constant("UNSHED_ALIGNMENT"))),
    field!("pools.size_classes", l => l.pools.size_classes, (12, LAST, Constant("UNSHED_SIZE_CLASSES"))),
    field!("pools.initial_arena_objects", l => l.pools.initial_arena_objects as u64, (12, LAST, Constant("UNSHED_INITIAL_ARENA_OBJECTS"))),
    field!("pools.pool_ref", l => l.pools.pool_ref as u64, (8, LAST, Offset("pool_header", "ref"))),
    field!("pools.pool_freeblock", l => l.pools.pool_freeblock as u64, (8, LAST, Offset("pool_header", "freeblock"))),
    field!("pools.pool_arenaindex", l => l.pools.pool_arenaindex as u64, (8, LAST, Offset("pool_header", "arenaindex"))),
    field!("pools.pool_szidx", l => l.pools.pool_szidx as u64, (8, LAST, Offset("pool_header", "szidx"))),
    field!("pools.pool_nextoffset", l => l.pools.pool_nextoffset as u64, (8, LAST, Offset("pool_header", "nextoffset"))),
    field!("pools.pool_maxnextoffset", l => l.pools.pool_maxnextoffset as u64, (8, LAST, Offset("pool_header", "maxnextoffset"))),
    field!("pools.arena_object_size", l => l.pools.arena_object_size as u64, (8, LAST, Size("arena_object"))),
    field!("pools.arena_address", l => l.pools.arena_address as u64, (8, LAST, Offset("arena_object", "address"))),
    field!("pools.arena_pool_address", l => l.pools.arena_pool_address as u64, (8, LAST, Offset("arena_object", "pool_address"))),
    field!("pools.arena_nfreepools", l => l.pools.arena_nfreepools as u64, (8, LAST, Offset("arena_object", "nfreepools"))),
    field!("pools.arena_ntotalpools", l => l.pools.arena_ntotalpools as u64, (8, LAST, Offset("arena_object", "ntotalpools"))),
    field!("pools.arena_nextarena", l => l.pools.arena_nextarena as u64, (8, LAST, Offset("arena_object", "nextarena"))),
];

fn present(offset: u32) -> Option<u64> {
    (offset != NONE).then_some(u64::from(offset))
}
