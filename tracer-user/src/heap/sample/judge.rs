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
pub struct Half {
    /// Blocks born in it.
    pub born: f64,
    /// Those of them that live.
    pub living: Estimate,
}

impl Half {
    fn plus(self, other: Self) -> Self {
        Self { born: self.born + other.born, living: self.living.plus(other.living) }
    }
}

/// What was seen of blocks that were at least so old: how long they were watched, all together, and how many of them died.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hazard {
    /// Block seconds.
    pub watched_s: f64,
    /// Deaths, scaled up.
    pub died: f64,
    /// Deaths, as they were seen.
    pub seen: u32,
}

impl Hazard {
    /// How often the blocks would have died in so many seconds.
    fn turnovers(&self, seconds: f64) -> f64 {
        if self.watched_s > 0.0 { self.died / self.watched_s * seconds } else { 0.0 }
    }
}

/// What is known of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// How long it was observed.
    pub seconds: f64,
    /// Births seen.
    pub births: u64,
    /// Blocks allocated.
    pub allocated: f64,
    /// Share of them that lives.
    pub live_share: f64,
    /// Growth, bytes per second.
    pub growth: Estimate,
    /// What part of it may be of blocks that took the place of others. It errs in the same direction wherever it does.
    pub mistaken: f64,
    /// How the old blocks die.
    pub hazard: Hazard,
    /// What was born in the first half, and lives.
    pub early: Half,
    /// What was born in the second half, and lives.
    pub late: Half,
    /// The heap's own counters say that what is its own grows in both halves: that none of one half was seen to stay is an accident of the windows.
    pub goes_on: bool,
}

impl Evidence {
    /// The same site in two processes, which were looked at in different windows: what each has seen is evidence of its own. A worker alone may have too few windows for a verdict; all of them together
    /// run the same code. What is told of the halves is of each one's own time.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let allocated = self.allocated + other.allocated;
        let living = self.live_share * self.allocated + other.live_share * other.allocated;
        let mistaken = self.mistaken + other.mistaken;
        let growth = self.growth.plus(other.growth);
        Self {
            seconds: self.seconds.max(other.seconds),
            births: self.births.saturating_add(other.births),
            allocated,
            live_share: if allocated > 0.0 { living / allocated } else { 0.0 },
            growth: Estimate { at_least: (growth.at_least - mistaken).max(0.0), ..growth },
            mistaken,
            hazard: Hazard {
                watched_s: self.hazard.watched_s + other.hazard.watched_s,
                died: self.hazard.died + other.hazard.died,
                seen: self.hazard.seen.saturating_add(other.hazard.seen),
            },
            early: self.early.plus(other.early),
            late: self.late.plus(other.late),
            // One that does not grow says nothing against it.
            goes_on: [self, other].iter().all(|one| one.goes_on || one.growth.value <= 0.0),
        }
    }

    /// The verdict. It is a guess; it never hides a site.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.births < LEAST_BIRTHS || self.seconds < LEAST_SECONDS {
            return Verdict::Unknown;
        }
        let dying = self.hazard.turnovers(self.seconds) >= TURNOVERS && self.hazard.seen >= LEAST_DEATHS;
        if self.growth.at_least <= 0.0 || self.growth.effective < LEAST_WINDOWS {
            return match (self.live_share <= LITTLE, dying) {
                (true, _) => Verdict::Churn,
                (false, true) => Verdict::Plateau,
                (false, false) => Verdict::Unknown,
            };
        }
        if dying {
            return Verdict::Plateau;
        }
        if self.goes_on {
            return Verdict::Leak;
        }
        // What was born early has died, though as much was born then: it takes its time, but it dies.
        let expected = |one: &Half, other: &Half| if other.born > 0.0 { one.born / other.born } else { 0.0 };
        if falls_short(&self.early.living, &self.late.living, expected(&self.early, &self.late).min(1.0)) {
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
