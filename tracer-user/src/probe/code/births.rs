//! Where objects are born: `_Py_NewReference` (`Objects/object.c`) and the copies of it that the compiler has put into its callers.
//!
//! Up to 3.12 each is `if (tracing) _PyTraceMalloc_NewReference(op); op->ob_refcnt = 1`, with `tracing` a word at a fixed address. The function itself tells that word and
//! whom it calls; a copy tests the same word, calls the same function on one side and stores 1 through a register on the other. tracemalloc reads the word too,
//! but calls nobody. From 3.13 on each is `op->ob_refcnt = 1; if (tracer) tracer(op, PyRefTracer_CREATE, data)`, with `tracer` a pointer at a fixed address, of which deaths have a like
//! test (`traced`). The jump that decides is emulated by the kernel, runs once per birth, and that register holds the object already.

use std::collections::{BTreeMap, HashSet};

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use tracer_common::hook::Register;

use super::super::sites::spot::{is_emulated, number};
use super::super::sites::wrapper::fixed_address;
use super::values::Line;
use super::ways::{after, leading};
use super::{Code, is_near};

mod origin;
mod traced;

pub use origin::{Origin, Origins};

/// Instructions that are followed from the read of the word to the jumps that test it, over all ways.
const READ: usize = 64;

/// Instructions that are followed from the jump to the store, or to the call.
const SIDE: usize = 24;

/// A place where an object is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The address of the conditional jump that gets the trap.
    pub ip: u64,
    /// The register that holds the object there.
    pub object: Register,
    /// The kernel emulates the jump.
    pub emulated: bool,
    /// Where its memory is from.
    pub origin: Origin,
}

/// All copies of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Births {
    /// The copies, by address; the function itself is among them if it tests the word as they do.
    pub births: Vec<Birth>,
    /// Calls of `_PyTraceMalloc_NewReference` that no known copy leads to, and copies in which no register is known to hold the object.
    pub lost: Vec<u64>,
}

/// What the function itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracer {
    /// The address of the word that is not 0 while births are traced; `None` if it is not at a fixed place of this file.
    pub word: Option<u64>,
    /// Who is called then.
    pub callee: Callee,
}

/// Who is called when births are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// `_PyTraceMalloc_NewReference`, or the stub that leads there, at this address (up to 3.12).
    Function(u64),
    /// Whom the word itself names (from 3.13 on, `struct _reftracer_runtime_state`).
    Named,
}

impl Tracer {
    /// Reads `_Py_NewReference` at its entry. `None` if it is neither what it was up to 3.12 nor what it is since.
    #[must_use]
    pub fn of(code: &Code<'_>, entry: u64) -> Option<Self> {
        if let Some(word) = traced::word(code, entry) {
            return Some(Self { word: Some(word), callee: Callee::Named });
        }
        let mut word = None;
        for instruction in code.from(entry).take(SIDE) {
            if instruction.flow_control() == FlowControl::ConditionalBranch {
                let (zero, set) = sides(code, &instruction)?;
                matches!(stored(code, zero)?, Count::One(_)).then_some(())?;
                return Some(Self { word, callee: Callee::Function(called(code, set)?) });
            }
            if instruction.flow_control() != FlowControl::Next {
                return None;
            }
            word = word.or_else(|| fixed_address(&instruction).filter(|_| reads_half(&instruction)));
        }
        None
    }
}

impl Births {
    /// Finds all copies. `start` says where the function that an instruction is in begins.
    #[must_use]
    pub fn of(
        code: &Code<'_>,
        tracer: &Tracer,
        origins: &mut Origins<'_>,
        start: impl Fn(u64) -> Option<u64>,
    ) -> Self {
        let callee = match (tracer.callee, tracer.word) {
            (Callee::Function(callee), _) => callee,
            (Callee::Named, Some(word)) => return traced::births(code, word, origins, start),
            (Callee::Named, None) => return Self::default(),
        };
        let mut lost = Vec::new();
        let mut births = BTreeMap::new();
        let mut calls: HashSet<u64> = [code.calls_of(callee), code.jumps_to(callee)]
            .into_iter()
            .flatten()
            .map(|edge| edge.source)
            .collect();
        for read in tracer.word.map(|word| code.readers(word)).unwrap_or_default() {
            for jump in tests(code, read) {
                let Some((zero, set)) = sides(code, &jump) else { continue };
                let Some(call) = first_call(code, set).filter(|call| calls_it(call, callee)) else {
                    continue;
                };
                calls.remove(&call.ip());
                let object = match stored(code, zero) {
                    Some(Count::One(object)) => Some(object),
                    // An object that was about to die goes on living.
                    Some(Count::Other) => continue,
                    None => typed(code, jump.ip()),
                };
                let Some(object) = object else {
                    lost.push(jump.ip());
                    continue;
                };
                let emulated = is_emulated(&jump, code.bytes(&jump));
                let origin = origins.of(jump.ip(), object, start(jump.ip()));
                births.insert(jump.ip(), Birth { ip: jump.ip(), object, emulated, origin });
            }
        }
        lost.extend(calls);
        lost.sort_unstable();
        lost.dedup();
        Self { births: births.into_values().collect(), lost }
    }

    /// The places that call `_Py_NewReference` at `function`, where the object is the argument: for a build in which it is called and not copied.
    #[must_use]
    pub fn calls(
        code: &Code<'_>,
        function: impl Fn(u64) -> bool,
        origins: &mut Origins<'_>,
        start: impl Fn(u64) -> Option<u64>,
    ) -> Self {
        let mut this = Self::default();
        let edges = [code.calls(), code.jumps()].into_iter().flatten().filter(|edge| function(edge.target));
        for edge in edges {
            let Some(at) = code.at(edge.source) else { continue };
            if at.flow_control() == FlowControl::ConditionalBranch {
                this.lost.push(at.ip());
                continue;
            }
            let object = Register::Rdi;
            let origin = origins.of(at.ip(), object, start(at.ip()));
            let emulated = is_emulated(&at, code.bytes(&at));
            this.births.push(Birth { ip: at.ip(), object, emulated, origin });
        }
        this.births.sort_unstable_by_key(|birth| birth.ip);
        this
    }
}

/// Whether an instruction reads four bytes of memory.
fn reads_half(instruction: &Instruction) -> bool {
    let operand = match instruction.mnemonic() {
        Mnemonic::Mov => 1,
        Mnemonic::Cmp => 0,
        _ => return false,
    };
    instruction.op_kind(operand) == OpKind::Memory && instruction.memory_size().size() == 4
}

/// The jumps that test what the instruction at `read` reads, on all ways from there.
fn tests(code: &Code<'_>, read: u64) -> Vec<Instruction> {
    let mut found = Vec::new();
    let Some(first) = code.at(read).filter(reads_half) else { return found };
    let compares = first.mnemonic() == Mnemonic::Cmp;
    if compares && !is_zero(&first) {
        return found;
    }
    // Ways that are open: what ran since the read, and whether the flags are of the test.
    let mut open = vec![(Line::new(), first, None, compares)];
    let mut room = READ;
    let mut seen = HashSet::new();
    while let Some((mut line, mut at, mut value, mut flags)) = open.pop() {
        loop {
            if room == 0 || !seen.insert((at.ip(), flags)) {
                break;
            }
            room -= 1;
            let decides = at.flow_control() == FlowControl::ConditionalBranch;
            if decides && flags && matches!(at.mnemonic(), Mnemonic::Je | Mnemonic::Jne) {
                found.push(at);
                // Another test of the same register may follow; the flags themselves are used up.
                flags = false;
            }
            if at.ip() != read {
                let tested = value.is_some_and(|value| tests_value(&line, &at, value));
                if tested {
                    flags = true;
                } else if at.rflags_modified() != iced_x86::RflagsBits::NONE {
                    flags = false;
                }
            }
            line.step(&at);
            if at.ip() == read && !compares {
                value = number(at.op0_register()).map(|into| line.of(into));
            }
            let alive = flags || value.is_some_and(|value| line.holders(value).first().is_some());
            if !alive {
                break;
            }
            if decides
                && is_near(&at)
                && let Some(taken) = code.at(at.near_branch64())
            {
                open.push((line.fork(), taken, value, flags));
            }
            let next = if decides { code.at(at.next_ip()) } else { after(code, &at) };
            let Some(next) = next else { break };
            at = next;
        }
    }
    found
}

/// `test r, r` or `cmp r, 0` of a value.
fn tests_value(line: &Line, instruction: &Instruction, value: usize) -> bool {
    let holds = |index: u32| {
        instruction.op_kind(index) == OpKind::Register
            && instruction.op_register(index).is_gpr32()
            && number(instruction.op_register(index)).is_some_and(|register| line.of(register) == value)
    };
    match instruction.mnemonic() {
        Mnemonic::Test => holds(0) && holds(1),
        Mnemonic::Cmp => holds(0) && is_zero(instruction),
        _ => false,
    }
}

/// The second operand is 0.
fn is_zero(instruction: &Instruction) -> bool {
    matches!(instruction.op1_kind(), OpKind::Immediate8to32 | OpKind::Immediate32)
        && instruction.immediate(1) as u32 == 0
}

/// Where a `je` or `jne` goes if the word is 0, and where if it is not.
fn sides(code: &Code<'_>, jump: &Instruction) -> Option<(Instruction, Instruction)> {
    if !is_near(jump) {
        return None;
    }
    let (taken, next) = (code.at(jump.near_branch64())?, code.at(jump.next_ip())?);
    match jump.mnemonic() {
        Mnemonic::Je => Some((taken, next)),
        Mnemonic::Jne => Some((next, taken)),
        _ => None,
    }
}

/// What becomes of a reference count.
enum Count {
    /// It begins at 1, in an object that this register points at where the way begins.
    One(Register),
    /// It goes on.
    Other,
}

/// The store to a reference count on a way that nothing decides.
fn stored(code: &Code<'_>, from: Instruction) -> Option<Count> {
    let mut line = Line::new();
    let mut at = from;
    let mut other = None;
    for _ in 0..SIDE {
        if stores_word(&at) {
            let base = line.of(number(at.memory_base())?);
            let older = Register::ALL.into_iter().find(|register| *register as usize == base);
            if at.op1_kind() == OpKind::Immediate32to64 && at.immediate(1) == 1 {
                return older.map(Count::One);
            }
            other = other.or(older.map(|_| Count::Other));
        }
        line.step(&at);
        let Some(next) = after(code, &at) else { break };
        at = next;
    }
    other
}

/// `mov qword [r], …`: the reference count of an object, or of none.
fn stores_word(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_size().size() == 8
        && instruction.memory_index() == iced_x86::Register::None
        && instruction.memory_displacement64() == 0
        && instruction.segment_prefix() == iced_x86::Register::None
}

/// The register through which an object's type was stored on the only way to `ip`, as late as it can be, if it still holds the object: for code that has put the
/// object aside.
fn typed(code: &Code<'_>, ip: u64) -> Option<Register> {
    let mut line = Line::new();
    let mut object = None;
    for at in leading(code, ip, SIDE) {
        if at.ip() == ip {
            break;
        }
        let to_type = at.mnemonic() == Mnemonic::Mov
            && at.op0_kind() == OpKind::Memory
            && at.memory_size().size() == 8
            && at.memory_index() == iced_x86::Register::None
            && at.memory_displacement64() == 8;
        if to_type && let Some(base) = number(at.memory_base()) {
            object = Some(line.of(base));
        }
        line.step(&at);
    }
    line.holders(object?).first()
}

/// The first call on a way that nothing decides.
fn first_call(code: &Code<'_>, from: Instruction) -> Option<Instruction> {
    let mut at = from;
    for _ in 0..SIDE {
        if matches!(at.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            return Some(at);
        }
        at = after(code, &at)?;
    }
    None
}

fn called(code: &Code<'_>, from: Instruction) -> Option<u64> {
    first_call(code, from).filter(is_near).map(|call| call.near_branch64())
}

fn calls_it(call: &Instruction, callee: u64) -> bool {
    is_near(call) && call.near_branch64() == callee
}

#[cfg(test)]
mod tests;
