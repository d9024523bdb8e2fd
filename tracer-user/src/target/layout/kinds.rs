//! What tells an object from its successor in the same block, per kind of object: the shape of the table that each version has.

/// Offsets in bytes that following a type, a dict and a frame wants; the names are CPython's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub struct Kinds {
    /// Bytes of a type object that are read to know what its instances are.
    pub type_len: usize,
    pub tp_basicsize: u64,
    pub tp_weaklistoffset: u64,
    pub tp_dictoffset: u64,
    /// `PyDictObject.ma_keys`, and the other words of a dict: its version and its values.
    pub ma_version_tag: u64,
    pub ma_keys: u64,
    pub ma_values: u64,
    /// `PyListObject`, `PyTupleObject`: where a tuple's items begin.
    pub tuple_items: u64,
    pub keys: KeyTable,
    /// `PyGenObject.gi_code` and `gi_iframe`, and in that the function and the first local variable.
    pub gi_code: u64,
    pub gi_iframe: u64,
    pub f_func: u64,
    pub f_code: u64,
    pub f_localsplus: u64,
    pub co_argcount: u64,
    /// `PyFrameObject.f_frame`.
    pub frame_frame: u64,
    /// `PyBaseExceptionObject.args`.
    pub exception_args: u64,
    /// The rules, tried in this order.
    pub rules: &'static [Rule],
}

/// `PyDictKeysObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub struct KeyTable {
    pub dk_refcnt: usize,
    pub dk_log2_size: usize,
    pub dk_log2_index_bytes: usize,
    pub dk_kind: usize,
    pub dk_usable: usize,
    pub dk_nentries: usize,
    pub dk_indices: usize,
}

/// How objects of some types are told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose rule it is.
    pub types: Types,
    /// What its words mean.
    pub shape: Shape,
    /// Offsets of the words that are set when the object is made, and never again.
    pub stays: &'static [u16],
    /// Offsets of words that an object of this kind may change, but that two objects seldom have in common.
    pub moves: &'static [u16],
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// The type with this exported symbol, and no subclass.
    Symbol(&'static str),
    /// The type, not made by a `class` statement, with this `tp_name`.
    Name(&'static str),
    /// Types with this flag (`Include/object.h`): subclasses too.
    Flag(u64),
    /// All others.
    Any,
}

/// Contents that are more than words at fixed places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing more.
    Words,
    /// `PyLongObject`: the number's size and digits.
    Int,
    /// `PyUnicodeObject`: length, form, and both ends of the characters, where they lie in the object.
    Text,
    /// `PyBytesObject`: length and both ends.
    Octets,
    /// `PyTupleObject`: length and items.
    Tuple,
    /// `PyDictObject`: its key table and its version.
    Dict,
    /// `PyGenObject`, and coroutines: function and first argument.
    Generator,
    /// `PyFrameObject`: function and code of the frame that it stands for.
    Frame,
    /// `PyBaseExceptionObject`: the first arguments. The tuple of them is often the one that the last exception had.
    Exception,
    /// All others: the first words behind the type, but for the lists of weak references and the dict.
    Instance,
}
