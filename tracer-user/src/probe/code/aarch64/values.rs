//! What an instruction of aarch64 does to the values that registers hold. What is not known here makes each register that the instruction names hold
//! something else: too little is known then, never too much.

use yaxpeax_arm::armv8::a64::ShiftStyle;

use super::{
    Aarch64, AnyInstruction, Flow, Opcode, Operand, Register, SizeCode, ZERO_OR_STACK, register,
    register_or_stack,
};
use crate::probe::code::values::{Line, Made, Store, Value};

/// Bytes of a page, by which `adrp` counts.
const PAGE: u64 = 4096;

/// Registers that a function need not keep (AAPCS64, 6.1.1): `x0` to `x18`, and `x30`.
const LOST_IN_CALLS: std::ops::RangeInclusive<usize> = 0..=18;

/// Takes an instruction into account.
pub(super) fn step(line: &mut Line, at: &Aarch64) {
    use Opcode as Op;
    match at.what.opcode {
        Op::STR | Op::STUR | Op::STP => {
            store(line, at);
            write_back(line, at);
        }
        Op::STRB | Op::STRH | Op::STURB | Op::STURH | Op::STNP | Op::PRFM | Op::PRFUM => write_back(line, at),
        Op::LDR | Op::LDUR | Op::LDP => load(line, at),
        Op::LDRB | Op::LDRH | Op::LDRSB | Op::LDRSH | Op::LDRSW | Op::LDURB | Op::LDURH | Op::LDURSW => {
            write_back(line, at);
            written(line, at, 0, Made::Somehow);
        }
        Op::BL | Op::BLR | Op::SVC => called(line, at),
        Op::CCMP | Op::CCMN | Op::MSR | Op::HINT => {}
        _ if at.flow() != Flow::Next => {}
        Op::ADR | Op::ADRP | Op::ADD | Op::ADDS | Op::SUB | Op::SUBS | Op::ORR | Op::UBFM => {
            compute(line, at);
        }
        Op::AND
        | Op::ANDS
        | Op::BIC
        | Op::EOR
        | Op::EON
        | Op::ORN
        | Op::MOVZ
        | Op::MOVN
        | Op::MOVK
        | Op::SBFM
        | Op::BFM
        | Op::EXTR
        | Op::CSEL
        | Op::CSINC
        | Op::CSINV
        | Op::CSNEG
        | Op::MADD
        | Op::MSUB
        | Op::UDIV
        | Op::SDIV
        | Op::LSLV
        | Op::LSRV
        | Op::ASRV
        | Op::CLZ
        | Op::RBIT
        | Op::MRS => written(line, at, 0, Made::Somehow),
        _ => all_written(line, at),
    }
}

/// A register, once it has been written.
fn written(line: &mut Line, at: &Aarch64, index: usize, made: Made) {
    if let Some(register) = register(at.operand(index)) {
        line.set(register, made, at.at);
    }
}

/// Every register that is named.
fn all_written(line: &mut Line, at: &Aarch64) {
    for operand in at.what.operands {
        let named = match operand {
            Operand::RegisterPair(_, first) => [register_or_stack(first), register_or_stack(first + 1)],
            Operand::RegPreIndex(base, ..) | Operand::RegPostIndex(base, _) => {
                [register_or_stack(base), None]
            }
            Operand::RegPostIndexReg(base, _) => [register_or_stack(base), None],
            other => [register(other), None],
        };
        for register in named.into_iter().flatten() {
            line.set(register, Made::Somehow, at.at);
        }
    }
}

/// A function was called: it may have used whatever it need not keep.
fn called(line: &mut Line, at: &Aarch64) {
    for &register in Register::AARCH64.get(LOST_IN_CALLS).unwrap_or_default() {
        line.set(register, Made::Somehow, at.at);
    }
    line.set(Register::X30, Made::Somehow, at.at);
}

/// The register that an address was made with, where the instruction moves it on.
fn write_back(line: &mut Line, at: &Aarch64) {
    for operand in at.what.operands {
        let moved = match operand {
            Operand::RegPreIndex(base, _, true)
            | Operand::RegPostIndex(base, _)
            | Operand::RegPostIndexReg(base, _) => register_or_stack(base),
            _ => None,
        };
        if let Some(base) = moved {
            line.set(base, Made::Somehow, at.at);
        }
    }
}

/// What an instruction reads or writes in memory: where, and how far behind.
fn memory(at: &Aarch64) -> Option<(Register, i64)> {
    at.what.operands.iter().find_map(|operand| match operand {
        Operand::RegPreIndex(base, offset, _) => Some((register_or_stack(*base)?, i64::from(*offset))),
        Operand::RegPostIndex(base, _) => Some((register_or_stack(*base)?, 0)),
        _ => None,
    })
}

/// Stores of words, and half words that are counted up or down.
fn store(line: &mut Line, at: &Aarch64) {
    let Some((base, offset)) = memory(at) else { return };
    let base = line.of(base);
    let pair = at.what.opcode == Opcode::STP;
    if at.wide(0) {
        let mut stores = vec![Store { base, offset, value: stored(line, at, 0) }];
        if pair {
            stores.push(Store { base, offset: offset + 8, value: stored(line, at, 1) });
        }
        // The one to `pool->freeblock` is looked for as the last.
        stores.sort_by_key(|store| store.offset == 8);
        line.stores.extend(stores);
    } else if offset == 0
        && let Some(Made::Next { of, up }) = register(at.operand(0)).map(|from| line.made(line.of(from)))
        && line.made(of) == (Made::Half { base })
    {
        line.counted.push((base, up));
    }
}

/// What is stored; nothing is known of the zero register.
fn stored(line: &mut Line, at: &Aarch64, index: usize) -> Value {
    match register(at.operand(index)) {
        Some(register) => line.of(register),
        None => line.value(Made::Somehow, at.at),
    }
}

fn load(line: &mut Line, at: &Aarch64) {
    let made = match at.operand(1) {
        Operand::RegRegOffset(base, index, _, ShiftStyle::LSL | ShiftStyle::UXTW, 3) if at.wide(0) => {
            entry(line, base, index)
        }
        _ => memory(at).map_or(Made::Somehow, |(base, offset)| loaded(line, at, base, offset)),
    };
    let second = (at.what.opcode == Opcode::LDP).then(|| {
        let bytes = if at.wide(0) { 8 } else { 4 };
        memory(at).map_or(Made::Somehow, |(base, offset)| loaded(line, at, base, offset + bytes))
    });
    write_back(line, at);
    written(line, at, 0, made);
    if let Some(second) = second {
        written(line, at, 1, second);
    }
}

fn loaded(line: &Line, at: &Aarch64, base: Register, offset: i64) -> Made {
    let base = line.of(base);
    match (at.wide(0), line.made(base)) {
        (true, Made::Address(page)) => Made::Fixed(page.wrapping_add_signed(offset)),
        (true, _) => Made::Word { base, offset },
        (false, _) if offset == 0 && matches!(at.operand(0), Operand::Register(..)) => Made::Half { base },
        _ => Made::Somehow,
    }
}

/// An entry of a table of words.
fn entry(line: &Line, base: u16, index: u16) -> Made {
    let (Some(base), Some(index)) = (register_or_stack(base), register_or_stack(index)) else {
        return Made::Somehow;
    };
    let table = match line.made(line.of(base)) {
        Made::Address(table) => Some(table),
        _ => None,
    };
    Made::Entry { table, index: line.of(index) }
}

/// Addresses, copies, counting by one, and the arithmetic of size classes.
fn compute(line: &mut Line, at: &Aarch64) {
    let Some(into) = register(at.operand(0)) else { return };
    let place = at.what.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(distance) => Some(*distance),
        _ => None,
    });
    let from = register(at.operand(1)).map(|from| line.of(from));
    let wide =
        matches!(at.operand(0), Operand::Register(SizeCode::X, _) | Operand::RegisterOrSP(SizeCode::X, _));
    let made = match (at.what.opcode, place, from) {
        (Opcode::ADR, Some(distance), _) => Made::Address(at.at.wrapping_add_signed(distance)),
        (Opcode::ADRP, Some(distance), _) => {
            Made::Address((at.at & !(PAGE - 1)).wrapping_add_signed(distance))
        }
        (Opcode::ORR, ..) => return copy(line, at, into, wide),
        (Opcode::UBFM, _, Some(from)) => field(at, from),
        (Opcode::ADD | Opcode::ADDS | Opcode::SUB | Opcode::SUBS, _, Some(from)) => {
            let up = matches!(at.what.opcode, Opcode::ADD | Opcode::ADDS);
            match (constant(at.operand(2)), line.made(from)) {
                (Some(0), _) if wide => return line.put(into, from),
                (Some(by), Made::Address(page)) if up && wide => Made::Address(page.wrapping_add(by)),
                (Some(1), _) => Made::Next { of: from, up },
                _ => Made::Somehow,
            }
        }
        _ => Made::Somehow,
    };
    line.set(into, made, at.at);
}

/// `mov x, x`; and `mov w, w` of a size class, which has no upper half that could be lost.
fn copy(line: &mut Line, at: &Aarch64, into: Register, wide: bool) {
    let zero = matches!(at.operand(1), Operand::Register(_, ZERO_OR_STACK));
    let from = match at.operand(2) {
        Operand::RegShift(ShiftStyle::LSL, 0, _, from) if zero && from != ZERO_OR_STACK => {
            register_or_stack(from)
        }
        _ => None,
    };
    let value = from.map(|from| line.of(from));
    let class = |value: &Value| matches!(line.made(*value), Made::Twice(_) | Made::Sixteenth(_));
    match value.filter(|value| wide || class(value)) {
        Some(value) => line.put(into, value),
        None => line.set(into, Made::Somehow, at.at),
    }
}

/// `lsr 4` and `lsl 1`, also of fewer bits: of a size class, nothing is cut off.
fn field(at: &Aarch64, from: Value) -> Made {
    let bits = if at.wide(0) { 64 } else { 32 };
    match (at.operand(2), at.operand(3)) {
        (Operand::Immediate(4), Operand::Immediate(last)) if last >= 31 => Made::Sixteenth(from),
        (Operand::Immediate(right), Operand::Immediate(last))
            if right == bits - 1 && (8..right).contains(&last) =>
        {
            Made::Twice(from)
        }
        _ => Made::Somehow,
    }
}

/// A constant that is added or taken away.
fn constant(operand: Operand) -> Option<u64> {
    match operand {
        Operand::Immediate(value) => Some(u64::from(value)),
        Operand::ImmShift(value, shift) => u64::from(value).checked_shl(shift.into()),
        _ => None,
    }
}
