//! Births from 3.13 on: `op->ob_refcnt = 1; if (tracer) tracer(op, PyRefTracer_CREATE, data)` (`Objects/object.c`, `new_reference`). The store may stand anywhere around the
//! test. An object that dies has a like test, without the store, and says `PyRefTracer_DESTROY`, which is 1 (`Include/cpython/object.h`).

use std::collections::{BTreeMap, HashSet};

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use tracer_common::hook::Register;

use super::super::super::sites::spot::{is_emulated, number};
use super::super::super::sites::wrapper::fixed_address;
use super::super::values::{Line, Value};
use super::super::ways::{after, leading};
use super::super::{Code, is_near};
use super::{Birth, Births, Count, Origins, READ, SIDE, sides, stored, stores_word, typed};

/// A test of the word.
struct Test {
    jump: Instruction,
    /// The count of an object was set to 1 before.
    counted: bool,
    /// The register that holds that object there.
    object: Option<Register>,
}

/// What is said of the object when somebody listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Birth,
    Death,
}

/// The word in which the function at `entry` looks for the tracer.
pub(super) fn word(code: &Code<'_>, entry: u64) -> Option<u64> {
    let load = code
        .from(entry)
        .take(SIDE)
        .take_while(|at| at.flow_control() == FlowControl::Next)
        .find(loads_word)?;
    let test = tests(code, &load).into_iter().next()?;
    let (zero, set) = sides(code, &test.jump)?;
    let counted = test.object.is_some() || matches!(stored(code, zero), Some(Count::One(_)));
    (counted && event(code, set) == Some(Event::Birth)).then(|| fixed_address(&load)).flatten()
}

/// All births that look there.
pub(super) fn births(
    code: &Code<'_>,
    word: u64,
    origins: &mut Origins<'_>,
    start: impl Fn(u64) -> Option<u64>,
) -> Births {
    let (mut births, mut lost) = (BTreeMap::new(), Vec::new());
    for load in code.readers(word).into_iter().filter_map(|ip| code.at(ip)).filter(loads_word) {
        for Test { jump, counted, object } in tests(code, &load) {
            let Some((zero, set)) = sides(code, &jump) else { continue };
            let event = event(code, set);
            if event == Some(Event::Death) {
                continue;
            }
            let later = || match stored(code, zero) {
                Some(Count::One(object)) => Some(object),
                _ => None,
            };
            let born = event == Some(Event::Birth);
            let object = object.or_else(later).or_else(|| typed(code, jump.ip()).filter(|_| born));
            let Some(object) = object else {
                // Without a store, an object that was about to change its place goes on living where it is (`_PyBytes_Resize`).
                lost.extend((born && (counted || counts(code, zero))).then_some(jump.ip()));
                continue;
            };
            let emulated = is_emulated(&jump, code.bytes(&jump));
            let origin = origins.of(jump.ip(), object, start(jump.ip()));
            births.insert(jump.ip(), Birth { ip: jump.ip(), object, emulated, origin });
        }
    }
    // Where the ways of several reads join, one of them may tell what another does not.
    lost.retain(|ip| !births.contains_key(ip));
    lost.sort_unstable();
    lost.dedup();
    Births { births: births.into_values().collect(), lost }
}

/// `mov r64, [fixed]`.
fn loads_word(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register().is_gpr64()
        && instruction.op1_kind() == OpKind::Memory
        && fixed_address(instruction).is_some()
}

/// The jumps that test what `load` loads, on all ways from there.
fn tests(code: &Code<'_>, load: &Instruction) -> Vec<Test> {
    let mut line = Line::new();
    let mut object = None;
    // What always runs before, back to the nearest call or to another read of the word, which is about another object.
    let mut way = leading(code, load.ip(), SIDE);
    way.pop();
    let other = way.iter().rposition(|at| fixed_address(at) == fixed_address(load));
    for at in way.iter().skip(other.map_or(0, |other| other + 1)) {
        object = counted(&line, at).or(object);
        line.step(at);
    }
    line.step(load);
    let Some(value) = number(load.op0_register()).map(|into| line.of(into)) else { return Vec::new() };
    let mut found = Vec::new();
    let mut open: Vec<_> = code.at(load.next_ip()).map(|at| (line, at, object)).into_iter().collect();
    let (mut room, mut seen) = (READ, HashSet::new());
    while let Some((mut line, mut at, mut object)) = open.pop() {
        let mut flags = false;
        while room > 0 && seen.insert(at.ip()) && line.holders(value).first().is_some() {
            room -= 1;
            let decides = at.flow_control() == FlowControl::ConditionalBranch;
            if decides && flags && matches!(at.mnemonic(), Mnemonic::Je | Mnemonic::Jne) {
                let held = object.and_then(|object| line.holders(object).first());
                found.push(Test { jump: at, counted: object.is_some(), object: held });
                break;
            }
            flags =
                tests_value(&line, &at, value) || flags && at.rflags_modified() == iced_x86::RflagsBits::NONE;
            object = counted(&line, &at).or(object);
            line.step(&at);
            if decides
                && is_near(&at)
                && let Some(taken) = code.at(at.near_branch64())
            {
                open.push((line.fork(), taken, object));
            }
            let next = if decides { code.at(at.next_ip()) } else { after(code, &at) };
            let Some(next) = next else { break };
            at = next;
        }
    }
    found
}

/// The object whose count an instruction sets to 1.
fn counted(line: &Line, at: &Instruction) -> Option<Value> {
    let base = number(at.memory_base()).filter(|base| sets_one(at) && *base != Register::Rsp);
    base.map(|base| line.of(base))
}

/// `mov qword [r], 1`.
fn sets_one(at: &Instruction) -> bool {
    stores_word(at) && at.op1_kind() == OpKind::Immediate32to64 && at.immediate(1) == 1
}

/// Whether a count is set to 1 on a way that nothing decides.
fn counts(code: &Code<'_>, from: Instruction) -> bool {
    std::iter::successors(Some(from), |at| after(code, at)).take(SIDE).any(|at| sets_one(&at))
}

/// `test r, r` of a value.
fn tests_value(line: &Line, instruction: &Instruction, value: Value) -> bool {
    let holds = |index: u32| {
        instruction.op_kind(index) == OpKind::Register
            && instruction.op_register(index).is_gpr64()
            && number(instruction.op_register(index)).is_some_and(|register| line.of(register) == value)
    };
    instruction.mnemonic() == Mnemonic::Test && holds(0) && holds(1)
}

/// What is said to whom a register names, on the ways from here; the compiler may have guessed whom, and compare first.
fn event(code: &Code<'_>, set: Instruction) -> Option<Event> {
    let mut open = vec![(set, None)];
    let mut room = READ;
    while let Some((mut at, mut event)) = open.pop() {
        while room > 0 {
            room -= 1;
            let rsi = at.op_count() > 0
                && at.op0_kind() == OpKind::Register
                && number(at.op0_register()) == Some(Register::Rsi);
            if rsi {
                event = match (at.mnemonic(), at.op1_kind()) {
                    (Mnemonic::Xor, OpKind::Register) => Some(Event::Birth),
                    (Mnemonic::Mov, OpKind::Immediate32) if at.immediate32() == 1 => Some(Event::Death),
                    _ => None,
                };
            }
            let next = match at.flow_control() {
                FlowControl::IndirectCall | FlowControl::IndirectBranch if event.is_some() => return event,
                FlowControl::ConditionalBranch => {
                    open.extend(code.at(at.near_branch64()).filter(|_| is_near(&at)).map(|at| (at, event)));
                    code.at(at.next_ip())
                }
                _ => after(code, &at),
            };
            let Some(next) = next else { break };
            at = next;
        }
    }
    None
}
