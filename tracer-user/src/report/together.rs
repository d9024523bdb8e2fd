//! How far off a sum of estimates is.
//!
//! Two sites that are busy in the same windows err in the same direction: then errors add up. Sites that know nothing of each other cancel each other out: then their squares add up (in
//! quadrature). Which it is, the samples themselves say: the error of everything together was found from what whole windows contributed, so by how far it is above quadrature shows how
//! much sites vary together on average. The errors of a few sites are added as if they were such average ones: never less than in quadrature, which is already on the safe side for
//! rare samples, because each such error allows for one more than was seen; never more than one by one, which would make a line of a hundred stacks seem ten times less known than it is.

use super::story::Story;

/// How much the errors of sites go together, from 0 (not at all) to 1 (in step).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Together(f64);

impl Together {
    /// What the errors of the live bytes say: those of the sites, and that of their sum.
    pub(super) fn of(story: &Story) -> Self {
        let errors = story.sites.iter().filter_map(|site| site.error(|errors| errors.live_bytes));
        let (sum, squares) = sums(errors);
        let whole = story.totals.error(|errors| errors.live_bytes).unwrap_or_default();
        let share = (whole * whole - squares) / (sum * sum - squares);
        // A single site, or an error without a bound, says nothing of how sites go together.
        Self(if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 })
    }

    /// The error of a sum whose parts are off by these; `None` if there are none.
    pub(super) fn sum(self, errors: impl Iterator<Item = f64>) -> Option<f64> {
        let mut errors = errors.peekable();
        errors.peek()?;
        let (sum, squares) = sums(errors);
        let error = (squares + self.0 * (sum * sum - squares)).sqrt();
        Some(if error.is_finite() { error } else { f64::MAX })
    }
}

/// The sum and the sum of the squares.
fn sums(errors: impl Iterator<Item = f64>) -> (f64, f64) {
    errors.fold((0.0, 0.0), |(sum, squares), error| (sum + error, squares + error * error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::fixture;
    use crate::report::sampling::{SiteErrors, SumErrors};

    fn story(errors: &[f64], whole: f64) -> Story {
        let of = |live_bytes: f64| SumErrors { live_bytes, ..SumErrors::default() };
        let mut story = fixture::story();
        let template = story.sites[0].clone();
        let site = |error: &f64| {
            let errors = SiteErrors { sums: of(*error), growth_bytes_per_second: 0.0 };
            crate::report::story::Site { errors: Some(errors), ..template.clone() }
        };
        story.sites = errors.iter().map(site).collect();
        story.totals.errors = Some(of(whole));
        story
    }

    #[test]
    fn the_whole_says_how_errors_add_up() {
        let four = [3.0; 4];
        let added = |whole| Together::of(&story(&four, whole)).sum([3.0, 4.0].into_iter());
        assert_eq!(added(6.0), Some(5.0), "the whole is quadrature");
        assert_eq!(added(12.0), Some(7.0), "the whole is the sum");
        assert_eq!((added(1.0), added(99.0)), (Some(5.0), Some(7.0)), "never less or more");
        assert_eq!(Together(0.5).sum(std::iter::empty()), None);
    }

    #[test]
    fn what_says_nothing_is_quadrature() {
        for (errors, whole) in [(&[][..], 0.0), (&[3.0], 3.0), (&[f64::MAX, 1.0], f64::MAX)] {
            assert_eq!(Together::of(&story(errors, whole)), Together(0.0));
        }
        assert_eq!(Together(0.0).sum([f64::MAX].into_iter()), Some(f64::MAX));
        assert_eq!(Together::of(&fixture::story()), Together(0.0));
    }

    proptest! {
        #[test]
        fn a_sum_is_at_least_as_unsure_as_its_parts(errors in prop::collection::vec(0.0..1e12_f64, 1..20), share in 0.0..=1.0_f64) {
            let sum = Together(share).sum(errors.iter().copied()).unwrap();
            let most = errors.iter().fold(0.0_f64, |most, error| most.max(*error));
            prop_assert!(sum >= most * (1.0 - 1e-9) && sum <= errors.iter().sum::<f64>() * (1.0 + 1e-9) + 1e-9);
        }
    }
}
