//! Code for aarch64, as yaxpeax-arm decodes it. An address takes two instructions here (`adrp`, then `add` or the offset of a load), and counting a word in memory three; so what
//! one says is known only together with those that always run before it.

use tracer_common::hook::Register;
use yaxpeax_arch::{Arch, Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{ARMv8, Instruction, Opcode, Operand, SizeCode};

use super::instruction::{AnyInstruction, Flow};
use super::values::{Line, Made};
use super::ways::leading;
use super::{Code, FIELDS, Word};
use crate::target::elf::Elf;

mod values;

/// Bytes of an instruction.
const BYTES: usize = 4;

/// Instructions in which an address is put together, or a word counted.
const TOGETHER: usize = 12;

/// The number of the zero register, or of the stack pointer.
const ZERO_OR_STACK: u16 = 31;

/// An instruction of aarch64.
#[derive(Clone, Copy, Debug)]
pub struct Aarch64 {
    at: u64,
    what: Instruction,
}

impl AnyInstruction for Aarch64 {
    const LONGEST: usize = BYTES;
    const RESULT: Register = Register::X0;
    const STACK: Register = Register::Sp;
    // `adrp`, `ldr`, `add`, and `bti c` before them where the processor wants to see it.
    const STUB: u64 = 4 * BYTES as u64;

    fn decode(bytes: &[u8], ip: u64) -> Option<Self> {
        let mut what = Instruction::default();
        let decoder = <ARMv8 as Arch>::Decoder::default();
        decoder.decode_into(&mut what, &mut U8Reader::new(bytes.get(..BYTES)?)).ok()?;
        (what.opcode != Opcode::Invalid).then_some(Self { at: ip, what })
    }

    fn each(bytes: &[u8], vaddr: u64, mut visit: impl FnMut(&Self) -> bool) -> bool {
        let mut words = (0u64..).step_by(BYTES).zip(bytes.chunks_exact(BYTES));
        words.all(|(at, word)| Self::decode(word, vaddr.wrapping_add(at)).is_none_or(|found| visit(&found)))
    }

    fn at(&self) -> u64 {
        self.at
    }

    fn end(&self) -> u64 {
        self.at.wrapping_add(BYTES as u64)
    }

    fn flow(&self) -> Flow {
        use Opcode as Op;
        match self.what.opcode {
            Op::B => Flow::Jump,
            Op::Bcc(_) | Op::BCcc(_) | Op::CBZ | Op::CBNZ | Op::TBZ | Op::TBNZ => Flow::Decides,
            Op::BL => Flow::Call,
            Op::BLR | Op::BLRAA | Op::BLRAAZ | Op::BLRAB | Op::BLRABZ => Flow::CallThrough,
            Op::BR | Op::BRAA | Op::BRAAZ | Op::BRAB | Op::BRABZ => Flow::JumpThrough,
            Op::RET
            | Op::RETAA
            | Op::RETAB
            | Op::RETAASPPC
            | Op::RETABSPPC
            | Op::RETAASPPCR
            | Op::RETABSPPCR
            | Op::ERET
            | Op::ERETAA
            | Op::ERETAB
            | Op::BRK
            | Op::HLT
            | Op::UDF => Flow::Ends,
            _ => Flow::Next,
        }
    }

    fn target(&self) -> Option<u64> {
        matches!(self.flow(), Flow::Jump | Flow::Decides | Flow::Call).then(|| self.place()).flatten()
    }

    fn jumps_unless_zero(&self) -> bool {
        // Condition 1 is `ne` (Arm ARM, C1.2.4).
        matches!(self.what.opcode, Opcode::CBNZ | Opcode::Bcc(1))
    }

    fn is_padding(&self) -> bool {
        // `nop` is a hint without a meaning.
        let nop = [Operand::ControlReg(0), Operand::Immediate(0)];
        self.what.opcode == Opcode::HINT && self.what.operands.starts_with(&nop)
    }

    /// Linux `arch/arm64/kernel/probes/decode-insn.c`, `arm_probe_decode_insn`: jumps, calls, and what takes an address from the instruction pointer. (`nop` only since 6.13.)
    fn is_emulated(&self, _: &[u8]) -> bool {
        match self.what.opcode {
            Opcode::ADR | Opcode::ADRP | Opcode::RET | Opcode::BR | Opcode::BLR => true,
            Opcode::LDR | Opcode::LDRSW => {
                self.place().is_some() && matches!(self.operand(0), Operand::Register(..))
            }
            Opcode::BCcc(_) => false,
            _ => self.target().is_some(),
        }
    }

    fn is_freeblock_store(&self) -> bool {
        let Some((_, offset)) = self.field().filter(|(base, _)| *base != Register::Sp) else { return false };
        match self.what.opcode {
            Opcode::STR | Opcode::STUR => self.wide(0) && offset == 8,
            Opcode::STP => self.wide(0) && (offset == 0 || offset == 8),
            _ => false,
        }
    }

    fn changes_half(&self) -> bool {
        let half = matches!(self.operand(0), Operand::Register(SizeCode::W, _));
        let store = matches!(self.what.opcode, Opcode::STR | Opcode::STUR | Opcode::STP);
        half && store && self.field().is_some_and(|(_, offset)| offset == 0)
    }

    fn is_telling(&self) -> bool {
        match self.flow() {
            Flow::JumpThrough | Flow::CallThrough => true,
            Flow::Next => self.stores_word(),
            _ => false,
        }
    }

    fn through(&self, code: &Code<'_, Self>) -> Option<u64> {
        if !matches!(self.flow(), Flow::JumpThrough | Flow::CallThrough) {
            return None;
        }
        let pointer = register(self.operand(0))?;
        let line = self.line_before(code);
        match line.made(line.of(pointer)) {
            Made::Fixed(address) => Some(address),
            _ => None,
        }
    }

    fn tally(&self, code: &Code<'_, Self>) -> Option<(Word, bool)> {
        let (base, offset) = self.field().filter(|_| self.stores_word())?;
        let counted = register(self.operand(0))?;
        let line = self.line_before(code);
        let Made::Next { of, up } = line.made(line.of(counted)) else { return None };
        let base = line.of(base);
        let word = match (line.made(of), line.made(base)) {
            (Made::Fixed(word), Made::Address(page)) if page.wrapping_add_signed(offset) == word => {
                Word::Fixed(word)
            }
            (Made::Word { base: from, offset: at }, _) if (from, at) == (base, offset) => {
                Word::Field(u64::try_from(offset).ok().filter(|field| FIELDS.contains(field))?)
            }
            _ => return None,
        };
        Some((word, up))
    }

    fn word(&self, code: &Code<'_, Self>) -> Option<u64> {
        let (base, offset) = self.field().filter(|(base, _)| *base != Register::Sp)?;
        let line = self.line_before(code);
        match line.made(line.of(base)) {
            Made::Address(page) => Some(page.wrapping_add_signed(offset)),
            _ => None,
        }
    }

    fn step(&self, line: &mut Line) {
        values::step(line, self);
    }
}

impl<'a> Code<'a, Aarch64> {
    /// Reads the code of a file for aarch64. Linkers for it put tables of data into the same segment, and what is none would jump anywhere: the sections with code
    /// are read, as far as they are executable, or the segments of a file that does not list its sections.
    #[must_use]
    pub fn of_aarch64(elf: &'a Elf) -> Self {
        let sections = elf.code_sections().iter().filter(|section| elf.is_code(section.start));
        let found = sections
            .filter_map(|section| Some((section.start, elf.at(section.start, section.end - section.start)?)));
        let found: Vec<_> = found.collect();
        if found.is_empty() { Self::executable(elf) } else { Self::stretches(found) }
    }
}

impl Aarch64 {
    fn operand(&self, index: usize) -> Operand {
        self.what.operands.get(index).copied().unwrap_or(Operand::Nothing)
    }

    /// The place that it names by its distance.
    fn place(&self) -> Option<u64> {
        self.what.operands.iter().find_map(|operand| match operand {
            Operand::PCOffset(distance) => Some(self.at.wrapping_add_signed(*distance)),
            _ => None,
        })
    }

    /// What it loads from or stores to, if that is at a fixed distance from a register that stays what it is.
    fn field(&self) -> Option<(Register, i64)> {
        self.what.operands.iter().find_map(|operand| match operand {
            Operand::RegPreIndex(base, offset, false) => {
                Some((register_or_stack(*base)?, i64::from(*offset)))
            }
            _ => None,
        })
    }

    /// Whether an operand is a whole register.
    fn wide(&self, index: usize) -> bool {
        matches!(self.operand(index), Operand::Register(SizeCode::X, _))
    }

    /// `str x, [base, offset]`, where the base is not the stack pointer.
    fn stores_word(&self) -> bool {
        matches!(self.what.opcode, Opcode::STR | Opcode::STUR)
            && self.wide(0)
            && self.field().is_some_and(|(base, _)| base != Register::Sp)
    }

    /// What is known by the few instructions that always run before.
    fn line_before(&self, code: &Code<'_, Self>) -> Line {
        let way = leading(code, self.at, TOGETHER);
        let mut line = Line::new();
        for instruction in way.iter().take(way.len().saturating_sub(1)) {
            line.step(instruction);
        }
        line
    }
}

/// The register that an operand is; none for the zero register.
fn register(operand: Operand) -> Option<Register> {
    match operand {
        Operand::Register(_, number) if number != ZERO_OR_STACK => register_or_stack(number),
        Operand::RegisterOrSP(_, number) => register_or_stack(number),
        _ => None,
    }
}

/// The register with a number, where 31 is the stack pointer.
fn register_or_stack(number: u16) -> Option<Register> {
    Register::AARCH64.get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests;
