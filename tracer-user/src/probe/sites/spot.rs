//! The first instruction of a function that the kernel emulates while the arguments still lie in registers.
//!
//! A trap on an emulated instruction costs about 0.7 µs, on any other 9 µs on a virtual machine, because the kernel must step it
//! out of line (facts/ebpf.md §2.1). What is emulated: Linux `arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and `push_setup_xol_ops`.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
};
use tracer_common::hook::Register;

/// Instructions that are looked at from the entry on.
const STRAIGHT_LINE: usize = 32;

/// Where in a function the trap goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Bytes from the function's entry.
    pub offset: u64,
    /// The registers that hold the wanted arguments there, in the order in which they were asked for.
    pub arguments: Vec<Register>,
    /// Words that were pushed before, so that the entry's stack pointer can be known.
    pub pushed_words: u8,
    /// Whether the kernel emulates the instruction.
    pub emulated: bool,
}

/// The cheapest valid spot of a function: the first emulated instruction before an argument is lost, else the entry itself. `None` for bytes that
/// are no code.
///
/// `wanted` are the argument registers of the calling convention. The walk is straight: it ends at the first jump, so the instruction is
/// run once per call, unless a later jump leads back to it; such functions are trapped at the entry.
#[must_use]
pub fn first_emulated(code: &[u8], vaddr: u64, wanted: &[Register]) -> Option<Spot> {
    let entry = Spot { offset: 0, arguments: wanted.to_vec(), pushed_words: 0, emulated: false };
    let mut state = State::new(wanted);
    let mut factory = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE);
    for _ in 0..STRAIGHT_LINE {
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        let offset = instruction.ip().wrapping_sub(vaddr);
        if instruction.is_invalid() {
            return (offset != 0).then_some(entry);
        }
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| code.get(from..from + instruction.len()))
            .unwrap_or_default();
        if is_emulated(&instruction, bytes) {
            let Some(arguments) = state.arguments() else { break };
            let Ok(pushed_words) = u8::try_from(state.pushed_bytes / 8) else { break };
            let spot = Spot { offset, arguments, pushed_words, emulated: true };
            return Some(if leads_back(code, vaddr, offset) { entry } else { spot });
        }
        if instruction.flow_control() != FlowControl::Next || !state.step(&instruction, &mut factory) {
            break;
        }
    }
    (!code.is_empty()).then_some(entry)
}

/// Whether a jump of the function goes back to a place after its entry and not after `offset`, other than the entry of a recursion.
fn leads_back(code: &[u8], vaddr: u64, offset: u64) -> bool {
    let spot = vaddr.wrapping_add(offset);
    let jumps = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE);
    jumps.into_iter().any(|instruction| {
        let jump = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        );
        let near = matches!(instruction.op0_kind(), OpKind::NearBranch64);
        jump && near && instruction.ip() >= spot && (vaddr..=spot).contains(&instruction.near_branch64())
    })
}

/// Whether the kernel emulates this instruction instead of stepping it.
pub(in crate::probe) fn is_emulated(instruction: &Instruction, bytes: &[u8]) -> bool {
    let wide = bytes
        .iter()
        .take_while(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3));
    let prefixes: Vec<u8> = wide.copied().collect();
    match bytes.get(prefixes.len()..).unwrap_or_default() {
        [0x90, ..] => true,
        [0x50..=0x57] | [0x41, 0x50..=0x57] => prefixes.is_empty(),
        [0xeb | 0xe9 | 0xe8 | 0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => {
            !prefixes.contains(&0x66) && instruction.op0_kind() == OpKind::NearBranch64
        }
        _ => false,
    }
}

/// What is known at an instruction: where each argument is, and how far the stack pointer has moved.
struct State {
    /// For each wanted argument, its own register, and a bit for each register that holds it.
    holders: Vec<(Register, u16)>,
    pushed_bytes: u64,
}

impl State {
    fn new(wanted: &[Register]) -> Self {
        Self { holders: wanted.iter().map(|register| (*register, bit(*register))).collect(), pushed_bytes: 0 }
    }

    /// A register for each argument, its own if it still holds it; `None` when one is lost.
    fn arguments(&self) -> Option<Vec<Register>> {
        let holder = |(own, holders): &(Register, u16)| {
            if holders & bit(*own) != 0 {
                return Some(*own);
            }
            Register::ALL.into_iter().find(|register| holders & bit(*register) != 0)
        };
        self.holders.iter().map(holder).collect()
    }

    /// Takes an instruction into account; false when the stack pointer can no longer be told or an argument is lost.
    fn step(&mut self, instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
        let is_register = |index| instruction.op_kind(index) == OpKind::Register;
        let copy = (instruction.mnemonic() == Mnemonic::Mov && is_register(0) && is_register(1))
            .then(|| Some((number(instruction.op0_register())?, number(instruction.op1_register())?)))
            .flatten()
            .filter(|_| instruction.op0_register().is_gpr64() && instruction.op1_register().is_gpr64());
        let copied: Vec<bool> = self
            .holders
            .iter()
            .map(|(_, holders)| copy.is_some_and(|(_, from)| holders & bit(from) != 0))
            .collect();
        for used in factory.info(instruction).used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let Some(register) = number(used.register()).filter(|_| written) else { continue };
            if register == Register::Rsp && !self.reserve(instruction) {
                return false;
            }
            for (_, holders) in &mut self.holders {
                *holders &= !bit(register);
            }
        }
        for ((_, holders), copied) in self.holders.iter_mut().zip(copied) {
            if let Some((to, _)) = copy.filter(|_| copied) {
                *holders |= bit(to);
            }
        }
        self.holders.iter().all(|(_, holders)| *holders != 0)
    }

    /// `sub rsp, N`: the one way in which a prologue moves the stack pointer without an emulated instruction.
    fn reserve(&mut self, instruction: &Instruction) -> bool {
        let constant = matches!(instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64);
        if instruction.mnemonic() != Mnemonic::Sub || instruction.op0_kind() != OpKind::Register || !constant
        {
            return false;
        }
        let bytes = instruction.immediate(1);
        if !bytes.is_multiple_of(8) || bytes > 255 * 8 {
            return false;
        }
        self.pushed_bytes += bytes;
        true
    }
}

const fn bit(register: Register) -> u16 {
    1 << register as u16
}

/// The general purpose register that a register is, or is a part of.
pub(in crate::probe) fn number(register: iced_x86::Register) -> Option<Register> {
    let full = register.full_register();
    full.is_gpr64().then(|| Register::ALL.get(full.number()).copied())?
}
