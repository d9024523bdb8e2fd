//! On which ways the processor comes to an instruction: along the line, and through the direct jumps of the file. What was seen on the only way to a
//! place is true there; where ways join, only what was seen on each of them is.

use super::instruction::{AnyInstruction, Flow};
use super::{Code, X86_64};

/// Jumps to one place that are told apart; to an honest fast path lead one or two.
const JUMPS: usize = 8;

/// Instructions of padding that are skipped; compilers align by less than a cache line.
const PADDING: usize = 16;

/// What may run right before an instruction.
#[derive(Debug)]
pub(super) struct Before<I = X86_64> {
    /// The instruction above, if it runs into this one, and the direct jumps to it.
    pub(super) known: Vec<I>,
    /// There is more that cannot be followed: a call that comes back here, or jumps without number.
    pub(super) unknown: bool,
}

impl<I> Default for Before<I> {
    fn default() -> Self {
        Self { known: Vec::new(), unknown: false }
    }
}

impl<I: AnyInstruction> Before<I> {
    /// The only instruction that runs before.
    pub(super) fn only(&self) -> Option<I> {
        match *self.known {
            [only] if !self.unknown => Some(only),
            _ => None,
        }
    }
}

/// What may run right before the instruction at `ip`. Calls of it are none of that: they bring no registers that an inlined fast path could use.
pub(super) fn before<I: AnyInstruction>(code: &Code<'_, I>, ip: u64) -> Before<I> {
    let mut before = Before::default();
    if let Some(above) = code.before(ip).filter(|above| !is_padding(code, above)) {
        match above.flow() {
            Flow::Next | Flow::Decides => before.known.push(above),
            Flow::Call | Flow::CallThrough | Flow::Unknown => before.unknown = true,
            _ => {}
        }
    }
    let jumps = code.jumps_to(ip);
    before.unknown |= jumps.len() > JUMPS;
    before.known.extend(jumps.iter().take(JUMPS).filter_map(|edge| code.at(edge.source)));
    before
}

/// Whether an instruction only fills the room behind one that never falls through.
fn is_padding<I: AnyInstruction>(code: &Code<'_, I>, instruction: &I) -> bool {
    let mut at = *instruction;
    for _ in 0..PADDING {
        if !at.is_padding() || !code.jumps_to(at.at()).is_empty() {
            return false;
        }
        let Some(above) = code.before(at.at()) else { return false };
        match above.flow() {
            Flow::Next => at = above,
            Flow::Jump | Flow::JumpThrough | Flow::Ends => return true,
            _ => return false,
        }
    }
    false
}

/// Follows a way, whose last element is its first instruction, further back until it forks or has `most` instructions; what runs before its first
/// instruction then.
pub(super) fn extend<I: AnyInstruction>(code: &Code<'_, I>, way: &mut Vec<I>, most: usize) -> Before<I> {
    loop {
        let Some(first) = way.last() else { return Before::default() };
        let before = before(code, first.at());
        let Some(only) = before.only().filter(|_| way.len() < most) else { return before };
        way.push(only);
    }
}

/// The instructions that always run before the one at `ip`, and that one; at most so many, in the order in which they run.
pub(super) fn leading<I: AnyInstruction>(code: &Code<'_, I>, ip: u64, most: usize) -> Vec<I> {
    let mut way: Vec<I> = code.at(ip).into_iter().collect();
    extend(code, &mut way, most);
    way.reverse();
    way
}

/// The instruction that runs after this one, if nothing decides.
pub(super) fn after<I: AnyInstruction>(code: &Code<'_, I>, instruction: &I) -> Option<I> {
    match instruction.flow() {
        Flow::Jump => code.at(instruction.target()?),
        Flow::Next => code.at(instruction.end()),
        _ => None,
    }
}
