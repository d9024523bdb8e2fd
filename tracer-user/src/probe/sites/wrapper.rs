//! CPython's allocator wrappers, as compiled: `return _PyObject.malloc(_PyObject.ctx, size)` (`Objects/obmalloc.c`). Decoding one tells
//! where the table of function pointers lies and whether the function is still only that.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// A wrapper longer than this has the allocator inlined, in bytes. Pure ones have 17 to 51 (facts/cpython.md §1.3, §7).
const PURE: u64 = 64;

/// What a wrapper's code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// Address, in the file's own address space, of the function pointer that it calls through.
    pub slot: u64,
    /// It does nothing else.
    pub pure: bool,
}

/// Decodes a wrapper. `None` if it calls through no pointer at a fixed address.
#[must_use]
pub fn decode(code: &[u8], vaddr: u64) -> Option<Wrapper> {
    let mut loads = Loads::default();
    let mut slot = None;
    let mut guarded = false;
    for instruction in Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE) {
        let used = loads.slot_used_by(&instruction);
        match instruction.flow_control() {
            FlowControl::IndirectBranch | FlowControl::IndirectCall => slot = slot.or(used),
            FlowControl::Next if used.is_some() => {
                // A comparison of the pointer: the compiler has guessed the callee, and inlined it.
                guarded = true;
                slot = slot.or(used);
            }
            _ => {}
        }
        loads.step(&instruction);
    }
    Some(Wrapper { slot: slot?, pure: !guarded && code.len() as u64 <= PURE })
}

/// The registers that hold a word loaded from a fixed address, followed in the order of the code.
#[derive(Debug, Default)]
pub(super) struct Loads {
    from: [Option<u64>; 16],
}

impl Loads {
    /// The address of the pointer that this instruction calls, jumps to or compares, from memory or after a load.
    pub(super) fn slot_used_by(&self, instruction: &Instruction) -> Option<u64> {
        let indirect =
            matches!(instruction.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall);
        let compare = instruction.mnemonic() == Mnemonic::Cmp;
        let operands = if indirect {
            1
        } else if compare {
            2
        } else {
            0
        };
        (0..operands).find_map(|index| match instruction.op_kind(index) {
            OpKind::Memory => fixed_address(instruction),
            OpKind::Register => self.from[index_of(instruction.op_register(index))?],
            _ => None,
        })
    }

    /// Takes an instruction into account: it may load a register, or overwrite one.
    pub(super) fn step(&mut self, instruction: &Instruction) {
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return;
        }
        let Some(index) = index_of(instruction.op0_register()) else { return };
        if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) {
            return;
        }
        let load = instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Memory;
        let wide = instruction.op0_register().is_gpr64();
        self.from[index] = if load && wide { fixed_address(instruction) } else { None };
    }

    /// Forgets everything: code from somewhere else begins.
    pub(super) fn clear(&mut self) {
        self.from = [None; 16];
    }
}

fn index_of(register: Register) -> Option<usize> {
    super::spot::number(register).map(|register| register as usize)
}

/// The address of a memory operand that depends on no register but the instruction pointer.
pub(in crate::probe) fn fixed_address(instruction: &Instruction) -> Option<u64> {
    let plain = instruction.memory_index() == Register::None
        && matches!(instruction.memory_base(), Register::None | Register::RIP)
        && matches!(instruction.segment_prefix(), Register::None | Register::DS);
    plain.then(|| instruction.memory_displacement64())
}
