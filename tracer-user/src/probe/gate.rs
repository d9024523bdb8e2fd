//! The gate of the sample engine's windows, from our side: opened, shut and read in the memory that the probes work in, word by word, so that nothing which
//! they add or write at that moment is lost.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use tracer_common::sample::Gate;

use crate::error::{Context, Result};
use crate::kernel::SharedPage;

/// Words of a [`Gate`]. The first holds `open` in its lower half, and `window` above it.
const WORDS: usize = size_of::<Gate>() / 8;

/// The one element of the map `GATE`.
#[derive(Debug)]
pub(crate) struct SharedGate(SharedPage);

impl SharedGate {
    /// Shares the map's memory.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn of(map: BorrowedFd<'_>) -> Result<Self> {
        SharedPage::of(map).map(Self).context("sharing the gate's map")
    }

    fn words(&self) -> &[AtomicU64] {
        self.0.words().get(..WORDS).unwrap_or_default()
    }

    /// Writes the gate, and opens it when all of it is there.
    pub(crate) fn open(&self, gate: Gate) {
        let new = to_words(Gate { open: Gate::OPEN, ..gate });
        let [first, rest @ ..] = self.words() else { return };
        // A hit of the last window that is still under way must not find the new one half written.
        first.store(u64::from(gate.window) << 32, Ordering::SeqCst);
        for (word, value) in rest.iter().zip(&new[1..]) {
            word.store(*value, Ordering::SeqCst);
        }
        first.store(new[0], Ordering::SeqCst);
    }

    /// Ends the window, if the probes have not, and reads the gate.
    pub(crate) fn end(&self) -> Gate {
        if let Some(first) = self.words().first() {
            let _ = first.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                (word as u32 == Gate::OPEN).then_some(word & !u64::from(u32::MAX) | u64::from(Gate::ENDED))
            });
        }
        self.read()
    }

    /// Shuts it, and reads it.
    pub(crate) fn close(&self) -> Gate {
        if let Some(first) = self.words().first() {
            first.fetch_and(!u64::from(u32::MAX), Ordering::SeqCst);
        }
        self.read()
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Gate {
        let mut words = [0; WORDS];
        for (value, word) in words.iter_mut().zip(self.words()) {
            *value = word.load(Ordering::SeqCst);
        }
        from_words(words)
    }
}

const fn to_words(gate: Gate) -> [u64; WORDS] {
    [
        gate.open as u64 | (gate.window as u64) << 32,
        gate.opened_ns,
        gate.closed_ns,
        gate.length_ns,
        gate.share_ns,
        gate.trap_ns,
        gate.early_ns,
        gate.cost_ns,
        gate.early_cost_ns,
        gate.hits,
        gate.refused,
        gate.tail_cost_ns,
        gate.thin,
        gate.marked,
    ]
}

const fn from_words(words: [u64; WORDS]) -> Gate {
    let [
        first,
        opened_ns,
        closed_ns,
        length_ns,
        share_ns,
        trap_ns,
        early_ns,
        cost_ns,
        early_cost_ns,
        hits,
        refused,
        tail_cost_ns,
        thin,
        marked,
    ] = words;
    Gate {
        open: first as u32,
        window: (first >> 32) as u32,
        opened_ns,
        closed_ns,
        length_ns,
        share_ns,
        trap_ns,
        early_ns,
        cost_ns,
        early_cost_ns,
        hits,
        refused,
        tail_cost_ns,
        thin,
        marked,
    }
}

// The places that `to_words` counts on.
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Gate, open) == 0 && offset_of!(Gate, window) == 4 && offset_of!(Gate, opened_ns) == 8);
    assert!(offset_of!(Gate, closed_ns) == 16 && offset_of!(Gate, length_ns) == 24);
    assert!(offset_of!(Gate, share_ns) == 32 && offset_of!(Gate, trap_ns) == 40);
    assert!(offset_of!(Gate, early_ns) == 48 && offset_of!(Gate, cost_ns) == 56);
    assert!(offset_of!(Gate, early_cost_ns) == 64 && offset_of!(Gate, hits) == 72);
    assert!(offset_of!(Gate, refused) == 80 && offset_of!(Gate, tail_cost_ns) == 88);
    assert!(offset_of!(Gate, thin) == 96 && offset_of!(Gate, marked) == 104);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_survives_the_way_through_its_words() {
        let gate = Gate {
            open: 1,
            window: 2,
            opened_ns: 3,
            closed_ns: 4,
            length_ns: 5,
            share_ns: 6,
            trap_ns: 7,
            early_ns: 8,
            cost_ns: 9,
            early_cost_ns: 10,
            hits: 11,
            refused: 12,
            tail_cost_ns: 13,
            thin: 14,
            marked: 14,
        };
        assert_eq!(from_words(to_words(gate)), gate);
        assert_eq!(to_words(gate)[0], 2 << 32 | 1);
    }
}
