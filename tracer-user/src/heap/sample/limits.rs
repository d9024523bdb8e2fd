//! How sure an estimate is: from the sums of what single windows contributed to 95 % limits.
//!
//! Windows come at random, so what they contribute are the points of a Poisson process with sizes, and the variance of their sum is the sum of the squares. With
//! few contributions the sum is far from normal; the limits are those of a gamma distribution (Fay and Feuer, "Confidence intervals for directly standardized rates", 1997),
//! which are the exact ones of a Poisson count where all contributions are equal, and allow for one more contribution of the greatest size where they are not.

/// The 97.5 % point of a normal distribution: two-sided 95 %.
pub(super) const TWO_SIDED_95: f64 = 1.96;
/// The 99 % point: what is at least so is so in 99 of 100 cases.
pub(super) const ONE_SIDED_99: f64 = 2.326;
/// The 97.5 % upper limit of a Poisson count of 0: −ln 0.025.
const NONE_SEEN: f64 = 3.689;

/// A sum of as many contributions as this many equal ones has shown how great they are.
const ENOUGH: f64 = 10.0;

/// Sums over the windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Of the contributions.
    pub(super) value: f64,
    /// Of their squares.
    pub(super) square: f64,
    /// Of their products with the time that their window stands for, see [`Drawn`].
    pub(super) cross: f64,
    /// The greatest contribution.
    pub(super) most: f64,
}

impl Sums {
    /// What a window contributes where the sum is made: the mean, each weighted by itself.
    pub(super) fn typical(&self) -> f64 {
        if self.value > 0.0 { self.square / self.value } else { 0.0 }
    }

    /// Adds what one window contributed; `drawn_s` is the time that it stands for.
    pub(super) fn add(&mut self, value: f64, drawn_s: f64) {
        self.value += value;
        self.square += value * value;
        self.cross += value * drawn_s;
        self.most = self.most.max(value);
    }
}

/// The time that windows stand for. Weight times own time is an estimate of the target's time just as weight times births is one of its births; but time is known, so what chance made of the number of
/// windows (and what is wrong with the `interval` that they were told) shows here and is taken out: a ratio estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drawn {
    /// Windows.
    pub(super) windows: u64,
    /// Sum of the times, seconds.
    pub(super) value_s: f64,
    /// Sum of their squares.
    pub(super) square: f64,
    /// By how much time ran slower than they were told, as others have found out that shared their clock; 0: nobody has.
    pub(super) told_slow: f64,
}

/// Fewer windows are not compared with the clock: a ratio of small numbers is biased.
const LEAST_WINDOWS: u64 = 16;
/// A clock that is off by more than this factor is not believed.
const MOST_FACTOR: f64 = 4.0;

impl Drawn {
    pub(super) fn add(&mut self, drawn_s: f64) {
        self.windows += 1;
        self.value_s += drawn_s;
        self.square += drawn_s * drawn_s;
    }

    /// The windows of this one that are not in an earlier one.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            windows: self.windows.saturating_sub(earlier.windows),
            value_s: (self.value_s - earlier.value_s).max(0.0),
            square: (self.square - earlier.square).max(0.0),
            told_slow: self.told_slow,
        }
    }

    /// What sums over windows that were drawn over `span_s` are multiplied with.
    pub(super) fn scale(&self, span_s: f64) -> f64 {
        self.factor(span_s).unwrap_or_else(|| self.as_told())
    }

    /// What contributions are multiplied with if the windows are too few to tell.
    fn as_told(&self) -> f64 {
        if (1.0 / MOST_FACTOR..=MOST_FACTOR).contains(&self.told_slow) { self.told_slow } else { 1.0 }
    }

    /// What all contributions are multiplied with, if the windows were drawn over `span_s`; `None` if they are too few to tell.
    fn factor(&self, span_s: f64) -> Option<f64> {
        let factor = span_s / self.value_s;
        let sound = self.windows >= LEAST_WINDOWS && factor.is_finite();
        (sound && (1.0 / MOST_FACTOR..=MOST_FACTOR).contains(&factor)).then_some(factor)
    }
}

/// An estimate with its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Half width of an interval around it that holds the truth in 95 % of the cases.
    pub error: f64,
    /// It is more than this in 99 % of the cases.
    pub at_least: f64,
    /// How many equal contributions would be as sure.
    pub effective: f64,
}

impl Estimate {
    /// The sum of two that know nothing of each other, such as those of two processes: no window looks at both. Values and variances add up, and so half widths do in quadrature, which is on the safe
    /// side: each allows for one more contribution than was seen.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let variance = |one: &Self| {
            let variance = one.value * one.value / one.effective;
            if variance.is_finite() { variance } else { 0.0 }
        };
        let (value, variance) = (self.value + other.value, variance(&self) + variance(&other));
        let at_least = if value > 0.0 { gamma(value, variance, -ONE_SIDED_99) } else { 0.0 };
        Self {
            value: sound(value),
            error: sound(self.error.hypot(other.error)),
            at_least: sound(at_least),
            effective: match (value > 0.0, variance > 0.0) {
                (false, _) => 0.0,
                (true, false) => f64::MAX,
                (true, true) => sound(value * value / variance),
            },
        }
    }

    /// The same per second.
    pub(super) fn over(self, seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Self::default();
        }
        let per = |value: f64| sound(value / seconds);
        Self { value: per(self.value), error: per(self.error), at_least: per(self.at_least), ..self }
    }
}

/// The estimate that `sums` of windows drawn over `span_s` make. `typical` is what a window contributes if it contributes at all, as far as that is known from elsewhere: the sum may
/// have missed such a one, even if it has none.
pub(super) fn estimate(sums: &Sums, drawn: &Drawn, span_s: f64, typical: f64) -> Estimate {
    let factor = drawn.factor(span_s);
    let scale = drawn.scale(span_s);
    if sums.value <= 0.0 {
        return Estimate { error: sound(NONE_SEEN * typical * scale), ..Estimate::default() };
    }
    // With the clock, only what windows contribute more or less than their share of the time is chance.
    let variance = if factor.is_some() {
        let rate = sums.value / drawn.value_s;
        let left = sums.square - 2.0 * rate * sums.cross + rate * rate * drawn.square;
        let lost = drawn.windows as f64 / (drawn.windows as f64 - 1.0);
        (left * lost).clamp(0.0, sums.square * lost)
    } else {
        sums.square
    };
    let few = sums.value * sums.value < ENOUGH * sums.square;
    let most = if few { sums.most.max(typical) } else { sums.most };
    let upper = gamma(sums.value + most, variance + most * most, TWO_SIDED_95);
    let at_least = gamma(sums.value, variance, -ONE_SIDED_99);
    Estimate {
        value: sound(sums.value * scale),
        error: sound((upper - sums.value) * scale),
        at_least: sound(at_least * scale),
        effective: if variance > 0.0 { sound(sums.value * sums.value / variance) } else { f64::MAX },
    }
}

/// The point of the gamma distribution of this mean and variance that lies where `deviations` lies in a normal one (Wilson and Hilferty, 1931).
fn gamma(mean: f64, variance: f64, deviations: f64) -> f64 {
    if variance <= 0.0 {
        return mean;
    }
    // A ninth of the shape, as if of a chi-squared variable of 2 · shape degrees of freedom.
    let ninth = variance / (9.0 * mean * mean);
    let root = (1.0 - ninth + deviations * ninth.sqrt()).max(0.0);
    mean * root * root * root
}

/// Numbers that reports can print.
fn sound(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn equal(count: usize) -> Sums {
        let mut sums = Sums::default();
        (0..count).for_each(|_| sums.add(1.0, 0.0));
        sums
    }

    /// The exact limits of Poisson counts (tables of Garwood, 1936), reached to the few percent that Wilson and Hilferty promise.
    #[test]
    fn equal_contributions_are_a_poisson_count() {
        for (count, upper) in [(1, 5.572), (4, 10.242), (10, 18.391), (100, 121.627)] {
            let estimate = estimate(&equal(count), &Drawn::default(), 1.0, 1.0);
            let reached = estimate.value + estimate.error;
            assert!((reached / upper - 1.0).abs() < 0.01, "{reached} for {upper}");
            assert!((estimate.effective - count as f64).abs() < 1e-9);
        }
        let none = estimate(&Sums::default(), &Drawn::default(), 1.0, 10.0);
        assert_eq!((none.value, none.error, none.at_least), (0.0, 36.89, 0.0));
        let ten = estimate(&equal(10), &Drawn::default(), 1.0, 1.0);
        assert!((ten.at_least - 4.13).abs() < 0.05, "{ten:?}: half of the 98 % limits of 10");
    }

    #[test]
    fn a_steady_rate_is_known_from_the_clock() {
        let (mut sums, mut drawn) = (Sums::default(), Drawn::default());
        for _ in 0..100 {
            sums.add(50.0, 0.2);
            drawn.add(0.2);
        }
        let estimate = estimate(&sums, &drawn, 22.0, 1.0);
        assert!((estimate.value - 5500.0).abs() < 1e-6, "100 windows stand for 20 s of 22");
        assert!(estimate.error < 200.0, "{estimate:?}");
    }

    proptest! {
        #[test]
        fn limits_are_numbers(values in prop::collection::vec((0.0..1e15_f64, 0.0..1e9_f64), 0..40), span in 0.0..1e9_f64) {
            let (mut sums, mut drawn) = (Sums::default(), Drawn::default());
            for (value, drawn_s) in values {
                sums.add(value, drawn_s);
                drawn.add(drawn_s);
            }
            let estimate = estimate(&sums, &drawn, span, 1.0);
            for number in [estimate.value, estimate.error, estimate.at_least, estimate.effective] {
                prop_assert!(number.is_finite() && number >= 0.0, "{estimate:?}");
            }
            prop_assert!(estimate.at_least <= estimate.value * 1.000_001, "{estimate:?}");
        }
    }
}
