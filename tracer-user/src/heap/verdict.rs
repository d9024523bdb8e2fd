//! Leak or not: what a site's history looks like, and how much a verdict counts when sites are put in order.
//!
//! A verdict is a guess from sums; it may be wrong, so it never hides a site, it only moves it (see [`rank`]).

use serde::{Deserialize, Serialize};

use super::history::Observation;
use super::line::Line;

/// Fewer observations say nothing about a course.
const LEAST_OBSERVATIONS: usize = 4;
/// A shorter look says nothing about a leak.
const LEAST_SECONDS: f64 = 1.0;
/// Fewer blocks are an accident.
const LEAST_BLOCKS: u64 = 8;
/// Live bytes that move by less than this share of themselves in the later half are flat.
const FLAT: f64 = 0.05;
/// A leak goes on in each quarter of the time with at least this share of its mean pace.
const STEADY: f64 = 0.3;
/// A share of the blocks this large is nearly all of them, and what remains is almost nothing.
const NEARLY_ALL: f64 = 0.95;

/// What the history of a site looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Grows at a steady pace to the end, and what is old does not die.
    Leak,
    /// Filled, then stopped: flat in the later half, almost nothing freed.
    Cache,
    /// Stays within bounds while allocations and frees go on.
    Plateau,
    /// Nearly all that is allocated is freed.
    Churn,
    /// Not enough data yet, or a course that is none of the others.
    #[default]
    Unknown,
}

impl Verdict {
    /// The name, as JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Cache => "cache",
            Self::Plateau => "plateau",
            Self::Churn => "churn",
            Self::Unknown => "unknown",
        }
    }

    /// How much of a site's live bytes counts when sites are put in order. What leaks, or grows and has no verdict yet, counts in full; what
    /// has stopped growing counts little, but enough that a big site which was judged wrongly is not lost among crumbs.
    #[must_use]
    pub fn weight(self, is_growing: bool) -> f64 {
        match self {
            Self::Leak => 1.0,
            Self::Unknown if is_growing => 1.0,
            Self::Unknown | Self::Cache | Self::Plateau => 0.01,
            Self::Churn => 0.005,
        }
    }
}

/// A site grows if it gains at least this share of its live bytes a second.
const GROWING_SHARE_PER_SECOND: f64 = 0.001;

/// The score of a site, in bytes: its live bytes, discounted by how little it looks like a leak ([`Verdict::weight`]). Where nothing grows any
/// more, as after a burst, everything is discounted alike and the live bytes decide.
#[must_use]
pub fn rank(live_bytes: u64, verdict: Verdict, growth_bytes_per_second: f64) -> f64 {
    let is_growing = growth_bytes_per_second > live_bytes as f64 * GROWING_SHARE_PER_SECOND;
    live_bytes as f64 * verdict.weight(is_growing)
}

/// What [`judge`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// What the history looks like.
    pub verdict: Verdict,
    /// Slope of the live bytes, in bytes per second; negative when they shrink, never NaN.
    pub growth_bytes_per_second: f64,
}

/// Judges a history, oldest first.
///
/// The growth is the least-squares slope over the later half of the observed time. A program that warms up fills caches, pools and
/// tables; that is over sooner than a leak is, and a slope over the whole time would charge it to the leak. A fit rather than
/// the last value minus the middle one, because both of these may be the top or the bottom of a sawtooth.
///
/// Whether it is a leak is asked of the *floor*: at each moment, the least that lived then or at any time since, so that what
/// is given back later was never there. Garbage collection makes teeth, which the floor does not have; a leak raises it steadily.
#[must_use]
pub fn judge(history: &[Observation]) -> Judgement {
    let history = in_order(history);
    let growth_bytes_per_second = growth(later_half(&history));
    Judgement { verdict: verdict(&history, growth_bytes_per_second), growth_bytes_per_second }
}

/// Only observations whose time is a number and later than the one before.
fn in_order(history: &[Observation]) -> Vec<Observation> {
    let mut kept: Vec<Observation> = Vec::with_capacity(history.len());
    for &seen in history {
        let newest = kept.last().map_or(f64::NEG_INFINITY, |last| last.seconds);
        if seen.seconds.is_finite() && seen.seconds > newest {
            kept.push(seen);
        }
    }
    kept
}

/// Seconds between the first and the last observation.
fn span_seconds(history: &[Observation]) -> f64 {
    match history {
        [first, .., last] => last.seconds - first.seconds,
        _ => 0.0,
    }
}

/// The observations of the later half of the time, at least two where there are two.
fn later_half(history: &[Observation]) -> &[Observation] {
    let Some(first) = history.first() else { return history };
    let middle = first.seconds + span_seconds(history) / 2.0;
    let from = history.partition_point(|seen| seen.seconds < middle).min(history.len().saturating_sub(2));
    &history[from..]
}

/// Slope of the live bytes, in bytes per second.
fn growth(history: &[Observation]) -> f64 {
    let points: Vec<_> = history.iter().map(|seen| (seen.seconds, seen.live_bytes as f64)).collect();
    Line::through(&points).map_or(0.0, |line| line.slope)
}

fn verdict(history: &[Observation], growth: f64) -> Verdict {
    let Some(last) = history.last() else { return Verdict::Unknown };
    let enough = history.len() >= LEAST_OBSERVATIONS && span_seconds(history) >= LEAST_SECONDS;
    if !enough || last.allocated_blocks < LEAST_BLOCKS {
        return Verdict::Unknown;
    }
    let later = later_half(history);
    let level = later.iter().map(|seen| seen.live_bytes as f64).sum::<f64>() / later.len() as f64;
    let rise = growth * span_seconds(later);
    let floors = Floors::of(history);
    if rise >= FLAT * level && floors.rise_steadily() {
        return Verdict::Leak;
    }
    let freed = last.freed_blocks as f64 / last.allocated_blocks as f64;
    let most = history.iter().map(|seen| seen.live_bytes).max().unwrap_or_default() as f64;
    // One block that is reallocated over and over is freed every time but the last, and yet it may hold all there is: what
    // lives must be little in bytes too, seen against the most that lived, or go up and down with what is allocated.
    let little = last.live_bytes as f64 <= (1.0 - NEARLY_ALL) * most;
    if freed >= NEARLY_ALL && (little || last.live_blocks > 1) {
        return Verdict::Churn;
    }
    if rise.abs() < FLAT * level {
        return if freed <= 1.0 - NEARLY_ALL { Verdict::Cache } else { Verdict::Plateau };
    }
    // Neither steady nor flat: bounded if much dies and the floor has stopped rising, whatever the last tooth looks like.
    if freed >= 0.5 && floors.stopped(most) { Verdict::Plateau } else { Verdict::Unknown }
}

/// The floor at the quarters of the observed time, in bytes: at the start, after one, two and three quarters, and at the end.
struct Floors([f64; 5]);

impl Floors {
    fn of(history: &[Observation]) -> Self {
        let mut least = f64::INFINITY;
        let mut floor: Vec<(f64, f64)> = Vec::with_capacity(history.len());
        for seen in history.iter().rev() {
            least = least.min(seen.live_bytes as f64);
            floor.push((seen.seconds, least));
        }
        floor.reverse();
        let start = floor.first().map_or(0.0, |(seconds, _)| *seconds);
        let quarter = span_seconds(history) / 4.0;
        Self(std::array::from_fn(|at| between(&floor, start + quarter * at as f64)))
    }

    /// The first quarter does not count: it is where a program warms up.
    fn rise_steadily(&self) -> bool {
        let [_, first, second, third, end] = self.0;
        let least = STEADY * (end - first) / 3.0;
        end > first && [second - first, third - second, end - third].iter().all(|step| *step >= least)
    }

    /// The floor rises by little before the last quarter; in the last one it always climbs to what lives now.
    fn stopped(&self, most: f64) -> bool {
        let [_, first, _, third, _] = self.0;
        third - first < 2.0 * FLAT * most
    }
}

/// The value at a time, on the straight line between its neighbours in time.
fn between(floor: &[(f64, f64)], seconds: f64) -> f64 {
    let after = floor.partition_point(|(at, _)| *at < seconds);
    match (after.checked_sub(1).and_then(|before| floor.get(before)), floor.get(after)) {
        (Some((from, low)), Some((to, high))) => low + (high - low) * ((seconds - from) / (to - from)),
        (Some((_, value)), None) | (None, Some((_, value))) => *value,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests;
