//! Which allocator a piece of inlined code stands in for. The compiler guards each copy with a comparison: `if (_PyObject.malloc == _PyObject_Malloc)`, so the nearest
//! load of a slot of the allocator table on the way to the copy tells the domain.

use std::collections::{HashSet, VecDeque};

use super::Code;
use super::instruction::{AnyInstruction, Flow};

/// Instructions that are looked at, going back on all ways.
const STEPS: usize = 160;

/// What `meaning` says of the nearest instruction before `ip` that reads a word at a fixed address for which it says something.
pub fn nearest<I: AnyInstruction, T>(
    code: &Code<'_, I>,
    ip: u64,
    meaning: impl Fn(u64) -> Option<T>,
) -> Option<T> {
    let mut seen = HashSet::from([ip]);
    let mut ahead = VecDeque::from([ip]);
    for _ in 0..STEPS {
        let at = ahead.pop_front()?;
        let falls = code.before(at).filter(|before| {
            matches!(before.flow(), Flow::Next | Flow::Decides | Flow::Call | Flow::CallThrough)
        });
        let jumps = code.jumps_to(at).iter().take(STEPS).filter_map(|edge| code.at(edge.source));
        for instruction in falls.into_iter().chain(jumps) {
            if let Some(found) = instruction.word(code).and_then(&meaning) {
                return Some(found);
            }
            if seen.insert(instruction.at()) {
                ahead.push_back(instruction.at());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::code::tests::fixture::Snippet;

    #[test]
    fn the_nearest_guard_tells_the_domain() {
        let snippet = Snippet::of(
            "cmp qword ptr counter[rip], 0; mov rax, slot[rip]; cmp rax, 5; jne away; beside: nop; ret
             away: nop; jmp there; ud2; there: mov rbx, [rbx]; last: ret; alone: mov rax, counter[rip]; ret; island: nop",
        );
        let code = snippet.code();
        let meaning = |word: u64| ["slot", "counter"].into_iter().find(|name| snippet.label(name) == word);
        let at = |name: &str| nearest(&code, snippet.label(name), meaning);
        assert_eq!((at("beside"), at("last"), at("island")), (Some("slot"), Some("slot"), None));
        // One that means nothing is passed over.
        let counter = |word: u64| (word == snippet.label("counter")).then_some(());
        assert_eq!(nearest(&code, snippet.label("last"), counter), Some(()));
    }
}
