//! The code of a file, as the planner reads it: one linear pass finds where instructions begin, who jumps where, and the few kinds of
//! instructions that lead to the allocator. Everything that is asked later is decoded again, a few instructions at a time.
//!
//! What an instruction is and does, its decoder says (`x86_64`, `aarch64`); everything else is the same for every processor.
//!
//! Pure: bytes in, facts out. The bytes are the target's and may be anything; a pass is linear, and every later walk is bounded.

use std::ops::Range;

use std::marker::PhantomData;

pub use self::aarch64::Aarch64;
use self::instruction::{AnyInstruction, Flow};
pub use self::x86_64::X86_64;
use self::x86_64::is_near;
use crate::target::elf::Elf;

mod aarch64;
pub mod births;
pub mod calls;
pub mod guards;
pub mod instruction;
pub mod pymalloc;
mod registers;
mod values;
mod ways;
mod x86_64;

/// The most code that is looked at, in bytes: the largest embedders of CPython have some 100 MB of it.
const LIMIT: usize = 256 << 20;

/// The most instructions of one kind, and the most stores that may be a fast path, that are kept: real code has one jump in 20 bytes, and one such store
/// in 2,000. A file that has more was written to waste our time and memory, and is not read at all.
const KEPT: usize = 1 << 24;
const STORES: usize = 1 << 20;

/// Where in a structure a count is looked for, in bytes: from CPython 3.12 on, that of the large blocks lies in `struct _obmalloc_state`, behind `usedpools` of 512 bytes, which may
/// itself lie in the interpreter's state (`Include/internal/pycore_obmalloc.h`). Nearer ones are counts of references and the like.
const FIELDS: Range<u64> = 512..1 << 16;

/// A direct jump or call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Where it goes.
    pub target: u64,
    /// The address of the instruction.
    pub source: u64,
}

/// A call or jump through a pointer at a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Through {
    /// The address of the instruction.
    pub source: u64,
    /// The address of the pointer.
    pub pointer: u64,
}

/// A word in which something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// At a fixed address.
    Fixed(u64),
    /// So many bytes behind where a register points.
    Field(u64),
}

/// An instruction that adds one to, or takes one from, a 64-bit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The address of the instruction.
    pub source: u64,
    /// The word.
    pub word: Word,
    /// It adds.
    pub up: bool,
}

/// A stretch of code, and where in it instructions begin: one bit a byte.
struct Part<'a> {
    vaddr: u64,
    bytes: &'a [u8],
    starts: Vec<u64>,
}

/// The code of a file, for a processor.
pub struct Code<'a, I = X86_64> {
    parts: Vec<Part<'a>>,
    /// Direct jumps, by target.
    jumps: Vec<Edge>,
    /// Direct calls, by target.
    calls: Vec<Edge>,
    throughs: Vec<Through>,
    tallies: Vec<Tally>,
    /// Instructions that store a register 8 bytes behind where another points: `pool->freeblock = …` among much else.
    stores: Vec<u64>,
    decoder: PhantomData<fn() -> I>,
}

impl<I> Default for Code<'_, I> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            jumps: Vec::new(),
            calls: Vec::new(),
            throughs: Vec::new(),
            tallies: Vec::new(),
            stores: Vec::new(),
            decoder: PhantomData,
        }
    }
}

impl<'a> Code<'a> {
    /// Reads the executable segments of a file for x86-64.
    #[must_use]
    pub fn of(elf: &'a Elf) -> Self {
        Self::executable(elf)
    }

    /// Reads stretches of code, each with its address.
    #[must_use]
    pub fn of_parts(stretches: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        Self::stretches(stretches)
    }
}

impl<'a, I: AnyInstruction> Code<'a, I> {
    /// Reads the executable segments of a file.
    #[must_use]
    pub fn executable(elf: &'a Elf) -> Self {
        let segments = elf.segments().iter().filter(|segment| segment.executable);
        Self::stretches(
            segments.filter_map(|segment| Some((segment.vaddr, elf.at(segment.vaddr, segment.file_size)?))),
        )
    }

    /// Reads stretches of code, each with its address.
    #[must_use]
    pub fn stretches(stretches: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        let mut this = Self::default();
        let mut telling = Vec::new();
        let mut room = LIMIT;
        for (vaddr, bytes) in stretches {
            let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
            room -= bytes.len();
            if !this.read(vaddr, bytes, &mut telling) {
                return Self::default();
            }
        }
        this.jumps.sort_unstable();
        this.calls.sort_unstable();
        this.tell(&telling);
        this.tallies.sort_unstable_by_key(|tally| tally.source);
        this
    }

    /// Reads a stretch; `false` if there is more in it than any honest code has.
    fn read(&mut self, vaddr: u64, bytes: &'a [u8], telling: &mut Vec<u64>) -> bool {
        let mut starts = vec![0u64; bytes.len().div_ceil(64)];
        let few = I::each(bytes, vaddr, |instruction| {
            let at = instruction.at().wrapping_sub(vaddr) as usize;
            if let Some(word) = starts.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
            self.note(instruction, telling);
            let most = self.jumps.len().max(self.calls.len()).max(telling.len());
            most <= KEPT && self.stores.len() <= STORES
        });
        self.parts.push(Part { vaddr, bytes, starts });
        few
    }

    fn note(&mut self, instruction: &I, telling: &mut Vec<u64>) {
        let source = instruction.at();
        match (instruction.flow(), instruction.target()) {
            (Flow::Decides | Flow::Jump, Some(target)) => self.jumps.push(Edge { target, source }),
            (Flow::Call, Some(target)) => self.calls.push(Edge { target, source }),
            (Flow::Next, _) if instruction.is_freeblock_store() => self.stores.push(source),
            _ => {}
        }
        if instruction.is_telling() {
            telling.push(source);
        }
    }

    /// What the telling instructions say, now that it is known who jumps where.
    fn tell(&mut self, telling: &[u64]) {
        let (mut throughs, mut tallies) = (Vec::new(), Vec::new());
        for &source in telling {
            let Some(instruction) = self.at(source) else { continue };
            if let Some(pointer) = instruction.through(self) {
                throughs.push(Through { source, pointer });
            } else if let Some((word, up)) = instruction.tally(self) {
                tallies.push(Tally { source, word, up });
            }
        }
        (self.throughs, self.tallies) = (throughs, tallies);
    }

    /// The instruction at an address, if the pass found one to begin there.
    #[must_use]
    pub fn at(&self, ip: u64) -> Option<I> {
        let (part, at) = self.part(ip)?;
        if part.begins(at) { part.decode(at) } else { None }
    }

    /// The bytes of an instruction of this code.
    #[must_use]
    pub fn bytes(&self, instruction: &I) -> &'a [u8] {
        let found = self.part(instruction.at());
        let len = instruction.end().wrapping_sub(instruction.at()) as usize;
        found.and_then(|(part, at)| part.bytes.get(at..at + len)).unwrap_or_default()
    }

    /// The instruction that ends where the one at `ip` begins.
    #[must_use]
    pub fn before(&self, ip: u64) -> Option<I> {
        let (part, at) = self.part(ip)?;
        let least = at.saturating_sub(I::LONGEST);
        let before = (least..at).rev().find(|at| part.begins(*at))?;
        part.decode(before).filter(|instruction: &I| instruction.end() == ip)
    }

    /// The instructions from an address on, as they lie.
    pub fn from(&self, ip: u64) -> impl Iterator<Item = I> + '_ {
        std::iter::successors(self.at(ip), |instruction| self.at(instruction.end()))
    }

    /// Direct jumps into a range of addresses.
    #[must_use]
    pub fn jumps_into(&self, targets: Range<u64>) -> &[Edge] {
        between(&self.jumps, &targets)
    }

    /// Direct jumps to an address.
    #[must_use]
    pub fn jumps_to(&self, target: u64) -> &[Edge] {
        self.jumps_into(target..target.saturating_add(1))
    }

    /// Direct calls of an address.
    #[must_use]
    pub fn calls_of(&self, target: u64) -> &[Edge] {
        between(&self.calls, &(target..target.saturating_add(1)))
    }

    /// All direct calls, by target.
    #[must_use]
    pub fn calls(&self) -> &[Edge] {
        &self.calls
    }

    /// All direct jumps, by target.
    #[must_use]
    pub fn jumps(&self) -> &[Edge] {
        &self.jumps
    }

    /// All calls and jumps through pointers at fixed addresses.
    #[must_use]
    pub fn throughs(&self) -> &[Through] {
        &self.throughs
    }

    /// All instructions that count a word up or down.
    #[must_use]
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// The tally at an address.
    #[must_use]
    pub fn tally_at(&self, ip: u64) -> Option<Tally> {
        let index = self.tallies.partition_point(|tally| tally.source < ip);
        self.tallies.get(index).filter(|tally| tally.source == ip).copied()
    }

    fn part(&self, ip: u64) -> Option<(&Part<'a>, usize)> {
        self.parts.iter().find_map(|part| {
            let at = usize::try_from(ip.checked_sub(part.vaddr)?).ok()?;
            (at < part.bytes.len()).then_some((part, at))
        })
    }
}

impl Part<'_> {
    fn begins(&self, at: usize) -> bool {
        self.starts.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn decode<I: AnyInstruction>(&self, at: usize) -> Option<I> {
        let end = self.bytes.len().min(at.saturating_add(I::LONGEST));
        I::decode(self.bytes.get(at..end)?, self.vaddr.wrapping_add(at as u64))
    }
}

fn between<'e>(edges: &'e [Edge], targets: &Range<u64>) -> &'e [Edge] {
    let from = edges.partition_point(|edge| edge.target < targets.start);
    let to = edges.partition_point(|edge| edge.target < targets.end);
    edges.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::probe) use tests::fixture::unpacked;
