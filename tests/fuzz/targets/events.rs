//! Records of the ring buffer: the kernel's half writes them, and a half of another build may.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_common::event::{EventHead, EventKind, addresses, py_frames};
use tracer_common::sample::Happening;

/// Bytes of a head.
const HEAD: usize = size_of::<EventHead>();

fuzz_target!(|record: &[u8]| {
    // A happening has the ring's records' first word, and not their head.
    if let Some(happening) = Happening::parse(record) {
        let kind = if happening.is_birth() { EventKind::Born } else { EventKind::Died };
        assert_eq!(happening.kind, kind as u32);
        let short = &record[..size_of::<Happening>() - 1];
        assert_eq!(Happening::parse(short), None, "a record that was cut short was believed");
    }
    let Some((head, kind, body)) = EventHead::parse(record) else { return };
    assert_eq!(head.kind, kind as u32);
    let frames = match kind {
        EventKind::Stack => py_frames(body).count(),
        EventKind::Native => addresses(body).count(),
        EventKind::Exec | EventKind::Finalize | EventKind::UnknownCode => 0,
        EventKind::Born | EventKind::Died | EventKind::Closed => 0,
    };
    if matches!(kind, EventKind::Stack | EventKind::Native) {
        assert_eq!(frames, head.depth as usize, "a frame was lost or invented");
    }
    let tail = record.get(..record.len() - 1).expect("a head is not empty");
    let whole = record.len() > HEAD + body.len();
    assert_eq!(EventHead::parse(tail).is_some(), whole, "a record that was cut short was believed");
});
