//! What tells an object from its successor in the same block: the words that its kind's rule names, hashed.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use tracer_common::domain::Domain;

use super::keys::Keys;
use super::types::{Object, Place};
use crate::target::census::pool::{u32_at, u64_at};
use crate::target::layout::Layout;
use crate::target::layout::kinds::{Attributes, Frames, Shape};

/// Bytes of one further read: a small key table, with the first two of its entries where those have no hash.
pub(super) const FOLLOW: usize = 72;

/// Further reads of one object, at most.
pub(super) const FURTHER_READS: usize = 2;

/// Bytes of a text's ends that are compared.
const END: usize = 16;

/// Bytes of memory that holds no object which are compared: item arrays and the like grow behind that, and change in front seldom.
const FIRST: usize = 32;

/// `PyASCIIObject.state` (`Include/cpython/unicodeobject.h`): how wide the characters are, whether they lie in the object, whether all are ASCII. Not whether it is interned.
const STATE_KIND: u32 = 7 << 2;
const STATE_COMPACT: u32 = 1 << 5;
const STATE_ASCII: u32 = 1 << 6;

/// Bytes of a float with its block, and of the block that it gets.
const FLOAT_BLOCK: u64 = 32;

/// Where the rest of an identity lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Further {
    Nothing,
    /// A dict's key table.
    Keys(u64),
    /// The last bytes of a text, a number or a tuple.
    Tail(u64),
    /// The frame that a frame object stands for.
    Frame(u64),
    /// The tuple of an exception's arguments.
    Arguments(u64),
    /// The first local variable of the frame of a generator with this code.
    Local {
        at: u64,
        code: u64,
    },
    /// A generator's code, which says whether it has a first argument; and that.
    Argument {
        code: u64,
        first: u64,
    },
    /// An instance's dict, made of its array of values, which it goes on using.
    InstanceDict {
        dict: u64,
        ma_values: usize,
    },
}

/// An identity in the making.
#[derive(Debug)]
pub(super) struct Portrait {
    stays: DefaultHasher,
    moves: DefaultHasher,
    further: Further,
    owned_bytes: u64,
}

impl Portrait {
    /// The portrait of the object in the block at `block`, as far as the block's head shows it.
    pub(super) fn new(block: u64, head: &[u8], given: u64, object: &Object, layout: &Layout) -> Self {
        let body =
            usize::try_from(object.before).ok().and_then(|before| head.get(before..)).unwrap_or_default();
        let mut this = Self {
            stays: DefaultHasher::new(),
            moves: DefaultHasher::new(),
            further: Further::Nothing,
            owned_bytes: 0,
        };
        this.stays.write_u64(given);
        this.stays.write_u64(object.type_address);
        let more = layout.kinds.head_more;
        for at in object.kind.rule.stays {
            put(&mut this.stays, word(body, more + u64::from(*at)));
        }
        for at in object.kind.rule.moves {
            put(&mut this.moves, word(body, more + u64::from(*at)));
        }
        let view = View { address: block.wrapping_add(object.before), end: block.wrapping_add(given), body };
        this.shape(&view, head, object, layout);
        this
    }

    fn shape(&mut self, view: &View<'_>, head: &[u8], object: &Object, layout: &Layout) {
        let (objects, kinds) = (&layout.objects, &layout.kinds);
        let get = |at: u64| word(view.body, at);
        match object.kind.rule.shape {
            Shape::Words => {}
            Shape::Int => {
                // Digits have four bytes.
                let (count, _) = objects.int_size.digits(get(objects.ob_size).unwrap_or_default());
                self.ends(view, objects.ob_digit, count.saturating_mul(4), usize::MAX);
            }
            Shape::Text => self.text(view, layout),
            Shape::Octets => {
                self.ends(view, objects.bytes_data, get(objects.ob_size).unwrap_or_default(), END);
            }
            Shape::Tuple => {
                let len = get(objects.ob_size).unwrap_or_default().saturating_mul(8);
                self.ends(view, kinds.tuple_items, len, usize::MAX);
            }
            Shape::Dict => self.dict(view, layout),
            Shape::Generator => self.generator(view, layout),
            Shape::Frame => {
                if let Frames::Inside { f_frame, .. } = kinds.frames {
                    self.further = get(f_frame).map_or(Further::Nothing, Further::Frame);
                }
            }
            Shape::Exception => {
                self.further = get(kinds.exception_args).map_or(Further::Nothing, Further::Arguments);
            }
            Shape::Instance => self.instance(view, head, object, layout),
        }
    }

    /// The version, where there is one; else how many items it has, where its values are, and what the table of its keys begins with.
    fn dict(&mut self, view: &View<'_>, layout: &Layout) {
        let kinds = &layout.kinds;
        let get = |at: u64| word(view.body, at);
        put(&mut self.moves, get(kinds.ma_keys));
        match get(kinds.ma_version_tag).and_then(|version| version.checked_shr(kinds.watcher_bits)) {
            Some(version) => self.moves.write_u64(version),
            None => {
                put(&mut self.moves, get(kinds.ma_used));
                put(&mut self.moves, get(kinds.ma_values));
            }
        }
        // A table that it shares with its class is that one's.
        if get(kinds.ma_values) == Some(0) {
            self.further = get(kinds.ma_keys).map_or(Further::Nothing, Further::Keys);
        }
    }

    /// The code, the function where the frame has it, and the first argument.
    fn generator(&mut self, view: &View<'_>, layout: &Layout) {
        let get = |at: u64| word(view.body, at).map(|word| untagged(word, layout));
        match layout.kinds.frames {
            Frames::Objects { gi_frame, gi_code, f_localsplus } => {
                put(&mut self.stays, get(gi_code));
                if let (Some(frame), Some(code)) = (get(gi_frame).filter(|frame| *frame != 0), get(gi_code)) {
                    self.further = Further::Local { at: frame.wrapping_add(f_localsplus), code };
                }
            }
            Frames::Inside { gi_iframe, gi_code, f_func, f_localsplus, .. } => {
                put(&mut self.stays, get(gi_code));
                put(&mut self.moves, get(gi_iframe + f_func));
                if let (Some(code), Some(first)) = (get(gi_code), get(gi_iframe + f_localsplus)) {
                    self.further = argument(code, first, layout);
                }
            }
        }
    }

    /// Length, form and both ends of a string whose characters lie in the object; of another, its length.
    fn text(&mut self, view: &View<'_>, layout: &Layout) {
        let objects = &layout.objects;
        let state = usize::try_from(objects.unicode_state).ok().and_then(|at| u32_at(view.body, at));
        let state = state.unwrap_or_default() & (STATE_KIND | STATE_COMPACT | STATE_ASCII);
        self.stays.write_u32(state);
        if state & STATE_COMPACT == 0 {
            return;
        }
        let width = u64::from((state & STATE_KIND) >> 2);
        let data = if state & STATE_ASCII != 0 { objects.unicode_ascii_data } else { objects.unicode_data };
        let len = word(view.body, objects.unicode_length).unwrap_or_default().saturating_mul(width);
        self.ends(view, data, len, END);
    }

    /// `len` bytes of content from `at` on: the first `most` of them, and the last ones if they lie outside of the head.
    fn ends(&mut self, view: &View<'_>, at: u64, len: u64, most: usize) {
        let all = usize::try_from(at).ok().and_then(|at| view.body.get(at..)).unwrap_or_default();
        let len_here = usize::try_from(len).unwrap_or(usize::MAX);
        let here = &all[..len_here.min(all.len())];
        self.stays.write(&here[..here.len().min(most)]);
        if len_here <= all.len() {
            if most < here.len() {
                self.stays.write(&here[here.len() - most..]);
            }
            return;
        }
        // A length that reaches out of the block is nonsense, or was written in this moment.
        let end = view.address.checked_add(at).and_then(|start| start.checked_add(len));
        if let Some(end) = end.filter(|end| *end <= view.end) {
            self.further = Further::Tail(end.wrapping_sub(FOLLOW as u64));
        }
    }

    /// An instance of a class: where its attributes are, or the first two of them.
    fn instance(&mut self, view: &View<'_>, head: &[u8], object: &Object, layout: &Layout) {
        let get = |at: u64| word(view.body, at);
        match object.kind.attributes {
            Some(Place::Before) => {
                self.values_before(head, layout);
                return;
            }
            Some(Place::Inside(at)) => {
                // `struct _dictvalues`, Include/internal/pycore_dict.h: capacity, size, embedded, valid, then the values.
                let is_valid = get(at).is_some_and(|head| head >> 24 & 0xff == 1);
                // Otherwise the dict has them, to which the word before the collector's head leads.
                let values = if is_valid { [get(at + 8), get(at + 16)] } else { [word(head, 8), None] };
                for value in values {
                    put(&mut self.moves, value);
                }
                return;
            }
            // It gets its dict with its first attribute, and keeps it.
            Some(Place::Dict(at)) => put(&mut self.moves, get(at)),
            None => {}
        }
        let more = layout.kinds.head_more;
        for at in [16 + more, 24 + more].into_iter().filter(|at| !object.kind.hooks.contains(at)) {
            put(&mut self.moves, get(at));
        }
    }

    /// The array of values that an instance got when it was made. `__dict__` makes a dict of it, which goes on using that array (`PyObject_GenericGetDict`,
    /// `make_dict_from_instance_attributes`), so that it is the same before and after.
    fn values_before(&mut self, head: &[u8], layout: &Layout) {
        // `Include/internal/pycore_object.h`: `_PyObject_ValuesPointer` and `_PyObject_ManagedDictPointer` of 3.11, four and three words before the object; `_PyObject_DictOrValuesPointer` of 3.12, three
        // words before it, one less than the address for values.
        let (first, second) = (word(head, 0).unwrap_or_default(), word(head, 8).unwrap_or_default());
        let (values, dict) = match layout.kinds.attributes {
            Attributes::Tagged if second & 1 != 0 => (second.wrapping_add(1), 0),
            Attributes::TwoWords => (first, second),
            Attributes::Tagged | Attributes::Inline | Attributes::Dict => (0, second),
        };
        if values != 0 || dict == 0 {
            self.moves.write_u64(values);
        } else if let Ok(ma_values) = usize::try_from(layout.kinds.ma_values - 8) {
            self.further = Further::InstanceDict { dict: dict.wrapping_add(8), ma_values };
        }
    }

    /// The address of [`FOLLOW`] bytes that belong to it.
    pub(super) const fn wants(&self) -> Option<u64> {
        match self.further {
            Further::Nothing => None,
            Further::Keys(at) | Further::Tail(at) | Further::Frame(at) | Further::Arguments(at) => Some(at),
            Further::Local { at, .. } | Further::Argument { code: at, .. } => Some(at),
            Further::InstanceDict { dict: at, .. } => Some(at),
        }
    }

    /// Adds what was wanted, if that could be read; it may lead further.
    pub(super) fn follow(&mut self, bytes: Option<&[u8]>, layout: &Layout) {
        let kinds = &layout.kinds;
        let bytes = bytes.unwrap_or_default();
        match std::mem::replace(&mut self.further, Further::Nothing) {
            Further::Nothing => {}
            Further::Keys(_) => {
                self.owned_bytes = Keys::parse(bytes, &kinds.keys)
                    .map_or(0, |keys| keys.owned_bytes(layout.pages.is_some()));
                // Without a version: places, and the first two entries of a small table.
                if kinds.watcher_bits >= u64::BITS {
                    self.moves.write(bytes.get(kinds.keys.dk_nentries..).unwrap_or_default());
                }
            }
            Further::Tail(_) => self.stays.write(bytes),
            Further::Frame(_) => {
                if let Frames::Inside { f_func, f_code, .. } = kinds.frames {
                    for at in [f_func, f_code] {
                        put(&mut self.moves, word(bytes, at).map(|word| untagged(word, layout)));
                    }
                }
            }
            Further::Arguments(_) => {
                let len = word(bytes, layout.objects.ob_size);
                put(&mut self.moves, len);
                let items = [kinds.tuple_items, kinds.tuple_items + 8];
                for at in items.into_iter().take(len.and_then(|len| usize::try_from(len).ok()).unwrap_or(0)) {
                    put(&mut self.moves, word(bytes, at));
                }
            }
            Further::Local { code, .. } => {
                if let Some(first) = u64_at(bytes, 0) {
                    self.further = argument(code, first, layout);
                }
            }
            // Without an argument the first local variable is one that changes.
            Further::Argument { first, .. } => {
                if u32_at(bytes, 0).is_some_and(|count| count > 0) {
                    self.moves.write_u64(first);
                }
            }
            Further::InstanceDict { dict, ma_values } => {
                let values = u64_at(bytes, ma_values).filter(|values| *values != 0);
                self.moves.write_u64(values.unwrap_or(dict));
            }
        }
    }

    /// The identity, and the bytes that it owns.
    pub(super) fn finish(&self) -> ([u64; 2], u64) {
        ([self.stays.finish(), self.moves.finish()], self.owned_bytes)
    }
}

/// The first argument is wanted, if the code at `code` has one.
const fn argument(code: u64, first: u64, layout: &Layout) -> Further {
    Further::Argument { code: code.wrapping_add(layout.kinds.co_argcount), first }
}

/// A pointer of a frame without the tags of a `_PyStackRef`.
const fn untagged(word: u64, layout: &Layout) -> u64 {
    word & !(layout.walk.code_tags as u64)
}

/// An object in its block.
struct View<'head> {
    address: u64,
    /// Where its block ends.
    end: u64,
    /// What was read of it.
    body: &'head [u8],
}

/// The identity of memory that holds no object.
pub(super) fn of_memory(head: &[u8], given: u64) -> [u64; 2] {
    let (mut stays, mut moves) = (DefaultHasher::new(), DefaultHasher::new());
    stays.write_u64(given);
    moves.write(&head[..head.len().min(FIRST)]);
    [stays.finish(), moves.finish()]
}

/// A float in the freelist: no reference, and in the place of its type the next such float (`float_dealloc`, `Objects/floatobject.c`), so that nothing shows that it is an object.
pub(super) fn is_free_float(head: &[u8], given: u64, domain: Option<Domain>, layout: &Layout) -> bool {
    let next = word(head, layout.objects.ob_type);
    // mimalloc's classes of so small blocks are pymalloc's.
    domain == Some(Domain::Object)
        && given == FLOAT_BLOCK + layout.kinds.head_more
        && layout.objects.references(|at| word(head, at)) == Some(0)
        && next.is_some_and(|next| next.is_multiple_of(16))
}

fn word(bytes: &[u8], at: u64) -> Option<u64> {
    u64_at(bytes, usize::try_from(at).ok()?)
}

/// A word that lies behind the block's end is told from a zero.
fn put(hasher: &mut DefaultHasher, word: Option<u64>) {
    hasher.write_u64(word.unwrap_or(u64::MAX - 1));
}
