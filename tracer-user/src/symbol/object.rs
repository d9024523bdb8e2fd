//! Types of the blocks that survived: an object's type is read from outside, and only believed when it is a type.

use std::collections::HashMap;

use tracer_common::walk::Fault;

use crate::symbol::code::read_str;
use crate::target::layout::{Layout, Objects};
use crate::target::memory::Bytes;

/// `Py_TPFLAGS_HEAPTYPE`, `Include/object.h`.
const HEAP_TYPE: u64 = 1 << 9;
/// `Py_TPFLAGS_LONG_SUBCLASS`.
const LONG_SUBCLASS: u64 = 1 << 24;
/// `Py_TPFLAGS_TYPE_SUBCLASS`: set in the type of every type.
const TYPE_SUBCLASS: u64 = 1 << 31;

/// Bytes read of each block: the head of an object behind the longest thing that stands before one.
const HEAD: usize = 48;

/// The longest type name that is believed, in bytes.
const NAME: usize = 256;

/// Types that are remembered, positive and negative answers together.
const CACHE_LIMIT: usize = 1 << 20;

/// How far up the types of types are followed; `type` is its own, so real ones never end.
const METATYPES: usize = 3;

/// Names that are kept; a program that makes more classes than this gets no new ones.
const NAMES_LIMIT: usize = 1 << 16;

/// Digits of an `int` whose value is read: values to 2^120.
const DIGITS: u64 = 4;

/// A name of [`TypeNames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u32);

/// Names of the types of one process.
#[derive(Debug)]
pub struct TypeNames<M> {
    memory: M,
    objects: Objects,
    names: Vec<String>,
    by_name: HashMap<String, TypeId>,
    by_type: HashMap<u64, Option<TypeId>>,
}

impl<M: Bytes> TypeNames<M> {
    /// Types of the process that owns this memory.
    #[must_use]
    pub fn new(memory: M, layout: &Layout) -> Self {
        Self {
            memory,
            objects: layout.objects,
            names: Vec::new(),
            by_name: HashMap::new(),
            by_type: HashMap::new(),
        }
    }

    /// The types of blocks, given as (address, size in bytes as asked for); with a size that is too large, a small block that
    /// holds no object gets the type of its neighbour. `None` for a block that holds no live object, as item arrays and key
    /// tables do, or that cannot be read.
    pub fn types(&mut self, blocks: &[(u64, u64)]) -> Vec<Option<TypeId>> {
        let addresses: Vec<u64> = blocks.iter().map(|(address, _)| *address).collect();
        let mut heads = Vec::new();
        let readable = self.memory.read_many(&addresses, HEAD, &mut heads);
        let heads = heads.as_chunks::<HEAD>().0;
        let each = blocks.iter().zip(heads).zip(readable);
        each.map(|(((address, size), head), readable)| {
            let mut head = *head;
            let inside = usize::try_from(*size).unwrap_or(HEAD).min(HEAD);
            // A small block at the very end of a mapping: what lies behind it is not its own.
            if !readable && self.memory.read(*address, &mut head[..inside]).is_err() {
                return None;
            }
            self.type_of_head(&head[..inside])
        })
        .collect()
    }

    /// The name of a type that this same table has given out.
    #[must_use]
    pub fn name(&self, id: TypeId) -> &str {
        self.names.get(id.0 as usize).map_or("", String::as_str)
    }

    /// Where the object begins is not told by the block: plain, behind a `PyGC_Head`, or behind that and a managed dict.
    fn type_of_head(&mut self, head: &[u8]) -> Option<TypeId> {
        let Objects { ob_type, gc_head, pre_header, .. } = self.objects;
        [0, gc_head, pre_header].into_iter().find_map(|object| {
            // 0 references, or the address of another object: it lies in a free list, and is no survivor of this type. An array of objects has more than any object.
            self.objects.references(|at| word(head, object + at)).filter(|references| *references != 0)?;
            self.name_of_type(word(head, object + ob_type)?)
        })
    }

    fn name_of_type(&mut self, address: u64) -> Option<TypeId> {
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        if let Some(known) = self.by_type.get(&address) {
            return *known;
        }
        let id = self.read_type(address).ok().and_then(|name| self.intern(name));
        if self.by_type.len() < CACHE_LIMIT {
            self.by_type.insert(address, id);
        }
        id
    }

    /// The name of what is at an address, if that is a type. Its own type must be a type of types, and that one's type too, and that one's:
    /// any stale block holds pointers to objects, objects have types, and one flag alone may be a chance bit of something else.
    fn read_type(&self, address: u64) -> Result<String, Fault> {
        let objects = &self.objects;
        let word =
            |address: u64, offset: u64| self.memory.read_u64(address.checked_add(offset).ok_or(Fault)?);
        let mut metatype = address;
        for _ in 0..METATYPES {
            metatype = word(metatype, objects.ob_type)?;
            if !metatype.is_multiple_of(8) || word(metatype, objects.tp_flags)? & TYPE_SUBCLASS == 0 {
                return Err(Fault);
            }
        }
        let name = self.c_string(word(address, objects.tp_name)?)?;
        // A class made by a `class` statement has its bare name there and knows its qualified one; one made by
        // C code has "module.name" there.
        if word(address, objects.tp_flags)? & HEAP_TYPE != 0 && !name.contains('.') {
            let qualified = word(address, objects.ht_qualname);
            let qualified = qualified.and_then(|text| read_str(&self.memory, objects, text, NAME as u64));
            return Ok(qualified.map_or(name, |name| printable(&name)));
        }
        Ok(name)
    }

    fn c_string(&self, address: u64) -> Result<String, Fault> {
        let mut text = Vec::new();
        while text.len() <= NAME {
            let at = address.checked_add(text.len() as u64).ok_or(Fault)?;
            // Pieces end where 32 bytes do, so that no piece reaches into a page that need not be there.
            let mut piece = [0; 32];
            let piece = &mut piece[..32 - (at % 32) as usize];
            self.memory.read(at, piece)?;
            let end = piece.iter().position(|byte| *byte == 0);
            text.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            if end.is_some() {
                break;
            }
        }
        text.truncate(NAME);
        if text.is_empty() { Err(Fault) } else { Ok(printable(&String::from_utf8_lossy(&text))) }
    }

    fn intern(&mut self, name: String) -> Option<TypeId> {
        if let Some(id) = self.by_name.get(&name) {
            return Some(*id);
        }
        let id = TypeId(u32::try_from(self.names.len()).ok().filter(|id| (*id as usize) < NAMES_LIMIT)?);
        self.names.push(name.clone());
        self.by_name.insert(name, id);
        Some(id)
    }

    /// The value of the `int` at an address (of the object, which is its block's: ints are not collected); `None` if it is no `int`, or
    /// its value has more than 120 bits.
    #[must_use]
    pub fn int_value(&self, address: u64) -> Option<i128> {
        let objects = &self.objects;
        let word = |address: u64, offset: u64| self.memory.read_u64(address.checked_add(offset)?).ok();
        let kind = word(address, objects.ob_type)?;
        if word(kind, objects.tp_flags)? & LONG_SUBCLASS == 0 {
            return None;
        }
        let (count, is_negative) = objects.int_size.digits(word(address, objects.ob_size)?);
        if count > DIGITS {
            return None;
        }
        let mut magnitude = 0i128;
        for index in (0..count).rev() {
            let mut digit = [0; 4];
            self.memory.read(address.checked_add(objects.ob_digit + 4 * index)?, &mut digit).ok()?;
            magnitude = magnitude << objects.digit_bits | i128::from(u32::from_le_bytes(digit));
        }
        Some(if is_negative { -magnitude } else { magnitude })
    }
}

/// The name with U+FFFD for control characters: a class may be called anything.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn word(head: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    Some(u64::from_le_bytes(head.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
