//! CPython 3.9: by which words an object is told from its successor in the same block, where that is otherwise than in 3.10. Offsets are what `offsetof` gives for 3.9.18.

use crate::target::layout::kinds::{Frames, Kinds, Rule, Types};
use crate::target::layout::v3_10::kinds as v3_10;
use crate::target::layout::v3_11::kinds::{self as v3_11, words};

pub(in crate::target::layout) const RULES: &[Rule] = &[
    // `Include/funcobject.h`: globals, closure, code.
    words(Types::Symbol("PyFunction_Type"), &[24, 48], &[16]),
    // `Modules/_asynciomodule.c`: loop; `task_coro`, `task_name`.
    words(Types::Name("_asyncio.Task"), &[16, 152], &[160]),
];

/// CPython 3.9.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    frames: Frames::Objects { gi_frame: 16, gi_code: 32, f_localsplus: 360 },
    rules: &[RULES, v3_10::RULES, v3_11::RULES],
    ..v3_10::KINDS
};
