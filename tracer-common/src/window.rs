//! A stretch of the target's memory, read at once: what a walk needs next usually lies beside what it needed last, and one read of 4 KiB costs little more than
//! one of 8 bytes.

use crate::limits::WINDOW;
use crate::walk::{Fault, UserMemory};

/// The stretch that was read last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Window {
    /// Its bytes, as words.
    pub words: [u64; WINDOW / 8],
    /// The address of the first byte.
    pub at: u64,
    /// How many bytes were read.
    pub len: u64,
    /// Bytes from the first to the wanted ones.
    inside: u64,
}

const _: () = assert!(size_of::<Window>() == WINDOW + 24);

impl Default for Window {
    fn default() -> Self {
        Self { words: [0; WINDOW / 8], at: 0, len: 0, inside: 0 }
    }
}

/// What a window should hold.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// The first byte that is needed.
    pub begin: u64,
    /// Bytes that are needed.
    pub len: u64,
    /// The first byte that may be read, not above `begin`.
    pub from: u64,
    /// Bytes that may be read, less than the window holds.
    pub total: u64,
}

impl Window {
    /// Forgets what was read: the target has run since.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.len = 0;
    }

    /// Whether so many bytes from an address on are here, as whole words.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, address: u64, len: u64) -> bool {
        let inside = address.wrapping_sub(self.at);
        inside < WINDOW as u64 && inside + len <= self.len && inside & 7 == 0
    }

    /// Makes the wanted bytes be here, and gives the place of the first in words. What may be read besides is a guess: where it cannot be read, the
    /// wanted bytes alone are.
    ///
    /// # Errors
    /// [`Fault`] when the wanted bytes cannot be read.
    #[inline(always)]
    pub fn bring<M: UserMemory>(&mut self, memory: &M, want: Want) -> Result<usize, Fault> {
        let mut inside = want.begin.wrapping_sub(self.at);
        if !self.holds(want.begin, want.len) {
            self.at = want.from;
            self.len = want.total;
            inside = want.begin.wrapping_sub(want.from);
            if memory.fill(want.from, want.total as u32, &mut self.words).is_err() {
                self.at = want.begin;
                self.len = want.len;
                inside = 0;
                memory.fill(want.begin, want.len as u32, &mut self.words)?;
            }
        }
        // Through memory, because the verifier follows the ways that lead here as one only if it cannot tell them apart.
        self.inside = inside;
        let this = core::hint::black_box(self);
        Ok((this.inside / 8) as usize & (WINDOW / 8 - 1))
    }

    /// The word so many bytes behind a place. Neither ever reaches past the window, but the verifier must see it.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, place: usize, offset: u32) -> u64 {
        self.words[(place + (offset / 8) as usize) & (WINDOW / 8 - 1)]
    }
}
