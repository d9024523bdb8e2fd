//! What tells an object from its successor in the same block: the words that its kind's rule names, hashed.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use tracer_common::domain::Domain;

use super::keys::Keys;
use super::types::Object;
use crate::target::census::pool::{u32_at, u64_at};
use crate::target::layout::Layout;
use crate::target::layout::kinds::Shape;

/// Bytes of one further read.
pub(super) const FOLLOW: usize = 40;

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
}

impl Portrait {
    /// The portrait of the object in the block at `block`, as far as the block's head shows it.
    pub(super) fn new(block: u64, head: &[u8], given: u64, object: &Object, layout: &Layout) -> Self {
        let body =
            usize::try_from(object.before).ok().and_then(|before| head.get(before..)).unwrap_or_default();
        let mut this =
            Self { stays: DefaultHasher::new(), moves: DefaultHasher::new(), further: Further::Nothing };
        this.stays.write_u64(given);
        this.stays.write_u64(object.type_address);
        for at in object.kind.rule.stays {
            put(&mut this.stays, word(body, u64::from(*at)));
        }
        for at in object.kind.rule.moves {
            put(&mut this.moves, word(body, u64::from(*at)));
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
                // The sign of `ob_size` is the number's; digits have four bytes.
                let count = get(objects.ob_size).map_or(0, |size| size.cast_signed().unsigned_abs());
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
            Shape::Dict => {
                put(&mut self.moves, get(kinds.ma_version_tag));
                put(&mut self.moves, get(kinds.ma_keys));
                self.further = get(kinds.ma_keys).map_or(Further::Nothing, Further::Keys);
            }
            Shape::Generator => {
                put(&mut self.moves, get(kinds.gi_iframe + kinds.f_func));
                let first = get(kinds.gi_iframe + kinds.f_localsplus);
                if let (Some(code), Some(first)) = (get(kinds.gi_code), first) {
                    self.further = Further::Argument { code: code.wrapping_add(kinds.co_argcount), first };
                }
            }
            Shape::Frame => self.further = get(kinds.frame_frame).map_or(Further::Nothing, Further::Frame),
            Shape::Exception => {
                self.further = get(kinds.exception_args).map_or(Further::Nothing, Further::Arguments);
            }
            Shape::Instance if object.kind.managed => self.instance(head, layout),
            Shape::Instance => {
                for at in [16, 24].into_iter().filter(|at| !object.kind.hooks.contains(at)) {
                    put(&mut self.moves, get(at));
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

    /// The array of values that an instance got when it was made. `__dict__` makes a dict of it, which goes on using that array (`PyObject_GenericGetDict`,
    /// `make_dict_from_instance_attributes`), so that it is the same before and after.
    fn instance(&mut self, head: &[u8], layout: &Layout) {
        // `_PyObject_ValuesPointer` and `_PyObject_ManagedDictPointer`, `Include/internal/pycore_object.h`: four and three words before the object.
        let (values, dict) = (word(head, 0).unwrap_or_default(), word(head, 8).unwrap_or_default());
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
            Further::Argument { code: at, .. } | Further::InstanceDict { dict: at, .. } => Some(at),
        }
    }

    /// The identity, and the bytes that it owns, with what was wanted, if that could be read.
    pub(super) fn finish(mut self, bytes: Option<&[u8]>, layout: &Layout) -> ([u64; 2], u64) {
        let kinds = &layout.kinds;
        let mut owned = 0;
        let bytes = bytes.unwrap_or_default();
        match self.further {
            Further::Nothing => {}
            Further::Keys(_) => owned = Keys::parse(bytes, &kinds.keys).map_or(0, Keys::owned_bytes),
            Further::Tail(_) => self.stays.write(bytes),
            Further::Frame(_) => {
                put(&mut self.moves, word(bytes, kinds.f_func));
                put(&mut self.moves, word(bytes, kinds.f_code));
            }
            Further::Arguments(_) => {
                let len = word(bytes, layout.objects.ob_size);
                put(&mut self.moves, len);
                let items = [kinds.tuple_items, kinds.tuple_items + 8];
                for at in items.into_iter().take(len.and_then(|len| usize::try_from(len).ok()).unwrap_or(0)) {
                    put(&mut self.moves, word(bytes, at));
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
        ([self.stays.finish(), self.moves.finish()], owned)
    }
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
pub(super) fn is_free_float(head: &[u8], given: u64, domain: Option<Domain>) -> bool {
    let next = word(head, 8);
    domain == Some(Domain::Object)
        && given == FLOAT_BLOCK
        && word(head, 0) == Some(0)
        && next.is_some_and(|next| next.is_multiple_of(16))
}

fn word(bytes: &[u8], at: u64) -> Option<u64> {
    u64_at(bytes, usize::try_from(at).ok()?)
}

/// A word that lies behind the block's end is told from a zero.
fn put(hasher: &mut DefaultHasher, word: Option<u64>) {
    hasher.write_u64(word.unwrap_or(u64::MAX - 1));
}
