//! Which words of the target's memory are types, and what the objects of each are made of.
//!
//! A word is believed to be a type when the type of its type, and that one's, are types of types (as `symbol::object` does it), and when the object stands as far behind its block's beginning as that type says.
//! A type may die and another take its place, so what is known of one is compared again in each look.

use std::collections::{HashMap, HashSet};

use tracer_common::walk::Fault;

use crate::target::census::pool::u64_at;
use crate::target::layout::Objects;
use crate::target::layout::kinds::{Attributes, Kinds, Rule, Shape, Types as Whom};
use crate::target::memory::Bytes;

/// `Include/object.h`.
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_WEAKREF: u64 = 1 << 3;
const MANAGED_DICT: u64 = 1 << 4;
const HEAP_TYPE: u64 = 1 << 9;
const READY: u64 = 1 << 12;
const HAVE_GC: u64 = 1 << 14;
const TYPE_SUBCLASS: u64 = 1 << 31;
/// The flags that choose a rule, or say where an object begins; others change while a type is used.
const LASTING: u64 =
    INLINE_VALUES | MANAGED_WEAKREF | MANAGED_DICT | HEAP_TYPE | READY | HAVE_GC | 0xff << 24;

/// Where user space can have a type.
const ADDRESSES: std::ops::Range<u64> = 1 << 16..1 << 47;

/// Types that are remembered; with more, all are forgotten, and those in use learnt again.
const TYPES_LIMIT: usize = 1 << 16;

/// Bytes of a type's name that are compared with the rules'.
const NAME: usize = 32;

/// How far up the types of types are followed.
const METATYPES: usize = 3;

/// What the objects of a type are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Bytes of the block before the object.
    before: u64,
    pub(super) rule: &'static Rule,
    /// Where its instances keep their attributes, if that is as classes of this version do.
    pub(super) attributes: Option<Place>,
    /// Words that attributes' dict and weak references are hung in, by their offsets; 0 for none.
    pub(super) hooks: [u64; 2],
}

/// Where the attributes of an instance are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a dict, to which the word at this offset leads.
    Dict(u64),
    /// Where the words before the object say ([`Attributes::TwoWords`], [`Attributes::Tagged`]).
    Before,
    /// In the instance, from this offset on.
    Inside(u64),
}

/// An object found in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) before: u64,
    pub(super) kind: Kind,
    pub(super) type_address: u64,
    pub(super) references: u64,
    /// It has no count, but what may be the address of the next in its freelist.
    pub(super) link: Option<u64>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Type of the type, name, size, lasting flags, hooks.
    signature: [u64; 6],
    kind: Kind,
}

/// The types of a process.
#[derive(Clone, Debug)]
pub(super) struct Types {
    rules: &'static [&'static [Rule]],
    attributes: Attributes,
    by_symbol: HashMap<u64, &'static Rule>,
    known: HashMap<u64, Known>,
    /// Those of `known` that were compared in this look.
    fresh: HashSet<u64>,
    /// Words that are no types in this look.
    refused: HashSet<u64>,
    /// Types of types in this look, and what was taken for one.
    metatypes: HashMap<u64, bool>,
}

impl Types {
    /// `address` finds an exported symbol in the process.
    pub(super) fn new(kinds: &Kinds, address: impl Fn(&str) -> Option<u64>) -> Self {
        // Of two rules for one type, the first is a version's own.
        let by_symbol = kinds.rules.iter().copied().flatten().rev().filter_map(|rule| match rule.types {
            Whom::Symbol(name) => Some((address(name)?, rule)),
            _ => None,
        });
        Self {
            rules: kinds.rules,
            attributes: kinds.attributes,
            by_symbol: by_symbol.collect(),
            known: HashMap::new(),
            fresh: HashSet::new(),
            refused: HashSet::new(),
            metatypes: HashMap::new(),
        }
    }

    /// A new look begins: what was known may have changed.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.refused.clear();
        self.metatypes.clear();
        if self.known.len() > TYPES_LIMIT {
            self.known.clear();
        }
    }

    /// Finds the types among the words of some heads. Words of known types are compared first; a head that has one of them has no other.
    pub(super) fn learn<'heads>(
        &mut self,
        memory: &impl Bytes,
        heads: impl Iterator<Item = &'heads [u8]>,
        objects: &Objects,
        kinds: &Kinds,
    ) {
        let heads: Vec<&[u8]> = heads.collect();
        let words = |heads: &[&[u8]]| -> Vec<u64> {
            heads.iter().flat_map(|head| type_words(head, objects).map(|word| word.address)).collect()
        };
        let known = words(&heads).into_iter().filter(|word| self.known.contains_key(word)).collect();
        self.compare(memory, known, objects, kinds);
        let open: Vec<&[u8]> =
            heads.into_iter().filter(|head| self.object(head, objects).is_none()).collect();
        self.compare(memory, words(&open), objects, kinds);
    }

    /// The object in a block, by its head; its type is among those of [`Types::learn`].
    pub(super) fn object(&self, head: &[u8], objects: &Objects) -> Option<Object> {
        type_words(head, objects).find_map(|TypeWord { before, references, link, address }| {
            let kind = self.fresh.contains(&address).then(|| self.known.get(&address))??.kind;
            (kind.before == before).then_some(Object {
                before,
                kind,
                type_address: address,
                references,
                link,
            })
        })
    }

    /// Reads what may be types, and keeps what is one.
    fn compare(&mut self, memory: &impl Bytes, mut words: Vec<u64>, objects: &Objects, kinds: &Kinds) {
        words.retain(|word| !self.fresh.contains(word) && !self.refused.contains(word));
        words.sort_unstable();
        words.dedup();
        let mut bytes = Vec::new();
        let readable = memory.read_many(&words, kinds.type_len, &mut bytes);
        for ((word, bytes), readable) in words.iter().zip(bytes.chunks_exact(kinds.type_len)).zip(readable) {
            let signature = if readable { signature(bytes, objects, kinds) } else { None };
            let Some(signature) = signature.filter(|found| self.is_metatype(memory, found[0], objects))
            else {
                self.known.remove(word);
                self.refused.insert(*word);
                continue;
            };
            if self.known.get(word).is_none_or(|known| known.signature != signature) {
                let kind = self.kind(memory, *word, &signature, objects);
                self.known.insert(*word, Known { signature, kind });
            }
            self.fresh.insert(*word);
        }
    }

    fn is_metatype(&mut self, memory: &impl Bytes, address: u64, objects: &Objects) -> bool {
        if let Some(known) = self.metatypes.get(&address) {
            return *known;
        }
        let is = is_metatype(memory, address, objects) == Ok(true);
        self.metatypes.insert(address, is);
        is
    }

    fn kind(&self, memory: &impl Bytes, address: u64, signature: &[u64; 6], objects: &Objects) -> Kind {
        let [_, name, size, flags, hooks @ ..] = *signature;
        let name = name_of(memory, name);
        let named = |wanted: &str| {
            // A class of a program may be called anything; those of C modules say their module.
            name.strip_suffix(b"\0") == Some(wanted.as_bytes())
                && (wanted.contains('.') || flags & HEAP_TYPE == 0)
        };
        let rule = self.by_symbol.get(&address).copied().or_else(|| {
            self.rules.iter().copied().flatten().find(|rule| match rule.types {
                Whom::Symbol(_) => false,
                Whom::Name(wanted) => named(wanted),
                Whom::Flag(flag) => flags & flag != 0,
                Whom::Any => true,
            })
        });
        // `_PyType_PreHeaderSize` and the managed dict of 3.11 (`Include/internal/pycore_object.h`).
        let of_collector = if flags & HAVE_GC != 0 { objects.gc_head } else { 0 };
        let has_more = flags & self.attributes.pre_header_flags() != 0;
        let before = of_collector + if has_more { objects.pre_header - objects.gc_head } else { 0 };
        let attributes = match self.attributes {
            Attributes::Dict => (1..1 << 16).contains(&hooks[0]).then_some(Place::Dict(hooks[0])),
            _ if flags & MANAGED_DICT == 0 => None,
            Attributes::Inline if flags & INLINE_VALUES != 0 => Some(Place::Inside(size)),
            Attributes::TwoWords | Attributes::Tagged | Attributes::Inline => Some(Place::Before),
        };
        const ANY: &Rule = &Rule { types: Whom::Any, shape: Shape::Instance, stays: &[], moves: &[] };
        Kind { before, rule: rule.unwrap_or(ANY), attributes, hooks }
    }
}

/// A place where an object can begin in a block.
struct TypeWord {
    before: u64,
    references: u64,
    link: Option<u64>,
    /// The word that would be its type.
    address: u64,
}

/// The places where an object can begin in a block.
fn type_words(head: &[u8], objects: &Objects) -> impl Iterator<Item = TypeWord> {
    let Objects { ob_refcnt, ob_type, gc_head, pre_header, .. } = *objects;
    [0, gc_head, pre_header].into_iter().filter_map(move |before| {
        let word = |at: u64| u64_at(head, usize::try_from(before + at).ok()?);
        let (count, address) = (word(ob_refcnt)?, word(ob_type)?);
        let (references, link) = match objects.references(word) {
            Some(references) => (references, None),
            None => (0, Some(objects.free_link(count)?)),
        };
        let sound = address.is_multiple_of(8) && ADDRESSES.contains(&address);
        sound.then_some(TypeWord { before, references, link, address })
    })
}

/// What is compared of a type; `None` for what cannot be one.
fn signature(bytes: &[u8], objects: &Objects, kinds: &Kinds) -> Option<[u64; 6]> {
    let word = |at: u64| u64_at(bytes, usize::try_from(at).ok()?);
    let flags = word(objects.tp_flags)?;
    let size = word(kinds.tp_basicsize)?;
    let sound = flags & READY != 0 && (16..1 << 20).contains(&size);
    let hooks = [word(kinds.tp_dictoffset)?, word(kinds.tp_weaklistoffset)?];
    let [dict, weak] = hooks;
    sound.then_some([word(objects.ob_type)?, word(objects.tp_name)?, size, flags & LASTING, dict, weak])
}

fn is_metatype(memory: &impl Bytes, address: u64, objects: &Objects) -> Result<bool, Fault> {
    let word = |address: u64, offset: u64| memory.read_u64(address.checked_add(offset).ok_or(Fault)?);
    let mut metatype = address;
    for _ in 1..METATYPES {
        if !metatype.is_multiple_of(8) || word(metatype, objects.tp_flags)? & TYPE_SUBCLASS == 0 {
            return Ok(false);
        }
        metatype = word(metatype, objects.ob_type)?;
    }
    Ok(metatype.is_multiple_of(8) && word(metatype, objects.tp_flags)? & TYPE_SUBCLASS != 0)
}

/// The name at an address with its zero byte; as much of it as is compared.
fn name_of(memory: &impl Bytes, address: u64) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() < NAME {
        let Some(at) = address.checked_add(name.len() as u64) else { break };
        // Pieces end where 32 bytes do, so that no piece reaches into a page that need not be there.
        let mut piece = [0; 32];
        let piece = &mut piece[..32 - (at % 32) as usize];
        if memory.read(at, piece).is_err() {
            break;
        }
        let end = piece.iter().position(|byte| *byte == 0);
        name.extend_from_slice(&piece[..end.map_or(piece.len(), |end| end + 1)]);
        if end.is_some() {
            break;
        }
    }
    name
}
