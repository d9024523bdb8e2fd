//! The walk over small made-up memories. Live and recorded memory are walked in `tests/`.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

use crate::limits::MAX_DEPTH;

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
    tstate_thread_id: 16,
    tstate_frame: 8,
    cframe_current_frame: 0,
    frame_at: 8,
    frame_len: 32,
    frame_code: 0,
    frame_previous: 8,
    frame_instr: 16,
    instr_bytes: 0,
    entry: Entry::Flag as u32,
    frame_entry_word: 24,
    frame_entry_shift: 32,
    code_tags: 0,
    code_at: 16,
    code_bytecode: 100,
    code_filename: 40,
    code_qualname: 56,
    code_tlbc: PyLayout::NONE,
    frame_tlbc: 0,
    unicode_data: 0,
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

/// The word at 0x10 names the holder of the GIL; the runtime is at 8.
const HOLDER: Current = Current { way: Way::Holder as u32, reserved: 0, distance: 8, inside: 0 };

/// What a thread finds that knows a thread state.
fn found(memory: &Words, thread_pointer: u64, holds_gil: bool, known: &mut u64) -> Result<u64, Fault> {
    let asking = Asking { runtime: 8, thread_pointer, holds_gil };
    innermost(memory, &LAYOUT, &HOLDER, asking, known)
}

fn run(memory: &Words, max_depth: u32) -> (Walked, Vec<PyFrame>) {
    run_as(&LAYOUT, memory, max_depth)
}

fn run_as(layout: &PyLayout, memory: &Words, max_depth: u32) -> (Walked, Vec<PyFrame>) {
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let wish = Wish { innermost: 0x1000, max_depth, seed: 0, epoch: 0 };
    let walked = walk(memory, layout, wish, &mut Scratch::default(), &mut frames);
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
    assert_eq!(found(&memory, 77, false, &mut 0), Ok(0x1000));
    assert_eq!(found(&memory, 78, false, &mut 0), Ok(0));
    // Who holds the GIL is its holder, whoever made the thread state.
    assert_eq!(found(&memory, 78, true, &mut 0), Ok(0x1000));
    let asked = |runtime| {
        innermost(&memory, &LAYOUT, &HOLDER, Asking { runtime, thread_pointer: 77, holds_gil: true }, &mut 0)
    };
    assert_eq!((asked(0), asked(0x5000)), (Ok(0), Err(Fault)));
}

#[test]
fn a_thread_that_has_released_the_gil_keeps_its_frames() {
    let mut memory = chain(1);
    let tstate = memory.0[&0x10];
    let thread_id = tstate + u64::from(LAYOUT.tstate_thread_id);
    let mut known = 0;
    assert_eq!(found(&memory, 77, true, &mut known), Ok(0x1000));
    assert_eq!(known, tstate);
    // Nobody holds the GIL; then a stranger does, whose thread state is at 0x9000.
    memory.0.insert(0x10, 0);
    assert_eq!(found(&memory, 77, false, &mut known), Ok(0x1000));
    memory.0.insert(0x10, 0x9000);
    memory.0.insert(0x9000 + u64::from(LAYOUT.tstate_thread_id), 78);
    assert_eq!(found(&memory, 77, false, &mut known), Ok(0x1000));
    assert_eq!(known, tstate);
    // A thread state that has become another thread's is nobody's frames.
    memory.0.insert(thread_id, 79);
    assert_eq!(found(&memory, 77, false, &mut known), Ok(0));
    memory.0.remove(&thread_id);
    assert_eq!(found(&memory, 77, false, &mut known), Ok(0));
}

#[test]
fn a_thread_local_variable_names_the_thread_state() {
    let mut memory = chain(1);
    memory.0.insert(0x20 + u64::from(LAYOUT.tstate_thread_id), 0x8000);
    let asking = Asking { runtime: 0x7000, thread_pointer: 0x8000, holds_gil: false };
    let go = |current: Current, words: &[(u64, u64)]| {
        let mut memory = Words(memory.0.clone());
        memory.0.extend(words.iter().copied());
        innermost(&memory, &LAYOUT, &current, asking, &mut 0)
    };
    let beside = Current { way: Way::Thread as u32, distance: -32, ..Current::default() };
    assert_eq!(go(beside, &[(0x8000 - 32, 0x20)]), Ok(0x1000));
    assert_eq!((go(beside, &[(0x8000 - 32, 0)]), go(beside, &[])), (Ok(0), Err(Fault)));
    // Another thread's thread state is not ours.
    assert_eq!(go(beside, &[(0x8000 - 32, 0x20), (0x20 + 16, 0x8800)]), Ok(0));
    // Module 3, 0x40 inside; the table is at 0x6000, the module's variables at 0x5000.
    let module = Current { way: Way::Module as u32, distance: 0x18, inside: 8, ..Current::default() };
    let words = [(0x7018, 3), (0x7020, 0x40), (0x8008, 0x6000), (0x6030, 0x5000), (0x5048, 0x20)];
    assert_eq!(go(module, &words), Ok(0x1000));
    assert_eq!(go(Current::default(), &words), Ok(0));
}

#[test]
fn the_innermost_frame_may_stand_in_the_thread_state() {
    let memory = chain(1);
    let layout = PyLayout { cframe_current_frame: PyLayout::NONE, ..LAYOUT };
    let asking = Asking { runtime: 8, thread_pointer: 77, holds_gil: true };
    assert_eq!(innermost(&memory, &layout, &HOLDER, asking, &mut 0), Ok(0x100));
}

/// Frames at 0x1000, 0x2000, …; those with these numbers are shims.
fn with_shims(count: u64, shims: &[u64]) -> Words {
    let mut words = chain(count);
    for n in 1..=count {
        let owner = if shims.contains(&n) { 3 } else { 0 };
        words.0.insert(0x1000 * n + 32, owner << 48);
    }
    words
}

const SHIMS: PyLayout = PyLayout { entry: Entry::Shim as u32, frame_entry_shift: 48, ..LAYOUT };

/// For each frame its number (0: a shim), and whether it was called from C.
fn numbers(layout: &PyLayout, words: &Words, max_depth: u32) -> (Vec<(u64, bool)>, WalkEnd) {
    let (walked, frames) = run_as(layout, words, max_depth);
    let told = frames.iter().map(|frame| (frame.code / 0x10_0000, frame.flags & PyFrame::ENTRY != 0));
    (told.collect(), walked.end)
}

#[test]
fn a_shim_says_that_c_code_called_the_frame_inside_it() {
    let words = with_shims(5, &[3, 5]);
    let expected = vec![(1, false), (2, true), (4, true)];
    assert_eq!(numbers(&SHIMS, &words, 64), (expected.clone(), WalkEnd::Complete));
    // The last shim costs no room, and a frame behind it has none.
    assert_eq!(numbers(&SHIMS, &words, 3), (expected, WalkEnd::Complete));
    assert_eq!(numbers(&SHIMS, &words, 2), (vec![(1, false), (2, true)], WalkEnd::Truncated));
    // A call whose frame has ended stands for itself.
    let words = with_shims(5, &[1, 3, 4, 5]);
    let expected = vec![(0, false), (2, true), (0, false), (0, false)];
    assert_eq!(numbers(&SHIMS, &words, 64), (expected, WalkEnd::Complete));
    let (_, frames) = run_as(&SHIMS, &words, 64);
    assert_eq!(frames[0], PyFrame { flags: PyFrame::SHIM, ..PyFrame::default() });
}

#[test]
fn the_frame_at_the_base_is_no_call() {
    let layout = PyLayout { entry: Entry::ShimAndBase as u32, ..SHIMS };
    assert_eq!(numbers(&layout, &with_shims(3, &[2, 3]), 64), (vec![(1, true)], WalkEnd::Complete));
}

#[test]
fn a_position_may_be_an_index() {
    let layout = PyLayout { instr_bytes: 2, entry: Entry::Each as u32, ..LAYOUT };
    let mut words = chain(2);
    words.0.insert(0x1000 + 24, 0xdead_0000_0007);
    words.0.insert(0x2000 + 24, u64::from(u32::MAX));
    let (_, frames) = run_as(&layout, &words, 64);
    let told: Vec<_> = frames.iter().map(|frame| (frame.instr_bytes, frame.flags)).collect();
    assert_eq!(told, [(14, PyFrame::ENTRY), (-2, PyFrame::ENTRY)]);
}

#[test]
fn tags_are_no_part_of_an_address_and_threads_may_have_their_own_bytecode() {
    let layout = PyLayout { code_tags: 3, code_tlbc: 0x200, frame_tlbc: 24, ..SHIMS };
    let mut words = with_shims(2, &[]);
    words.0.insert(0x1000 + 8, 0x10_0000 | 1);
    // The second frame runs the copy with the number 2.
    words.0.extend([
        (0x2000 + 32, 2),
        (0x2000 + 24, 0x60_0000 + 6),
        (0x20_0000 + 0x200, 0x50_0000),
        (0x50_0000 + 24, 0x60_0000),
    ]);
    let (_, frames) = run_as(&layout, &words, 64);
    let told: Vec<_> = frames.iter().map(|frame| (frame.code, frame.instr_bytes)).collect();
    assert_eq!(told, [(0x10_0000, 2), (0x20_0000, 6)]);
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
    let asking = Asking { runtime: u64::MAX, thread_pointer: 77, holds_gil: true };
    assert_eq!(innermost(&chain(1), &LAYOUT, &HOLDER, asking, &mut 0), Err(Fault));
}

proptest! {
    #[test]
    fn a_cycle_of_frames_ends(start in 1u64..4) {
        let mut memory = chain(3);
        memory.0.insert(0x3000 + 16, 0x1000 * start);
        let (walked, _) = run(&memory, 64);
        prop_assert_eq!((walked.depth, walked.end), (64, WalkEnd::Truncated));
        let mut memory = with_shims(3, &[1, 2, 3]);
        memory.0.insert(0x3000 + 16, 0x1000 * start);
        let (walked, _) = run_as(&SHIMS, &memory, 64);
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
fn an_epoch_is_of_one_window_and_of_one_state_of_what_was_freed() {
    assert_eq!((epoch_of(0, 1), epoch_of(0, 7)), (1, 7), "without windows only frees count");
    let mut seen = std::collections::HashSet::new();
    for window in 0..100 {
        for freed in 1..200 {
            assert!(seen.insert(epoch_of(window, freed)), "window {window}, epoch {freed}");
        }
    }
    assert!(!seen.contains(&0), "0 trusts nothing");
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
