//! What the registers hold along a straight line of code, as far as it matters for pymalloc: values are numbered, and each knows how it was made.
//! Two registers with the same number hold the same value.

use iced_x86::InstructionInfoFactory;
use tracer_common::hook::Register;

use super::instruction::AnyInstruction;
use super::registers::Registers;

/// Places for registers, by their numbers.
const PLACES: usize = Register::Sp as usize + 1;

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
pub struct Line {
    held: [Value; PLACES],
    /// For each value: how it was made, and the instruction that made it.
    made: Vec<(Made, u64)>,
    /// Stores of words, in order.
    pub(super) stores: Vec<Store>,
    /// Half words in memory that were counted up or down by one: where, and which way.
    pub(super) counted: Vec<(Value, bool)>,
    /// In which the decoder of x86-64 tells the registers that an instruction uses.
    pub(super) factory: InstructionInfoFactory,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            held: std::array::from_fn(|register| register),
            made: vec![(Made::Somehow, 0); PLACES],
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
        value < PLACES
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
        let holds = |register: &Register| {
            !matches!(register, Register::Rsp | Register::Sp) && self.held[*register as usize] == value
        };
        Register::ALL.into_iter().chain(Register::AARCH64).filter(holds).collect()
    }

    /// Takes an instruction into account.
    pub(super) fn step<I: AnyInstruction>(&mut self, instruction: &I) {
        instruction.step(self);
    }

    /// Makes a register hold a value.
    pub(super) fn put(&mut self, register: Register, value: Value) {
        self.held[register as usize] = value;
    }

    /// Makes a register hold a new value, made by the instruction at `ip`.
    pub(super) fn set(&mut self, register: Register, made: Made, ip: u64) {
        let value = self.value(made, ip);
        self.put(register, value);
    }

    /// A new value, made by the instruction at `ip`, that no register holds yet.
    pub(super) fn value(&mut self, made: Made, ip: u64) -> Value {
        self.made.push((made, ip));
        self.made.len() - 1
    }
}
