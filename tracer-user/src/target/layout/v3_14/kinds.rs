//! CPython 3.14, and 3.15: by which words an object is told from its successor in the same block, where that is otherwise than in 3.13. Offsets are what `offsetof` gives for
//! Debian's 3.14.10 and 3.15.2; those of a task were found in running ones.

use crate::target::layout::kinds::{Frames, Kinds, Rule, Types};
use crate::target::layout::v3_11::kinds::{self as v3_11, words};
use crate::target::layout::v3_13::kinds as v3_13;

const RULES: &[Rule] = &[
    // `Modules/_asynciomodule.c`: loop; `task_coro`, `task_name`.
    words(Types::Name("_asyncio.Task"), &[16, 128], &[136]),
];

/// CPython 3.14.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    // `Include/cpython/dictobject.h`: `_ma_watcher_tag` is no version any more.
    watcher_bits: 64,
    // `Include/cpython/tupleobject.h`: behind the cached hash.
    tuple_items: 32,
    frames: Frames::Inside {
        gi_iframe: 72,
        gi_code: 72,
        f_func: 16,
        f_code: 0,
        f_localsplus: 80,
        f_frame: 24,
    },
    rules: &[RULES, v3_11::RULES],
    ..v3_13::KINDS
};
