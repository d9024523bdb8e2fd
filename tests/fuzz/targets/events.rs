//! Records of the ring buffer: the kernel's half writes them, and a half of another build may.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_common::event::{EventHead, EventKind, addresses, py_frames};

/// Bytes of a head.
const HEAD: usize = size_of::<EventHead>();

fuzz_target!(|record: &[u8]| {
    let Some((head, kind, body)) = EventHead::parse(record) else { return };
    assert_eq!(head.kind, kind as u32);
    let frames = match kind {
        EventKind::Stack => py_frames(body).count(),
        EventKind::Native => addresses(body).count(),
        EventKind::Exec | EventKind::Finalize | EventKind::UnknownCode => 0,
    };
    if matches!(kind, EventKind::Stack | EventKind::Native) {
        assert_eq!(frames, head.depth as usize, "a frame was lost or invented");
    }
    let tail = record.get(..record.len() - 1).expect("a head is not empty");
    let whole = record.len() > HEAD + body.len();
    assert_eq!(EventHead::parse(tail).is_some(), whole, "a record that was cut short was believed");
});
