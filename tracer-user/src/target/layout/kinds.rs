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
    /// `PyDictObject.ma_keys`, and the other words of a dict: how many items it has, its version and its values.
    pub ma_used: u64,
    pub ma_version_tag: u64,
    /// Lowest bits of `ma_version_tag` that are not the version; 64 where all of them are not, and no word of a dict counts its changes.
    pub watcher_bits: u32,
    pub ma_keys: u64,
    pub ma_values: u64,
    /// `PyListObject`, `PyTupleObject`: where a tuple's items begin.
    pub tuple_items: u64,
    pub keys: KeyTable,
    pub frames: Frames,
    pub co_argcount: u64,
    pub attributes: Attributes,
    /// `PyBaseExceptionObject.args`.
    pub exception_args: u64,
    /// Bytes by which the words of the rules lie further behind, because an object's head is longer.
    pub head_more: u64,
    /// The rules, tried in this order: first a version's own, then those that it has in common with its neighbours.
    pub rules: &'static [&'static [Rule]],
}

/// Where the function, the code and the first local variable of a generator are, and what a frame object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub enum Frames {
    /// Frames are objects (up to 3.10): `PyGenObject.gi_frame` leads to one, and is 0 when the generator has ended; its code has a word of its own.
    Objects { gi_frame: u64, gi_code: u64, f_localsplus: u64 },
    /// A generator has its frame within it, and a frame object leads to one (`PyFrameObject.f_frame`); the code is the generator's (3.11) or its frame's (from 3.12 on).
    Inside { gi_iframe: u64, gi_code: u64, f_func: u64, f_code: u64, f_localsplus: u64, f_frame: u64 },
}

/// Where the attributes of an instance of a class made by a `class` statement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// In a dict, which a word of the instance leads to (`tp_dictoffset`, up to 3.10).
    Dict,
    /// In an array, or in a dict made of it, which goes on using the array: two words at the beginning of the block (3.11).
    TwoWords,
    /// The same with one word, whose lowest bit says that it is the array (3.12).
    Tagged,
    /// In the instance itself, behind `tp_basicsize`, as long as the head of that part says so (`Py_TPFLAGS_INLINE_VALUES`, from 3.13 on).
    Inline,
}

impl Attributes {
    /// Flags of the types whose instances have two more words before the collector's head: `Py_TPFLAGS_MANAGED_DICT`, and from 3.12 on `Py_TPFLAGS_MANAGED_WEAKREF`
    /// (Include/object.h).
    #[must_use]
    pub const fn pre_header_flags(self) -> u64 {
        match self {
            Self::Dict => 0,
            Self::TwoWords => 1 << 4,
            Self::Tagged | Self::Inline => 1 << 4 | 1 << 3,
        }
    }
}

/// `PyDictKeysObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub struct KeyTable {
    pub dk_refcnt: usize,
    pub size: KeySize,
    pub dk_usable: usize,
    pub dk_nentries: usize,
    pub dk_indices: usize,
}

/// How a key table says how large it is, and of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the offset of the CPython field that it is named after")]
pub enum KeySize {
    /// `dk_size` is the number of places; all entries have a hash, and the kind is the function at `dk_lookup` (up to 3.10).
    Places { dk_size: usize, dk_lookup: usize },
    /// A byte each: logarithms, and the kind (from 3.11 on).
    Log2 { dk_log2_size: usize, dk_log2_index_bytes: usize, dk_kind: usize },
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
