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

    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        *out = std::array::from_fn(|word| self.word(address + 8 * word as u64).unwrap_or(0));
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
    code_filename: 40,
    code_qualname: 56,
    unicode_data: 0,
    reserved: 0,
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
    let wish = Wish { innermost: 0x1000, max_depth, seed: 0, epoch: 0 };
    let walked = walk(memory, &LAYOUT, wish, &mut Scratch::default(), &mut frames);
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
fn a_function_of_another_name_at_the_same_addresses_is_a_new_site() {
    let (before, frames) = run(&chain(2), 64);
    let mut memory = chain(2);
    // The innermost code object's seventh word is where its name is.
    memory.0.insert(107, 0x6170);
    let (after, renamed) = run(&memory, 64);
    assert_ne!((before.id, frames[0].fingerprint), (after.id, renamed[0].fingerprint));
    assert_eq!(frames[1], renamed[1]);
}

#[test]
fn only_the_running_thread_has_frames() {
    let memory = chain(1);
    let asked = |slot, tid| innermost(&memory, &LAYOUT, slot, || tid, true, &mut 0);
    assert_eq!(asked(0x10, 77), Ok(0x1000));
    assert_eq!(asked(0x10, 78), Ok(0));
    assert_eq!(asked(0, 77), Ok(0));
    assert_eq!(asked(0x5000, 77), Err(Fault));
}

#[test]
fn a_thread_that_has_released_the_gil_keeps_its_frames() {
    let mut memory = chain(1);
    let tstate = memory.0[&0x10];
    let mut known = 0;
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, || 77, true, &mut known), Ok(0x1000));
    assert_eq!(known, tstate);
    // Nobody holds the GIL; then a stranger does, whose thread state is at 0x9000.
    memory.0.insert(0x10, 0);
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, || 77, false, &mut known), Ok(0x1000));
    memory.0.insert(0x10, 0x9000);
    memory.0.insert(0x9000 + u64::from(LAYOUT.tstate_native_thread_id), 78);
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, || 77, false, &mut known), Ok(0x1000));
    assert_eq!(known, tstate);
    // A thread state that has become another thread's is nobody's frames.
    memory.0.insert(tstate + u64::from(LAYOUT.tstate_native_thread_id), 79);
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, || 77, false, &mut known), Ok(0));
    memory.0.remove(&(tstate + u64::from(LAYOUT.tstate_native_thread_id)));
    assert_eq!(innermost(&memory, &LAYOUT, 0x10, || 77, false, &mut known), Ok(0));
}

#[test]
fn a_wild_pointer_is_a_fault() {
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let walked = walk(
        &chain(1),
        &LAYOUT,
        Wish { innermost: u64::MAX, max_depth: 64, seed: 0, epoch: 0 },
        &mut Scratch::default(),
        &mut frames,
    );
    assert_eq!((walked.depth, walked.end), (0, WalkEnd::Fault));
    assert_eq!(innermost(&chain(1), &LAYOUT, u64::MAX, || 77, true, &mut 0), Err(Fault));
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

/// Frames side by side, 0x40 apart, the innermost highest; each runs its own code object.
fn side_by_side(count: u64) -> Words {
    let mut words = BTreeMap::new();
    for n in 1..=count {
        let (frame, code) = (0x10_0000 - 0x40 * n, 0x10_0000 * n);
        let previous = if n == count { 0 } else { frame - 0x40 };
        words.extend((0..8).map(|word| (frame + 8 * word, 0)));
        words.extend([(frame + 8, code), (frame + 16, previous), (frame + 24, code + 100 + 2 * n)]);
        words.extend((0..8).map(|word| (code + 16 + 8 * word, n * 100 + word)));
    }
    Words(words)
}

/// A memory that counts what it is asked.
struct Counting<'m>(&'m Words, std::cell::Cell<u32>);

impl UserMemory for Counting<'_> {
    fn word(&self, address: u64) -> Result<u64, Fault> {
        self.0.word(address)
    }

    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        self.1.set(self.1.get() + 1);
        self.0.fill(address, len, out)
    }

    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        self.0.text(address, out);
    }
}

#[test]
fn a_second_walk_reads_much_at_once_and_finds_the_same() {
    let words = side_by_side(40);
    let wish = Wish { innermost: 0x10_0000 - 0x40, max_depth: 64, seed: 3, epoch: 5 };
    let (mut scratch, mut frames) = (Scratch::default(), [PyFrame::default(); MAX_DEPTH]);
    let mut reads = || {
        let memory = Counting(&words, std::cell::Cell::new(0));
        let walked = walk(&memory, &LAYOUT, wish, &mut scratch, &mut frames);
        (walked, frames.map(|frame| frame.fingerprint), memory.1.get())
    };
    let (first, second, third) = (reads(), reads(), reads());
    assert_eq!((first.0, first.1), (second.0, second.1));
    assert_eq!((first.0.depth, first.0.end), (40, WalkEnd::Complete));
    assert_eq!(
        (first.2, second.2, third.2),
        (80, 1, 1),
        "one read brings all frames, and no code object is read twice"
    );
}

#[test]
fn what_died_since_is_read_again() {
    let mut words = side_by_side(3);
    let (mut scratch, mut frames) = (Scratch::default(), [PyFrame::default(); MAX_DEPTH]);
    let mut go = |words: &Words, epoch| {
        let wish = Wish { innermost: 0x10_0000 - 0x40, max_depth: 64, seed: 3, epoch };
        walk(words, &LAYOUT, wish, &mut scratch, &mut frames).id
    };
    let before = go(&words, 5);
    words.0.insert(0x10_0000 + 16, 4711);
    assert_eq!(go(&words, 5), before, "in the same epoch nothing can have died");
    assert_ne!(go(&words, 6), before);
    let reborn = go(&words, 6);
    words.0.insert(0x10_0000 + 16, 4712);
    assert_ne!(go(&words, 0), reborn, "epoch 0 trusts nothing");
}

#[test]
fn a_window_that_reaches_too_far_costs_a_turn_and_no_frame() {
    let mut words = side_by_side(6);
    let (mut scratch, mut frames) = (Scratch::default(), [PyFrame::default(); MAX_DEPTH]);
    let wish = Wish { innermost: 0x10_0000 - 0x40, max_depth: 64, seed: 3, epoch: 0 };
    let before = walk(&words, &LAYOUT, wish, &mut scratch, &mut frames);
    // The padding of a frame in the middle becomes unreadable: the frames themselves are all there.
    words.0.remove(&(0x10_0000 - 0x40 * 4 + 48));
    let after = walk(&words, &LAYOUT, wish, &mut scratch, &mut frames);
    assert_eq!(before, after);
}

proptest! {
    #[test]
    fn remembering_changes_nothing(
        depths in prop::collection::vec((1u64..60, 0u64..3, 0u32..3), 1..12)
    ) {
        let (mut scratch, mut frames) = (Scratch::default(), [PyFrame::default(); MAX_DEPTH]);
        for (count, from, apart) in depths {
            let words = if apart == 0 { chain(count) } else { side_by_side(count) };
            let innermost = if apart == 0 { 0x1000 } else { 0x10_0000 - 0x40 * (1 + from.min(count - 1)) };
            let wish = Wish { innermost, max_depth: 64, seed: 1, epoch: 1 };
            let fresh = walk(&words, &LAYOUT, wish, &mut Scratch::default(), &mut [PyFrame::default(); MAX_DEPTH]);
            prop_assert_eq!(walk(&words, &LAYOUT, wish, &mut scratch, &mut frames), fresh);
        }
    }
}
