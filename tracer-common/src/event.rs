//! The records that go through the ring buffer: rare things only, each sent as it happens.

use crate::frame::PyFrame;
use crate::limits::MAX_DEPTH;

/// What a record is. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The frames of a site, sent when the site is first seen.
    Stack = 1,
    /// The target replaced its image.
    Exec = 2,
    /// The interpreter begins to end; counting stopped at this moment.
    Finalize = 3,
}

/// Head of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EventHead {
    /// An [`EventKind`].
    pub kind: u32,
    /// Frames that follow (0 for other kinds).
    pub depth: u32,
    /// The site that the frames belong to (0 for other kinds).
    pub site: u64,
    /// Code of the domain.
    pub domain: u32,
    /// How the walk ended, a [`crate::walk::WalkEnd`].
    pub end: u32,
    /// Return address of the outermost allocator call: who asked for the memory. 0 when unknown.
    pub caller: u64,
}

const _: () = assert!(size_of::<EventHead>() == 32);

/// A whole record as the probe builds it; only the first `depth` frames are sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackRecord {
    /// The head.
    pub head: EventHead,
    /// The frames, innermost first.
    pub frames: [PyFrame; MAX_DEPTH],
}

const _: () = assert!(size_of::<StackRecord>() == 32 + 24 * MAX_DEPTH);

impl EventHead {
    /// Splits a record from the ring into its head and frames. `None` for a record that is cut short or of unknown kind: nothing
    /// in it is trusted then.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<(Self, EventKind, impl Iterator<Item = PyFrame> + '_)> {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let long =
            |bytes: &[u8], at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let head = Self {
            kind: word(0)?,
            depth: word(4)?,
            site: long(record, 8)?,
            domain: word(16)?,
            end: word(20)?,
            caller: long(record, 24)?,
        };
        let kind = match head.kind {
            1 => EventKind::Stack,
            2 => EventKind::Exec,
            3 => EventKind::Finalize,
            _ => return None,
        };
        let frame_bytes = (head.depth as usize).checked_mul(size_of::<PyFrame>())?;
        let frames = record.get(size_of::<Self>()..size_of::<Self>().checked_add(frame_bytes)?)?;
        let frames = frames.chunks_exact(size_of::<PyFrame>()).filter_map(move |bytes| {
            let tail = long(bytes, 16)?;
            Some(PyFrame {
                code: long(bytes, 0)?,
                fingerprint: long(bytes, 8)?,
                instr_bytes: tail as u32 as i32,
                flags: (tail >> 32) as u32,
            })
        });
        Some((head, kind, frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_records_never_panic(record: Vec<u8>) {
            if let Some((head, _, frames)) = EventHead::parse(&record) {
                prop_assert_eq!(frames.count(), head.depth as usize);
            }
        }
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let mut record = Vec::new();
        for word in [1u32, 1, 7, 0, 2, 0] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        for long in [0x9000u64, 0x1000, 0x2000] {
            record.extend_from_slice(&long.to_ne_bytes());
        }
        record.extend_from_slice(&(-2i32).to_ne_bytes());
        record.extend_from_slice(&PyFrame::ENTRY.to_ne_bytes());
        let (head, kind, frames) = EventHead::parse(&record).unwrap();
        assert_eq!((head.site, head.domain, head.caller, kind), (7, 2, 0x9000, EventKind::Stack));
        let expected = PyFrame { code: 0x1000, fingerprint: 0x2000, instr_bytes: -2, flags: PyFrame::ENTRY };
        assert_eq!(frames.collect::<Vec<_>>(), [expected]);
        assert!(EventHead::parse(&record[..record.len() - 1]).is_none());
    }
}
