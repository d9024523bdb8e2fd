//! Recordings of memory: a file that somebody sends with a bug report. What loads must save to the same bytes' meaning, and a
//! walk through it ends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_common::current::{Current, Way};
use tracer_common::frame::PyFrame;
use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::{self, Asking, Scratch, Wish};
use tracer_user::symbol::code::CodeNames;
use tracer_user::target::layout::{self, Layout};
use tracer_user::target::memory::Bytes;
use tracer_user::target::recorded::Recorded;

fuzz_target!(|data: &[u8]| {
    let Some((start, rest)) = data.split_first_chunk() else { return };
    let start = u64::from_le_bytes(*start);
    let Ok(memory) = Recorded::load(&[b"unshedm1", rest].concat()) else { return };
    let again = Recorded::load(&memory.save()).expect("what was saved can be loaded");
    assert_eq!(again, memory);
    let mut out = Vec::new();
    let readable = memory.read_many(&[start, 0, u64::MAX], 8, &mut out);
    assert_eq!((readable.len(), out.len()), (3, 24));
    for layout in (8..=15).filter_map(|minor| layout::of(3, minor)) {
        let mut names = CodeNames::new(memory.clone(), layout);
        for way in [Way::Holder, Way::Thread, Way::Module] {
            let current = Current { way: way as u32, ..Current::default() };
            let asking = Asking { runtime: start, thread_pointer: start, holds_gil: true };
            let innermost = walk::innermost(&memory, &layout.walk, &current, asking, &mut 0).unwrap_or(0);
            walk_and_name(&memory, layout, innermost, &mut names);
        }
        walk_and_name(&memory, layout, start, &mut names);
    }
});

/// Walks from a frame that may be anything.
fn walk_and_name(memory: &Recorded, layout: &Layout, innermost: u64, names: &mut CodeNames<Recorded>) {
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let mut scratch = Scratch::default();
    let wish = Wish { innermost, max_depth: u32::MAX, seed: 0, epoch: 0 };
    let walked = walk::walk(memory, &layout.walk, wish, &mut scratch, &mut frames);
    assert!(walked.depth as usize <= MAX_DEPTH && walked.id != 0);
    for frame in &frames[..walked.depth as usize] {
        let named = names.name(frame);
        assert!(!named.gone || named.frame.line.is_none());
    }
}
