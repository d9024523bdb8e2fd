//! The ring buffer: new stacks and the target's milestones, parsed as soon as they come, because a code object that is named late may be dead.

use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use tracer_common::domain::Domain;
use tracer_common::event::{EventHead, EventKind, addresses, py_frames};
use tracer_common::frame::PyFrame;
use tracer_common::kin::{Kin, KinKind};
use tracer_common::limits::{MAX_FAMILY, RING_BYTES};
use tracer_common::native::NativeEnd;
use tracer_common::sample::Happening;
use tracer_common::walk::WalkEnd;

use crate::error::{Context, Result};

/// What came through the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The frames of a site that was seen for the first time.
    Stack {
        /// The site.
        site: u64,
        /// Its domain.
        domain: Option<Domain>,
        /// How the walk ended.
        end: WalkEnd,
        /// Return address of the outermost allocator call, 0 when unknown.
        caller: u64,
        /// Innermost first.
        frames: Vec<PyFrame>,
    },
    /// The C frames of a site whose [`Event::Stack`] comes next.
    Native {
        /// The site.
        site: u64,
        /// How the walk ended.
        end: NativeEnd,
        /// Addresses behind the instructions, innermost first; [`tracer_common::native::EVALUATOR`] may be set.
        frames: Vec<u64>,
    },
    /// A stack went through code of no known module: the target's mapped code has changed, or is made at run time.
    UnknownCode,
    /// A block was born in a window.
    Born(Happening),
    /// A block died in a window.
    Died(Happening),
    /// The window has used up what it may, and is shut.
    Closed,
    /// The target replaced its image.
    Exec,
    /// The interpreter began to end.
    Finalize,
}

impl Event {
    /// Parses a record; `None` for what no probe sends.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        if let Some(happening) = Happening::parse(record) {
            return Some(if happening.is_birth() { Self::Born(happening) } else { Self::Died(happening) });
        }
        let (head, kind, body) = EventHead::parse(record)?;
        Some(match kind {
            EventKind::Stack => Self::Stack {
                site: head.site,
                domain: u8::try_from(head.domain).ok().and_then(Domain::from_code),
                end: WalkEnd::from_code(head.end),
                caller: head.caller,
                frames: py_frames(body).collect(),
            },
            EventKind::Native => Self::Native {
                site: head.site,
                end: NativeEnd::from_code(head.end),
                frames: addresses(body).collect(),
            },
            EventKind::UnknownCode => Self::UnknownCode,
            EventKind::Closed => Self::Closed,
            // Parsed above.
            EventKind::Born | EventKind::Died => return None,
            EventKind::Exec => Self::Exec,
            EventKind::Finalize => Self::Finalize,
        })
    }
}

/// The smallest record: a head of eight bytes in front of a [`tracer_common::event::EventHead`].
const SMALLEST_RECORD: usize = 8 + size_of::<EventHead>();

/// The reading end before a runtime watches it: it may go to another thread.
pub type Unwatched = RingBuf<MapData>;

/// The reading end.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Takes the reading end; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the descriptor.
    pub fn new(ring: Unwatched) -> Result<Self> {
        // SAFETY: the ring owns its descriptor and keeps it open until it is dropped, with the registration.
        Ok(Self { ring: unsafe { AsyncFd::register(ring) }.context("the ring")? })
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub async fn ready(&self) -> Result<()> {
        self.ring.readable().await.context("the ring")?.clear_ready();
        Ok(())
    }

    /// Hands over what is there, in order, but no more than so many records; `false` if that was all.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(Event)) -> bool {
        self.records(most, |record| Event::parse(record).into_iter().for_each(&mut each))
    }

    /// The same for the ring of a family; all that is there.
    pub fn drain_kin(&mut self, mut each: impl FnMut(KinKind, Kin)) {
        self.records(MAX_FAMILY as usize, |record| {
            if let Some((kind, kin)) = Kin::parse(record) {
                each(kind, kin);
            }
        });
    }

    fn records(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> bool {
        for _ in 0..most {
            let Some(record) = self.ring.get_mut().next() else { return false };
            each(&record);
        }
        true
    }

    /// Waits until the probes wake us, or so long; not inside the runtime, whose timers are too coarse for windows.
    pub fn wait(&self, most: Duration) {
        let mut ring = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let most = libc::timespec {
            tv_sec: most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // SAFETY: one descriptor, which is ours and open; no signal mask. Whatever it says, the gate is shut and read next.
        unsafe { libc::ppoll(&raw mut ring, 1, &raw const most, std::ptr::null()) };
    }

    /// Hands over all that is there, in order: what a window has left, once its gate is shut. No more than the ring can hold at once, if records keep coming.
    pub fn drain_all(&mut self, each: impl FnMut(Event)) {
        self.drain(RING_BYTES as usize / SMALLEST_RECORD, each);
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::event::EventKind;

    use super::*;

    #[test]
    fn a_window_s_records_are_told_apart() {
        let record = |kind: EventKind| {
            let mut record = (kind as u32).to_ne_bytes().to_vec();
            record.extend_from_slice(&[0; 36]);
            record
        };
        let born = Happening { kind: EventKind::Born as u32, ..Happening::default() };
        let died = Happening { kind: EventKind::Died as u32, ..Happening::default() };
        assert_eq!(Event::parse(&record(EventKind::Born)), Some(Event::Born(born)));
        assert_eq!(Event::parse(&record(EventKind::Died)), Some(Event::Died(died)));
        assert_eq!(Event::parse(&record(EventKind::Closed)), Some(Event::Closed));
        assert_eq!(Event::parse(&record(EventKind::Finalize)), Some(Event::Finalize));
        // Too short for a birth, and none other.
        assert_eq!(Event::parse(&record(EventKind::Born)[..39]), None);
    }
}
