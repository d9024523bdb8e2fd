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
    /// The C frames of a site, as addresses ([`crate::native::Native::frames`]), sent just before its [`EventKind::Stack`].
    Native = 4,
    /// A stack went through code that is of no module that is known.
    UnknownCode = 5,
    /// A block or an object was born in an open window, a [`crate::sample::Happening`].
    Born = 6,
    /// A block died in an open window, a [`crate::sample::Happening`].
    Died = 7,
    /// The window has used up what it may; a head without frames.
    Closed = 8,
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
    /// How the walk ended, a [`crate::walk::WalkEnd`], or of a native stack a [`crate::native::NativeEnd`].
    pub end: u32,
    /// Who asked for the memory: an address behind the instruction that did. 0 when unknown.
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
    /// Splits a record from the ring into its head and what follows: the `depth` frames of a [`EventKind::Stack`], for [`py_frames`], or the addresses of a
    /// [`EventKind::Native`], for [`addresses`]. `None` for a [`crate::sample::Happening`], for a record that is cut short or of unknown kind: nothing in it is trusted then.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<(Self, EventKind, &[u8])> {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let head = Self {
            kind: word(0)?,
            depth: word(4)?,
            site: long(record, 8)?,
            domain: word(16)?,
            end: word(20)?,
            caller: long(record, 24)?,
        };
        let (kind, element) = match head.kind {
            1 => (EventKind::Stack, size_of::<PyFrame>()),
            2 => (EventKind::Exec, 0),
            3 => (EventKind::Finalize, 0),
            4 => (EventKind::Native, size_of::<u64>()),
            5 => (EventKind::UnknownCode, 0),
            8 => (EventKind::Closed, 0),
            _ => return None,
        };
        let bytes = (head.depth as usize).checked_mul(element)?;
        let body = record.get(size_of::<Self>()..size_of::<Self>().checked_add(bytes)?)?;
        Some((head, kind, body))
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The frames of a [`EventKind::Stack`], innermost first.
pub fn py_frames(body: &[u8]) -> impl Iterator<Item = PyFrame> + '_ {
    body.chunks_exact(size_of::<PyFrame>()).filter_map(|bytes| {
        let tail = long(bytes, 16)?;
        Some(PyFrame {
            code: long(bytes, 0)?,
            fingerprint: long(bytes, 8)?,
            instr_bytes: tail as u32 as i32,
            flags: (tail >> 32) as u32,
        })
    })
}

/// The addresses of a [`EventKind::Native`], innermost first.
pub fn addresses(body: &[u8]) -> impl Iterator<Item = u64> + '_ {
    body.chunks_exact(size_of::<u64>()).filter_map(|bytes| long(bytes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_records_never_panic(record: Vec<u8>) {
            match EventHead::parse(&record) {
                Some((head, EventKind::Stack, body)) => prop_assert_eq!(py_frames(body).count(), head.depth as usize),
                Some((head, EventKind::Native, body)) => prop_assert_eq!(addresses(body).count(), head.depth as usize),
                _ => {}
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
        let (head, kind, body) = EventHead::parse(&record).unwrap();
        assert_eq!((head.site, head.domain, head.caller, kind), (7, 2, 0x9000, EventKind::Stack));
        let expected = PyFrame { code: 0x1000, fingerprint: 0x2000, instr_bytes: -2, flags: PyFrame::ENTRY };
        assert_eq!(py_frames(body).collect::<Vec<_>>(), [expected]);
        assert!(EventHead::parse(&record[..record.len() - 1]).is_none());
        record[0] = EventKind::Native as u8;
        record[4] = 3;
        let (_, kind, body) = EventHead::parse(&record).unwrap();
        assert_eq!(
            (kind, addresses(body).take(2).collect::<Vec<_>>()),
            (EventKind::Native, vec![0x1000, 0x2000])
        );
    }
}
