//! The spread of many values in six numbers. The only place that knows hdrhistogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tracer_common::limits::LIFETIME_BUCKETS;
use tracer_common::site::lifetime_bounds_ns;

/// Significant decimal digits of a percentile.
const DIGITS: u8 = 3;
/// The same for lifetimes, which are known to a quarter only; a tenth of the cells, and there may be 65,536 sites.
const LIFETIME_DIGITS: u8 = 2;
/// Values past this one share its place in the histogram; least and most stay exact.
const HIGHEST: u64 = 1 << 60;

/// How values are spread, in the unit of the values. Percentiles are right to one in a thousand; least, most and count are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Values.
    pub count: u64,
    /// The least value.
    pub min: u64,
    /// Half of the values are at most this.
    pub p50: u64,
    /// Nine of ten values are at most this.
    pub p90: u64,
    /// Ninety-nine of a hundred values are at most this.
    pub p99: u64,
    /// The greatest value.
    pub max: u64,
}

impl Spread {
    /// The spread of `values`; `None` when there are none.
    pub fn of_values(values: impl Iterator<Item = u64>) -> Option<Self> {
        Self::of_weighted(values.map(|value| (value, 1)))
    }

    /// The spread of values each of which stands for so many; `None` when there are none.
    pub fn of_weighted(values: impl Iterator<Item = (u64, u64)>) -> Option<Self> {
        let mut histogram = Histogram::<u64>::new(DIGITS).ok()?;
        let (mut least, mut most) = (u64::MAX, 0);
        for (value, count) in values.filter(|(_, count)| *count > 0) {
            histogram.record_n(value.min(HIGHEST), count).ok()?;
            least = least.min(value);
            most = most.max(value);
        }
        Self::of(&histogram, least, most)
    }

    /// The spread of ages at death in nanoseconds, from the kernel's buckets; `None` when nothing died.
    ///
    /// A bucket counts as its middle, so percentiles are right to a quarter of their value; `min` and `max` are the outer
    /// bounds of the outer buckets.
    #[must_use]
    pub fn of_lifetimes(lifetimes: &[u32; LIFETIME_BUCKETS]) -> Option<Self> {
        Self::of_weighted_lifetimes(&lifetimes.map(u64::from))
    }

    /// The same for counts that are estimates and may be greater.
    #[must_use]
    pub fn of_weighted_lifetimes(lifetimes: &[u64; LIFETIME_BUCKETS]) -> Option<Self> {
        let mut histogram = Histogram::<u64>::new(LIFETIME_DIGITS).ok()?;
        let (mut least, mut most) = (u64::MAX, 0);
        for (bucket, &deaths) in lifetimes.iter().enumerate().filter(|(_, deaths)| **deaths > 0) {
            let (from, to) = lifetime_bounds_ns(bucket);
            histogram.record_n(from.midpoint(to), deaths).ok()?;
            least = least.min(from);
            most = most.max(to);
        }
        Self::of(&histogram, least, most)
    }

    fn of(histogram: &Histogram<u64>, min: u64, max: u64) -> Option<Self> {
        let count = histogram.len();
        if count == 0 {
            return None;
        }
        // A histogram answers with the top of its cell, which may lie past the greatest value.
        let at = |quantile| histogram.value_at_quantile(quantile).clamp(min, max);
        Some(Self { count, min, p50: at(0.5), p90: at(0.9), p99: at(0.99), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracer_common::site::lifetime_bucket;

    #[test]
    fn equal_values_are_told_exactly() {
        let spread = Spread::of_values(std::iter::repeat_n(1_000_003, 10)).unwrap();
        let one = 1_000_003;
        assert_eq!(spread, Spread { count: 10, min: one, p50: one, p90: one, p99: one, max: one });
    }

    #[test]
    fn a_hundred_values() {
        let spread = Spread::of_values(1..=100).unwrap();
        assert_eq!(spread, Spread { count: 100, min: 1, p50: 50, p90: 90, p99: 99, max: 100 });
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of_values(std::iter::empty()), None);
        assert_eq!(Spread::of_lifetimes(&[0; LIFETIME_BUCKETS]), None);
    }

    #[test]
    fn lifetimes_are_told_by_their_buckets() {
        let mut lifetimes = [0; LIFETIME_BUCKETS];
        lifetimes[lifetime_bucket(5_000_000)] = 99;
        lifetimes[LIFETIME_BUCKETS - 1] = 1;
        let spread = Spread::of_lifetimes(&lifetimes).unwrap();
        assert_eq!((spread.count, spread.min), (100, 1 << 22));
        assert!((4_000_000..6_300_000).contains(&spread.p50) && spread.p50 == spread.p90, "{spread:?}");
        assert_eq!(spread.max, lifetime_bounds_ns(LIFETIME_BUCKETS - 1).1);
    }

    proptest! {
        #[test]
        fn a_spread_is_in_order(values in prop::collection::vec(any::<u64>(), 1..200)) {
            let spread = Spread::of_values(values.iter().copied()).unwrap();
            prop_assert_eq!(spread.count, values.len() as u64);
            prop_assert_eq!(Some(&spread.min), values.iter().min());
            prop_assert_eq!(Some(&spread.max), values.iter().max());
            prop_assert!(spread.min <= spread.p50 && spread.p50 <= spread.p90);
            prop_assert!(spread.p90 <= spread.p99 && spread.p99 <= spread.max);
        }

        #[test]
        fn percentiles_are_right_to_a_thousandth(mut values in prop::collection::vec(0u64..1 << 50, 1..200)) {
            let spread = Spread::of_values(values.iter().copied()).unwrap();
            values.sort_unstable();
            let exact = values[values.len().div_ceil(2) - 1];
            prop_assert!(spread.p50 >= exact && spread.p50 - exact <= exact / 1000 + 1, "{} for {exact}", spread.p50);
        }
    }
}
