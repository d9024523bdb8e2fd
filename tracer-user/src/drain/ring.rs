//! The ring buffer: new stacks and the target's milestones, parsed as soon as they come, because a code object that is named late may be dead.

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use tracer_common::domain::Domain;
use tracer_common::event::{EventHead, EventKind, addresses, py_frames};
use tracer_common::frame::PyFrame;
use tracer_common::native::NativeEnd;
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
    /// The target replaced its image.
    Exec,
    /// The interpreter began to end.
    Finalize,
}

impl Event {
    /// Parses a record; `None` for what no probe sends.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
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
            // Only windows of the sample engine have them.
            EventKind::Born | EventKind::Died | EventKind::Closed => return None,
            EventKind::Exec => Self::Exec,
            EventKind::Finalize => Self::Finalize,
        })
    }
}

/// The reading end.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Takes the reading end; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the descriptor.
    pub fn new(ring: RingBuf<MapData>) -> Result<Self> {
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
        for _ in 0..most {
            let Some(record) = self.ring.get_mut().next() else { return false };
            if let Some(event) = Event::parse(&record) {
                each(event);
            }
        }
        true
    }
}
