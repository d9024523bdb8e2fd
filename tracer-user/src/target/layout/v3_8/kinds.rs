//! CPython 3.8: by which words an object is told from its successor in the same block, where that is otherwise than in 3.9. Offsets are what `offsetof` gives for 3.8.18.

use crate::target::layout::kinds::{Kinds, Rule, Types};
use crate::target::layout::v3_9::kinds as v3_9;
use crate::target::layout::v3_10::kinds as v3_10;
use crate::target::layout::v3_11::kinds::{self as v3_11, words};

const RULES: &[Rule] = &[
    // `Modules/_asynciomodule.c`: loop; `task_coro`, `task_name`.
    words(Types::Name("_asyncio.Task"), &[16, 112], &[120]),
];

/// CPython 3.8.
pub(in crate::target::layout) const KINDS: Kinds =
    Kinds { rules: &[RULES, v3_9::RULES, v3_10::RULES, v3_11::RULES], ..v3_9::KINDS };
