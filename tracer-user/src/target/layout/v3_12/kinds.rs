//! CPython 3.12: by which words an object is told from its successor in the same block, where that is otherwise than in 3.11. Offsets are what `offsetof` gives for 3.12.1.

use crate::target::layout::kinds::{Attributes, Frames, Kinds};
use crate::target::layout::v3_11::kinds as v3_11;

/// CPython 3.12.
pub(in crate::target::layout) const KINDS: Kinds = Kinds {
    // `Include/internal/pycore_dict.h`: `DICT_MAX_WATCHERS`.
    watcher_bits: 8,
    frames: Frames::Inside {
        gi_iframe: 72,
        gi_code: 72,
        f_func: 16,
        f_code: 0,
        f_localsplus: 72,
        f_frame: 24,
    },
    co_argcount: 52,
    attributes: Attributes::Tagged,
    ..v3_11::KINDS
};
