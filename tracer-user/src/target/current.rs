//! What names the thread state of a running thread: a word of the runtime, or from 3.12 on the thread-local variable `_Py_tss_tstate`, whose place is in the code of the function that
//! reads it.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use tracer_common::current::{Current, Way};
use tracer_common::walk::UserMemory;

use crate::target::elf::Elf;
use crate::target::memory::Memory;
use crate::target::process::Process;
use crate::target::python::Python;
use crate::target::verified;

/// Functions that return `_Py_tss_tstate` (`Python/pystate.c`), by version: from 3.12 on, and from 3.13 on.
const READERS: [&str; 3] =
    ["_PyThreadState_GetCurrent", "PyThreadState_GetUnchecked", "_PyThreadState_UncheckedGet"];
/// Bytes of such a function that are read.
const LENGTH: usize = 64;
/// A variable of a library that was there from the beginning is at most this far below the thread pointer: all of them together have some KiB.
const STATIC: u64 = 1 << 20;
/// Thread states that are asked.
const THREADS: usize = 4;

/// What names the thread state, of a file.
#[must_use]
pub fn of_file(python: &Python) -> Current {
    let Some(layout) = python.layout() else { return Current::default() };
    if let Some(distance) = layout.threads.runtime_tstate_current {
        return Current { way: Way::Holder as u32, distance: distance.cast_signed(), ..Current::default() };
    }
    let elf = &python.image.elf;
    READERS.iter().find_map(|name| of_function(elf, name, python.runtime_vaddr)).unwrap_or_default()
}

/// The same of a process that runs: where its variable is at a fixed distance from the thread pointer, that.
#[must_use]
pub fn of_process(python: &Python, process: &Process) -> Current {
    let current = of_file(python);
    if current.way != Way::Module as u32 {
        return current;
    }
    let memory = Memory::new(process.pid());
    let Some(runtime) = python.runtime() else { return current };
    let distances = thread_pointers(python, &memory).into_iter().filter_map(|pointer| {
        let place = current.place(&memory, runtime, pointer).ok()?;
        pointer.checked_sub(place).filter(|distance| *distance <= STATIC)
    });
    let distances: Vec<u64> = distances.collect();
    match distances[..] {
        [first, ..] if distances.iter().all(|distance| *distance == first) => {
            Current { way: Way::Thread as u32, distance: -first.cast_signed(), ..Current::default() }
        }
        _ => current,
    }
}

/// The thread pointers of some threads of the first interpreter, as they have said themselves.
fn thread_pointers(python: &Python, memory: &Memory) -> Vec<u64> {
    let Some((layout, runtime)) = python.layout().zip(python.runtime()) else { return Vec::new() };
    let states = verified::thread_states(memory, runtime, layout, THREADS).into_iter();
    states
        .filter_map(|at| memory.word(at.wrapping_add(u64::from(layout.walk.tstate_thread_id))).ok())
        .collect()
}

/// What a function returns, if that is a thread-local variable.
fn of_function(elf: &Elf, name: &str, runtime: u64) -> Option<Current> {
    let symbol = elf.symbol(name)?;
    of_code(elf.at(symbol.address, LENGTH as u64)?, symbol.address, runtime)
}

/// The same of its code. Pure.
fn of_code(code: &[u8], address: u64, runtime: u64) -> Option<Current> {
    let from_runtime = |address: u64| address.wrapping_sub(runtime).cast_signed();
    // What the registers that matter hold: a number in rax, an address in rdi, and whether the linker's function has been asked for it.
    let (mut number, mut pair, mut asked) = (None, None, false);
    for instruction in &mut Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        match instruction.mnemonic() {
            Mnemonic::Ret | Mnemonic::Jmp | Mnemonic::INVALID => return None,
            Mnemonic::Call => asked = pair.is_some(),
            Mnemonic::Lea
                if instruction.op0_register() == Register::RDI && instruction.is_ip_rel_memory_operand() =>
            {
                pair = Some(instruction.ip_rel_memory_address());
            }
            Mnemonic::Mov if is_load(&instruction) => {
                if let Some(distance) = thread_local(&instruction, number) {
                    return Some(Current { way: Way::Thread as u32, distance, ..Current::default() });
                }
                if asked && instruction.memory_base() == Register::RAX {
                    return Some(Current {
                        way: Way::Module as u32,
                        distance: from_runtime(pair?),
                        inside: instruction.memory_displacement64().cast_signed(),
                        ..Current::default()
                    });
                }
            }
            Mnemonic::Mov
                if instruction.op0_register() == Register::RAX && is_number(instruction.op1_kind()) =>
            {
                number = Some(instruction.immediate(1).cast_signed());
            }
            _ => {}
        }
    }
    None
}

/// The distance from the thread pointer that a load means; `number` is what rax holds.
fn thread_local(instruction: &Instruction, number: Option<i64>) -> Option<i64> {
    if instruction.segment_prefix() != Register::FS || instruction.memory_index() != Register::None {
        return None;
    }
    let displacement = instruction.memory_displacement64().cast_signed();
    match instruction.memory_base() {
        // 32 bits that are sign-extended.
        Register::None => Some(i64::from(displacement as i32)),
        Register::RAX => number?.checked_add(displacement),
        _ => None,
    }
}

fn is_load(instruction: &Instruction) -> bool {
    instruction.op0_register() == Register::RAX && instruction.op1_kind() == OpKind::Memory
}

const fn is_number(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate32to64 | OpKind::Immediate64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNTIME: u64 = 0x9000;

    fn told(code: &[u8]) -> Option<Current> {
        of_code(code, 0x1000, RUNTIME)
    }

    fn thread(distance: i64) -> Current {
        Current { way: Way::Thread as u32, distance, ..Current::default() }
    }

    #[test]
    fn executables_read_beside_the_thread_pointer() {
        // endbr64; mov rax, fs:0xffffffffffffffe8; ret (Debian's 3.13).
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x64, 0x48, 0x8b, 0x04, 0x25, 0xe8, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(told(&code), Some(thread(-24)));
        // mov rax, -32; mov rax, fs:[rax]; ret.
        let code = [0x48, 0xc7, 0xc0, 0xe0, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x00, 0xc3];
        assert_eq!(told(&code), Some(thread(-32)));
    }

    #[test]
    fn libraries_ask_for_their_module() {
        // sub rsp, 8; data16 lea rdi, [rip + 0x100]; call; mov rax, [rax + 8]; add rsp, 8; ret.
        let code = [
            0x48, 0x83, 0xec, 0x08, 0x66, 0x48, 0x8d, 0x3d, 0x00, 0x01, 0x00, 0x00, 0xe8, 0x10, 0x00, 0x00,
            0x00, 0x48, 0x8b, 0x40, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3,
        ];
        let pair = 0x100c + 0x100;
        let expected =
            Current { way: Way::Module as u32, distance: pair - 0x9000, inside: 8, ..Current::default() };
        assert_eq!(told(&code), Some(expected));
    }

    #[test]
    fn other_functions_say_nothing() {
        // mov rax, [rip + 0x100]; ret.
        assert_eq!(told(&[0x48, 0x8b, 0x05, 0x00, 0x01, 0x00, 0x00, 0xc3]), None);
        assert_eq!((told(&[0xc3]), told(&[])), (None, None));
    }
}
