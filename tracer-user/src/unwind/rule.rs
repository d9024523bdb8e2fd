//! From what DWARF says about a stretch of instructions to the eight bytes that the kernel understands, or to the reason why it cannot.

use gimli::{
    CfaRule, EndianSlice, Expression, LittleEndian, Operation, Register, RegisterRule, UnwindExpression,
    X86_64,
};
use tracer_common::unwind::{Cfa, Rbp, Rule};

use crate::target::frame_table::Row;

/// Bytes of a machine word.
const WORD: i64 = 8;

/// Operations of an expression that are looked at; the longest that has a kind of its own has nine.
const OPERATIONS: usize = 12;

/// Where the registers of the interrupted code are, in bytes above the stack pointer, while the handler's return is on its way through `__restore_rt`
/// (the kernel's `arch/x86/include/uapi/asm/ucontext.h` and `sigcontext.h`): `rbp`, `rsp`, `rip`.
const SIGNAL: [i64; 3] = [120, 160, 168];

/// Why a stretch of instructions has no rule that the kernel knows, or only half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lack {
    /// The CFA is reckoned from a register other than `rsp` and `rbp`; its DWARF number.
    CfaRegister(u16),
    /// The CFA's offset is no number of words, or of too many.
    CfaOffset,
    /// The CFA is an expression that has no kind of its own.
    CfaExpression,
    /// The return address is not the word below the CFA.
    ReturnAddress,
    /// Where `rbp` was saved is said in a way that has no kind; frames above that need it are lost, all others are not.
    Rbp,
    /// The description cannot be read.
    Unreadable,
    /// One file, or one process, has more distinct rules than there is room for.
    Rules,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CfaRegister(number) => {
                write!(out, "frames that are found by register {number} (DWARF number)")
            }
            Self::CfaOffset => out.write_str("frames that are too large, or no number of words"),
            Self::CfaExpression => out.write_str("frames that are found by an expression of no known shape"),
            Self::ReturnAddress => out.write_str("return addresses in an unusual place"),
            Self::Rbp => {
                out.write_str("a saved rbp in an unusual place; only outer frames that need it are lost")
            }
            Self::Unreadable => out.write_str("descriptions that cannot be read"),
            Self::Rules => out.write_str("more distinct rules than there is room for"),
        }
    }
}

/// What cannot be unwound.
pub const UNSUPPORTED: Rule = Rule::new(Cfa::Unsupported, 0, Rbp::Unknown, 0);

/// The rule of a row, and what it lacks. `section` is where the row's expressions are.
pub(super) fn of(row: Option<&Row>, section: &[u8]) -> (Rule, Option<Lack>) {
    let Some(row) = row else { return (UNSUPPORTED, Some(Lack::Unreadable)) };
    match whole(row, section) {
        Ok((rule, lack)) => (rule, lack),
        Err(lack) => (UNSUPPORTED, Some(lack)),
    }
}

fn whole(row: &Row, section: &[u8]) -> Result<(Rule, Option<Lack>), Lack> {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Ok((Rule::new(Cfa::Outermost, 0, Rbp::Unknown, 0), None)),
        Some(RegisterRule::Offset(offset)) if offset == -WORD => {}
        _ if is_signal(row, section) => return Ok((Rule::new(Cfa::Signal, 0, Rbp::Same, 0), None)),
        _ => return Err(Lack::ReturnAddress),
    }
    let (cfa, cfa_words) = match *row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let kind = match register {
                X86_64::RSP => Cfa::Rsp,
                X86_64::RBP => Cfa::Rbp,
                Register(other) => return Err(Lack::CfaRegister(other)),
            };
            (kind, words(offset).ok_or(Lack::CfaOffset)?)
        }
        CfaRule::Expression(expression) => {
            cfa_of(&operations(expression, section)).ok_or(Lack::CfaExpression)?
        }
    };
    let saved = rbp_of(row, section);
    let (rbp, rbp_words) = saved.unwrap_or((Rbp::Unknown, 0));
    Ok((Rule::new(cfa, cfa_words, rbp, rbp_words), saved.is_none().then_some(Lack::Rbp)))
}

/// Where the caller's `rbp` is; `None` if it is said in a way that has no kind.
fn rbp_of(row: &Row, section: &[u8]) -> Option<(Rbp, i16)> {
    Some(match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => (Rbp::Same, 0),
        Some(RegisterRule::Undefined) => (Rbp::Unknown, 0),
        Some(RegisterRule::Offset(offset)) => (Rbp::AtCfa, words(offset)?),
        Some(RegisterRule::Expression(expression)) => match operations(expression, section).as_slice() {
            [Part::Register(X86_64::RBP, offset)] => (Rbp::AtRbp, words(*offset)?),
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether a row is about a frame that a signal made.
fn is_signal(row: &Row, section: &[u8]) -> bool {
    let at = |rule: Option<RegisterRule<usize>>, offset: i64| match rule {
        Some(RegisterRule::Expression(expression)) => {
            operations(expression, section) == [Part::Register(X86_64::RSP, offset)]
        }
        _ => false,
    };
    let [rbp, rsp, rip] = SIGNAL;
    let CfaRule::Expression(cfa) = *row.cfa() else { return false };
    operations(cfa, section) == [Part::Register(X86_64::RSP, rsp), Part::Deref]
        && at(row.register(X86_64::RA), rip)
        && at(row.register(X86_64::RBP), rbp)
}

/// The kind of a CFA that is an expression.
fn cfa_of(parts: &[Part]) -> Option<(Cfa, i16)> {
    match *parts {
        [Part::Register(X86_64::RSP, offset), Part::Deref] => Some((Cfa::AtRsp, words(offset)?)),
        [Part::Register(X86_64::RBP, offset), Part::Deref] => Some((Cfa::AtRbp, words(offset)?)),
        // `rsp + 8 + ((rip & 15) >= place) * 8`: what GNU ld and lld write for the stubs of `.plt` (binutils, `elf_x86_64_eh_frame_plt`).
        [
            Part::Register(X86_64::RSP, WORD),
            Part::Register(X86_64::RA, 0),
            Part::Number(15),
            Part::And,
            Part::Number(place @ 0..=15),
            Part::AtLeast,
            Part::Number(3),
            Part::Shift,
            Part::Plus,
        ] => Some((Cfa::Plt, place as i16)),
        _ => None,
    }
}

/// One operation of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Register(Register, i64),
    Number(u64),
    Deref,
    And,
    AtLeast,
    Shift,
    Plus,
    Other,
}

/// The operations of an expression, [`Part::Other`] the last where one is of no interest or there are too many.
fn operations(expression: UnwindExpression<usize>, section: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let end = expression.offset.checked_add(expression.length);
    let bytes = end.and_then(|end| section.get(expression.offset..end));
    let Some(bytes) = bytes else { return vec![Part::Other] };
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut operations = Expression(EndianSlice::new(bytes, LittleEndian)).operations(encoding);
    loop {
        let part = match operations.next() {
            Ok(None) => return parts,
            Ok(Some(operation)) if parts.len() < OPERATIONS => part(&operation),
            _ => Part::Other,
        };
        parts.push(part);
        if part == Part::Other {
            return parts;
        }
    }
}

fn part(operation: &Operation<EndianSlice<'_, LittleEndian>>) -> Part {
    match *operation {
        Operation::RegisterOffset { register, offset, .. } => Part::Register(register, offset),
        Operation::UnsignedConstant { value } => Part::Number(value),
        Operation::Deref { size: 8, space: false, .. } => Part::Deref,
        Operation::And => Part::And,
        Operation::Ge => Part::AtLeast,
        Operation::Shl => Part::Shift,
        Operation::Plus => Part::Plus,
        _ => Part::Other,
    }
}

/// An offset in words.
fn words(offset: i64) -> Option<i16> {
    (offset % WORD == 0).then(|| i16::try_from(offset / WORD).ok())?
}

#[cfg(test)]
mod tests;
