//! Sampling in short windows: the gate through which hits count while a window is open, and what is logged of them.
//!
//! A window is a piece of the target's time. It ends when `own / length + cost / share` reaches 1, where `own` is the time that the target had
//! for itself (elapsed − cost) and `cost` what traps and probes took: both limits are one resource, of which every window uses one
//! unit, and that is what makes the estimates of [`Gate`]'s reader unbiased however densely the target allocates.

use crate::event::EventKind;

/// The one element of the `GATE` map. The loader writes it whole to open a window; from then on the probes add to it, and close it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// [`Self::OPEN`], [`Self::ENDED`] or [`Self::SHUT`].
    pub open: u32,
    /// Number of the window, from 1 on.
    pub window: u32,
    /// `CLOCK_MONOTONIC` at opening. It may lie ahead, and hits before it do not count: who opens the gate is often on the target's own processor, and keeps
    /// it from running for some 30 µs more, in which nothing would be seen and whose cost would be taken for the window's rate.
    pub opened_ns: u64,
    /// The same when the probes closed it; 0 if they did not.
    pub closed_ns: u64,
    /// The longest own time of the target that the window may see, in nanoseconds.
    pub length_ns: u64,
    /// The most that the window may cost, in nanoseconds.
    pub share_ns: u64,
    /// What a trap costs besides the time that the probes' programs take, in nanoseconds, as far as that is known; see [`Self::trap_after`].
    pub trap_ns: u64,
    /// Own time of the target after which [`Self::early_cost_ns`] is taken, in nanoseconds.
    pub early_ns: u64,
    /// What the traps and programs of the window have cost so far, in nanoseconds.
    pub cost_ns: u64,
    /// The cost of the first [`Self::early_ns`] of own time; 0 as long as that has not passed.
    pub early_cost_ns: u64,
    /// Hits that were let through. What they cost is added to `cost_ns` when they end.
    pub hits: u64,
    /// Records that found the ring full.
    pub refused: u64,
    /// What traps and programs have cost since the window ended, in nanoseconds.
    pub tail_cost_ns: u64,
    /// Which births get a stack: those for which a random number has none of these bits. The others are logged as deaths of what was there before.
    pub thin: u64,
    /// When the last hit's programs ended, and whose it was; see [`Self::mark`]. 0: there was none.
    pub marked: u64,
}

const _: () = assert!(size_of::<Gate>() == 112);

impl Gate {
    /// Nothing is logged.
    pub const SHUT: u32 = 0;
    /// Births and deaths are logged.
    pub const OPEN: u32 = 1;
    /// The window has ended, and what was born in it is being looked at. Until that is done, every block that is freed or handed out is still logged, as a death:
    /// what was seen at its address afterwards may be another.
    pub const ENDED: u32 = 2;

    /// Bits of a mark that tell threads apart.
    const THREAD_BITS: u32 = 20;

    /// The end of a hit of a thread, so many nanoseconds after opening, in one word.
    #[inline(always)]
    #[must_use]
    pub const fn mark(elapsed_ns: u64, tid: u32) -> u64 {
        elapsed_ns << Self::THREAD_BITS | (tid & ((1 << Self::THREAD_BITS) - 1)) as u64
    }

    /// Time since the end of the last hit, in nanoseconds, if that was this thread's; `None` if it was another's, or there was none.
    #[inline(always)]
    #[must_use]
    pub const fn since_mark(&self, elapsed_ns: u64, tid: u32) -> Option<u64> {
        let is_own = self.marked != 0 && self.marked & ((1 << Self::THREAD_BITS) - 1) == Self::mark(0, tid);
        if is_own { elapsed_ns.checked_sub(self.marked >> Self::THREAD_BITS) } else { None }
    }

    /// What a trap costs, after another has been seen: from the end of one hit's programs to the beginning of the next one's it took so many nanoseconds, a trap and what the target did between.
    ///
    /// Where it does next to nothing between two hits, that is a trap; and that is where its cost must be known best, because an error of a tenth of it is more than all that the target had
    /// for itself. So of the times that may be a trap alone (no longer than half as much again), two fifths should be shorter than what it is taken for: in the densest code the mean of a trap lies
    /// a little above that, in other code a part of the rest is not the trap's. Measured on ourselves it seems a third cheaper than in targets, whose caches are full.
    #[inline(always)]
    #[must_use]
    pub const fn trap_after(&self, between_ns: u64) -> u64 {
        let known_ns = self.trap_ns;
        match between_ns {
            _ if between_ns > known_ns + known_ns / 2 => known_ns,
            _ if between_ns < known_ns => known_ns.saturating_sub(3),
            _ => known_ns + 2,
        }
    }

    /// Own time of the target, in nanoseconds, so many nanoseconds after opening.
    #[inline(always)]
    #[must_use]
    pub const fn own_ns(&self, elapsed_ns: u64) -> u64 {
        elapsed_ns.saturating_sub(self.cost_ns)
    }

    /// Whether the window has used up what it may, so many nanoseconds after opening. Limits beyond 4 s count as 4 s.
    #[inline(always)]
    #[must_use]
    pub const fn is_used_up(&self, elapsed_ns: u64) -> bool {
        let own_ns = self.own_ns(elapsed_ns);
        let (length_ns, share_ns) = (at_most_4_s(self.length_ns), at_most_4_s(self.share_ns));
        if own_ns >= length_ns || self.cost_ns >= share_ns {
            return true;
        }
        // Each product is below 2^64; their sum may not be.
        (own_ns * share_ns).saturating_add(self.cost_ns * length_ns) >= length_ns * share_ns
    }
}

#[inline(always)]
const fn at_most_4_s(ns: u64) -> u64 {
    if ns < 1 << 32 { ns } else { (1 << 32) - 1 }
}

/// One thing that happened in an open window; goes through the ring, with a [`crate::event::EventKind`] first, as all records.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happening {
    /// `Born` or `Died` of [`crate::event::EventKind`].
    pub kind: u32,
    /// `Born`: the domain's code, and [`Self::REUSED`].
    pub detail: u32,
    /// `Born`: the site.
    pub site: u64,
    /// The block.
    pub address: u64,
    /// `Born`: bytes as asked for, or of the size class where that is not known.
    pub size_bytes: u64,
    /// `CLOCK_MONOTONIC` at the beginning of the hit. What was let through as the window closed may come after the window's other records, and
    /// is told from those of the next one by this.
    pub at_ns: u64,
}

const _: () = assert!(size_of::<Happening>() == 40);

impl Happening {
    /// Bit of [`Self::detail`]: no memory was allocated; the object came out of one of CPython's freelists.
    pub const REUSED: u32 = 1 << 8;

    /// Takes a happening out of a record; `None` for any other record, and for one that is cut short.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
        let kind = word(0)?;
        if kind != EventKind::Born as u32 && kind != EventKind::Died as u32 {
            return None;
        }
        Some(Self {
            kind,
            detail: word(4)?,
            site: long(8)?,
            address: long(16)?,
            size_bytes: long(24)?,
            at_ns: long(32)?,
        })
    }

    /// Whether it is a birth, and not a death.
    #[must_use]
    pub const fn is_birth(&self) -> bool {
        self.kind == EventKind::Born as u32
    }

    /// The domain's code of a birth.
    #[must_use]
    pub const fn domain_code(&self) -> u8 {
        self.detail as u8
    }

    /// Whether the object came out of a freelist.
    #[must_use]
    pub const fn is_reused(&self) -> bool {
        self.detail & Self::REUSED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_happening_comes_out_as_it_went_in() {
        let mut record = Vec::new();
        for word in [EventKind::Born as u32, Happening::REUSED | 1] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        for long in [7u64, 0x7f00_0000_1000, 48, 123] {
            record.extend_from_slice(&long.to_ne_bytes());
        }
        let born = Happening::parse(&record).unwrap();
        assert_eq!((born.site, born.address, born.size_bytes, born.at_ns), (7, 0x7f00_0000_1000, 48, 123));
        assert!(born.is_birth() && born.is_reused() && born.domain_code() == 1);
        assert_eq!(Happening::parse(&record[..record.len() - 1]), None);
        record[0] = EventKind::Died as u8;
        assert!(!Happening::parse(&record).unwrap().is_birth());
        record[0] = EventKind::Stack as u8;
        assert_eq!(Happening::parse(&record), None);
    }

    fn gate(length_ns: u64, share_ns: u64, cost_ns: u64) -> Gate {
        Gate { length_ns, share_ns, cost_ns, ..Gate::default() }
    }

    #[test]
    fn both_limits_are_one_resource() {
        assert!(!gate(2_000_000, 2_000_000, 1_000_000).is_used_up(1_999_999));
        assert!(gate(2_000_000, 2_000_000, 1_000_000).is_used_up(2_000_000));
        assert!(gate(2_000_000, 500_000, 250_000).is_used_up(1_250_000));
        assert!(!gate(2_000_000, 500_000, 250_000).is_used_up(1_249_999));
        assert!(gate(2_000_000, 0, 0).is_used_up(0));
    }

    #[test]
    fn the_last_hit_is_that_of_its_own_thread() {
        let marked = |marked| Gate { marked, ..Gate::default() };
        assert_eq!(marked(0).since_mark(5, 0), None, "there was none");
        assert_eq!(marked(Gate::mark(900, 4711)).since_mark(1700, 4711), Some(800));
        assert_eq!(marked(Gate::mark(900, 4711)).since_mark(1700, 4712), None);
        assert_eq!(marked(Gate::mark(900, 4711)).since_mark(800, 4711), None, "it has not ended");
    }

    #[test]
    fn a_trap_is_what_most_often_lies_between_two_hits() {
        let learn = |from: u64, times: [u64; 10]| {
            let mut gate = Gate { trap_ns: from, ..Gate::default() };
            (0..3000).for_each(|at| gate.trap_ns = gate.trap_after(times[at % 10]));
            gate.trap_ns
        };
        let dense = [740, 760, 780, 800, 800, 820, 840, 900, 1000, 1400];
        assert!((770..=810).contains(&learn(620, dense)), "{}", learn(620, dense));
        assert!((770..=810).contains(&learn(1100, dense)), "{}", learn(1100, dense));
        let sparse = [760, 800, 2000, 5000, 9000, 800, 3000, 700, 4000, 8000];
        assert!((740..=810).contains(&learn(620, sparse)), "{}", learn(620, sparse));
        assert_eq!(learn(620, [5000; 10]), 620, "nothing is learnt from what is no trap alone");
    }

    proptest! {
        #[test]
        fn only_whole_happenings_are_taken(record: Vec<u8>) {
            prop_assert!(Happening::parse(&record).is_none() || record.len() >= size_of::<Happening>());
        }

        #[test]
        fn nothing_overflows_and_more_time_never_reopens(length: u64, share: u64, cost: u64, elapsed: u64, more: u64) {
            let gate = gate(length, share, cost);
            prop_assert!(!gate.is_used_up(elapsed) || gate.is_used_up(elapsed.saturating_add(more)));
        }
    }
}
