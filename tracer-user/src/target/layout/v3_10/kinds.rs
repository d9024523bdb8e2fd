//! CPython 3.10: by which words an object is told from its successor in the same block, where that is otherwise than in 3.11. Offsets are what `offsetof` gives for 3.10.13.

use crate::target::layout::kinds::{Attributes, Frames, KeySize, KeyTable, Kinds, Rule, Types};
use crate::target::layout::v3_11::kinds::{self as v3_11, words};

pub(in crate::target::layout) const RULES: &[Rule] = &[
    // `Include/cpython/code.h`: constants, names, `co_name`, the line table.
    words(Types::Symbol("PyCode_Type"), &[56, 64, 112, 120], &[]),
    // `Include/cpython/frameobject.h`: `f_code`, `f_globals`. The caller of a generator's frame changes.
    words(Types::Symbol("PyFrame_Type"), &[32, 48], &[]),
    // `Modules/_asynciomodule.c`: loop; `task_coro`, `task_name`.
    words(Types::Name("_asyncio.Task"), &[16, 160], &[168]),
];

/// CPython 3.10.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    keys: KeyTable {
        size: KeySize::Places { dk_size: 8, dk_lookup: 16 },
        dk_usable: 24,
        dk_nentries: 32,
        dk_indices: 40,
        ..v3_11::KINDS.keys
    },
    frames: Frames::Objects { gi_frame: 16, gi_code: 24, f_localsplus: 352 },
    co_argcount: 16,
    attributes: Attributes::Dict,
    rules: &[RULES, v3_11::RULES],
    ..v3_11::KINDS
};
