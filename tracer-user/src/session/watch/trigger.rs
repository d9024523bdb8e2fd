//! The heap from outside while time passes: how many blocks of which size, how much memory is resident, and whether that grows. No probe is needed for it.

use std::time::{Duration, Instant};

use super::growth::{Grows, Growth};
use crate::heap::line::Line;
use crate::session::subject::Subject;
use crate::target::census::{CLASSES, Census, Heap};

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(500);
/// A look takes at most this part of our time.
const PART: u32 = 100;
/// Looks that are kept; when there are as many, every second one is dropped, and from then on half as many are kept.
const KEPT: usize = 256;

/// What grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::session) struct Growing {
    /// The bytes of small blocks.
    pub(in crate::session) small: Option<Grows>,
    /// Resident memory.
    pub(in crate::session) resident: Option<Grows>,
}

/// One look at the heap.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Look {
    /// When, in seconds since the beginning.
    pub(in crate::session) seconds: f64,
    pub(in crate::session) census: Census,
    /// Resident bytes of the process; `None` where that could not be read.
    pub(in crate::session) resident_bytes: Option<u64>,
}

/// Looks at the heap, at most twice a second.
#[derive(Debug, Default)]
pub(in crate::session) struct Trigger {
    heap: Option<Heap>,
    next: Duration,
    /// A look takes so long: the shorter of the last two. One that waited for its processor says nothing of the next, and would put it off for hundreds of times as long.
    took: Duration,
    last_took: Duration,
    small: Growth,
    resident: Growth,
    growing: Growing,
    /// Looks, oldest first; the first and the last always.
    looks: Vec<Look>,
    stride: u64,
    seen: u64,
}

impl Trigger {
    /// That of a forked child, whose heap is where its parent's is.
    pub(in crate::session) fn of_child(&self) -> Self {
        Self { heap: self.heap.clone(), ..Self::default() }
    }

    /// Looks, if it is time; `now` since the beginning. What it says of the last look stays said until the next.
    pub(in crate::session) fn tick(&mut self, subject: &Subject, now: Duration) -> Growing {
        if now >= self.next {
            // To be found once is not what a look costs.
            self.heap(subject);
            let begin = Instant::now();
            self.look(subject, now.as_secs_f64());
            let took = begin.elapsed();
            self.took = took.min(self.last_took);
            self.last_took = took;
            self.next = now + LEAST.max(self.took * PART);
        }
        self.growing
    }

    /// Looks now.
    pub(in crate::session) fn look(&mut self, subject: &Subject, seconds: f64) {
        let census = self.heap(subject).and_then(|heap| heap.census(&subject.process).ok());
        let resident_bytes = subject.process.rss_bytes();
        let small = census.and_then(|census| {
            self.keep(Look { seconds, census, resident_bytes });
            self.small.observe(seconds, census.live_bytes)
        });
        let resident = resident_bytes.and_then(|bytes| self.resident.observe(seconds, bytes));
        self.growing = Growing { small, resident };
    }

    /// How long a look takes.
    pub(in crate::session) const fn took(&self) -> Duration {
        self.took
    }

    /// The heap, found once; of a command that was started by us not before its interpreter has begun.
    pub(super) fn heap(&mut self, subject: &Subject) -> Option<&Heap> {
        if !self.heap.as_ref().is_some_and(Heap::knows_arenas) {
            let found = subject.running().and_then(|python| Heap::find(&subject.process, &python).ok());
            self.heap = found.filter(Heap::knows_arenas);
        }
        self.heap.as_ref()
    }

    /// Looks that counted the blocks, oldest first.
    pub(in crate::session) fn kept(&self) -> &[Look] {
        &self.looks
    }

    /// What grew at the last look.
    pub(super) const fn growing(&self) -> Growing {
        self.growing
    }

    /// Times that it has looked.
    pub(super) const fn looks(&self) -> u64 {
        self.seen
    }

    /// The first census and the last.
    pub(super) fn ends(&self) -> Option<(&Census, &Census)> {
        Some((&self.looks.first()?.census, &self.looks.last()?.census))
    }

    /// How fast each size class grows, in bytes per second: the slope of the line that fits its bytes best, over all the time.
    pub(super) fn rates(&self) -> [f64; CLASSES] {
        let point = |look: &Look, class| (look.seconds, look.census.class_bytes(class) as f64);
        std::array::from_fn(|class| {
            let points: Vec<_> = self.looks.iter().map(|look| point(look, class)).collect();
            Line::through(&points).map_or(0.0, |line| line.slope)
        })
    }

    fn keep(&mut self, look: Look) {
        // The last one stands there whether its turn has come or not.
        if self.looks.len() > 1 && !(self.seen - 1).is_multiple_of(self.stride.max(1)) {
            self.looks.pop();
        }
        if self.looks.len() >= KEPT {
            let mut at = 0;
            self.looks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride = self.stride.max(1) * 2;
        }
        self.looks.push(look);
        self.seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_census_are_kept_however_many_come() {
        let mut trigger = Trigger::default();
        for number in 0..5000u64 {
            let mut census = Census::default();
            census.pools = number;
            trigger.keep(Look { seconds: number as f64, census, resident_bytes: None });
            let (first, last) = trigger.ends().unwrap();
            assert_eq!((first.pools, last.pools), (0, number));
            let looks = trigger.kept();
            assert!(looks.len() <= KEPT && looks.is_sorted_by(|one, next| one.seconds < next.seconds));
        }
        assert!(trigger.kept().len() > KEPT / 4);
    }
}
