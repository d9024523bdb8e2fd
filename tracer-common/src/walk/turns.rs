//! The walk itself, one frame a turn. Where it stands lies in memory, so that a program in the kernel can stop after some turns and the next go on: the verifier
//! then sees few turns, and each of them only once.

use super::{FrameIs, Scratch, UserMemory, WalkEnd, bring, kind_of, step};
use crate::frame::{PyFrame, finish, mix};
use crate::layout::PyLayout;
use crate::limits::MAX_DEPTH;

/// Frames side by side are not further apart than this, in bytes: the largest is as long as its function's variables and stack.
const MAX_GAP: u64 = 2048;

/// Frames that a walk looks at, at most: each Python frame may have a shim behind it, and the last one more.
const MAX_TURNS: u32 = 2 * MAX_DEPTH as u32 + 1;

/// Values of [`Progress::end`] besides those of [`WalkEnd`].
const RUNNING: u32 = 100;
const NOT_BEGUN: u32 = 101;

/// Where a walk stands.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The frame that comes next.
    address: u64,
    /// Hash of the frames so far.
    hash: u64,
    /// As [`Scratch::floor`], of this walk.
    floor: u64,
    /// Frames written.
    depth: u32,
    /// A [`WalkEnd`], or that there is none yet.
    end: u32,
    /// [`Wish::epoch`].
    epoch: u32,
    /// [`Wish::max_depth`].
    max_depth: u32,
    /// Frames looked at, of any kind.
    turns: u32,
    /// Padding, spelt out.
    reserved: u32,
}

const _: () = assert!(size_of::<Progress>() == 48);

impl Default for Progress {
    fn default() -> Self {
        Self {
            address: 0,
            hash: 0,
            floor: 0,
            depth: 0,
            end: NOT_BEGUN,
            epoch: 0,
            max_depth: 0,
            turns: 0,
            reserved: 0,
        }
    }
}

/// What a whole walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Frames written.
    pub depth: u32,
    /// Why it ended.
    pub end: WalkEnd,
    /// The site's id, from the frames and the seed (domain and native caller).
    pub id: u64,
}

/// What a walk is asked.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The innermost frame.
    pub innermost: u64,
    /// Frames to take at most, and never more than [`MAX_DEPTH`].
    pub max_depth: u32,
    /// What the site's id begins from: domain and native caller.
    pub seed: u64,
    /// A number that changes whenever a code object may have died; fingerprints of the same epoch are not read again. 0: always read.
    pub epoch: u32,
}

impl Progress {
    /// Forgets the last walk.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.end = NOT_BEGUN;
    }

    /// Whether a walk was begun since.
    #[inline(always)]
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.end != NOT_BEGUN
    }

    /// A walk that found no frame to begin from.
    #[inline(always)]
    pub fn bare(&mut self, seed: u64, end: WalkEnd) {
        self.hash = mix(mix(0, seed), end as u64);
        self.depth = 0;
        self.end = end as u32;
    }

    /// What was found, once the walk has ended.
    #[inline(always)]
    #[must_use]
    pub fn walked(&self) -> Walked {
        Walked { depth: self.depth, end: WalkEnd::from_code(self.end), id: finish(self.hash) }
    }

    /// Whether there is no room for another frame.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.depth >= self.max_depth || self.depth as usize >= MAX_DEPTH
    }

    /// Whether the walk ends here.
    #[inline(always)]
    fn settle(&mut self) -> bool {
        if self.address == 0 {
            self.end = WalkEnd::Complete as u32;
        } else if self.turns >= MAX_TURNS {
            self.end = WalkEnd::Truncated as u32;
        }
        self.end != RUNNING
    }
}

impl Scratch {
    /// Begins a walk from the innermost frame outwards.
    #[inline(always)]
    pub fn begin(&mut self, wish: Wish) {
        // The target has run since: what was read then is read anew.
        self.window.forget();
        let progress = &mut self.progress;
        progress.address = wish.innermost;
        progress.hash = mix(0, wish.seed);
        progress.floor = wish.innermost;
        progress.depth = 0;
        progress.turns = 0;
        progress.end = RUNNING;
        progress.epoch = wish.epoch;
        progress.max_depth = wish.max_depth;
        progress.settle();
    }

    /// Goes on for so many frames at most; `false` when the walk has ended.
    #[inline(always)]
    pub fn walk_on<M: UserMemory>(
        &mut self,
        memory: &M,
        layout: &PyLayout,
        frames: &mut [PyFrame; MAX_DEPTH],
        turns: usize,
    ) -> bool {
        let (mut this, mut frames) = (self, frames);
        let mut turn = 0;
        while turn < turns {
            // All that a turn leaves behind lies in memory: the verifier follows each way through a turn on its own, unless it cannot tell them apart afterwards.
            this = core::hint::black_box(this);
            frames = core::hint::black_box(frames);
            if this.progress.end != RUNNING {
                return false;
            }
            this.turn(memory, layout, frames);
            turn += 1;
        }
        this.progress.end == RUNNING
    }

    /// Takes one frame, and settles whether there is another.
    #[inline(always)]
    fn turn<M: UserMemory>(&mut self, memory: &M, layout: &PyLayout, frames: &mut [PyFrame; MAX_DEPTH]) {
        let address = self.progress.address;
        let Ok(place) = bring(memory, layout, address, self) else {
            self.floor = self.progress.floor;
            // It would only have said whether C code called the last one.
            let end = if self.progress.is_full() { WalkEnd::Truncated } else { WalkEnd::Fault };
            self.progress.end = end as u32;
            return;
        };
        let previous = self.window.word(place, layout.frame_previous);
        self.progress.turns += 1;
        match kind_of(layout, place, &self.window) {
            FrameIs::Base => {}
            FrameIs::Shim if self.says_entry(frames) => {}
            _ if self.progress.is_full() => {
                self.progress.end = WalkEnd::Truncated as u32;
                self.floor = self.progress.floor;
                return;
            }
            FrameIs::Shim => self.shim(frames),
            kind => self.python(memory, layout, place, kind, frames),
        }
        let progress = &mut self.progress;
        if address.wrapping_sub(previous) < MAX_GAP && progress.floor == address {
            progress.floor = previous;
        }
        progress.address = previous;
        if progress.settle() {
            self.floor = self.progress.floor;
        }
    }

    /// Takes a frame of Python code.
    #[inline(always)]
    fn python<M: UserMemory>(
        &mut self,
        memory: &M,
        layout: &PyLayout,
        place: usize,
        kind: FrameIs,
        frames: &mut [PyFrame; MAX_DEPTH],
    ) {
        let depth = self.progress.depth as usize & (MAX_DEPTH - 1);
        let epoch = self.progress.epoch;
        let frame = &mut frames[depth];
        step(memory, layout, place, epoch, self, frame);
        if kind == FrameIs::Entry {
            frame.flags |= PyFrame::ENTRY;
        }
        self.progress.hash = mix_frame(self.progress.hash, frame);
        self.progress.depth += 1;
    }

    /// C code called the evaluator for the frame before this one; `false` where that says so already, or there is none.
    #[inline(always)]
    fn says_entry(&mut self, frames: &mut [PyFrame; MAX_DEPTH]) -> bool {
        let depth = self.progress.depth as usize;
        let inner = &mut frames[depth.wrapping_sub(1) & (MAX_DEPTH - 1)];
        let is_new = depth != 0 && inner.flags & (PyFrame::ENTRY | PyFrame::SHIM) == 0;
        if is_new {
            inner.flags |= PyFrame::ENTRY;
        }
        is_new
    }

    /// The frame for which C code called the evaluator has ended, and the call stands for itself.
    #[inline(always)]
    fn shim(&mut self, frames: &mut [PyFrame; MAX_DEPTH]) {
        let frame = &mut frames[self.progress.depth as usize & (MAX_DEPTH - 1)];
        *frame = PyFrame { flags: PyFrame::SHIM, ..PyFrame::default() };
        self.progress.hash = mix_frame(self.progress.hash, frame);
        self.progress.depth += 1;
    }
}

/// Adds a frame to a stack's hash.
#[inline(always)]
#[must_use]
pub const fn mix_frame(hash: u64, frame: &PyFrame) -> u64 {
    mix(mix(hash, frame.code ^ frame.fingerprint), frame.instr_bytes as u32 as u64)
}

/// A whole walk at once.
pub fn walk<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    wish: Wish,
    scratch: &mut Scratch,
    frames: &mut [PyFrame; MAX_DEPTH],
) -> Walked {
    scratch.begin(wish);
    while scratch.walk_on(memory, layout, frames, MAX_DEPTH) {}
    scratch.progress.walked()
}
