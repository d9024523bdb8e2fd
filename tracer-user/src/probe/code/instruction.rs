//! What the planner asks of an instruction, whatever processor it is for. The decoders answer: one file for each processor.

use std::fmt::Debug;

use tracer_common::hook::Register;

use super::values::Line;
use super::{Code, Word};

/// What runs after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next one.
    Next,
    /// The next one, or another; which, a condition decides.
    Decides,
    /// Another one.
    Jump,
    /// One that a pointer names.
    JumpThrough,
    /// A function, and then the next one.
    Call,
    /// A function that a pointer names, and then the next one.
    CallThrough,
    /// The next one, or one that was named long before (`xbegin`).
    Unknown,
    /// None of this file: a return, a trap, nothing.
    Ends,
}

/// An instruction, decoded.
pub trait AnyInstruction: Copy + Debug {
    /// The most bytes that one has.
    const LONGEST: usize;
    /// The register that a function leaves its result in.
    const RESULT: Register;
    /// The stack pointer.
    const STACK: Register;
    /// Bytes of a linker's stub before its jump.
    const STUB: u64;

    /// Decodes the one that these bytes begin with.
    fn decode(bytes: &[u8], ip: u64) -> Option<Self>;

    /// Decodes all, as they lie, and hands each to `visit` until that says `false`; `false` if it did.
    fn each(bytes: &[u8], vaddr: u64, visit: impl FnMut(&Self) -> bool) -> bool;

    /// Its address.
    fn at(&self) -> u64;

    /// The address behind it.
    fn end(&self) -> u64;

    /// What runs after it.
    fn flow(&self) -> Flow;

    /// Where a direct jump or call goes.
    fn target(&self) -> Option<u64>;

    /// It jumps if what was just tested is not zero.
    fn jumps_unless_zero(&self) -> bool;

    /// It does nothing.
    fn is_padding(&self) -> bool;

    /// The kernel emulates it, instead of stepping it out of line. `bytes` are its own.
    fn is_emulated(&self, bytes: &[u8]) -> bool;

    /// It stores a word 8 bytes behind where a register points: `pool->freeblock = …` among much else.
    fn is_freeblock_store(&self) -> bool;

    /// It changes four bytes where a register points: `++pool->ref.count` among much else.
    fn changes_half(&self) -> bool;

    /// It may be one that [`Self::through`] or [`Self::tally`] says something about.
    fn is_telling(&self) -> bool;

    /// The fixed address of the pointer that it calls or jumps through.
    fn through(&self, code: &Code<'_, Self>) -> Option<u64>;

    /// The word that is counted up or down by one when it has run, and whether it is counted up.
    fn tally(&self, code: &Code<'_, Self>) -> Option<(Word, bool)>;

    /// The fixed address of the word that it has for an operand in memory.
    fn word(&self, code: &Code<'_, Self>) -> Option<u64>;

    /// Takes it into account: what the registers hold when it has run, and what it has stored.
    fn step(&self, line: &mut Line);
}
