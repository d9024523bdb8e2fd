//! Whether a heap grows, from its size at some moments. Pure. A heap that breathes (allocates much, frees much) moves up and down by more than a leak adds in a
//! minute, so what is looked at is the floor of it: the least size in each of some stretches of time.

use std::collections::VecDeque;

/// Stretches that are compared.
const STRETCHES: usize = 8;
/// Sizes in each. A heap that breathes more slowly than a stretch is long has no floor there: its rising flank is taken for growth.
const SIZES: usize = 4;
/// Pairs of stretches whose floors may be in the wrong order. Of sizes that come in any order, 8 in 40,320 have at most one such pair.
const WRONG: usize = 1;
/// A rise that is worth a word, in bytes, and as a share of the heap.
const LEAST_BYTES: f64 = (256 << 10) as f64;
const LEAST_SHARE: f64 = 0.002;

/// A heap grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grows {
    /// How fast its floor rises, the median over all pairs of stretches.
    pub(crate) bytes_per_second: f64,
    /// Over how many seconds that was seen.
    pub(crate) seconds: f64,
}

/// The sizes of a heap at the last moments, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    sizes: VecDeque<(f64, f64)>,
}

impl Growth {
    /// Takes one more size, in bytes, at a time in seconds, and says whether the heap has been growing up to now. A moment that is not later than the last is ignored.
    pub(crate) fn observe(&mut self, seconds: f64, bytes: u64) -> Option<Grows> {
        let newest = self.sizes.back().map_or(f64::NEG_INFINITY, |(seconds, _)| *seconds);
        if seconds.is_finite() && seconds > newest {
            self.sizes.push_back((seconds, bytes as f64));
            if self.sizes.len() > STRETCHES * SIZES {
                self.sizes.pop_front();
            }
        }
        self.judge()
    }

    /// Whether it grows: nearly every stretch has a higher floor than those before, no single step is half of it all, and it is worth a word.
    pub(crate) fn judge(&self) -> Option<Grows> {
        if self.sizes.len() < STRETCHES * SIZES {
            return None;
        }
        let sizes: Vec<(f64, f64)> = self.sizes.iter().copied().collect();
        let floors: Vec<(f64, f64)> = sizes.chunks(SIZES).filter_map(floor).collect();
        let pairs = || {
            floors
                .iter()
                .enumerate()
                .flat_map(|(at, one)| floors.iter().skip(at + 1).map(move |next| (one, next)))
        };
        let wrong = pairs().filter(|(one, next)| next.1 <= one.1).count();
        let (first, last) = (floors.first()?, floors.last()?);
        let rise = last.1 - first.1;
        let highest_step = floors.windows(2).map(|two| two[1].1 - two[0].1).fold(f64::NEG_INFINITY, f64::max);
        if wrong > WRONG || rise < LEAST_BYTES.max(LEAST_SHARE * first.1) || highest_step > rise / 2.0 {
            return None;
        }
        let mut slopes: Vec<f64> = pairs().map(|(one, next)| (next.1 - one.1) / (next.0 - one.0)).collect();
        slopes.sort_by(f64::total_cmp);
        let bytes_per_second = *slopes.get(slopes.len() / 2)?;
        Some(Grows { bytes_per_second, seconds: sizes.last()?.0 - sizes.first()?.0 })
    }
}

/// The middle of a stretch and the least size in it.
fn floor(stretch: &[(f64, f64)]) -> Option<(f64, f64)> {
    let (first, last) = (stretch.first()?, stretch.last()?);
    let least = stretch.iter().map(|(_, bytes)| *bytes).fold(f64::INFINITY, f64::min);
    Some((f64::midpoint(first.0, last.0), least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const ENOUGH: usize = STRETCHES * SIZES;

    /// What is said after each second of a heap of these sizes.
    fn said(sizes: impl Iterator<Item = u64>) -> Vec<Option<Grows>> {
        let mut growth = Growth::default();
        sizes.enumerate().map(|(second, bytes)| growth.observe(second as f64, bytes)).collect()
    }

    #[test]
    fn a_steady_leak_is_growth_with_its_rate() {
        let said = said((0..40).map(|second| 100 * MIB + second * 100_000));
        assert!(said[..ENOUGH - 1].iter().all(Option::is_none), "too early to tell");
        let grows = said[ENOUGH - 1].unwrap();
        assert_eq!((grows.bytes_per_second, grows.seconds), (100_000.0, 31.0));
    }

    #[test]
    fn what_is_not_steady_is_no_growth() {
        let none = |sizes: Vec<u64>| assert!(said(sizes.into_iter()).iter().all(Option::is_none));
        none(vec![100 * MIB; 60]);
        none((0..60).map(|second| (200 - second) * MIB).collect());
        none((0..60).map(|second| if second < 30 { 100 * MIB } else { 150 * MIB }).collect());
        none((0..60).map(|second| 100 * MIB + second * 1000).collect());
    }

    #[test]
    fn clocks_that_stand_or_run_back_are_ignored() {
        let mut growth = Growth::default();
        for second in [0.0, 0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(growth.observe(second, u64::MAX), None);
        }
        assert_eq!(growth.sizes.len(), 1);
    }

    proptest! {
        /// A heap that breathes within each stretch has a floor.
        #[test]
        fn breath_is_no_growth(period in 2u64..=4, amplitude in 0u64..1 << 30, base in 0u64..1 << 32) {
            let sizes = (0..200u64).map(|second| base + amplitude * (second % period) / period);
            prop_assert!(said(sizes).iter().all(Option::is_none));
        }

        #[test]
        fn a_leak_is_found_amid_breath(period in 2u64..=4, amplitude in 0u64..1 << 28, leak in 20_000u64..10_000_000) {
            let base = 10 * MIB;
            let sizes = (0..64u64).map(|second| base + second * leak + amplitude * (second % period) / period);
            let grows = *said(sizes).last().unwrap();
            let rate = grows.map_or(0.0, |grows| grows.bytes_per_second);
            prop_assert!((rate / leak as f64 - 1.0).abs() < 0.15, "{rate} for {leak}");
        }

        /// Sizes without any order: a false alarm in some thousands of independent looks.
        #[test]
        fn noise_is_hardly_ever_growth(sizes in prop::collection::vec(0u64..1 << 30, 4 * ENOUGH)) {
            let said = said(sizes.into_iter());
            prop_assert!(said.iter().filter(|said| said.is_some()).count() <= SIZES);
        }

        #[test]
        fn hostile_sizes_never_panic(sizes in prop::collection::vec((any::<f64>(), any::<u64>()), 0..100)) {
            let mut growth = Growth::default();
            for (seconds, bytes) in sizes {
                let grows = growth.observe(seconds, bytes);
                prop_assert!(grows.is_none_or(|grows| grows.bytes_per_second >= 0.0));
            }
        }
    }
}
