//! The heap from outside while time passes: how many blocks of which size, how much memory is resident, and whether that grows. No probe is needed for it.

use std::time::{Duration, Instant};

use super::growth::{Grows, Growth};
use crate::session::subject::Subject;
use crate::target::census::{CLASSES, Census, Heap};
use crate::target::python::Python;

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

/// Looks at the heap, at most twice a second.
#[derive(Debug, Default)]
pub(in crate::session) struct Trigger {
    heap: Option<Heap>,
    next: Duration,
    small: Growth,
    resident: Growth,
    growing: Growing,
    /// Censuses with their times in seconds, oldest first; the first and the last always.
    censuses: Vec<(f64, Census)>,
    stride: u64,
    seen: u64,
}

impl Trigger {
    /// Looks, if it is time; `now` since the beginning. What it says of the last look stays said until the next.
    pub(in crate::session) fn tick(&mut self, subject: &Subject, now: Duration) -> Growing {
        if now >= self.next {
            // To be found once is not what a look costs.
            self.heap(subject);
            let begin = Instant::now();
            self.look(subject, now.as_secs_f64());
            self.next = now + LEAST.max(begin.elapsed() * PART);
        }
        self.growing
    }

    /// Looks now.
    pub(in crate::session) fn look(&mut self, subject: &Subject, seconds: f64) {
        let census = self.heap(subject).and_then(|heap| heap.census(&subject.process).ok());
        let small = census.and_then(|census| {
            self.keep(seconds, census);
            self.small.observe(seconds, census.live_bytes)
        });
        let resident = subject.process.rss_bytes().and_then(|bytes| self.resident.observe(seconds, bytes));
        self.growing = Growing { small, resident };
    }

    /// The heap, found once; of a command that was started by us not before its interpreter has begun.
    pub(super) fn heap(&mut self, subject: &Subject) -> Option<&Heap> {
        if !self.heap.as_ref().is_some_and(Heap::knows_arenas) && !subject.is_fresh() {
            // Of a command that was started by us, what was known is only where its interpreter lies on the disk.
            let found = if subject.python.image.bias.is_some() {
                Heap::find(&subject.process, &subject.python)
            } else {
                Python::find(&subject.process).and_then(|python| Heap::find(&subject.process, &python))
            };
            self.heap = found.ok().filter(Heap::knows_arenas);
        }
        self.heap.as_ref()
    }

    /// Censuses with their times in seconds, oldest first.
    pub(in crate::session) fn censuses(&self) -> &[(f64, Census)] {
        &self.censuses
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
        Some((&self.censuses.first()?.1, &self.censuses.last()?.1))
    }

    /// How fast each size class grows, in bytes per second: the slope of the line that fits its bytes best, over all the time.
    pub(super) fn rates(&self) -> [f64; CLASSES] {
        let bytes = |census: &Census, class: usize| {
            let block_bytes = 16 * (class as u64 + 1);
            census.classes.get(class).map_or(0.0, |class| class.blocks.saturating_mul(block_bytes) as f64)
        };
        std::array::from_fn(|class| slope(self.censuses.iter().map(|(s, census)| (*s, bytes(census, class)))))
    }

    fn keep(&mut self, seconds: f64, census: Census) {
        // The last one stands there whether its turn has come or not.
        if self.censuses.len() > 1 && !(self.seen - 1).is_multiple_of(self.stride.max(1)) {
            self.censuses.pop();
        }
        if self.censuses.len() >= KEPT {
            let mut at = 0;
            self.censuses.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride = self.stride.max(1) * 2;
        }
        self.censuses.push((seconds, census));
        self.seen += 1;
    }
}

/// The slope of the line that fits points best (least squares); 0 where there is none.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let sums = points.clone().fold((0.0, 0.0), |sums, (x, y)| (sums.0 + x, sums.1 + y));
    let (mean_x, mean_y) = (sums.0 / count, sums.1 / count);
    let (products, squares) = points.fold((0.0, 0.0), |sums, (x, y)| {
        (sums.0 + (x - mean_x) * (y - mean_y), sums.1 + (x - mean_x) * (x - mean_x))
    });
    let slope: f64 = products / squares;
    if slope.is_finite() { slope } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert_eq!(slope((0..5).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x)))), 3.0);
        assert_eq!(slope([(1.0, 5.0)].into_iter()), 0.0);
        assert_eq!(slope([].into_iter()), 0.0);
    }

    #[test]
    fn the_first_and_the_last_census_are_kept_however_many_come() {
        let mut trigger = Trigger::default();
        for number in 0..5000u64 {
            let mut census = Census::default();
            census.pools = number;
            trigger.keep(number as f64, census);
            let (first, last) = trigger.ends().unwrap();
            assert_eq!((first.pools, last.pools), (0, number));
            assert!(
                trigger.censuses.len() <= KEPT && trigger.censuses.is_sorted_by_key(|(seconds, _)| *seconds)
            );
        }
        assert!(trigger.censuses.len() > KEPT / 4);
    }
}
