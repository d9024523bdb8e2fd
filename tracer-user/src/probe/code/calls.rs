//! The places where a file calls the C library's allocator. Memory that pymalloc does not hand out itself (`Objects/obmalloc.c`, requests over 512 bytes and
//! `PyMem_RawMalloc`) comes from there, through however many layers the compiler has left; which library answers (glibc, jemalloc, tcmalloc) makes no difference
//! to the call.

use tracer_common::hook::{Register, Role};

use super::instruction::{AnyInstruction, Flow};
use super::pymalloc::most_frequent;
use super::values::Line;
use super::{Code, Word};

/// Instructions that are looked at behind a call.
const BEHIND: usize = 16;

/// The most calls that are followed; Debian's CPython has 256.
const CALLS: usize = 1 << 16;

/// Where a call's result can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The address of the instruction that gets the trap.
    pub ip: u64,
    /// The register that holds the result there.
    pub register: Register,
    /// The kernel emulates the instruction.
    pub emulated: bool,
}

/// What a call does to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It comes back: here.
    Call(Outcome),
    /// It is a jump, with the return address of whoever called the function that jumps.
    Jump,
}

/// A call of an allocator function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The address of the instruction.
    pub ip: u64,
    /// The address behind it.
    pub next_ip: u64,
    /// What is called.
    pub role: Role,
    /// How.
    pub kind: Kind,
    /// The kernel emulates the instruction.
    pub emulated: bool,
    /// It is made for a request that pymalloc passes on: its result is counted among those.
    pub passed_on: bool,
    /// It calls `PyMem_Raw…`, behind which another call of this list follows.
    pub outer: bool,
}

/// What a function's address is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// The C library's.
    Libc(Role),
    /// `PyMem_RawMalloc` and family.
    Raw(Role),
}

/// All calls of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The calls, by address.
    pub calls: Vec<Call>,
    /// Conditional jumps to an allocator: nothing tells whether they are taken.
    pub lost: Vec<u64>,
    /// The word in which CPython counts the requests that pymalloc passed on (`raw_allocated_blocks`), if it was found.
    pub counter: Option<Word>,
}

/// The C library's allocator functions that are followed, and what they mean.
const LIBC: [(&str, Role); 8] = [
    ("malloc", Role::Malloc),
    ("calloc", Role::Calloc),
    ("realloc", Role::Realloc),
    ("free", Role::Free),
    ("aligned_alloc", Role::AlignedAlloc),
    ("memalign", Role::AlignedAlloc),
    ("posix_memalign", Role::PosixMemalign),
    ("valloc", Role::Malloc),
];

/// CPython's own, that allocate.
const RAW: [(&str, Role); 3] = [
    ("PyMem_RawMalloc", Role::Malloc),
    ("PyMem_RawCalloc", Role::Calloc),
    ("PyMem_RawRealloc", Role::Realloc),
];

impl Callee {
    /// The allocator function of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let role =
            |list: &[(&str, Role)]| list.iter().find(|(known, _)| *known == name).map(|(_, role)| *role);
        role(&LIBC).map(Self::Libc).or_else(|| role(&RAW).map(Self::Raw))
    }
}

impl Calls {
    /// Finds them all. `callee` says which function an address is (its own, or the stub that leads to another file), `imported` which one a pointer will be.
    #[must_use]
    pub fn of<I: AnyInstruction>(
        code: &Code<'_, I>,
        callee: impl Fn(u64) -> Option<Callee>,
        imported: impl Fn(u64) -> Option<Callee>,
    ) -> Self {
        let mut found: Vec<(u64, Callee)> = Vec::new();
        for edges in [code.calls(), code.jumps()] {
            for same in edges.chunk_by(|one, other| one.target == other.target) {
                let Some(callee) = same.first().and_then(|edge| callee(edge.target)) else { continue };
                found.extend(same.iter().map(|edge| (edge.source, callee)));
            }
        }
        found.extend(
            code.throughs().iter().filter_map(|through| Some((through.source, imported(through.pointer)?))),
        );
        found.sort_unstable_by_key(|(ip, _)| *ip);
        let too_many = found.split_off(found.len().min(CALLS));
        let mut this = Self { lost: too_many.into_iter().map(|(ip, _)| ip).collect(), ..Self::default() };
        let mut tallies = Vec::new();
        for (ip, callee) in found {
            // The stubs themselves are jumps through a pointer too: whoever jumps to them was found already.
            let Some(instruction) = code.at(ip).filter(|at| !is_stub(code, at)) else { continue };
            match read(code, &instruction, callee) {
                Some(call) => {
                    tallies.push(tally_behind(code, &call));
                    this.calls.push(call);
                }
                None => this.lost.push(ip),
            }
        }
        this.counter = most_frequent(tallies.iter().flatten().copied());
        for (call, tally) in this.calls.iter_mut().zip(tallies) {
            call.passed_on = tally.is_some() && tally == this.counter;
        }
        // A plain call of `PyMem_Raw…` is seen where that calls the C library.
        this.calls.retain(|call| !call.outer || call.passed_on);
        this
    }
}

/// A stub of the procedure linkage table: a jump through a pointer that others jump to or call.
fn is_stub<I: AnyInstruction>(code: &Code<'_, I>, instruction: &I) -> bool {
    let through = instruction.flow() == Flow::JumpThrough;
    // What else is in a stub stands before it.
    let entries = instruction.at().saturating_sub(I::STUB)..instruction.at() + 1;
    through
        && (!code.jumps_into(entries.clone()).is_empty()
            || entries.into_iter().any(|ip| !code.calls_of(ip).is_empty()))
}

fn read<I: AnyInstruction>(code: &Code<'_, I>, instruction: &I, callee: Callee) -> Option<Call> {
    let (role, outer) = match callee {
        Callee::Libc(role) => (role, false),
        Callee::Raw(role) => (role, true),
    };
    let kind = match instruction.flow() {
        Flow::Jump | Flow::JumpThrough => Kind::Jump,
        Flow::Call | Flow::CallThrough => Kind::Call(outcome(code, instruction.end())?),
        _ => return None,
    };
    Some(Call {
        ip: instruction.at(),
        next_ip: instruction.end(),
        role,
        kind,
        emulated: instruction.is_emulated(code.bytes(instruction)),
        passed_on: false,
        outer,
    })
}

/// The first emulated instruction behind a call at which a register still holds its result, with the stack pointer where the call left it; else the first one.
fn outcome<I: AnyInstruction>(code: &Code<'_, I>, behind: u64) -> Option<Outcome> {
    let mut line = Line::new();
    let result = line.of(I::RESULT);
    let stack = line.of(I::STACK);
    let mut stepped = None;
    for instruction in code.from(behind).take(BEHIND) {
        let register = line.holders(result).first().filter(|_| line.of(I::STACK) == stack);
        let Some(register) = register else { break };
        let outcome = Outcome { ip: instruction.at(), register, emulated: true };
        if instruction.is_emulated(code.bytes(&instruction)) {
            return Some(outcome);
        }
        stepped = stepped.or(Some(Outcome { emulated: false, ..outcome }));
        if instruction.flow() != Flow::Next {
            break;
        }
        line.step(&instruction);
    }
    stepped
}

/// The word that is counted up soon after a call, on the way on which it has not failed.
fn tally_behind<I: AnyInstruction>(code: &Code<'_, I>, call: &Call) -> Option<Word> {
    let Kind::Call(outcome) = call.kind else { return None };
    let mut at = code.at(outcome.ip);
    for _ in 0..BEHIND {
        let instruction = at?;
        if let Some(tally) = code.tally_at(instruction.at()).filter(|tally| tally.up) {
            return Some(tally.word);
        }
        at = match instruction.flow() {
            // `test rax, rax; je failed` falls through to success, `jne fine` does not.
            Flow::Decides if instruction.jumps_unless_zero() => code.at(instruction.target()?),
            Flow::Next | Flow::Decides => code.at(instruction.end()),
            Flow::Jump => code.at(instruction.target()?),
            _ => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests;
