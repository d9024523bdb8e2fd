//! Names of Python frames: function, file and line, read from the code object while it lives.
//!
//! A frame is an address and a fingerprint of what stood there when it was captured. The fingerprint is taken again around the
//! reading of the names: another value means that the address has a new tenant, and then there is no name rather than a wrong one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracer_common::frame::{PyFrame, fingerprint, with_text};
use tracer_common::layout::PyLayout;
use tracer_common::limits::{CODE_CHUNK, TEXT_CHUNK};
use tracer_common::walk::Fault;

use crate::symbol::lines::line_of;
use crate::symbol::{Frame, FrameKind};
use crate::target::layout::{Layout, Lines, Objects, Waits};
use crate::target::memory::{Bytes, text_words};

/// The longest name that is read, in characters; the rest of a longer one is left out.
const CHARACTERS: u64 = 4096;

/// The longest line table that is read, in bytes: 30 times that of the largest module of the standard library.
const TABLE_LIMIT: u64 = 4 << 20;

/// The longest head of an object that is read, in bytes: three times that of 3.15's code objects. Offsets may come from the process itself.
const LONGEST_HEAD: u64 = 1024;

/// Bytes of names and line tables that are kept; past it, code objects are read again each time.
const CACHE_LIMIT: usize = 256 << 20;

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
    lines: Lines,
    /// `None` where it could not be read.
    table: Option<Vec<u8>>,
}

/// Code objects that were read once, in any process of a family: a forked child has those of its parent at the same addresses, and may have ended before one of its own is read. That address, fields and names are
/// the same, which is what a fingerprint says, is what makes two the same.
#[derive(Clone, Debug, Default)]
pub struct CodeCache(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    codes: HashMap<(u64, u64), Code>,
    kept_bytes: usize,
}

impl CodeCache {
    fn locked(&self) -> MutexGuard<'_, Known> {
        // Each entry is whole or not there, whoever broke off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keep(&mut self, key: (u64, u64), code: Code) {
        let bytes = code.bytes();
        if self.kept_bytes.saturating_add(bytes) <= CACHE_LIMIT {
            self.kept_bytes += bytes;
            self.codes.insert(key, code);
        }
    }
}

/// Names of the code objects of one process. What has been read once stays right when the code object dies.
#[derive(Debug)]
pub struct CodeNames<M> {
    memory: M,
    walk: PyLayout,
    objects: Objects,
    /// The type object `code`, once one was seen.
    code_type: Option<u64>,
    cache: CodeCache,
}

impl<M: Bytes> CodeNames<M> {
    /// Names of the process that owns this memory.
    #[must_use]
    pub fn new(memory: M, layout: &Layout) -> Self {
        Self::sharing(memory, layout, CodeCache::default())
    }

    /// The same, with what was read in other processes.
    #[must_use]
    pub fn sharing(memory: M, layout: &Layout, cache: CodeCache) -> Self {
        Self { memory, walk: layout.walk, objects: layout.objects, code_type: None, cache }
    }

    /// From now on code objects are read in another process of the same version. Those that were read before are not read again: the fingerprint tells whether one is the same.
    pub fn turn_to(&mut self, memory: M) {
        self.memory = memory;
        // Where its type is, each process says itself.
        self.code_type = None;
    }

    /// The names of a frame. A frame whose code could not be read when it was captured ([`PyFrame::FAULTED`]) gets the names of what
    /// stands at its address now: its page was cold, so the code had not been replaced a moment before.
    pub fn name(&mut self, frame: &PyFrame) -> Named {
        let faulted = frame.flags & PyFrame::FAULTED != 0;
        let key = if faulted { self.fingerprint(frame.code).ok() } else { Some(frame.fingerprint) };
        let Some(key) = key.map(|print| (frame.code, print)) else { return gone() };
        let suspended = self.is_yield(frame);
        if let Some(code) = self.cache.locked().codes.get(&key) {
            return code.named(frame.instr_bytes, suspended);
        }
        let Ok(code) = self.read(key) else { return gone() };
        let named = code.named(frame.instr_bytes, suspended);
        self.cache.locked().keep(key, code);
        named
    }

    /// Whether a frame's instruction is the one that suspends a generator. What cannot be read is not.
    fn is_yield(&self, frame: &PyFrame) -> bool {
        let (begin, wanted) = match self.objects.waits {
            Waits::Unasked => return false,
            Waits::AtYieldValue { opcode } => {
                (frame.code.checked_add(u64::from(self.walk.code_bytecode)), opcode)
            }
            // The next instruction, of two bytes each.
            Waits::BeforeYieldFrom { co_code, opcode } => {
                let bytes = frame.code.checked_add(co_code).and_then(|at| self.memory.read_u64(at).ok());
                (bytes.and_then(|bytes| bytes.checked_add(self.objects.bytes_data + 2)), opcode)
            }
        };
        let at = begin.and_then(|begin| begin.checked_add_signed(i64::from(frame.instr_bytes)));
        let mut opcode = [0];
        at.is_some_and(|at| self.memory.read(at, &mut opcode).is_ok()) && opcode[0] == wanted
    }

    /// Reads a code object, and makes sure that it was the wanted one before and after.
    fn read(&mut self, (address, print): (u64, u64)) -> Result<Code, Fault> {
        let objects = self.objects;
        let head = self.check(address, print)?;
        let text = |offset| read_str(&self.memory, &objects, head.word(offset)?, CHARACTERS);
        let code = Code {
            function: text(objects.code_qualname)?,
            file: text(objects.code_filename)?,
            first_line: head.word(objects.code_firstlineno)? as u32,
            lines: objects.lines,
            table: read_bytes(&self.memory, &objects, head.word(objects.code_linetable)?).ok(),
        };
        self.check(address, print)?;
        Ok(code)
    }

    /// The head of a live code object with this fingerprint. The fingerprint alone would not do: freeing a block changes only its first words.
    fn check(&mut self, address: u64, print: u64) -> Result<Head, Fault> {
        let head = self.head(address)?;
        let references = self.objects.references(|offset| head.word(offset).ok());
        let kind = head.word(self.objects.ob_type)?;
        // A live code object has at least one. A freed block has the allocator's link there, an address or 0.
        if references.is_none_or(|references| references == 0) || self.print_of(&head)? != print {
            return Err(Fault);
        }
        if self.code_type.is_none() {
            let name = self.memory.read_u64(kind.checked_add(self.objects.tp_name).ok_or(Fault)?)?;
            let mut text = [0; 5];
            self.memory.read(name, &mut text)?;
            self.code_type = (&text == b"code\0").then_some(kind);
        }
        if self.code_type == Some(kind) { Ok(head) } else { Err(Fault) }
    }

    /// All that is wanted of a code object, in one read: a thousand of them may be told at once.
    fn head(&self, address: u64) -> Result<Head, Fault> {
        let objects = &self.objects;
        let wanted =
            [objects.code_filename, objects.code_qualname, objects.code_linetable, objects.code_firstlineno];
        let chunk = u64::from(self.walk.code_at) + CODE_CHUNK as u64 - 8;
        Head::read(&self.memory, address, wanted.into_iter().fold(chunk, u64::max))
    }

    fn fingerprint(&self, address: u64) -> Result<u64, Fault> {
        self.print_of(&self.head(address)?)
    }

    fn print_of(&self, head: &Head) -> Result<u64, Fault> {
        let mut words = [0; CODE_CHUNK / 8];
        for (at, word) in (u64::from(self.walk.code_at)..).step_by(8).zip(&mut words) {
            *word = head.word(at)?;
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

/// The first bytes of an object, as they stood at one moment.
struct Head(Vec<u8>);

impl Head {
    /// All up to the word at this offset, and that.
    fn read(memory: &impl Bytes, address: u64, last: u64) -> Result<Self, Fault> {
        let len = last.checked_add(8).filter(|len| *len <= LONGEST_HEAD).ok_or(Fault)?;
        let mut bytes = vec![0; len as usize];
        memory.read(address, &mut bytes)?;
        Ok(Self(bytes))
    }

    fn word(&self, offset: u64) -> Result<u64, Fault> {
        let at = usize::try_from(offset).map_err(|_| Fault)?;
        let word = self.0.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Fault)?;
        Ok(u64::from_le_bytes(*word))
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
            line: self.table.as_ref().map(|table| {
                line_of(self.lines, table, self.first_line, instr_bytes).unwrap_or(self.first_line)
            }),
            module: None,
            inlined: false,
            place: None,
            unnamed: None,
        };
        Named { frame, gone: false, suspended }
    }

    /// Bytes that keeping it takes, about.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + 48
            + self.function.len()
            + self.file.len()
            + self.table.as_ref().map_or(0, Vec::len)
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
/// `Include/cpython/unicodeobject.h`: three bits of `state` are the bytes per character, and the next two are compact and ASCII.
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
    // What stands before the characters, in one read.
    let head = Head::read(memory, address, objects.unicode_length.max(objects.unicode_state))?;
    let length = head.word(objects.unicode_length)?.min(limit);
    let state = (head.word(objects.unicode_state)? as u16).unbounded_shr(objects.unicode_kind_bit);
    let (kind, compact, ascii) = (state & 7, state >> 3 & 1 == 1, state >> 4 & 1 == 1);
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
    // Code on one line has an empty table up to 3.9.
    if length > 0 {
        memory.read(address.checked_add(objects.bytes_data).ok_or(Fault)?, &mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
