//! Where the functions of a file begin and end, and where the return address is at an instruction. Symbols are stripped from the Pythons that people
//! run; the frame descriptions (`.eh_frame`) stay, because exceptions and `pthread_exit` unwind the running process by them.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, EhFrame, EhFrameHdr, EhFrameOffset,
    EndianSlice, LittleEndian, PartialFrameDescriptionEntry, Register, RegisterRule, UnwindContext,
    UnwindSection, X86_64,
};

use crate::target::elf::Elf;

/// Descriptions that are kept; python3.11 has 10,000, a large browser about a million.
const FUNCTIONS: usize = 1 << 21;

/// The longest description that is read, in bytes; the longest of python3.11 has 376.
const DESCRIPTION: u32 = 1 << 16;

/// The longest common part of descriptions that is read, in bytes; those of python3.11 have 20.
const COMMON: u32 = 1 << 12;

/// Bytes of a machine word.
const WORD: i64 = 8;

type Bytes<'elf> = EndianSlice<'elf, LittleEndian>;
type Common<'elf> = CommonInformationEntry<Bytes<'elf>>;
type Partial<'a, 'elf> = PartialFrameDescriptionEntry<'a, EhFrame<Bytes<'elf>>, Bytes<'elf>>;

/// The frame descriptions of a file. A compiler that splits a function into a hot and a cold part writes one for each.
#[derive(Debug)]
pub struct FrameTable<'elf> {
    section: &'elf [u8],
    frames: EhFrame<Bytes<'elf>>,
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
struct Found<'elf> {
    vaddr: u64,
    section: &'elf [u8],
    descriptions: Option<Vec<usize>>,
}

impl<'elf> FrameTable<'elf> {
    /// Reads where the functions lie, from the index that the running process uses too, else from the section itself. Descriptions that cannot be
    /// read, or are not about code of this file, are left out; a file without any has no functions.
    #[must_use]
    pub fn new(elf: &'elf Elf) -> Self {
        let found = by_index(elf).or_else(|| by_section(elf)).unwrap_or_default();
        let mut this = Self {
            section: found.section,
            frames: EhFrame::new(found.section, LittleEndian),
            bases: BaseAddresses::default().set_eh_frame(found.vaddr),
            functions: Vec::new(),
        };
        let descriptions = found.descriptions.unwrap_or_else(|| this.walk());
        this.functions = this.describe(elf, &descriptions);
        this
    }

    /// The range of the function, or of the part of one, that this address is in.
    #[must_use]
    pub fn function_at(&self, vaddr: u64) -> Option<Range<u64>> {
        self.find(vaddr).map(|function| function.start..function.end)
    }

    /// The ranges of all functions and parts of functions, by where they begin. No two overlap.
    pub fn functions(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.functions.iter().map(|function| function.start..function.end)
    }

    /// How many machine words above the stack pointer the return address is before the instruction at this address runs: it lies at
    /// `rsp + 8 * words`, 0 where a function begins, 1 after one push. `None` where the file does not say it in terms of the stack pointer
    /// (after a frame pointer is set up, in the stubs that linkers make, without a description), and above 255.
    #[must_use]
    pub fn cfa_words(&self, vaddr: u64) -> Option<u8> {
        let partial = self.partial(self.find(vaddr)?.description)?;
        let description = partial.parse(|_, _, EhFrameOffset(at)| self.common(at)).ok()?;
        let mut context = UnwindContext::new();
        let row = description.unwind_info_for_address(&self.frames, &self.bases, &mut context, vaddr).ok()?;
        // The return address is the word below the canonical frame address (x86-64 psABI, "Stack Unwind Algorithm"), but in frames
        // that a signal made it is elsewhere, and the rule for it says so.
        let usual = row.register(X86_64::RA) == Some(RegisterRule::Offset(-WORD));
        match *row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if usual => words(register, offset),
            _ => None,
        }
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
    fn describe(&self, elf: &Elf, descriptions: &[usize]) -> Vec<Function> {
        let mut commons = HashMap::new();
        let functions = descriptions.iter().filter_map(|description| {
            let partial = self.partial(*description)?;
            let mut common = |EhFrameOffset(at)| commons.entry(at).or_insert_with(|| self.common(at)).clone();
            let parsed = partial.parse(|_, _, at| common(at)).ok()?;
            let (start, end) =
                (parsed.initial_address(), parsed.initial_address().checked_add(parsed.len())?);
            let is_code = start < end && elf.is_code(start) && elf.is_code(end - 1);
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

    fn partial(&self, description: usize) -> Option<Partial<'_, 'elf>> {
        self.is_shorter(description, DESCRIPTION)
            .then(|| self.frames.partial_fde_from_offset(&self.bases, EhFrameOffset(description)).ok())?
    }

    fn common(&self, at: usize) -> gimli::Result<Common<'elf>> {
        if self.is_shorter(at, COMMON) {
            self.frames.cie_from_offset(&self.bases, EhFrameOffset(at))
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

/// By `.eh_frame_hdr`: where the section begins, and a table of all descriptions (LSB Core, "The .eh_frame_hdr section"). Where the section ends it does
/// not say: it may be as long as its segment.
fn by_index(elf: &Elf) -> Option<Found<'_>> {
    let range = elf.frame_index()?;
    let bytes = elf.at(range.start, range.end.checked_sub(range.start)?)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(range.start);
    let index = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, size_of::<u64>() as u8).ok()?;
    let vaddr = index.eh_frame_ptr().direct().ok()?;
    let descriptions = index.table().map(|table| {
        let rows = table.iter(&bases).take(FUNCTIONS).map_while(Result::ok);
        let offset = |at: gimli::Pointer| usize::try_from(at.direct().ok()?.checked_sub(vaddr)?).ok();
        rows.filter_map(|(_, description)| offset(description)).collect()
    });
    Some(Found { vaddr, section: elf.tail(vaddr)?, descriptions })
}

/// By the section header.
fn by_section(elf: &Elf) -> Option<Found<'_>> {
    let range = elf.frames()?;
    let section = elf.at(range.start, range.end.checked_sub(range.start)?)?;
    Some(Found { vaddr: range.start, section, descriptions: None })
}

/// From the offset of the canonical frame address to the words below the return address.
fn words(register: Register, offset: i64) -> Option<u8> {
    let below = offset.checked_sub(WORD)?;
    (register == X86_64::RSP && below % WORD == 0).then(|| u8::try_from(below / WORD).ok())?
}

#[cfg(test)]
mod tests;
