//! The walk over small made-up memories. Live and recorded memory are walked in `tests/`.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

struct Words(BTreeMap<u64, u64>);

impl UserMemory for Words {
    fn word(&self, address: u64) -> Result<u64, Fault> {
        self.0.get(&address).copied().ok_or(Fault)
    }

    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        for (at, word) in (0..len as u64 / 8).zip(out.iter_mut()) {
            *word = self.word(address + 8 * at)?;
        }
        Ok(())
    }
}

/// A layout of our own, so that no version's numbers are repeated here.
const LAYOUT: PyLayout = PyLayout {
    tstate_cframe: 8,
    cframe_current_frame: 0,
    tstate_native_thread_id: 16,
    frame_at: 8,
    frame_len: 32,
    frame_code: 0,
    frame_previous: 8,
    frame_instr: 16,
    frame_entry_word: 24,
    frame_entry_shift: 32,
    code_at: 16,
    code_bytecode: 100,
};

/// A chain of `count` frames at 0x1000, 0x2000, …; each runs its own code object at 0x10_0000 × n.
fn chain(count: u64) -> Words {
    let mut words = BTreeMap::new();
    for n in 1..=count {
        let (frame, code) = (0x1000 * n, 0x10_0000 * n);
        let previous = if n == count { 0 } else { 0x1000 * (n + 1) };
        words.extend([
            (frame + 8, code),
            (frame + 16, previous),
            (frame + 24, code + 100 + 2 * n),
            (frame + 32, (n & 1) << 32),
        ]);
        words.extend((0..8).map(|word| (code + 16 + 8 * word, n * 100 + word)));
    }
    words.extend([(0x10, 0x20), (0x20 + 8, 0x100), (0x100, 0x1000), (0x20 + 16, 77)]);
    Words(words)
}

fn run(memory: &Words, max_depth: u32) -> (Walked, Vec<PyFrame>) {
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let walked = walk(memory, &LAYOUT, 0x1000, max_depth, 0, &mut Scratch::default(), &mut frames);
    (walked, frames[..walked.depth as usize].to_vec())
}

#[test]
fn frames_come_innermost_first() {
    let (walked, frames) = run(&chain(3), 64);
    assert_eq!((walked.depth, walked.end), (3, WalkEnd::Complete));
    assert_eq!(frames.iter().map(|f| f.code).collect::<Vec<_>>(), [0x10_0000, 0x20_0000, 0x30_0000]);
    assert_eq!(frames.iter().map(|f| f.instr_bytes).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!(frames.iter().map(|f| f.flags).collect::<Vec<_>>(), [PyFrame::ENTRY, 0, PyFrame::ENTRY]);
}

#[test]
fn a_deep_stack_keeps_its_innermost_frames() {
    let (walked, frames) = run(&chain(200), 64);
    assert_eq!((walked.depth, walked.end, frames[0].code), (64, WalkEnd::Truncated, 0x10_0000));
    assert_eq!(run(&chain(200), 1000).0.depth as usize, MAX_DEPTH);
    assert_eq!(run(&chain(200), 1000).0.end, WalkEnd::Truncated);
    assert_eq!(run(&chain(MAX_DEPTH as u64), 1000).0.end, WalkEnd::Complete);
}

#[test]
fn an_unreadable_frame_ends_the_walk_and_an_unreadable_code_object_does_not() {
    let mut memory = chain(3);
    memory.0.remove(&(0x10_0000 * 2 + 16));
    let (walked, frames) = run(&memory, 64);
    assert_eq!((walked.depth, walked.end), (3, WalkEnd::Complete));
    assert_eq!(frames[1].flags & PyFrame::FAULTED, PyFrame::FAULTED);
    memory.0.remove(&(0x2000 + 8));
    assert_eq!((run(&memory, 64).0.depth, run(&memory, 64).0.end), (1, WalkEnd::Fault));
}

#[test]
fn a_new_tenant_of_an_address_is_a_new_site() {
    let (before, _) = run(&chain(2), 64);
    let mut memory = chain(2);
    memory.0.insert(0x10_0000 + 16, 4711);
    assert_ne!(before.id, run(&memory, 64).0.id);
}

#[test]
fn only_the_running_thread_has_frames() {
    let memory = chain(1);
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, 77), Ok(0x1000));
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, 78), Ok(0));
    assert_eq!(innermost(&memory, &LAYOUT, 0, 77), Ok(0));
    assert_eq!(innermost(&memory, &LAYOUT, 0x5000, 77), Err(Fault));
}

#[test]
fn a_wild_pointer_is_a_fault() {
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let walked = walk(&chain(1), &LAYOUT, u64::MAX, 64, 0, &mut Scratch::default(), &mut frames);
    assert_eq!((walked.depth, walked.end), (0, WalkEnd::Fault));
    assert_eq!(innermost(&chain(1), &LAYOUT, u64::MAX, 77), Err(Fault));
}

proptest! {
    #[test]
    fn a_cycle_of_frames_ends(start in 1u64..4) {
        let mut memory = chain(3);
        memory.0.insert(0x3000 + 16, 0x1000 * start);
        let (walked, _) = run(&memory, 64);
        prop_assert_eq!((walked.depth, walked.end), (64, WalkEnd::Truncated));
    }
}
