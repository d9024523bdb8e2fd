//! Where the functions of a file begin and end, and where the return address is at an instruction. Symbols are stripped from the Pythons that people
//! run; the frame descriptions (`.eh_frame`) stay, because exceptions and `pthread_exit` unwind the running process by them.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EhFrameHdr, EndianSlice,
    FrameDescriptionEntry, LittleEndian, PartialFrameDescriptionEntry, Register, RegisterRule, UnwindContext,
    UnwindOffset, UnwindSection, UnwindTableRow, X86_64,
};

use self::bytes::FrameBytes;
use crate::target::elf::Elf;

pub mod bytes;

/// Descriptions that are kept; python3.11 has 10,000, a large browser about a million.
const FUNCTIONS: usize = 1 << 21;

/// The longest description that is read, in bytes; the longest of python3.11 has 376.
const DESCRIPTION: u32 = 1 << 16;

/// The longest common part of descriptions that is read, in bytes; those of python3.11 have 20.
const COMMON: u32 = 1 << 12;

/// How many times the section's length is read of descriptions and their common parts, at most. In an honest file descriptions do not overlap, and one has at least as
/// many bytes as its common part, or nearly.
const TIMES: usize = 8;

/// Bytes of a machine word.
const WORD: i64 = 8;

type Bytes<'b> = EndianSlice<'b, LittleEndian>;
type Common<'b> = CommonInformationEntry<Bytes<'b>>;
type Commons<'b> = HashMap<usize, gimli::Result<Common<'b>>>;
type Description<'b> = FrameDescriptionEntry<Bytes<'b>>;
type Partial<'a, 'b, S> = PartialFrameDescriptionEntry<'a, S, Bytes<'b>>;

/// What is said about a stretch of instructions, in gimli's words; expressions are parts of [`FrameTable::section`].
pub type Row = UnwindTableRow<usize>;

/// The frame descriptions of a file. A compiler that splits a function into a hot and a cold part writes one for each.
#[derive(Debug)]
pub struct FrameTable<'b, S = EhFrame<Bytes<'b>>> {
    section: &'b [u8],
    frames: S,
    bases: BaseAddresses,
    /// By where they begin.
    functions: Vec<Function>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    end: u64,
    /// Where in the section its description is.
    description: usize,
}

/// The section, and where in it the descriptions are, if an index says so.
#[derive(Default)]
struct Found<'b> {
    vaddr: u64,
    section: &'b [u8],
    descriptions: Option<Vec<usize>>,
}

impl<'b> FrameTable<'b> {
    /// Reads where the functions lie, from the index that the running process uses too, else from the section itself. Descriptions that cannot be
    /// read, or are not about code of this file, are left out; a file without any has no functions.
    #[must_use]
    pub fn new(elf: &'b Elf) -> Self {
        let found = by_index(elf).or_else(|| by_section(elf)).unwrap_or_default();
        Self::of_found(found, &|vaddr| elf.is_code(vaddr))
    }

    /// The same of a file of which only these parts were read.
    #[must_use]
    pub fn of(bytes: &'b FrameBytes) -> Self {
        let found = Found {
            vaddr: bytes.vaddr,
            section: &bytes.section,
            descriptions: bytes.index.as_ref().and_then(|(vaddr, index)| descriptions(*vaddr, index)),
        };
        Self::of_found(found, &|vaddr| bytes.is_code(vaddr))
    }

    fn of_found(found: Found<'b>, is_code: &dyn Fn(u64) -> bool) -> Self {
        let mut this = Self {
            section: found.section,
            frames: EhFrame::new(found.section, LittleEndian),
            bases: BaseAddresses::default().set_eh_frame(found.vaddr),
            functions: Vec::new(),
        };
        let descriptions = found.descriptions.unwrap_or_else(|| this.walk());
        this.functions = this.describe(is_code, &descriptions);
        this
    }
}

impl<'b> FrameTable<'b, DebugFrame<Bytes<'b>>> {
    /// Reads where the functions lie from descriptions that are for debuggers (`.debug_frame`): code without exceptions may have no others.
    #[must_use]
    pub fn of_debug(bytes: &'b FrameBytes) -> Self {
        let mut this = Self {
            section: &bytes.section,
            frames: DebugFrame::new(&bytes.section, LittleEndian),
            bases: BaseAddresses::default(),
            functions: Vec::new(),
        };
        this.functions = this.describe(&|vaddr| bytes.is_code(vaddr), &this.walk());
        this
    }
}

impl<'b, S: UnwindSection<Bytes<'b>>> FrameTable<'b, S> {
    /// The range of the function, or of the part of one, that this address is in.
    #[must_use]
    pub fn function_at(&self, vaddr: u64) -> Option<Range<u64>> {
        self.find(vaddr).map(|function| function.start..function.end)
    }

    /// The ranges of all functions and parts of functions, by where they begin. No two overlap.
    pub fn functions(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.functions.iter().map(|function| function.start..function.end)
    }

    /// The bytes that expressions are parts of.
    #[must_use]
    pub fn section(&self) -> &'b [u8] {
        self.section
    }

    /// How many machine words above the stack pointer the return address is before the instruction at this address runs: it lies at
    /// `rsp + 8 * words`, 0 where a function begins, 1 after one push. `None` where the file does not say it in terms of the stack pointer
    /// (after a frame pointer is set up, in the stubs that linkers make, without a description), and above 255.
    #[must_use]
    pub fn cfa_words(&self, vaddr: u64) -> Option<u8> {
        self.row_at(vaddr, |row| {
            // The return address is the word below the canonical frame address (x86-64 psABI, "Stack Unwind Algorithm"), but in frames
            // that a signal made it is elsewhere, and the rule for it says so.
            let usual = row.register(X86_64::RA) == Some(RegisterRule::Offset(-WORD));
            match *row.cfa() {
                CfaRule::RegisterAndOffset { register, offset } if usual => words(register, offset),
                _ => None,
            }
        })?
    }

    /// Asks the row of the instruction at this address.
    pub fn row_at<T>(&self, vaddr: u64, ask: impl FnOnce(&Row) -> T) -> Option<T> {
        let description = self.parse(self.find(vaddr)?.description, &mut Commons::new())?;
        let mut context = UnwindContext::new();
        let row = description.unwind_info_for_address(&self.frames, &self.bases, &mut context, vaddr).ok()?;
        Some(ask(row))
    }

    /// Hands out the rows of all functions by address, each with its addresses; `None` for instructions whose description cannot be read.
    /// What lies between functions is left out. Stops, and says `false`, if the descriptions are together longer than those of an honest file.
    pub fn each_row(&self, mut each: impl FnMut(Range<u64>, Option<&Row>)) -> bool {
        let (mut commons, mut context) = (Commons::new(), UnwindContext::new());
        let mut left = self.section.len().saturating_mul(TIMES);
        for function in &self.functions {
            let mut from = function.start;
            if let Some(description) = self.parse(function.description, &mut commons) {
                let bytes = description.entry_len().saturating_add(description.cie().entry_len());
                let Some(rest) = left.checked_sub(bytes) else { return false };
                left = rest;
                if let Ok(mut table) = description.rows(&self.frames, &self.bases, &mut context) {
                    while let Ok(Some(row)) = table.next_row() {
                        let end = row.end_address().min(function.end);
                        if from < end {
                            each(from..end, Some(row));
                            from = end;
                        }
                    }
                }
            }
            if from < function.end {
                each(from..function.end, None);
            }
        }
        true
    }

    fn find(&self, vaddr: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.start <= vaddr);
        self.functions[..after].last().filter(|function| vaddr < function.end)
    }

    /// Where in the section the descriptions are, one after the other up to what ends them or cannot be read.
    fn walk(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut entries = self.frames.entries(&self.bases);
        while found.len() < FUNCTIONS
            && let Ok(Some(entry)) = entries.next()
        {
            if let CieOrFde::Fde(partial) = entry {
                found.push(partial.offset());
            }
        }
        found
    }

    /// The functions that are described, sorted.
    fn describe(&self, is_code: &dyn Fn(u64) -> bool, descriptions: &[usize]) -> Vec<Function> {
        let mut commons = Commons::new();
        let functions = descriptions.iter().filter_map(|description| {
            let parsed = self.parse(*description, &mut commons)?;
            let (start, end) =
                (parsed.initial_address(), parsed.initial_address().checked_add(parsed.len())?);
            let is_code = start < end && is_code(start) && is_code(end - 1);
            is_code.then_some(Function { start, end, description: *description })
        });
        let mut functions: Vec<Function> = functions.collect();
        functions.sort_by_key(|function| (function.start, function.end));
        // No honest file says two things about an instruction. The first one stays, so that a range is always found again by each of its addresses.
        let mut covered = 0;
        functions.retain(|function| {
            let apart = function.start >= covered;
            if apart {
                covered = function.end;
            }
            apart
        });
        functions
    }

    fn parse(&self, description: usize, commons: &mut Commons<'b>) -> Option<Description<'b>> {
        let partial = self.partial(description)?;
        let common = |_: &_, _: &_, at: S::Offset| {
            let at = UnwindOffset::into(at);
            commons.entry(at).or_insert_with(|| self.common(at)).clone()
        };
        partial.parse(common).ok()
    }

    fn partial(&self, description: usize) -> Option<Partial<'_, 'b, S>> {
        self.is_shorter(description, DESCRIPTION)
            .then(|| self.frames.partial_fde_from_offset(&self.bases, description.into()).ok())?
    }

    fn common(&self, at: usize) -> gimli::Result<Common<'b>> {
        if self.is_shorter(at, COMMON) {
            self.frames.cie_from_offset(&self.bases, at.into())
        } else {
            Err(gimli::Error::NoEntryAtGivenOffset(at as u64))
        }
    }

    /// Whether the entry at an offset has at most so many bytes: a thousand entries could each claim the rest of a large file, and would each be read to
    /// its end. Entries of the 64-bit format are not, and no linker for x86-64 writes them.
    fn is_shorter(&self, at: usize, limit: u32) -> bool {
        let length = self.section.get(at..).and_then(<[u8]>::first_chunk);
        length.is_some_and(|length| u32::from_le_bytes(*length) <= limit)
    }
}

/// By `.eh_frame_hdr`. Where the section ends it does not say: it may be as long as its segment.
fn by_index(elf: &Elf) -> Option<Found<'_>> {
    let range = elf.frame_index()?;
    let bytes = elf.at(range.start, range.end.checked_sub(range.start)?)?;
    let vaddr = section_by_index(range.start, bytes)?;
    Some(Found { vaddr, section: elf.tail(vaddr)?, descriptions: descriptions(range.start, bytes) })
}

/// By the section header.
fn by_section(elf: &Elf) -> Option<Found<'_>> {
    let range = elf.frames()?;
    let section = elf.at(range.start, range.end.checked_sub(range.start)?)?;
    Some(Found { vaddr: range.start, section, descriptions: None })
}

/// Where the index at an address says that the section begins (LSB Core, "The .eh_frame_hdr section").
fn section_by_index(vaddr: u64, index: &[u8]) -> Option<u64> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(vaddr);
    let index = EhFrameHdr::new(index, LittleEndian).parse(&bases, size_of::<u64>() as u8).ok()?;
    index.eh_frame_ptr().direct().ok()
}

/// Where in the section the index says that the descriptions are; `None` if it has no table of them.
fn descriptions(vaddr: u64, index: &[u8]) -> Option<Vec<usize>> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(vaddr);
    let index = EhFrameHdr::new(index, LittleEndian).parse(&bases, size_of::<u64>() as u8).ok()?;
    let section = index.eh_frame_ptr().direct().ok()?;
    index.table().map(|table| {
        let rows = table.iter(&bases).take(FUNCTIONS).map_while(Result::ok);
        let offset = |at: gimli::Pointer| usize::try_from(at.direct().ok()?.checked_sub(section)?).ok();
        rows.filter_map(|(_, description)| offset(description)).collect()
    })
}

/// From the offset of the canonical frame address to the words below the return address.
fn words(register: Register, offset: i64) -> Option<u8> {
    let below = offset.checked_sub(WORD)?;
    (register == X86_64::RSP && below % WORD == 0).then(|| u8::try_from(below / WORD).ok())?
}

#[cfg(test)]
mod tests;
