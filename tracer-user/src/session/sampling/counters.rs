//! When the heap's own counters are read: often enough to tell a steady course, and seldom enough to cost nothing.

use std::time::Duration;

/// Looks in a recording whose length is known, and how much time is between two.
const LOOKS: u32 = 16;
/// See [`LOOKS`].
const MOST_OFTEN: Duration = Duration::from_millis(700);
/// See [`LOOKS`].
const MOST_SELDOM: Duration = Duration::from_secs(10);
/// Where the length is not known: in each doubling of the time that has passed there are some six.
const LOOKS_SO_FAR: u32 = 8;
/// A look at the counters of a large heap takes long (some 25 ms for a gigabyte of small blocks): all of them together at most this part of our time.
const PART: u32 = 500;

/// What is known when a look is over.
pub(super) struct Looked {
    /// Since sampling began.
    pub(super) now: Duration,
    /// How long the look took.
    pub(super) took: Duration,
    /// The length of the recording.
    pub(super) whole: Option<Duration>,
    /// Processes that share our time. Each needs a course of its own: only what the looks cost is shared.
    pub(super) sharers: u32,
}

impl Looked {
    /// When the next one is due, since sampling began.
    pub(super) fn next(&self) -> Duration {
        let rest = self.whole.map_or(self.now / LOOKS_SO_FAR, |whole| whole / LOOKS);
        let least = self.took * PART * self.sharers;
        self.now + rest.clamp(MOST_OFTEN, MOST_SELDOM).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(seconds: u64, whole: Option<Duration>, took: Duration, sharers: u32) -> u32 {
        let (mut now, mut looks) = (Duration::ZERO, 0);
        while now < Duration::from_secs(seconds) {
            now = Looked { now, took, whole, sharers }.next();
            looks += 1;
        }
        looks
    }

    #[test]
    fn there_are_enough_for_a_course_and_not_too_many() {
        let little = Duration::from_micros(300);
        for seconds in [20, 30, 60, 600] {
            let whole = Some(Duration::from_secs(seconds));
            for sharers in [1, 4, 8] {
                assert!(
                    (12..=70).contains(&looks(seconds, whole, little, sharers)),
                    "{seconds} s, {sharers}"
                );
                let until_stopped = looks(seconds, None, little, sharers);
                assert!((12..=100).contains(&until_stopped), "{until_stopped} in {seconds} s, {sharers}");
            }
        }
    }

    #[test]
    fn a_large_heap_or_family_takes_its_part_and_no_more() {
        assert_eq!(looks(60, Some(Duration::from_secs(60)), Duration::from_millis(25), 1), 5);
        assert_eq!(looks(60, None, Duration::from_millis(1), 64), 2);
    }
}
