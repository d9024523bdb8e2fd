//! Names of Python frames: function, file and line, read from the code object while it lives.
//!
//! A frame is an address and a fingerprint of what stood there when it was captured. The fingerprint is taken again around the
//! reading of the names: another value means that the address has a new tenant, and then there is no name rather than a wrong one.

use std::collections::HashMap;

use tracer_common::frame::{PyFrame, fingerprint, with_text};
use tracer_common::layout::PyLayout;
use tracer_common::limits::{CODE_CHUNK, TEXT_CHUNK};
use tracer_common::walk::Fault;

use crate::symbol::lines::line_of;
use crate::symbol::{Frame, FrameKind};
use crate::target::layout::{Layout, Objects};
use crate::target::memory::{Bytes, text_words};

/// The longest name that is read, in characters; the rest of a longer one is left out.
const CHARACTERS: u64 = 4096;

/// The longest line table that is read, in bytes: 30 times that of the largest module of the standard library.
const TABLE_LIMIT: u64 = 4 << 20;

/// Bytes of names and line tables that are kept; past it, code objects are read again each time.
const CACHE_LIMIT: usize = 256 << 20;

/// A live object has at least one reference. A freed block has the allocator's link there, an address or 0.
const MOST_REFERENCES: u64 = 1 << 40;

/// What stands for the function of a code object that had died.
pub const GONE: &str = "<code object gone>";

/// A frame with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The frame.
    pub frame: Frame,
    /// The code object had died before its names could be read.
    pub gone: bool,
    /// The frame stands at the instruction that suspends a generator: no evaluator runs it.
    pub suspended: bool,
}

/// What is kept of a code object.
#[derive(Debug)]
struct Code {
    function: String,
    file: String,
    first_line: u32,
    table: Vec<u8>,
}

/// Names of the code objects of one process. What has been read once stays right when the code object dies.
#[derive(Debug)]
pub struct CodeNames<M> {
    memory: M,
    walk: PyLayout,
    objects: Objects,
    /// The type object `code`, once one was seen.
    code_type: Option<u64>,
    known: HashMap<(u64, u64), Code>,
    kept_bytes: usize,
}

impl<M: Bytes> CodeNames<M> {
    /// Names of the process that owns this memory.
    #[must_use]
    pub fn new(memory: M, layout: &Layout) -> Self {
        Self {
            memory,
            walk: layout.walk,
            objects: layout.objects,
            code_type: None,
            known: HashMap::new(),
            kept_bytes: 0,
        }
    }

    /// The names of a frame. A frame whose code could not be read when it was captured ([`PyFrame::FAULTED`]) gets the names of what
    /// stands at its address now: its page was cold, so the code had not been replaced a moment before.
    pub fn name(&mut self, frame: &PyFrame) -> Named {
        let faulted = frame.flags & PyFrame::FAULTED != 0;
        let key = if faulted { self.fingerprint(frame.code).ok() } else { Some(frame.fingerprint) };
        let Some(key) = key.map(|print| (frame.code, print)) else { return gone() };
        let suspended = self.is_yield(frame);
        if let Some(code) = self.known.get(&key) {
            return code.named(frame.instr_bytes, suspended);
        }
        let Ok(code) = self.read(key) else { return gone() };
        let named = code.named(frame.instr_bytes, suspended);
        let bytes = code.bytes();
        if self.kept_bytes.saturating_add(bytes) <= CACHE_LIMIT {
            self.kept_bytes += bytes;
            self.known.insert(key, code);
        }
        named
    }

    /// Whether a frame's instruction is the one that suspends a generator. What cannot be read is not.
    fn is_yield(&self, frame: &PyFrame) -> bool {
        let at = frame.code.checked_add(u64::from(self.walk.code_bytecode));
        let at = at.and_then(|begin| begin.checked_add_signed(i64::from(frame.instr_bytes)));
        let mut opcode = [0];
        at.is_some_and(|at| self.memory.read(at, &mut opcode).is_ok())
            && opcode[0] == self.objects.opcode_yield_value
    }

    /// Reads a code object, and makes sure that it was the wanted one before and after.
    fn read(&mut self, (address, print): (u64, u64)) -> Result<Code, Fault> {
        let at = |offset: u64| address.checked_add(offset).ok_or(Fault);
        let objects = self.objects;
        self.check(address, print)?;
        let mut first_line = [0; 4];
        self.memory.read(at(objects.code_firstlineno)?, &mut first_line)?;
        let [file, function, table] = [objects.code_filename, objects.code_qualname, objects.code_linetable]
            .map(|offset| at(offset).and_then(|at| self.memory.read_u64(at)));
        let code = Code {
            function: read_str(&self.memory, &objects, function?, CHARACTERS)?,
            file: read_str(&self.memory, &objects, file?, CHARACTERS)?,
            first_line: u32::from_le_bytes(first_line),
            table: read_bytes(&self.memory, &objects, table?).unwrap_or_default(),
        };
        self.check(address, print)?;
        Ok(code)
    }

    /// A live code object with this fingerprint. The fingerprint alone would not do: freeing a block changes only its first words.
    fn check(&mut self, address: u64, print: u64) -> Result<(), Fault> {
        let at = |offset: u64| address.checked_add(offset).ok_or(Fault);
        let references = self.memory.read_u64(at(self.objects.ob_refcnt)?)?;
        let kind = self.memory.read_u64(at(self.objects.ob_type)?)?;
        if references == 0 || references >= MOST_REFERENCES || self.fingerprint(address)? != print {
            return Err(Fault);
        }
        if self.code_type.is_none() {
            let name = self.memory.read_u64(kind.checked_add(self.objects.tp_name).ok_or(Fault)?)?;
            let mut text = [0; 5];
            self.memory.read(name, &mut text)?;
            self.code_type = (&text == b"code\0").then_some(kind);
        }
        if self.code_type == Some(kind) { Ok(()) } else { Err(Fault) }
    }

    fn fingerprint(&self, address: u64) -> Result<u64, Fault> {
        let mut bytes = [0; CODE_CHUNK];
        self.memory.read(address.checked_add(u64::from(self.walk.code_at)).ok_or(Fault)?, &mut bytes)?;
        let mut words = [0; CODE_CHUNK / 8];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        let mut print = fingerprint(&words);
        for name in [self.walk.code_filename, self.walk.code_qualname] {
            let string = words.get((name / 8) as usize).copied().unwrap_or(0);
            let mut text = [0; TEXT_CHUNK / 8];
            text_words(&self.memory, string.wrapping_add(u64::from(self.walk.unicode_data)), &mut text);
            print = with_text(print, &text);
        }
        Ok(print)
    }
}

impl Code {
    fn named(&self, instr_bytes: i32, suspended: bool) -> Named {
        let frame = Frame {
            kind: FrameKind::Python,
            function: self.function.clone(),
            file: Some(self.file.clone()),
            // Instructions without a line (the making of cells, the start of a generator) stand at the head of their function; a table that
            // could not be read says nothing at all.
            line: line_of(&self.table, self.first_line, instr_bytes.div_euclid(2))
                .or_else(|| (!self.table.is_empty()).then_some(self.first_line)),
            module: None,
            inlined: false,
            place: None,
            unnamed: None,
        };
        Named { frame, gone: false, suspended }
    }

    /// Bytes that keeping it takes, about.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 48 + self.function.len() + self.file.len() + self.table.len()
    }
}

fn gone() -> Named {
    let frame = Frame {
        kind: FrameKind::Python,
        function: GONE.to_owned(),
        file: None,
        line: None,
        module: None,
        inlined: false,
        place: None,
        unnamed: None,
    };
    Named { frame, gone: true, suspended: false }
}

/// The text of a `str` object, at most `limit` characters. Characters that no string can hold become U+FFFD.
///
/// `Include/cpython/unicodeobject.h` of 3.11: bits 2–4 of `state` are the bytes per character, bit 5 compact, bit 6 ASCII.
///
/// # Errors
/// [`Fault`] when it cannot be read or is no compact string.
pub(super) fn read_str(
    memory: &impl Bytes,
    objects: &Objects,
    address: u64,
    limit: u64,
) -> Result<String, Fault> {
    let at = |offset: u64| address.checked_add(offset).ok_or(Fault);
    let length = memory.read_u64(at(objects.unicode_length)?)?.min(limit);
    let mut state = [0];
    memory.read(at(objects.unicode_state)?, &mut state)?;
    let (kind, compact, ascii) = (state[0] >> 2 & 7, state[0] >> 5 & 1 == 1, state[0] >> 6 & 1 == 1);
    if !compact || !matches!(kind, 1 | 2 | 4) {
        return Err(Fault);
    }
    let data = at(if ascii { objects.unicode_ascii_data } else { objects.unicode_data })?;
    let mut bytes = vec![0; usize::try_from(length * u64::from(kind)).map_err(|_| Fault)?];
    memory.read(data, &mut bytes)?;
    let code_point =
        |chunk: &[u8]| chunk.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    let character = |chunk| char::from_u32(code_point(chunk)).unwrap_or(char::REPLACEMENT_CHARACTER);
    Ok(bytes.chunks_exact(usize::from(kind)).map(character).collect())
}

/// The content of a `bytes` object.
fn read_bytes(memory: &impl Bytes, objects: &Objects, address: u64) -> Result<Vec<u8>, Fault> {
    let length = memory.read_u64(address.checked_add(objects.ob_size).ok_or(Fault)?)?;
    if length > TABLE_LIMIT {
        return Err(Fault);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Fault)?];
    memory.read(address.checked_add(objects.bytes_data).ok_or(Fault)?, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
