//! CPython 3.11: by which words an object is told from its successor in the same block.
//!
//! A word that belongs in here is one that nobody writes while an object is merely used: not the reference count, not a cached hash (`str`, `frozenset`, `datetime`,
//! `Decimal`), not the collector's head, not the position of an iterator, not `dk_version` or `func_version` (set when a call is specialised).
//! Offsets are what `offsetof` gives for 3.11.2 and 3.11.7; those of types without a header file are from the C file that is named.

use crate::target::layout::kinds::{Attributes, Frames, KeySize, KeyTable, Kinds, Rule, Shape, Types};

const LONG: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;
const UNICODE: u64 = 1 << 28;
const DICT: u64 = 1 << 29;
const EXCEPTION: u64 = 1 << 30;
const TYPE: u64 = 1 << 31;

/// A rule of words alone.
pub(in crate::target::layout) const fn words(
    types: Types,
    stays: &'static [u16],
    moves: &'static [u16],
) -> Rule {
    Rule { types, shape: Shape::Words, stays, moves }
}

pub(in crate::target::layout) const fn shaped(
    types: Types,
    shape: Shape,
    stays: &'static [u16],
    moves: &'static [u16],
) -> Rule {
    Rule { types, shape, stays, moves }
}

pub(in crate::target::layout) const RULES: &[Rule] = &[
    // The value (`Include/cpython/floatobject.h`, `complexobject.h`), which no operation changes.
    words(Types::Symbol("PyFloat_Type"), &[16], &[]),
    words(Types::Symbol("PyComplex_Type"), &[16, 24], &[]),
    // `Include/setobject.h`: `fill`, `used`, `table`. A frozenset is filled before anyone sees it: also the keys of its small table. Not `hash` and `finger`.
    words(Types::Symbol("PySet_Type"), &[], &[16, 24, 40]),
    words(Types::Symbol("PyFrozenSet_Type"), &[16, 24, 40, 64, 80, 96, 112, 128, 144, 160], &[]),
    // `Include/cpython/funcobject.h`: globals, code, closure. Name and documentation are replaced by `functools.wraps`.
    words(Types::Symbol("PyFunction_Type"), &[16, 72], &[48]),
    // `Include/cpython/classobject.h`: function and self; `cpython/methodobject.h`: definition and self.
    words(Types::Symbol("PyMethod_Type"), &[16, 24], &[]),
    words(Types::Symbol("PyCFunction_Type"), &[16, 24], &[]),
    // `Include/cpython/cellobject.h`: a closure may assign its variable.
    words(Types::Symbol("PyCell_Type"), &[], &[16]),
    // `Include/cpython/genobject.h`: name and state are left out.
    shaped(Types::Symbol("PyGen_Type"), Shape::Generator, &[], &[]),
    shaped(Types::Symbol("PyCoro_Type"), Shape::Generator, &[], &[]),
    shaped(Types::Symbol("PyAsyncGen_Type"), Shape::Generator, &[], &[]),
    // `Include/cpython/code.h`: constants, names, `co_name`, `co_linetable`. The bytecode is rewritten in place.
    words(Types::Symbol("PyCode_Type"), &[24, 32, 120, 136], &[]),
    // `Include/internal/pycore_frame.h`: `f_frame` moves into the object when the call ends, what it says does not change.
    shaped(Types::Symbol("PyFrame_Type"), Shape::Frame, &[], &[]),
    // `Include/cpython/traceback.h`: `tb_frame`, `tb_lasti`; `tb_next` may be assigned.
    words(Types::Symbol("PyTraceBack_Type"), &[24], &[32]),
    // `Include/cpython/bytearrayobject.h`: `ob_size`, `ob_bytes`.
    words(Types::Symbol("PyByteArray_Type"), &[], &[16, 32]),
    // `Modules/_asynciomodule.c`, `FutureObj_HEAD` and `TaskObj`: loop; `task_coro`, `task_name`. Callbacks, result and state come and go.
    words(Types::Name("_asyncio.Task"), &[16, 136], &[144]),
    words(Types::Name("_asyncio.Future"), &[16], &[]),
    // `Modules/_functoolsmodule.c`, `lru_list_elem`: hash, key, result; not its neighbours in the list of the recently used.
    words(Types::Name("functools._lru_list_elem"), &[32, 40], &[48]),
    // `Modules/_collectionsmodule.c`, `dequeobject`: its first block.
    words(Types::Name("collections.deque"), &[], &[24]),
    // `Include/datetime.h`: the packed fields, behind the cached hash.
    words(Types::Name("datetime.datetime"), &[24, 32], &[]),
    words(Types::Name("datetime.date"), &[24], &[]),
    words(Types::Name("datetime.time"), &[24], &[]),
    words(Types::Name("datetime.timedelta"), &[24, 32], &[]),
    // `Modules/_decimal/_decimal.c`, `PyDecObject`: exponent, digits and the first word of them, behind the cached hash.
    words(Types::Name("decimal.Decimal"), &[32, 40, 72], &[]),
    // `Objects/listobject.c`, `tupleobject.c`, `unicodeobject.c`, `bytesobject.c`, `iterobject.c`, `enumobject.c`: what is iterated, behind the position.
    words(Types::Name("list_iterator"), &[24], &[]),
    words(Types::Name("tuple_iterator"), &[24], &[]),
    words(Types::Name("str_ascii_iterator"), &[24], &[]),
    words(Types::Name("str_iterator"), &[24], &[]),
    words(Types::Name("bytes_iterator"), &[24], &[]),
    words(Types::Name("iterator"), &[24], &[]),
    words(Types::Name("enumerate"), &[24], &[]),
    // Subclasses have the head of their base.
    shaped(Types::Flag(LONG), Shape::Int, &[16], &[]),
    // `Include/cpython/unicodeobject.h`: length and state (interning sets two bits of it, which are left out); not `hash` at 24, nor `utf8`.
    shaped(Types::Flag(UNICODE), Shape::Text, &[16], &[]),
    // `ob_shash` at 24 is a cached hash.
    shaped(Types::Flag(BYTES), Shape::Octets, &[16], &[]),
    shaped(Types::Flag(TUPLE), Shape::Tuple, &[16], &[]),
    // `Include/cpython/listobject.h`: `ob_size`, `ob_item`.
    words(Types::Flag(LIST), &[], &[16, 24]),
    shaped(Types::Flag(DICT), Shape::Dict, &[], &[]),
    // `Include/cpython/pyerrors.h`: the arguments; traceback and context are set while it is raised.
    shaped(Types::Flag(EXCEPTION), Shape::Exception, &[], &[]),
    // `PyTypeObject.tp_name` leads into the name that the class was made with.
    words(Types::Flag(TYPE), &[], &[24]),
    shaped(Types::Any, Shape::Instance, &[], &[]),
];

/// CPython 3.11.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    type_len: 296,
    tp_basicsize: 32,
    tp_weaklistoffset: 208,
    tp_dictoffset: 288,
    ma_used: 16,
    ma_version_tag: 24,
    watcher_bits: 0,
    ma_keys: 32,
    ma_values: 40,
    tuple_items: 24,
    keys: KeyTable {
        dk_refcnt: 0,
        size: KeySize::Log2 { dk_log2_size: 8, dk_log2_index_bytes: 9, dk_kind: 10 },
        dk_usable: 16,
        dk_nentries: 24,
        dk_indices: 32,
    },
    frames: Frames::Inside {
        gi_iframe: 80,
        gi_code: 16,
        f_func: 0,
        f_code: 32,
        f_localsplus: 72,
        f_frame: 24,
    },
    co_argcount: 56,
    attributes: Attributes::TwoWords,
    exception_args: 24,
    head_more: 0,
    rules: &[RULES],
};
