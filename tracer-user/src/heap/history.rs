//! What each site's sums were over time, in bounded memory however long the trace runs.

use std::collections::HashMap;

use tracer_common::site::SiteTotals;

use super::snapshot::Moment;

/// Points kept at most. When there are as many, every second one is dropped and from then on half as many are kept.
pub const POINTS: usize = 128;

/// One site at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Seconds since the trace was armed.
    pub seconds: f64,
    /// Bytes asked for that lived.
    pub live_bytes: u64,
    /// Blocks that lived.
    pub live_blocks: u64,
    /// Blocks allocated since arming.
    pub allocated_blocks: u64,
    /// Blocks of the site freed since arming.
    pub freed_blocks: u64,
}

/// What is kept of a site at a point; 32 bytes with the point's index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    live_bytes: u64,
    allocated_blocks: u64,
    freed_blocks: u64,
}

impl Sums {
    fn of(totals: &SiteTotals) -> Self {
        Self {
            live_bytes: totals.allocated_bytes.saturating_sub(totals.freed_bytes),
            allocated_blocks: totals.allocated_blocks,
            freed_blocks: totals.freed_blocks.min(totals.allocated_blocks),
        }
    }
}

/// The histories of all sites, in step: every site has a value at every point of time.
///
/// Only changes are stored, so that the thousands of sites which were busy once cost one change each; a site that changes
/// all the time costs 4 KiB. A site that is not in a moment keeps its values, and one first seen late was 0 before.
/// The newest moment is always there, also when its turn has not come; the next one replaces it then.
#[derive(Clone, Debug)]
pub struct Histories {
    /// Seconds of the points, rising.
    seconds: Vec<f64>,
    /// Changes by site: index of the point and the sums from there on, rising.
    changes: HashMap<u64, Vec<(u32, Sums)>>,
    /// Every how many moments a point is kept.
    stride: u64,
    /// Moments observed.
    observed: u64,
}

impl Default for Histories {
    fn default() -> Self {
        Self { seconds: Vec::with_capacity(POINTS), changes: HashMap::new(), stride: 1, observed: 0 }
    }
}

impl Histories {
    /// Adds a moment. One that is not later than the last one is ignored.
    pub fn observe(&mut self, moment: &Moment) {
        let newest = self.seconds.last().copied().unwrap_or(f64::NEG_INFINITY);
        if !moment.seconds.is_finite() || moment.seconds <= newest {
            return;
        }
        if self.observed > 0 && !(self.observed - 1).is_multiple_of(self.stride) {
            self.seconds.pop();
        }
        if self.seconds.len() >= POINTS {
            self.thin();
        }
        let point = self.seconds.len() as u32;
        self.seconds.push(moment.seconds);
        self.observed += 1;
        for (&site, totals) in &moment.sites {
            let changes = self.changes.entry(site).or_default();
            // What the dropped newest moment said, and only that, stands at this point already.
            while changes.last().is_some_and(|(at, _)| *at >= point) {
                changes.pop();
            }
            let sums = Sums::of(totals);
            if changes.last().map_or(Sums::default(), |(_, sums)| *sums) != sums {
                changes.push((point, sums));
            }
        }
    }

    /// The history of a site, oldest first; a site never seen was 0 all the time.
    #[must_use]
    pub fn of(&self, site: u64) -> Vec<Observation> {
        let mut changes = self.changes.get(&site).map(Vec::as_slice).unwrap_or_default().iter().peekable();
        let mut sums = Sums::default();
        let observation = |(point, &seconds): (usize, &f64)| {
            while let Some((_, changed)) = changes.next_if(|(at, _)| *at as usize <= point) {
                sums = *changed;
            }
            Observation {
                seconds,
                live_bytes: sums.live_bytes,
                live_blocks: sums.allocated_blocks - sums.freed_blocks,
                allocated_blocks: sums.allocated_blocks,
                freed_blocks: sums.freed_blocks,
            }
        };
        self.seconds.iter().enumerate().map(observation).collect()
    }

    /// Drops every second point. A change at a dropped point shows at the next kept one.
    fn thin(&mut self) {
        let mut index = 0;
        self.seconds.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.stride *= 2;
        for changes in self.changes.values_mut() {
            for (at, _) in changes.iter_mut() {
                *at = at.div_ceil(2);
            }
            // Of two changes at one point the later one holds.
            changes.reverse();
            changes.dedup_by_key(|(at, _)| *at);
            changes.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moment(seconds: f64, sites: &[(u64, u64, u64)]) -> Moment {
        let totals = |allocated: u64, freed: u64| SiteTotals {
            allocated_bytes: allocated * 32,
            allocated_blocks: allocated,
            freed_bytes: freed * 32,
            freed_blocks: freed,
            ..SiteTotals::default()
        };
        let sites = sites.iter().map(|&(id, allocated, freed)| (id, totals(allocated, freed))).collect();
        Moment { seconds, rss_bytes: 0, sites }
    }

    #[test]
    fn a_site_seen_late_was_nothing_before() {
        let mut histories = Histories::default();
        histories.observe(&moment(0.0, &[]));
        histories.observe(&moment(1.0, &[(7, 3, 1)]));
        histories.observe(&moment(2.0, &[]));
        let second = Observation {
            seconds: 1.0,
            live_bytes: 64,
            live_blocks: 2,
            allocated_blocks: 3,
            freed_blocks: 1,
        };
        let third = Observation { seconds: 2.0, ..second };
        assert_eq!(histories.of(7), [Observation::default(), second, third]);
        assert_eq!(histories.of(8).len(), 3);
    }

    #[test]
    fn time_never_runs_back() {
        let mut histories = Histories::default();
        for seconds in [1.0, 1.0, 0.5, f64::NAN, f64::INFINITY, 2.0] {
            histories.observe(&moment(seconds, &[]));
        }
        assert_eq!(histories.of(0).iter().map(|seen| seen.seconds).collect::<Vec<_>>(), [1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn every_kept_point_is_a_true_one(count in 1usize..1200, pause in 1u64..40) {
            let truth = |at: usize| (at as u64 / pause * 10, at as u64 / pause * 3);
            let mut histories = Histories::default();
            for at in 0..count {
                let (allocated, freed) = truth(at);
                histories.observe(&moment(at as f64, &[(7, allocated, freed)]));
            }
            let seen = histories.of(7);
            prop_assert!(seen.len() <= POINTS && (count <= POINTS || seen.len() >= POINTS / 2));
            prop_assert_eq!(seen[0].seconds, 0.0);
            prop_assert_eq!(seen.last().unwrap().seconds, (count - 1) as f64);
            for point in seen {
                prop_assert_eq!((point.allocated_blocks, point.freed_blocks), truth(point.seconds as usize));
            }
            prop_assert!(histories.changes[&7].len() <= POINTS);
        }
    }
}
