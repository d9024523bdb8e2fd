//! The same of the table by which objects are told from their successors (`layout::kinds`), which only builds with pymalloc use.

use crate::target::layout::Layout;
use crate::target::layout::kinds::{Frames, KeySize};

use super::fields::Fact::Offset;
use super::fields::{Fact, Field};

const LAST: u8 = 15;

/// Nobody reads this table of a build without the GIL whose mimalloc is not known.
const fn used(layout: &Layout, value: u64) -> Option<u64> {
    if layout.objects.gc_head == 0 && layout.pages.is_none() { None } else { Some(value) }
}

macro_rules! kind {
    ($name:literal, $($field:ident).+, $($theirs:expr),+) => {
        Field {
            name: $name,
            ours: |layout| used(layout, layout.kinds.$($field).+ as u64),
            theirs: &[$($theirs),+],
        }
    };
}

/// A field of one of the forms that a part of the table has; versions of another form have none.
macro_rules! form {
    ($name:literal, $part:ident $(. $deeper:ident)*, $form:path, $field:ident, $($theirs:expr),+) => {
        Field {
            name: $name,
            ours: |layout| match layout.kinds.$part $(. $deeper)* {
                $form { $field, .. } => used(layout, $field as u64),
                _ => None,
            },
            theirs: &[$($theirs),+],
        }
    };
}

macro_rules! places {
    ($name:literal, $field:ident) => {
        form!(
            $name,
            keys.size,
            KeySize::Places,
            $field,
            (8, 10, Offset("_dictkeysobject", stringify!($field)))
        )
    };
}

macro_rules! logs {
    ($name:literal, $field:ident) => {
        form!($name, keys.size, KeySize::Log2, $field, from_3_11("_dictkeysobject", stringify!($field)))
    };
}

macro_rules! objects {
    ($name:literal, $field:ident, $($theirs:expr),+) => { form!($name, frames, Frames::Objects, $field, $($theirs),+) };
}

macro_rules! inside {
    ($name:literal, $field:ident, $($theirs:expr),+) => { form!($name, frames, Frames::Inside, $field, $($theirs),+) };
}

const fn of(structure: &'static str, member: &'static str) -> (u8, u8, Fact) {
    (8, LAST, Offset(structure, member))
}

const fn from_3_11(structure: &'static str, member: &'static str) -> (u8, u8, Fact) {
    (11, LAST, Offset(structure, member))
}

pub(super) static FIELDS: &[Field] = &[
    kind!("kinds.tp_basicsize", tp_basicsize, of("_typeobject", "tp_basicsize")),
    kind!("kinds.tp_weaklistoffset", tp_weaklistoffset, of("_typeobject", "tp_weaklistoffset")),
    kind!("kinds.tp_dictoffset", tp_dictoffset, of("_typeobject", "tp_dictoffset")),
    kind!("kinds.ma_keys", ma_keys, of("PyDictObject", "ma_keys")),
    kind!("kinds.ma_values", ma_values, of("PyDictObject", "ma_values")),
    kind!("kinds.tuple_items", tuple_items, of("PyTupleObject", "ob_item")),
    kind!("kinds.keys.dk_refcnt", keys.dk_refcnt, of("_dictkeysobject", "dk_refcnt")),
    places!("kinds.keys.dk_size", dk_size),
    places!("kinds.keys.dk_lookup", dk_lookup),
    logs!("kinds.keys.dk_log2_size", dk_log2_size),
    logs!("kinds.keys.dk_log2_index_bytes", dk_log2_index_bytes),
    logs!("kinds.keys.dk_kind", dk_kind),
    kind!("kinds.keys.dk_usable", keys.dk_usable, of("_dictkeysobject", "dk_usable")),
    kind!("kinds.keys.dk_nentries", keys.dk_nentries, of("_dictkeysobject", "dk_nentries")),
    kind!("kinds.keys.dk_indices", keys.dk_indices, of("_dictkeysobject", "dk_indices")),
    objects!("kinds.gi_frame", gi_frame, (8, 10, Offset("PyGenObject", "gi_frame"))),
    objects!("kinds.gi_code", gi_code, (8, 10, Offset("PyGenObject", "gi_code"))),
    objects!("kinds.f_localsplus", f_localsplus, (8, 10, Offset("_frame", "f_localsplus"))),
    inside!("kinds.gi_iframe", gi_iframe, from_3_11("PyGenObject", "gi_iframe")),
    inside!("kinds.gi_code", gi_code, (11, 11, Offset("PyGenObject", "gi_code"))),
    inside!(
        "kinds.f_func",
        f_func,
        (11, 11, Offset("_PyInterpreterFrame", "f_func")),
        (12, LAST, Offset("_PyInterpreterFrame", "f_funcobj"))
    ),
    inside!(
        "kinds.f_code",
        f_code,
        (11, 12, Offset("_PyInterpreterFrame", "f_code")),
        (13, LAST, Offset("_PyInterpreterFrame", "f_executable"))
    ),
    inside!("kinds.f_localsplus", f_localsplus, from_3_11("_PyInterpreterFrame", "localsplus")),
    inside!("kinds.f_frame", f_frame, from_3_11("_frame", "f_frame")),
    kind!("kinds.co_argcount", co_argcount, of("PyCodeObject", "co_argcount")),
    kind!("kinds.exception_args", exception_args, of("PyBaseExceptionObject", "args")),
];
