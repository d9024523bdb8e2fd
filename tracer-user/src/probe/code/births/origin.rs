//! Where the memory of a new object is from, by following its address back over all ways that lead to its birth. An allocation gives it as the result of a call, or from
//! a pool's list of free blocks; a freelist, from anywhere else in memory.

use std::collections::HashSet;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Name,
};
use tracer_common::hook::Register;

use super::super::super::sites::spot::number;
use super::super::{Code, ways};

/// Where the memory of a new object is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Fresh from an allocator, on every way.
    Fresh,
    /// On some way it was kept somewhere, as in a freelist, or nothing is known.
    Kept,
}

/// Places that are looked at for one birth.
const STEPS: usize = 2_000;

/// Sums that are followed, one in the other.
const SUMS: u32 = 2;

/// Instructions between a pool's list being read and the block being taken off it.
const TAKEN: usize = 24;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Register(Register),
    /// So many bytes above the stack pointer.
    Stack(u64),
}

impl Place {
    const fn key(self) -> (bool, u64) {
        match self {
            Self::Register(register) => (false, register as u64),
            Self::Stack(offset) => (true, offset),
        }
    }
}

/// What an instruction says of the value that is in a place behind it.
enum Before {
    /// It was here.
    In(Place),
    /// It is the sum of these: an address and a distance.
    Sum(Register, Register),
    /// It was just allocated.
    Fresh,
    /// It was kept, or nobody knows.
    Kept,
}

/// Follows values back. `stores` are the places where blocks are taken off a pool's list.
pub struct Origins<'a> {
    code: &'a Code<'a>,
    stores: HashSet<u64>,
    factory: InstructionInfoFactory,
}

impl<'a> Origins<'a> {
    /// For a file whose blocks are taken off their pools at `stores`.
    #[must_use]
    pub fn new(code: &'a Code<'a>, stores: impl Iterator<Item = u64>) -> Self {
        Self { code, stores: stores.collect(), factory: InstructionInfoFactory::new() }
    }

    /// Where the object in `object` at `ip` is from, in a function that begins at `start`.
    pub fn of(&mut self, ip: u64, object: Register, start: Option<u64>) -> Origin {
        if self.is_fresh(ip, object, start, SUMS) { Origin::Fresh } else { Origin::Kept }
    }

    /// Whether it is fresh on every way, through at most so many sums.
    fn is_fresh(&mut self, ip: u64, object: Register, start: Option<u64>, sums: u32) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![(ip, Place::Register(object))];
        while let Some((at, place)) = open.pop() {
            if !seen.insert((at, place.key())) {
                continue;
            }
            let Some(known) = self.before(at) else { return false };
            // What a function is given can be anybody's; its cold part, which has a beginning of its own, is jumped to with what the rest of it holds.
            if seen.len() > STEPS || start == Some(at) && is_argument(place) {
                return false;
            }
            for instruction in known {
                match self.step(&instruction, place) {
                    Before::In(place) => open.push((instruction.ip(), place)),
                    Before::Sum(one, other) => {
                        let mut fresh =
                            |register| sums > 0 && self.is_fresh(instruction.ip(), register, start, sums - 1);
                        if !fresh(one) && !fresh(other) {
                            return false;
                        }
                    }
                    Before::Fresh => {}
                    Before::Kept => return false,
                }
            }
        }
        true
    }

    /// What may run right before the instruction at `ip`, calls that come back there included; `None` if not all of it is known.
    fn before(&self, ip: u64) -> Option<Vec<Instruction>> {
        let before = ways::before(self.code, ip);
        let call = self.code.before(ip).filter(is_call);
        // `unknown` was said because of the call, or because there are too many jumps.
        let all = !before.unknown || call.is_some() && before.known.len() == self.code.jumps_to(ip).len();
        let known: Vec<Instruction> = before.known.into_iter().chain(call).collect();
        (all && !known.is_empty()).then_some(known)
    }

    /// Where the value in `place` was before an instruction.
    fn step(&mut self, instruction: &Instruction, place: Place) -> Before {
        if is_call(instruction) {
            return across_call(place);
        }
        let written = |factory: &mut InstructionInfoFactory, register: Register| {
            let info = factory.info(instruction);
            info.used_registers().iter().any(|used| {
                number(used.register()) == Some(register)
                    && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None)
            })
        };
        match place {
            Place::Register(register) if written(&mut self.factory, register) => {
                self.makes(instruction, register)
            }
            Place::Stack(_) if written(&mut self.factory, Register::Rsp) => Before::Kept,
            Place::Stack(offset)
                if instruction.op_count() > 0
                    && instruction.op0_kind() == OpKind::Memory
                    && on_stack(instruction) == Some(offset) =>
            {
                let from = (instruction.mnemonic() == Mnemonic::Mov && instruction.op1_register().is_gpr64())
                    .then(|| number(instruction.op1_register()))
                    .flatten();
                match from {
                    Some(from) => Before::In(Place::Register(from)),
                    // A comparison only reads it.
                    None if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) => {
                        Before::In(place)
                    }
                    None => Before::Kept,
                }
            }
            _ => Before::In(place),
        }
    }

    /// Where the value was that this instruction has put into a register.
    fn makes(&self, instruction: &Instruction, register: Register) -> Before {
        let into = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && number(instruction.op0_register()) == Some(register);
        if into
            && instruction.mnemonic() == Mnemonic::Xor
            && instruction.op0_register() == instruction.op1_register()
        {
            // Nothing was born on this way.
            return Before::Fresh;
        }
        if !into || !instruction.op0_register().is_gpr64() {
            return Before::Kept;
        }
        let registers = instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Register;
        let from = match (instruction.mnemonic(), instruction.op_count()) {
            (Mnemonic::Mov, 2) if instruction.op1_kind() == OpKind::Register => {
                number(instruction.op1_register())
            }
            (Mnemonic::Mov, 2) if instruction.op1_kind() == OpKind::Memory => {
                return self.loaded(instruction);
            }
            // An object lies behind the collector's two words, or what the debug hooks put before it.
            (Mnemonic::Lea, 2) if instruction.memory_index() == Name::None => {
                number(instruction.memory_base())
            }
            (Mnemonic::Lea, 2) if instruction.memory_index_scale() == 1 => {
                let parts = number(instruction.memory_base()).zip(number(instruction.memory_index()));
                return parts.map_or(Before::Kept, |(one, other)| Before::Sum(one, other));
            }
            (Mnemonic::Add, 2) if registers => {
                let other = number(instruction.op1_register());
                return other.map_or(Before::Kept, |other| Before::Sum(register, other));
            }
            (Mnemonic::Add | Mnemonic::Sub, 2) if instruction.op1_kind() != OpKind::Memory => Some(register),
            _ => None,
        };
        from.map_or(Before::Kept, |from| Before::In(Place::Register(from)))
    }

    /// A word was read from memory: from the stack, where it had been put aside, from a pool's list of free blocks, or from a freelist.
    fn loaded(&self, load: &Instruction) -> Before {
        if let Some(offset) = on_stack(load) {
            return Before::In(Place::Stack(offset));
        }
        let off_a_pool = load.memory_displacement64() == 8
            && load.memory_index() == Name::None
            && self.code.from(load.next_ip()).take(TAKEN).any(|at| self.stores.contains(&at.ip()));
        if off_a_pool { Before::Fresh } else { Before::Kept }
    }
}

/// Whether a function's arguments are passed there (System V ABI).
const fn is_argument(place: Place) -> bool {
    use Register::{R8, R9, Rcx, Rdi, Rdx, Rsi};
    matches!(place, Place::Stack(_) | Place::Register(Rdi | Rsi | Rdx | Rcx | R8 | R9))
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
}

/// How far above the stack pointer the memory lies that an instruction names, if it does.
fn on_stack(instruction: &Instruction) -> Option<u64> {
    let constant = instruction.memory_base() == Name::RSP && instruction.memory_index() == Name::None;
    constant.then(|| instruction.memory_displacement64())
}

/// What a call leaves alone (System V ABI), and what it gives.
const fn across_call(place: Place) -> Before {
    match place {
        Place::Register(Register::Rax) => Before::Fresh,
        Place::Register(
            Register::Rbx | Register::Rbp | Register::R12 | Register::R13 | Register::R14 | Register::R15,
        )
        | Place::Stack(_) => Before::In(place),
        Place::Register(_) => Before::Kept,
    }
}
