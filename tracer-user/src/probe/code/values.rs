//! What the registers hold along a straight line of code, as far as it matters for pymalloc: values are numbered, and each knows how it was made.
//! Two registers with the same number hold the same value.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};
use tracer_common::hook::Register;

use super::super::sites::spot::number;
use super::super::sites::wrapper::fixed_address;
use super::registers::Registers;

/// A value's number.
pub(super) type Value = usize;

/// How a value was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Before the line began, or in a way that does not matter.
    Somehow,
    /// Eight bytes were read from `base + offset`.
    Word { base: Value, offset: i64 },
    /// Four bytes were read from where `base` points.
    Half { base: Value },
    /// Eight bytes were read from a fixed address.
    Fixed(u64),
    /// Eight bytes were read from entry `index` of a table of words, at this address if it is known.
    Entry { table: Option<u64>, index: Value },
    /// A fixed address.
    Address(u64),
    /// One more or one less than another value.
    Next { of: Value, up: bool },
    /// Another value divided by 16.
    Sixteenth(Value),
    /// Twice another value.
    Twice(Value),
}

/// A store of eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) base: Value,
    pub(super) offset: i64,
    pub(super) value: Value,
}

/// The state after some instructions of a straight line.
pub(super) struct Line {
    held: [Value; 16],
    /// For each value: how it was made, and the instruction that made it.
    made: Vec<(Made, u64)>,
    /// Stores of words, in order.
    pub(super) stores: Vec<Store>,
    /// Half words in memory that were counted up or down by one: where, and which way.
    pub(super) counted: Vec<(Value, bool)>,
    factory: InstructionInfoFactory,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            held: std::array::from_fn(|register| register),
            made: vec![(Made::Somehow, 0); 16],
            stores: Vec::new(),
            counted: Vec::new(),
            factory: InstructionInfoFactory::new(),
        }
    }

    /// The same state, to go on with on another way.
    pub(super) fn fork(&self) -> Self {
        Self {
            held: self.held,
            made: self.made.clone(),
            stores: self.stores.clone(),
            counted: self.counted.clone(),
            factory: InstructionInfoFactory::new(),
        }
    }

    /// What a register holds.
    pub(super) fn of(&self, register: Register) -> Value {
        self.held[register as usize]
    }

    /// How a value was made.
    pub(super) fn made(&self, value: Value) -> Made {
        self.made.get(value).map_or(Made::Somehow, |(made, _)| *made)
    }

    /// Whether a value is from before the line began.
    pub(super) const fn is_older(&self, value: Value) -> bool {
        value < Register::ALL.len()
    }

    /// Entries of tables that were read, in order.
    pub(super) fn pools(&self) -> impl Iterator<Item = Made> + '_ {
        self.made.iter().map(|(made, _)| *made).filter(|made| matches!(made, Made::Entry { .. }))
    }

    /// The address of the instruction that made a value; 0 for those from before the line.
    pub(super) fn made_at(&self, value: Value) -> u64 {
        self.made.get(value).map_or(0, |(_, ip)| *ip)
    }

    /// The registers that hold a value. The stack pointer never counts.
    pub(super) fn holders(&self, value: Value) -> Registers {
        let holds =
            |register: &Register| *register != Register::Rsp && self.held[*register as usize] == value;
        Register::ALL.into_iter().filter(holds).collect()
    }

    /// Takes an instruction into account.
    pub(super) fn step(&mut self, instruction: &Instruction) {
        let made = self.makes(instruction);
        let copied = copy(instruction).map(|from| self.of(from)).or_else(|| self.widened(instruction));
        self.remember_stores(instruction);
        for used in self.factory.info(instruction).used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let Some(register) = number(used.register()).filter(|_| written) else { continue };
            self.made.push((Made::Somehow, instruction.ip()));
            self.held[register as usize] = self.made.len() - 1;
        }
        let into = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
            .then(|| number(instruction.op0_register()))
            .flatten();
        let Some(into) = into else { return };
        if let Some(value) = copied {
            self.held[into as usize] = value;
        } else if let Some(made) = made {
            self.held[into as usize] = self.new_value(made, instruction.ip());
        }
    }

    fn new_value(&mut self, made: Made, ip: u64) -> Value {
        self.made.push((made, ip));
        self.made.len() - 1
    }

    /// `mov r32, r32` of a size class: gcc extends it so before it indexes with it. A class has no upper half that could be lost.
    fn widened(&self, instruction: &Instruction) -> Option<Value> {
        let from = (instruction.op_count() == 2 && instruction.mnemonic() == Mnemonic::Mov)
            .then(|| self.operand(instruction, 1))
            .flatten()?;
        let halves = instruction.op1_register().is_gpr32();
        (halves && matches!(self.made(from), Made::Twice(_) | Made::Sixteenth(_))).then_some(from)
    }

    /// What the instruction's first operand, a register, will hold.
    fn makes(&self, instruction: &Instruction) -> Option<Made> {
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return None;
        }
        let into = instruction.op0_register();
        let wide = into.is_gpr64();
        if !wide && !into.is_gpr32() {
            return None;
        }
        let own = self.of(number(into)?);
        match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op1_kind() == OpKind::Memory => self.load(instruction, wide),
            Mnemonic::Mov if instruction.op1_kind() == OpKind::Immediate32 => {
                Some(Made::Address(u64::from(instruction.immediate32())))
            }
            Mnemonic::Lea => self.lea(instruction),
            Mnemonic::Add if self.operand(instruction, 1) == Some(own) => Some(Made::Twice(own)),
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::Inc | Mnemonic::Dec => {
                Some(Made::Next { of: own, up: up(instruction)? })
            }
            Mnemonic::Shr if shift(instruction) == Some(4) => Some(Made::Sixteenth(own)),
            Mnemonic::Shl if shift(instruction) == Some(1) => Some(Made::Twice(own)),
            _ => None,
        }
    }

    fn operand(&self, instruction: &Instruction, index: u32) -> Option<Value> {
        (instruction.op_kind(index) == OpKind::Register)
            .then(|| number(instruction.op_register(index)))
            .flatten()
            .map(|register| self.of(register))
    }

    fn load(&self, instruction: &Instruction, wide: bool) -> Option<Made> {
        if instruction.segment_prefix() != iced_x86::Register::None {
            return None;
        }
        if let Some(address) = fixed_address(instruction) {
            return wide.then_some(Made::Fixed(address));
        }
        let offset = instruction.memory_displacement64();
        if instruction.memory_index() == iced_x86::Register::None {
            let base = self.of(number(instruction.memory_base())?);
            return match (wide, offset) {
                (true, _) => Some(Made::Word { base, offset: offset.cast_signed() }),
                (false, 0) => Some(Made::Half { base }),
                _ => None,
            };
        }
        if !wide || instruction.memory_index_scale() != 8 {
            return None;
        }
        let index = self.of(number(instruction.memory_index())?);
        let table = match number(instruction.memory_base()) {
            None if instruction.memory_base() == iced_x86::Register::None => Some(offset),
            None => None,
            Some(base) => match self.made(self.of(base)) {
                Made::Address(table) => Some(table.wrapping_add(offset)),
                _ => None,
            },
        };
        Some(Made::Entry { table, index })
    }

    fn lea(&self, instruction: &Instruction) -> Option<Made> {
        if let Some(address) = fixed_address(instruction) {
            return Some(Made::Address(address));
        }
        let base = self.of(number(instruction.memory_base())?);
        let offset = instruction.memory_displacement64().cast_signed();
        if instruction.memory_index() == iced_x86::Register::None {
            return (offset.abs() == 1).then_some(Made::Next { of: base, up: offset == 1 });
        }
        let index = self.of(number(instruction.memory_index())?);
        (index == base && offset == 0 && instruction.memory_index_scale() == 1).then_some(Made::Twice(base))
    }

    /// Stores of words, and half words in memory that are counted up or down, in one instruction or with a register between.
    fn remember_stores(&mut self, instruction: &Instruction) {
        let plain = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Memory
            && instruction.memory_index() == iced_x86::Register::None
            && instruction.segment_prefix() == iced_x86::Register::None;
        let Some(base) = number(instruction.memory_base()).filter(|_| plain) else { return };
        let base = self.of(base);
        let offset = instruction.memory_displacement64().cast_signed();
        match (instruction.mnemonic(), instruction.memory_size().size()) {
            (Mnemonic::Mov, 8) => {
                if let Some(value) = self.operand(instruction, 1) {
                    self.stores.push(Store { base, offset, value });
                }
            }
            (Mnemonic::Mov, 4) if offset == 0 => {
                if let Some(Made::Next { of, up }) =
                    self.operand(instruction, 1).map(|value| self.made(value))
                    && self.made(of) == (Made::Half { base })
                {
                    self.counted.push((base, up));
                }
            }
            (Mnemonic::Add | Mnemonic::Sub | Mnemonic::Inc | Mnemonic::Dec, 4) if offset == 0 => {
                if let Some(up) = up(instruction) {
                    self.counted.push((base, up));
                }
            }
            _ => {}
        }
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
