//! CPython 3.13: by which words an object is told from its successor in the same block, where that is otherwise than in 3.12. Offsets are what `offsetof` gives for 3.13.0;
//! those of a task were found in running ones of 3.13.0 and 3.13.18.

use crate::target::layout::kinds::{Attributes, Frames, Kinds, Rule, Types};
use crate::target::layout::v3_11::kinds::{self as v3_11, words};
use crate::target::layout::v3_12::kinds as v3_12;

const RULES: &[Rule] = &[
    // `Modules/_asynciomodule.c`: loop; `task_coro`, `task_name`.
    words(Types::Name("_asyncio.Task"), &[16, 120], &[128]),
];

/// CPython 3.13.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    // `Include/internal/pycore_dict.h`: `DICT_MAX_WATCHERS` and `DICT_WATCHED_MUTATION_BITS`.
    watcher_bits: 12,
    attributes: Attributes::Inline,
    rules: &[RULES, v3_11::RULES],
    ..v3_12::KINDS
};

/// Bytes that an object's head has more without the GIL.
const MORE: u64 = 16;

/// CPython 3.13 without the GIL.
pub(in crate::target::layout) const FREE_THREADED: Kinds = Kinds {
    type_len: KINDS.type_len + MORE as usize,
    tp_basicsize: KINDS.tp_basicsize + MORE,
    tp_weaklistoffset: KINDS.tp_weaklistoffset + MORE,
    tp_dictoffset: KINDS.tp_dictoffset + MORE,
    ma_used: KINDS.ma_used + MORE,
    ma_version_tag: KINDS.ma_version_tag + MORE,
    ma_keys: KINDS.ma_keys + MORE,
    ma_values: KINDS.ma_values + MORE,
    tuple_items: KINDS.tuple_items + MORE,
    frames: Frames::Inside {
        gi_iframe: 88,
        gi_code: 88,
        f_func: 16,
        f_code: 0,
        f_localsplus: 72,
        f_frame: 40,
    },
    co_argcount: KINDS.co_argcount + MORE,
    exception_args: KINDS.exception_args + MORE,
    head_more: MORE,
    ..KINDS
};
