//! Records of the ring buffer: the kernel's half writes them, and a half of another build may.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_common::event::EventHead;

/// Bytes of a head and of a frame.
const HEAD: usize = size_of::<EventHead>();
const FRAME: usize = size_of::<tracer_common::frame::PyFrame>();

fuzz_target!(|record: &[u8]| {
    let Some((head, kind, frames)) = EventHead::parse(record) else { return };
    assert_eq!(head.kind, kind as u32);
    let frames: Vec<_> = frames.collect();
    assert_eq!(frames.len(), head.depth as usize, "a frame was lost");
    assert!(HEAD + frames.len() * FRAME <= record.len(), "a frame was invented");
    let tail = record.get(..record.len() - 1).expect("a head is not empty");
    let whole = record.len() > HEAD + frames.len() * FRAME;
    assert_eq!(EventHead::parse(tail).is_some(), whole, "a record that was cut short was believed");
});
