//! The Python frames of stacks, named the moment a stack is told: a code object may die in the next one, and its process too.

use std::collections::HashMap;

use tracer_common::frame::PyFrame;
use tracer_common::native::NativeEnd;
use tracer_common::walk::WalkEnd;

use crate::drain::ring::Event;
use crate::session::Ended;
use crate::session::subject::Subject;
use crate::symbol::Frame;
use crate::symbol::code::{CodeCache, CodeNames};
use crate::symbol::splice::Mark;
use crate::target::memory::Memory;

/// The place of a call of the evaluator that has no Python frame.
const NO_FRAME: u32 = u32::MAX;

/// What came through the ring, with its Python frames named: nothing of it is lost any more when the process ends.
pub(super) enum Told {
    /// The C frames of a site whose [`Told::Stack`] comes next.
    Native { site: u64, end: NativeEnd, frames: Vec<u64> },
    /// A site's Python frames, as places in the table of [`Frames`], and how each was called.
    Stack { site: u64, end: WalkEnd, frames: Vec<u32>, marks: Vec<Mark> },
    /// A stack went through code of no known module.
    UnknownCode,
    /// A milestone of the target, which ends the recording.
    Ended(Ended),
}

impl Told {
    /// What an event tells that brings no stack. What happened in a window tells nothing here: it is read where there are windows.
    pub(super) const fn without_frames(event: &Event) -> Option<Self> {
        match event {
            Event::UnknownCode => Some(Self::UnknownCode),
            Event::Exec => Some(Self::Ended(Ended::Exec)),
            Event::Finalize => Some(Self::Ended(Ended::Finalizing)),
            Event::Native { .. } | Event::Stack { .. } | Event::Born(_) | Event::Died(_) | Event::Closed => {
                None
            }
        }
    }
}

/// The Python frames seen so far, each named once.
pub(super) struct Frames {
    code: CodeNames<Memory>,
    by_place: HashMap<(u64, u64, i32), u32>,
    /// In the order in which they came.
    pub(super) named: Vec<Frame>,
    /// For each named frame: whether it stands where a generator waits.
    suspended: Vec<bool>,
    /// Frames whose code object had died before it could be read.
    pub(super) gone: u64,
}

impl Frames {
    /// Those of one process; code objects that others have read already are in the cache.
    pub(super) fn new(subject: &Subject, cache: CodeCache) -> Self {
        let memory = Memory::new(subject.process.pid());
        Self {
            code: CodeNames::sharing(memory, subject.layout, cache),
            by_place: HashMap::new(),
            named: Vec::new(),
            suspended: Vec::new(),
            gone: 0,
        }
    }

    /// From now on code objects are read in another process.
    pub(super) fn turn_to(&mut self, subject: &Subject) {
        self.code.turn_to(Memory::new(subject.process.pid()));
    }

    /// Names what an event brings.
    pub(super) fn told(&mut self, event: Event) -> Option<Told> {
        Some(match event {
            Event::Native { site, end, frames } => Told::Native { site, end, frames },
            Event::Stack { site, end, frames, .. } => {
                let (frames, marks) = frames.iter().map(|frame| self.placed(frame)).unzip();
                Told::Stack { site, end, frames, marks }
            }
            other => return Told::without_frames(&other),
        })
    }

    /// The index of a frame, and how it was called.
    fn placed(&mut self, frame: &PyFrame) -> (u32, Mark) {
        if frame.flags & PyFrame::SHIM != 0 {
            return (NO_FRAME, Mark::Shim);
        }
        let index = self.index(frame);
        let suspended = self.suspended.get(index as usize).copied().unwrap_or(false);
        (index, Mark::of(frame.flags & PyFrame::ENTRY != 0, suspended))
    }

    /// The index of a frame, which is named now if it is new.
    fn index(&mut self, frame: &PyFrame) -> u32 {
        let place = (frame.code, frame.fingerprint, frame.instr_bytes);
        if let Some(&index) = self.by_place.get(&place) {
            return index;
        }
        let named = self.code.name(frame);
        let index = self.named.len() as u32;
        self.named.push(named.frame);
        self.suspended.push(named.suspended);
        self.gone += u64::from(named.gone);
        // A frame that could not be read then may be readable at its next sight.
        if frame.flags & PyFrame::FAULTED == 0 {
            self.by_place.insert(place, index);
        }
        index
    }
}
