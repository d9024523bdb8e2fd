//! Leak or not, from samples: whether what grows is really there, was born all the time, and will stay.

use super::limits::Estimate;
use crate::heap::verdict::Verdict;

/// A shorter look says nothing about a leak.
const LEAST_SECONDS: f64 = 1.0;
/// Fewer births are an accident.
const LEAST_BIRTHS: u64 = 8;
/// Growth that rests on fewer windows may be one burst.
const LEAST_WINDOWS: f64 = 3.5;
/// Nearly all that is allocated is freed if less than this share lives.
const LITTLE: f64 = 0.05;
/// Old blocks that would all have died this many times in the observed time do not stay.
const TURNOVERS: f64 = 1.0;
/// So many deaths are needed to say so.
const LEAST_DEATHS: u32 = 3;
/// A half whose survivors fall below this share of what the other half leads to expect differs from it.
const DIFFERS: f64 = 0.5;
/// By so many standard deviations it must.
const SURELY: f64 = 2.0;

/// One half of the time in which old survivors were born.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Half {
    /// Blocks born in it.
    pub(super) born: f64,
    /// Those of them that live.
    pub(super) living: Estimate,
}

/// What is known of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    /// How long it was observed.
    pub(super) seconds: f64,
    /// Births seen.
    pub(super) births: u64,
    /// Share of the blocks that lives.
    pub(super) live_share: f64,
    /// Growth, bytes per second.
    pub(super) growth: Estimate,
    /// How often the old blocks would have died in the observed time, and how many deaths say so.
    pub(super) turnovers: (f64, u32),
    pub(super) early: Half,
    pub(super) late: Half,
}

impl Evidence {
    /// The verdict. It is a guess; it never hides a site.
    pub(super) fn verdict(&self) -> Verdict {
        if self.births < LEAST_BIRTHS || self.seconds < LEAST_SECONDS {
            return Verdict::Unknown;
        }
        let dying = self.turnovers.0 >= TURNOVERS && self.turnovers.1 >= LEAST_DEATHS;
        if self.growth.at_least <= 0.0 || self.growth.effective < LEAST_WINDOWS {
            return match (self.live_share <= LITTLE, dying) {
                (true, _) => Verdict::Churn,
                (false, true) => Verdict::Plateau,
                (false, false) => Verdict::Unknown,
            };
        }
        // What was born early has died, though as much was born then: it takes its time, but it dies.
        let expected = |one: &Half, other: &Half| if other.born > 0.0 { one.born / other.born } else { 0.0 };
        if dying
            || falls_short(&self.early.living, &self.late.living, expected(&self.early, &self.late).min(1.0))
        {
            return Verdict::Plateau;
        }
        // Nothing that stays came later.
        if falls_short(&self.late.living, &self.early.living, 1.0) {
            return Verdict::Cache;
        }
        let both = self.early.living.value > 0.0 && self.late.living.value > 0.0;
        if both { Verdict::Leak } else { Verdict::Unknown }
    }
}

/// Whether one estimate is surely well below another times `ratio`.
fn falls_short(one: &Estimate, other: &Estimate, ratio: f64) -> bool {
    let expected = other.value * ratio;
    let square = |estimate: &Estimate| estimate.value * estimate.value / estimate.effective.max(1e-9);
    // Nothing at all is known as well as one window's contribution.
    let of_one =
        if one.value > 0.0 { square(one) } else { (expected / (other.effective * ratio).max(1.0)).powi(2) };
    let deviation = (of_one + square(other) * ratio * ratio).sqrt();
    one.value < DIFFERS * expected && expected - one.value > SURELY * deviation
}
