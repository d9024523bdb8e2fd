//! The code of a file, as the planner reads it: one linear pass finds where instructions begin, who jumps where, and the few kinds of
//! instructions that lead to the allocator. Everything that is asked later is decoded again, a few instructions at a time.
//!
//! Pure: bytes in, facts out. The bytes are the target's and may be anything; a pass is linear, and every later walk is bounded.

use std::ops::Range;

use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::sites::wrapper::fixed_address;
use crate::target::elf::Elf;

pub mod births;
pub mod calls;
pub mod guards;
pub mod pymalloc;
mod registers;
mod values;
mod ways;

/// The most code that is looked at, in bytes: the largest embedders of CPython have some 100 MB of it.
const LIMIT: usize = 256 << 20;

/// The most instructions of one kind, and the most stores that may be a fast path, that are kept: real code has one jump in 20 bytes, and one such store
/// in 2,000. A file that has more was written to waste our time and memory, and is not read at all.
const KEPT: usize = 1 << 24;
const STORES: usize = 1 << 20;

/// The longest instruction of x86-64, in bytes.
const LONGEST: u64 = 15;

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

/// An instruction that adds one to, or takes one from, a 64-bit word at a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The address of the instruction.
    pub source: u64,
    /// The address of the word.
    pub word: u64,
    /// It adds.
    pub up: bool,
}

/// A stretch of code, and where in it instructions begin: one bit a byte.
struct Part<'a> {
    vaddr: u64,
    bytes: &'a [u8],
    starts: Vec<u64>,
}

/// The code of a file.
#[derive(Default)]
pub struct Code<'a> {
    parts: Vec<Part<'a>>,
    /// Direct jumps, by target.
    jumps: Vec<Edge>,
    /// Direct calls, by target.
    calls: Vec<Edge>,
    throughs: Vec<Through>,
    tallies: Vec<Tally>,
    /// Instructions that store a register 8 bytes behind where another points: `pool->freeblock = …` among much else.
    stores: Vec<u64>,
}

impl<'a> Code<'a> {
    /// Reads the executable segments of a file.
    #[must_use]
    pub fn of(elf: &'a Elf) -> Self {
        let segments = elf.segments().iter().filter(|segment| segment.executable);
        Self::of_parts(
            segments.filter_map(|segment| Some((segment.vaddr, elf.at(segment.vaddr, segment.file_size)?))),
        )
    }

    /// Reads stretches of code, each with its address.
    #[must_use]
    pub fn of_parts(stretches: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        let mut this = Self::default();
        let mut room = LIMIT;
        for (vaddr, bytes) in stretches {
            let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
            room -= bytes.len();
            if !this.read(vaddr, bytes) {
                return Self::default();
            }
        }
        this.jumps.sort_unstable();
        this.calls.sort_unstable();
        this.tallies.sort_unstable_by_key(|tally| tally.source);
        this
    }

    /// Reads a stretch; `false` if there is more in it than any honest code has.
    fn read(&mut self, vaddr: u64, bytes: &'a [u8]) -> bool {
        let mut starts = vec![0u64; bytes.len().div_ceil(64)];
        let mut decoder = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                continue;
            }
            let at = instruction.ip().wrapping_sub(vaddr) as usize;
            if let Some(word) = starts.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
            self.note(&instruction);
            let most =
                self.jumps.len().max(self.calls.len()).max(self.tallies.len()).max(self.throughs.len());
            if most > KEPT || self.stores.len() > STORES {
                return false;
            }
        }
        self.parts.push(Part { vaddr, bytes, starts });
        true
    }

    fn note(&mut self, instruction: &Instruction) {
        let source = instruction.ip();
        match instruction.flow_control() {
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch if is_near(instruction) => {
                self.jumps.push(Edge { target: instruction.near_branch64(), source });
            }
            FlowControl::Call if is_near(instruction) => {
                self.calls.push(Edge { target: instruction.near_branch64(), source });
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall
                if instruction.op0_kind() == OpKind::Memory =>
            {
                if let Some(pointer) = fixed_address(instruction) {
                    self.throughs.push(Through { source, pointer });
                }
            }
            FlowControl::Next if instruction.op0_kind() == OpKind::Memory => {
                if is_freeblock_store(instruction) {
                    self.stores.push(source);
                } else if let Some((word, up)) = tally(instruction) {
                    self.tallies.push(Tally { source, word, up });
                }
            }
            _ => {}
        }
    }

    /// The instruction at an address, if the pass found one to begin there.
    #[must_use]
    pub fn at(&self, ip: u64) -> Option<Instruction> {
        let (part, at) = self.part(ip)?;
        part.begins(at).then(|| part.decode(at))
    }

    /// The bytes of an instruction of this code.
    #[must_use]
    pub fn bytes(&self, instruction: &Instruction) -> &'a [u8] {
        let found = self.part(instruction.ip());
        found.and_then(|(part, at)| part.bytes.get(at..at + instruction.len())).unwrap_or_default()
    }

    /// The instruction that ends where the one at `ip` begins.
    #[must_use]
    pub fn before(&self, ip: u64) -> Option<Instruction> {
        let (part, at) = self.part(ip)?;
        let least = at.saturating_sub(LONGEST as usize);
        let before = (least..at).rev().find(|at| part.begins(*at))?;
        Some(part.decode(before)).filter(|instruction| instruction.next_ip() == ip)
    }

    /// The instructions from an address on, as they lie.
    pub fn from(&self, ip: u64) -> impl Iterator<Item = Instruction> + '_ {
        std::iter::successors(self.at(ip), |instruction| self.at(instruction.next_ip()))
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

    /// All instructions that count a word at a fixed address up or down.
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

    /// The instructions that have a word at a fixed address for an operand, by address.
    #[must_use]
    pub fn readers(&self, word: u64) -> Vec<u64> {
        let mut found: Vec<u64> = self.parts.iter().flat_map(|part| part.readers(word)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn part(&self, ip: u64) -> Option<(&Part<'a>, usize)> {
        self.parts.iter().find_map(|part| {
            let at = usize::try_from(ip.checked_sub(part.vaddr)?).ok()?;
            (at < part.bytes.len()).then_some((part, at))
        })
    }
}

impl Part<'_> {
    /// Instructions that name a word, from the instruction pointer or by its address: those four bytes are looked for first, because decoding all
    /// of the code once more would take a hundred times longer.
    fn readers(&self, word: u64) -> impl Iterator<Item = u64> + '_ {
        let places = self.bytes.windows(4).enumerate().filter(move |(at, bytes)| {
            let Ok(bytes) = <[u8; 4]>::try_from(*bytes) else { return false };
            let (value, behind) = (i32::from_le_bytes(bytes), self.vaddr.wrapping_add(*at as u64 + 4));
            // What follows the displacement is an immediate of up to four bytes.
            let distance = word.wrapping_sub(behind).wrapping_sub(i64::from(value).cast_unsigned());
            u64::from(value.cast_unsigned()) == word || distance <= 4
        });
        let named = move |(at, _): (usize, &[u8])| {
            let begin = (at.saturating_sub(LONGEST as usize)..=at).rev().find(|at| self.begins(*at))?;
            let instruction = self.decode(begin);
            (fixed_address(&instruction) == Some(word)).then(|| instruction.ip())
        };
        places.filter_map(named)
    }

    fn begins(&self, at: usize) -> bool {
        self.starts.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn decode(&self, at: usize) -> Instruction {
        let end = self.bytes.len().min(at + LONGEST as usize);
        let bytes = self.bytes.get(at..end).unwrap_or_default();
        Decoder::with_ip(64, bytes, self.vaddr.wrapping_add(at as u64), DecoderOptions::NONE).decode()
    }
}

fn between<'e>(edges: &'e [Edge], targets: &Range<u64>) -> &'e [Edge] {
    let from = edges.partition_point(|edge| edge.target < targets.start);
    let to = edges.partition_point(|edge| edge.target < targets.end);
    edges.get(from..to).unwrap_or_default()
}

/// Whether a jump or call names its target.
#[must_use]
pub(super) fn is_near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}

/// `mov [reg+8], reg`, 64 bits wide, where the first is not the stack pointer.
fn is_freeblock_store(instruction: &Instruction) -> bool {
    instruction.code() == Opcode::Mov_rm64_r64
        && instruction.memory_displacement64() == 8
        && instruction.memory_index() == Register::None
        && instruction.memory_base().is_gpr64()
        && instruction.memory_base() != Register::RSP
        && instruction.segment_prefix() == Register::None
}

/// `add qword [fixed], ±1`, `sub`, `inc`, `dec`: the word, and whether it goes up.
fn tally(instruction: &Instruction) -> Option<(u64, bool)> {
    let one = |index| match instruction.op_kind(index) {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(index).cast_signed()),
        _ => None,
    };
    let up = match (instruction.mnemonic(), instruction.op_count()) {
        (Mnemonic::Inc, 1) => true,
        (Mnemonic::Dec, 1) => false,
        (Mnemonic::Add, 2) => one(1).filter(|by| by.abs() == 1)? == 1,
        (Mnemonic::Sub, 2) => one(1).filter(|by| by.abs() == 1)? == -1,
        _ => return None,
    };
    let wide = instruction.memory_size().size() == 8;
    fixed_address(instruction).filter(|_| wide).map(|word| (word, up))
}

#[cfg(test)]
mod tests;
