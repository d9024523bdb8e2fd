//! Code for x86-64, as iced-x86 decodes it.

use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use tracer_common::hook;

use super::super::sites::spot;
use super::super::sites::wrapper::fixed_address;
use super::instruction::{AnyInstruction, Flow};
use super::values::Line;
use super::{Code, FIELDS, Part, Word};

mod values;

/// An instruction of x86-64.
pub type X86_64 = Instruction;

impl AnyInstruction for Instruction {
    const LONGEST: usize = 15;
    const RESULT: hook::Register = hook::Register::Rax;
    const STACK: hook::Register = hook::Register::Rsp;
    // `endbr64` stands before it where the processor wants to see it.
    const STUB: u64 = 4;

    fn decode(bytes: &[u8], ip: u64) -> Option<Self> {
        let found = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).decode();
        (!found.is_invalid()).then_some(found)
    }

    fn each(bytes: &[u8], vaddr: u64, mut visit: impl FnMut(&Self) -> bool) -> bool {
        let mut decoder = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE);
        let mut instruction = Self::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if !instruction.is_invalid() && !visit(&instruction) {
                return false;
            }
        }
        true
    }

    fn at(&self) -> u64 {
        self.ip()
    }

    fn end(&self) -> u64 {
        self.next_ip()
    }

    fn flow(&self) -> Flow {
        match self.flow_control() {
            FlowControl::Next => Flow::Next,
            FlowControl::ConditionalBranch => Flow::Decides,
            FlowControl::UnconditionalBranch => Flow::Jump,
            FlowControl::IndirectBranch => Flow::JumpThrough,
            FlowControl::Call => Flow::Call,
            FlowControl::IndirectCall => Flow::CallThrough,
            FlowControl::XbeginXabortXend => Flow::Unknown,
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => Flow::Ends,
        }
    }

    fn target(&self) -> Option<u64> {
        is_near(self).then(|| self.near_branch64())
    }

    fn jumps_unless_zero(&self) -> bool {
        self.mnemonic() == Mnemonic::Jne
    }

    fn is_padding(&self) -> bool {
        self.mnemonic() == Mnemonic::Nop
    }

    fn is_emulated(&self, bytes: &[u8]) -> bool {
        spot::is_emulated(self, bytes)
    }

    fn is_freeblock_store(&self) -> bool {
        is_freeblock_store(self)
    }

    fn changes_half(&self) -> bool {
        self.op_count() > 0
            && self.op0_kind() == OpKind::Memory
            && self.memory_size().size() == 4
            && self.memory_displacement64() == 0
    }

    fn is_telling(&self) -> bool {
        through(self).is_some() || tally(self).is_some()
    }

    fn through(&self, _: &Code<'_>) -> Option<u64> {
        through(self)
    }

    fn tally(&self, _: &Code<'_>) -> Option<(Word, bool)> {
        tally(self)
    }

    fn word(&self, _: &Code<'_>) -> Option<u64> {
        let reads = (0..self.op_count()).any(|index| self.op_kind(index) == OpKind::Memory);
        reads.then(|| fixed_address(self)).flatten()
    }

    fn step(&self, line: &mut Line) {
        values::step(line, self);
    }
}

impl Code<'_> {
    /// The instructions that have a word at a fixed address for an operand, by address.
    #[must_use]
    pub fn readers(&self, word: u64) -> Vec<u64> {
        let mut found: Vec<u64> = self.parts.iter().flat_map(|part| part.readers(word)).collect();
        found.sort_unstable();
        found.dedup();
        found
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
            let begin = (at.saturating_sub(Instruction::LONGEST)..=at).rev().find(|at| self.begins(*at))?;
            let instruction: Instruction = self.decode(begin)?;
            (fixed_address(&instruction) == Some(word)).then(|| instruction.ip())
        };
        places.filter_map(named)
    }
}

/// Whether a jump or call names its target.
#[must_use]
pub(super) fn is_near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}

/// `call [word]`, `jmp [word]`.
fn through(instruction: &Instruction) -> Option<u64> {
    let indirect =
        matches!(instruction.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall);
    (indirect && instruction.op0_kind() == OpKind::Memory).then(|| fixed_address(instruction)).flatten()
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

/// `add qword [word], ±1`, `sub`, `inc`, `dec`: the word, and whether it goes up.
fn tally(instruction: &Instruction) -> Option<(Word, bool)> {
    if instruction.flow_control() != FlowControl::Next || instruction.op0_kind() != OpKind::Memory {
        return None;
    }
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
    if instruction.memory_size().size() != 8 {
        return None;
    }
    if let Some(address) = fixed_address(instruction) {
        return Some((Word::Fixed(address), up));
    }
    let plain = instruction.memory_index() == Register::None
        && instruction.memory_base().is_gpr64()
        && instruction.segment_prefix() == Register::None;
    let field = instruction.memory_displacement64();
    (plain && FIELDS.contains(&field)).then_some((Word::Field(field), up))
}
