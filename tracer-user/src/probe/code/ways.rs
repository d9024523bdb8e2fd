//! On which ways the processor comes to an instruction: along the line, and through the direct jumps of the file. What was seen on the only way to a
//! place is true there; where ways join, only what was seen on each of them is.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use super::{Code, is_near};

/// Jumps to one place that are told apart; to an honest fast path lead one or two.
const JUMPS: usize = 8;

/// Instructions of padding that are skipped; compilers align by less than a cache line.
const PADDING: usize = 16;

/// What may run right before an instruction.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// The instruction above, if it runs into this one, and the direct jumps to it.
    pub(super) known: Vec<Instruction>,
    /// There is more that cannot be followed: a call that comes back here, or jumps without number.
    pub(super) unknown: bool,
}

impl Before {
    /// The only instruction that runs before.
    pub(super) fn only(&self) -> Option<Instruction> {
        match *self.known {
            [only] if !self.unknown => Some(only),
            _ => None,
        }
    }
}

/// What may run right before the instruction at `ip`. Calls of it are none of that: they bring no registers that an inlined fast path could use.
pub(super) fn before(code: &Code<'_>, ip: u64) -> Before {
    let mut before = Before::default();
    if let Some(above) = code.before(ip).filter(|above| !is_padding(code, above)) {
        match above.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => before.known.push(above),
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::XbeginXabortXend => {
                before.unknown = true;
            }
            _ => {}
        }
    }
    let jumps = code.jumps_to(ip);
    before.unknown |= jumps.len() > JUMPS;
    before.known.extend(jumps.iter().take(JUMPS).filter_map(|edge| code.at(edge.source)));
    before
}

/// Whether an instruction only fills the room behind one that never falls through.
fn is_padding(code: &Code<'_>, instruction: &Instruction) -> bool {
    let mut at = *instruction;
    for _ in 0..PADDING {
        if at.mnemonic() != Mnemonic::Nop || !code.jumps_to(at.ip()).is_empty() {
            return false;
        }
        let Some(above) = code.before(at.ip()) else { return false };
        match above.flow_control() {
            FlowControl::Next => at = above,
            FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Interrupt
            | FlowControl::Exception => return true,
            _ => return false,
        }
    }
    false
}

/// Follows a way, whose last element is its first instruction, further back until it forks or has `most` instructions; what runs before its first
/// instruction then.
pub(super) fn extend(code: &Code<'_>, way: &mut Vec<Instruction>, most: usize) -> Before {
    loop {
        let Some(first) = way.last() else { return Before::default() };
        let before = before(code, first.ip());
        let Some(only) = before.only().filter(|_| way.len() < most) else { return before };
        way.push(only);
    }
}

/// The instructions that always run before the one at `ip`, and that one; at most so many, in the order in which they run.
pub(super) fn leading(code: &Code<'_>, ip: u64, most: usize) -> Vec<Instruction> {
    let mut way: Vec<Instruction> = code.at(ip).into_iter().collect();
    extend(code, &mut way, most);
    way.reverse();
    way
}

/// The instruction that runs after this one, if nothing decides.
pub(super) fn after(code: &Code<'_>, instruction: &Instruction) -> Option<Instruction> {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch if is_near(instruction) => code.at(instruction.near_branch64()),
        FlowControl::Next => code.at(instruction.next_ip()),
        _ => None,
    }
}
