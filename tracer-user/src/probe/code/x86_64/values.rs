//! What an instruction of x86-64 does to the values that registers hold.

use iced_x86::{Instruction, Mnemonic, OpAccess, OpKind};
use tracer_common::hook::Register;

use super::super::super::sites::spot::number;
use super::super::super::sites::wrapper::fixed_address;
use super::super::registers::Registers;
use super::super::values::{Line, Made, Store, Value};

/// Takes an instruction into account.
pub(super) fn step(line: &mut Line, instruction: &Instruction) {
    let made = makes(line, instruction);
    let copied = copy(instruction).map(|from| line.of(from)).or_else(|| widened(line, instruction));
    remember_stores(line, instruction);
    let used = line.factory.info(instruction).used_registers().iter();
    let written = used.filter(|used| {
        matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    });
    let written: Registers = written.filter_map(|used| number(used.register())).collect();
    for register in written.all() {
        line.set(register, Made::Somehow, instruction.ip());
    }
    let into = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
        .then(|| number(instruction.op0_register()))
        .flatten();
    let Some(into) = into else { return };
    if let Some(value) = copied {
        line.put(into, value);
    } else if let Some(made) = made {
        line.set(into, made, instruction.ip());
    }
}

/// `mov r32, r32` of a size class: gcc extends it so before it indexes with it. A class has no upper half that could be lost.
fn widened(line: &Line, instruction: &Instruction) -> Option<Value> {
    let from = (instruction.op_count() == 2 && instruction.mnemonic() == Mnemonic::Mov)
        .then(|| operand(line, instruction, 1))
        .flatten()?;
    let halves = instruction.op1_register().is_gpr32();
    (halves && matches!(line.made(from), Made::Twice(_) | Made::Sixteenth(_))).then_some(from)
}

/// What the instruction's first operand, a register, will hold.
fn makes(line: &Line, instruction: &Instruction) -> Option<Made> {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
        return None;
    }
    let into = instruction.op0_register();
    let wide = into.is_gpr64();
    if !wide && !into.is_gpr32() {
        return None;
    }
    let own = line.of(number(into)?);
    match instruction.mnemonic() {
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Memory => load(line, instruction, wide),
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Immediate32 => {
            Some(Made::Address(u64::from(instruction.immediate32())))
        }
        Mnemonic::Lea => lea(line, instruction),
        Mnemonic::Add if operand(line, instruction, 1) == Some(own) => Some(Made::Twice(own)),
        Mnemonic::Add | Mnemonic::Sub | Mnemonic::Inc | Mnemonic::Dec => {
            Some(Made::Next { of: own, up: up(instruction)? })
        }
        Mnemonic::Shr if shift(instruction) == Some(4) => Some(Made::Sixteenth(own)),
        Mnemonic::Shl if shift(instruction) == Some(1) => Some(Made::Twice(own)),
        _ => None,
    }
}

fn operand(line: &Line, instruction: &Instruction, index: u32) -> Option<Value> {
    (instruction.op_kind(index) == OpKind::Register)
        .then(|| number(instruction.op_register(index)))
        .flatten()
        .map(|register| line.of(register))
}

fn load(line: &Line, instruction: &Instruction, wide: bool) -> Option<Made> {
    if instruction.segment_prefix() != iced_x86::Register::None {
        return None;
    }
    if let Some(address) = fixed_address(instruction) {
        return wide.then_some(Made::Fixed(address));
    }
    let offset = instruction.memory_displacement64();
    if instruction.memory_index() == iced_x86::Register::None {
        let base = line.of(number(instruction.memory_base())?);
        return match (wide, offset) {
            (true, _) => Some(Made::Word { base, offset: offset.cast_signed() }),
            (false, 0) => Some(Made::Half { base }),
            _ => None,
        };
    }
    if !wide || instruction.memory_index_scale() != 8 {
        return None;
    }
    let index = line.of(number(instruction.memory_index())?);
    let table = match number(instruction.memory_base()) {
        None if instruction.memory_base() == iced_x86::Register::None => Some(offset),
        None => None,
        Some(base) => match line.made(line.of(base)) {
            Made::Address(table) => Some(table.wrapping_add(offset)),
            _ => None,
        },
    };
    Some(Made::Entry { table, index })
}

fn lea(line: &Line, instruction: &Instruction) -> Option<Made> {
    if let Some(address) = fixed_address(instruction) {
        return Some(Made::Address(address));
    }
    let base = line.of(number(instruction.memory_base())?);
    let offset = instruction.memory_displacement64().cast_signed();
    if instruction.memory_index() == iced_x86::Register::None {
        return (offset.abs() == 1).then_some(Made::Next { of: base, up: offset == 1 });
    }
    let index = line.of(number(instruction.memory_index())?);
    (index == base && offset == 0 && instruction.memory_index_scale() == 1).then_some(Made::Twice(base))
}

/// Stores of words, and half words in memory that are counted up or down, in one instruction or with a register between.
fn remember_stores(line: &mut Line, instruction: &Instruction) {
    let plain = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_index() == iced_x86::Register::None
        && instruction.segment_prefix() == iced_x86::Register::None;
    let Some(base) = number(instruction.memory_base()).filter(|_| plain) else { return };
    let base = line.of(base);
    let offset = instruction.memory_displacement64().cast_signed();
    match (instruction.mnemonic(), instruction.memory_size().size()) {
        (Mnemonic::Mov, 8) => {
            if let Some(value) = operand(line, instruction, 1) {
                line.stores.push(Store { base, offset, value });
            }
        }
        (Mnemonic::Mov, 4) if offset == 0 => {
            if let Some(Made::Next { of, up }) = operand(line, instruction, 1).map(|value| line.made(value))
                && line.made(of) == (Made::Half { base })
            {
                line.counted.push((base, up));
            }
        }
        (Mnemonic::Add | Mnemonic::Sub | Mnemonic::Inc | Mnemonic::Dec, 4) if offset == 0 => {
            if let Some(up) = up(instruction) {
                line.counted.push((base, up));
            }
        }
        _ => {}
    }
}

/// `mov r64, r64`.
fn copy(instruction: &Instruction) -> Option<Register> {
    let registers = instruction.op_count() == 2
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register;
    let plain = registers
        && instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register().is_gpr64()
        && instruction.op1_register().is_gpr64();
    plain.then(|| number(instruction.op1_register())).flatten()
}

/// Whether an `add`, `sub`, `inc` or `dec` counts by one, and which way.
fn up(instruction: &Instruction) -> Option<bool> {
    let by = match instruction.op_count() {
        1 => 1,
        _ => match instruction.op1_kind() {
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => instruction.immediate(1).cast_signed(),
            OpKind::Immediate8to32 | OpKind::Immediate32 => {
                i64::from((instruction.immediate(1) as u32).cast_signed())
            }
            _ => return None,
        },
    };
    match (instruction.mnemonic(), by) {
        (Mnemonic::Add | Mnemonic::Inc, 1) | (Mnemonic::Sub, -1) => Some(true),
        (Mnemonic::Sub | Mnemonic::Dec, 1) | (Mnemonic::Add, -1) => Some(false),
        _ => None,
    }
}

/// By how many bits a shift by a constant shifts.
fn shift(instruction: &Instruction) -> Option<u8> {
    match instruction.op1_kind() {
        OpKind::Immediate8 => Some(instruction.immediate8()),
        _ => None,
    }
}
