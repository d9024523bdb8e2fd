//! Which allocator a piece of inlined code stands in for. The compiler guards each copy with a comparison: `if (_PyObject.malloc == _PyObject_Malloc)`, so the nearest
//! load of a slot of the allocator table on the way to the copy tells the domain.

use std::collections::{HashSet, VecDeque};

use iced_x86::{FlowControl, OpKind};

use super::super::sites::wrapper::fixed_address;
use super::Code;

/// Instructions that are looked at, going back on all ways.
const STEPS: usize = 160;

/// What `meaning` says of the nearest instruction before `ip` that reads a word at a fixed address for which it says something.
pub fn nearest<T>(code: &Code<'_>, ip: u64, meaning: impl Fn(u64) -> Option<T>) -> Option<T> {
    let mut seen = HashSet::from([ip]);
    let mut ahead = VecDeque::from([ip]);
    for _ in 0..STEPS {
        let at = ahead.pop_front()?;
        let falls = code.before(at).filter(|before| {
            matches!(
                before.flow_control(),
                FlowControl::Next
                    | FlowControl::ConditionalBranch
                    | FlowControl::Call
                    | FlowControl::IndirectCall
            )
        });
        let jumps = code.jumps_to(at).iter().filter_map(|edge| code.at(edge.source));
        for instruction in falls.into_iter().chain(jumps) {
            let reads = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
            if let Some(found) = reads.then(|| fixed_address(&instruction)).flatten().and_then(&meaning) {
                return Some(found);
            }
            if seen.insert(instruction.ip()) {
                ahead.push_back(instruction.ip());
            }
        }
    }
    None
}
