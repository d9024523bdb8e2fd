//! The facts of the sampled sites, with their errors.

use std::collections::HashMap;

use super::candidate::Candidate;
use super::judge::{Evidence, Half};
use super::ledger::Ledger;
use super::limits::{Drawn, Estimate, Sums, estimate};
use super::mistaken::{ByClass, class};
use super::{Sampler, sound_s};
use crate::heap::books::{self, SiteFacts};
use crate::heap::given::given_bytes;
use crate::heap::order::Sort;
use crate::heap::spread::Spread;
use crate::heap::verdict::Verdict;
use tracer_common::domain::Domain;
use tracer_common::site::OTHER_SITES;

/// A survivor is old when it has lived for this share of the observed time,
const OLD_SHARE: f64 = 0.25;
/// and at the most when it has lived so long, in seconds.
const OLD_MOST_S: f64 = 900.0;

/// What stands behind the figures of a sampled site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Births seen.
    pub births: u64,
    /// Old survivors: the blocks that the growth is made of.
    pub survivors: u64,
    /// Growth that is exceeded in 99 of 100 cases, bytes per second: what sites are ranked by.
    pub growth_at_least: f64,
    /// The part of the growth, 0 to 1, whose objects look like others and may have given their places to them; of sites together, the largest.
    pub doubted: f64,
    /// How far off the figures may be.
    pub errors: Errors,
    /// What the verdict is made of; `None` of many sites together, which look like none of them.
    pub evidence: Option<Evidence>,
}

/// Half widths of intervals that hold the truth in 95 % of the cases, in the units of the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the figures")]
pub struct Errors {
    pub live_bytes: f64,
    pub live_blocks: f64,
    pub allocated_bytes: f64,
    pub allocated_blocks: f64,
    pub freed_bytes: f64,
    pub freed_blocks: f64,
    pub growth_bytes_per_second: f64,
}

/// The ends of the times that are looked at.
pub(super) struct Times {
    /// The whole time observed, seconds, and what the windows in it stand for.
    now_s: f64,
    all: Drawn,
    /// What was born until then is old, if it lives.
    pub(super) bar_s: f64,
    pub(super) until_bar: Drawn,
    /// The middle of the time up to the bar.
    middle_s: f64,
    until_middle: Drawn,
}

/// The births of one site, or of all.
struct Births<'a> {
    blocks: &'a Sums,
    bytes: &'a Sums,
    /// What a window contributes typically, in blocks and in bytes.
    typical: (f64, f64),
    seen: u64,
    /// Those that outlived their window.
    outlived: u64,
}

impl<'a> Births<'a> {
    fn of(ledger: &'a Ledger, all_blocks: &Sums) -> Self {
        Self {
            blocks: &ledger.blocks,
            bytes: &ledger.bytes,
            typical: ledger.typical(all_blocks),
            seen: ledger.births,
            outlived: ledger.outlived,
        }
    }

    /// The share that so many of them are, if one more was about to be seen.
    fn share(&self, some: u64) -> f64 {
        ((some as f64 + 1.0) / (self.seen as f64 + 1.0)).min(1.0)
    }
}

/// Estimates of one site, or of all.
#[derive(Default)]
struct Figures {
    allocated_blocks: Estimate,
    allocated_bytes: Estimate,
    live_blocks: Estimate,
    live_bytes: Estimate,
    growth: Estimate,
    early: Estimate,
    late: Estimate,
    survivors: u64,
}

impl Sampler {
    /// The facts of every site, worst first, as of the last looks.
    #[must_use]
    pub fn facts(&self, now_s: f64) -> Vec<SiteFacts> {
        let times = self.times(sound_s(now_s));
        let all = || self.pool.iter().map(|(_, candidate)| candidate);
        let others = Others { stays: old_by_class(all(), &times), alike: alike(all()) };
        let mut sites: Vec<SiteFacts> =
            self.sites.iter().map(|(&id, ledger)| self.site(id, ledger, &times, &others)).collect();
        Sort::Worst.sort(&mut sites);
        sites
    }

    /// Sums over all sites, and how far off they may be. `now_s` as for [`Self::facts`].
    #[must_use]
    pub fn totals(&self, now_s: f64) -> (books::Sums, Errors) {
        let times = self.times(sound_s(now_s));
        let living = self.pool.iter().map(|(_, candidate)| candidate);
        let figures = Figures::of(&self.births(), living, &times);
        (figures.sums(), figures.errors())
    }

    fn births(&self) -> Births<'_> {
        let (blocks, bytes) = (&self.all_blocks, &self.all_bytes);
        let typical = (blocks.typical(), bytes.typical());
        Births { blocks, bytes, typical, seen: self.counts.births, outlived: self.counts.candidates }
    }

    pub(super) fn times(&self, now_s: f64) -> Times {
        let bar_s = now_s - (now_s * OLD_SHARE).min(OLD_MOST_S);
        let middle_s = bar_s / 2.0;
        let told_slow = self.drawn.told_slow;
        let until = |at_s: f64| {
            let after = self.clock.partition_point(|(opened_s, _)| *opened_s <= at_s);
            after
                .checked_sub(1)
                .and_then(|last| self.clock.get(last))
                .map_or_else(Drawn::default, |last| Drawn { told_slow, ..last.1 })
        };
        Times {
            now_s,
            all: self.drawn,
            bar_s,
            until_bar: until(bar_s),
            middle_s,
            until_middle: until(middle_s),
        }
    }

    fn site(&self, id: u64, ledger: &Ledger, times: &Times, others: &Others) -> SiteFacts {
        let living: Vec<&Candidate> = self.pool.of(id).collect();
        let mut figures = Figures::of(&Births::of(ledger, &self.all_blocks), living.iter().copied(), times);
        let own = old_by_class(living.iter().copied(), times);
        let doubted = others.share(&living, times) * ledger.mistakable.alike();
        let of_others = figures.growth.value * doubted;
        let mistaken = self.mistaken(ledger, &others.stays, &own, times).max(of_others);
        figures.growth.at_least = (figures.growth.at_least - mistaken).max(0.0);
        figures.growth.error = figures.growth.error.max(figures.unseen(ledger.births, times)) + mistaken;
        let sums = figures.sums();
        let evidence = (id != OTHER_SITES).then(|| self.evidence(ledger, &figures, mistaken, times));
        let verdict = evidence.map_or(Verdict::Unknown, |evidence| evidence.verdict());
        let scale = times.all.scale(times.now_s);
        let given: f64 = living.iter().map(|one| one.weight * given(one)).sum();
        SiteFacts {
            id,
            domain: ledger.domain,
            live_bytes: sums.live_bytes,
            live_blocks: sums.live_blocks,
            live_given_bytes: rounded(given * scale),
            allocated_bytes: sums.allocated_bytes,
            allocated_blocks: sums.allocated_blocks,
            freed_bytes: sums.freed_bytes,
            freed_blocks: sums.freed_blocks,
            growth_bytes_per_second: figures.growth.value,
            verdict,
            sizes: Spread::of_weighted(
                living.iter().map(|one| (one.size_bytes, rounded(one.weight * scale))),
            ),
            lifetimes_ns: Spread::of_weighted_lifetimes(
                &ledger.lifetimes.map(|deaths| rounded(f64::from(deaths) * scale)),
            ),
            survivors: living.iter().map(|one| (one.address, one.size_bytes)).collect(),
            ints: None,
            sampled: Some(Sampled {
                births: ledger.births,
                survivors: figures.survivors,
                growth_at_least: figures.growth.at_least,
                doubted,
                errors: figures.errors(),
                evidence,
            }),
        }
    }

    /// Growth of a site, in bytes per second, that is to be expected of blocks that took the place of its own.
    fn mistaken(&self, ledger: &Ledger, old: &ByClass, own: &ByClass, times: &Times) -> f64 {
        let of = |sums: &ByClass, class: u8| sums.get(&class).copied().unwrap_or(0.0);
        let stays = |class: u8| {
            let births = of(&self.classes, class) * times.bar_s / times.now_s;
            if births > 0.0 { (of(old, class) - of(own, class)) / births } else { 0.0 }
        };
        let growth = ledger.mistakable.expected(stays) * times.all.scale(times.now_s) / times.now_s;
        if growth.is_finite() { growth.max(0.0) } else { 0.0 }
    }

    fn evidence(&self, ledger: &Ledger, figures: &Figures, mistaken: f64, times: &Times) -> Evidence {
        let old_s = times.now_s - times.bar_s;
        let born = |from_s, to_s| ledger.born_between(from_s, to_s, self.piece_s);
        let allocated = figures.allocated_blocks.value;
        Evidence {
            seconds: times.now_s,
            births: ledger.births,
            live_share: if allocated > 0.0 { figures.live_blocks.value / allocated } else { 0.0 },
            allocated,
            growth: figures.growth,
            mistaken,
            hazard: ledger.hazard(old_s / 2.0),
            early: Half { born: born(0.0, times.middle_s), living: figures.early },
            late: Half { born: born(times.middle_s, times.bar_s), living: figures.late },
            goes_on: false,
        }
    }
}

/// What all sites together say to each.
struct Others {
    /// Old survivors by class.
    stays: ByClass,
    /// How many living objects look the same.
    alike: HashMap<[u64; 2], u32>,
}

impl Others {
    /// The part of a site's old survivors, by bytes, that look like other objects.
    fn share(&self, living: &[&Candidate], times: &Times) -> f64 {
        let (mut all, mut like_others) = (0.0, 0.0);
        for one in living.iter().filter(|one| one.born_s <= times.bar_s) {
            let bytes = one.weight * one.bytes();
            let same = one.identity.and_then(|identity| self.alike.get(&identity)).copied().unwrap_or(0);
            all += bytes;
            like_others += if same > 1 { bytes } else { 0.0 };
        }
        if all > 0.0 { like_others / all } else { 0.0 }
    }
}

/// Objects by how they look. Other memory has no freelists, and what is in it at first is no identity.
fn alike<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> HashMap<[u64; 2], u32> {
    let mut count = HashMap::new();
    for one in candidates.filter(|one| one.domain == Some(Domain::Object)) {
        if let Some(identity) = one.identity {
            *count.entry(identity).or_default() += 1;
        }
    }
    count
}

impl Figures {
    /// `living` are in the order of their births, so that those of a window stand together.
    fn of<'a>(births: &Births<'_>, living: impl Iterator<Item = &'a Candidate>, times: &Times) -> Self {
        let (mut live_blocks, mut live_bytes, mut owned) = (ByWindow::default(), ByWindow::default(), 0.0);
        let (mut old, mut early, mut late) = (ByWindow::default(), ByWindow::default(), ByWindow::default());
        let mut survivors = 0;
        for one in living {
            let bytes = one.weight * one.bytes();
            live_blocks.add(one, one.weight);
            live_bytes.add(one, bytes);
            owned += one.weight * one.owned_bytes as f64;
            if one.born_s <= times.bar_s {
                survivors += 1;
                old.add(one, bytes);
                if one.born_s <= times.middle_s {
                    early.add(one, one.weight);
                } else {
                    late.add(one, one.weight);
                }
            }
        }
        let Births { blocks, bytes, typical, .. } = births;
        let whole = |sums: &Sums, typical: f64| estimate(sums, &times.all, times.now_s, typical);
        let mut allocated_bytes = whole(bytes, typical.1);
        allocated_bytes.value += owned * times.all.scale(times.now_s);
        let lives = births.share(births.outlived);
        let stays = births.share(survivors);
        Self {
            allocated_blocks: whole(blocks, typical.0),
            allocated_bytes,
            live_blocks: whole(&live_blocks.sums(), typical.0 * lives),
            live_bytes: whole(&live_bytes.sums(), typical.1 * lives),
            growth: estimate(&old.sums(), &times.until_bar, times.bar_s, typical.1 * stays).over(times.bar_s),
            early: estimate(&early.sums(), &times.until_middle, times.middle_s, 0.0),
            late: estimate(
                &late.sums(),
                &times.until_bar.since(&times.until_middle),
                times.bar_s - times.middle_s,
                0.0,
            ),
            survivors,
        }
    }

    /// What may grow although no old survivor was seen, bytes per second: of a few births that were seen, not one may have been of those that stay.
    fn unseen(&self, births: u64, times: &Times) -> f64 {
        /// What was not among so many is fewer than three in so many, 19 times of 20.
        const RULE_OF_THREE: f64 = 3.0;
        if self.survivors > 0 || births == 0 {
            return 0.0;
        }
        let most = self.allocated_bytes.value + self.allocated_bytes.error;
        let share = (RULE_OF_THREE / births as f64).min(1.0);
        let growth = most * share / times.now_s;
        if growth.is_finite() { growth } else { 0.0 }
    }

    /// In whole numbers that agree with each other.
    fn sums(&self) -> books::Sums {
        let (live_blocks, live_bytes) = (rounded(self.live_blocks.value), rounded(self.live_bytes.value));
        // Thinning may leave a little more alive than was born.
        let allocated_blocks = rounded(self.allocated_blocks.value).max(live_blocks);
        let allocated_bytes = rounded(self.allocated_bytes.value).max(live_bytes);
        books::Sums {
            allocated_bytes,
            allocated_blocks,
            freed_bytes: allocated_bytes - live_bytes,
            freed_blocks: allocated_blocks - live_blocks,
            live_bytes,
            live_blocks,
        }
    }

    /// What is freed is a difference of two figures that err in the same direction mostly; as if they did not is on the safe side.
    fn errors(&self) -> Errors {
        Errors {
            live_bytes: self.live_bytes.error,
            live_blocks: self.live_blocks.error,
            allocated_bytes: self.allocated_bytes.error,
            allocated_blocks: self.allocated_blocks.error,
            freed_bytes: self.allocated_bytes.error.hypot(self.live_bytes.error),
            freed_blocks: self.allocated_blocks.error.hypot(self.live_blocks.error),
            growth_bytes_per_second: self.growth.error,
        }
    }
}

/// Collects the contributions of each window.
#[derive(Default)]
pub(super) struct ByWindow {
    done: Sums,
    window: u64,
    drawn_s: f64,
    value: f64,
}

impl ByWindow {
    pub(super) fn add(&mut self, one: &Candidate, value: f64) {
        if one.window != self.window {
            self.done.add(self.value, self.drawn_s);
            (self.window, self.drawn_s, self.value) = (one.window, one.drawn_s, 0.0);
        }
        self.value += value;
    }

    pub(super) fn sums(mut self) -> Sums {
        self.done.add(self.value, self.drawn_s);
        self.done
    }
}

/// Blocks that are old and live, by class.
fn old_by_class<'a>(living: impl Iterator<Item = &'a Candidate>, times: &Times) -> ByClass {
    let mut old = ByClass::new();
    for one in living.filter(|one| one.born_s <= times.bar_s) {
        *old.entry(class(one.size_bytes)).or_default() += one.weight;
    }
    old
}

/// Bytes that the allocator gives for a candidate, and those of its parts.
fn given(one: &Candidate) -> f64 {
    let own = one.domain.map_or(one.size_bytes, |domain| given_bytes(domain, one.size_bytes));
    own as f64 + one.owned_bytes as f64
}

fn rounded(value: f64) -> u64 {
    value.round() as u64
}
