//! What the heap's own counters add to the samples: by how much the live small blocks of each size grow is known without a probe, and nearly exactly; and what is resident besides them is what
//! larger blocks, and all that C code asks for itself, have grown by. Samples say which sites that growth belongs to.
//!
//! Within a size the sites keep their shares, and their sum becomes what the heap says, if both agree as far as the samples can tell, and the heap's own course is steady. Objects that may have given their places to others
//! that look the same have no share, if others are there. Where the samples say more (a cache
//! that turns over more slowly than the recording lasts, whose dropped blocks nobody saw born), they stand as they are, unless nearly all is one site's: then it grows by what the heap grows by, cache or not. Where the heap says more, up to five times (what is resident, up to three), it is believed: it is counted, and a sum of which the few
//! windows that weigh much have by chance shown nothing is too low, without a sign of it. The error then covers both.

use std::collections::{BTreeMap, HashMap};

use super::candidate::Candidate;
use super::course::{BEYOND, CLASSES, HeapAt, Rate, goes_on, slope};
use super::facts::ByWindow;
use super::limits::TWO_SIDED_95;
use super::{Errors, Sampled, Sampler, living, sound_s};
use crate::heap::books::{SiteFacts, Sums};
use crate::heap::given::given_bytes;

/// A course that is less steady says more than the samples if its slope is known to this share, and its error is no larger than this part of theirs.
const NEARER: f64 = 0.5;
/// Samples and the heap agree if they are no further apart than so many errors of the samples.
const AGREE: f64 = 1.5;
/// The heap is believed if it grows by up to so many times what the samples say.
const MOST_RAISED: f64 = 5.0;
/// The same of what is resident, which grows for other reasons too.
const MOST_RAISED_RESIDENT: f64 = 3.0;
/// The heap is believed if the samples say up to so many times what it grows by, and one site has nearly all of that:
const MOST_LOWERED: f64 = 10.0;
/// so much at least.
const NEARLY_ALL: f64 = 0.8;
/// What was not seen in so many windows happens in fewer than three of so many, 19 times of 20 (the rule of three).
const UNSEEN: f64 = 3.0;
/// A site goes on growing if at least this part of its growth is in sizes that do, and of each of them so much is its own.
const OWN: f64 = 0.5;
/// What is resident says too little of blocks that were never written to, and of those that `malloc` had free memory for: it is not believed if it is less than this part of what the samples say.
const LEAST_RESIDENT: f64 = 2.0 / 3.0;

/// The samples of one size.
#[derive(Default)]
struct Size {
    by_window: ByWindow,
    by_site: HashMap<u64, Part>,
}

/// What the samples of a size say of one site, in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Part {
    /// Its growth,
    growth: f64,
    /// and what of that cannot have become another site's.
    sure: f64,
}

/// What is made of one size.
#[derive(Debug)]
struct Shares {
    /// What the sites' growth is to be multiplied by; `None` where the heap does not say.
    factor: Option<f64>,
    /// The share that a site must have for that: where the samples say more than the heap, nearly all. The others stand as they are: a leak may be among them, beside a cache that turns over slowly.
    least_share: f64,
    /// The heap's own growth.
    heap: Rate,
    /// It grows early and late, by what samples have seen.
    goes_on: bool,
    /// Windows that the samples are worth.
    windows: f64,
    /// What the samples say of all sites together, and the part of that which the sites' shares are shares of.
    all: f64,
    sum: f64,
    by_site: HashMap<u64, Part>,
}

impl Sampler {
    /// Makes growth agree with the heap's own, and what lives with growth; `totals` are the sums over all sites, with their errors.
    pub fn calibrate(
        &self,
        facts: &mut [SiteFacts],
        (totals, errors): &mut (Sums, Errors),
        heap: &[HeapAt],
        now_s: f64,
    ) {
        let times = self.times(sound_s(now_s));
        let bar_s = times.bar_s;
        if bar_s <= 0.0 {
            return;
        }
        let scale = times.until_bar.scale(bar_s) / bar_s;
        let sampled: HashMap<u64, Sampled> =
            facts.iter().filter_map(|site| Some((site.id, site.sampled?))).collect();
        let mut sizes: BTreeMap<u64, Size> = BTreeMap::new();
        for (_, one) in self.pool.iter().filter(|(_, one)| one.born_s <= bar_s) {
            for (class, bytes) in pieces(one) {
                let size = sizes.entry(class).or_default();
                let bytes = one.weight * bytes * scale;
                size.by_window.add(one, bytes);
                let part = size.by_site.entry(one.site).or_default();
                part.growth += bytes;
                let doubted = sampled.get(&one.site).map_or(0.0, |sampled| sampled.doubted);
                part.sure += bytes * (1.0 - doubted.clamp(0.0, 1.0));
            }
        }
        let judge = |(class, size): (u64, Size)| {
            let of_sites = size.by_site.keys().filter_map(|id| sampled.get(id));
            let widest = of_sites.map(|sampled| sampled.errors.growth_bytes_per_second).fold(0.0, f64::max);
            size.judge(class, heap, widest)
        };
        let shares: Vec<Shares> = sizes.into_iter().map(judge).collect();
        let sums = *totals;
        for site in facts {
            let before = site.growth_bytes_per_second;
            site_growth(site, &shares);
            living::correct(site, totals, (before * bar_s, site.growth_bytes_per_second * bar_s));
        }
        let away =
            (totals.live_bytes.abs_diff(sums.live_bytes), totals.live_blocks.abs_diff(sums.live_blocks));
        living::widen(errors, away.0, away.1);
    }
}

impl Size {
    /// `widest` is the largest error of its sites, which knows of the windows that weigh much and were not among the few.
    fn judge(self, class: u64, heap: &[HeapAt], widest: f64) -> Shares {
        let sums = self.by_window.sums();
        let (sum, squares) = (sums.value, sums.square);
        let error = TWO_SIDED_95 * squares.sqrt();
        let points = heap.iter().filter_map(|at| Some((at.seconds, at.of(class)?)));
        let points: Vec<(f64, f64)> = points.collect();
        let heap = slope(&points);
        let steady = heap.is_steady();
        let apart = (heap.value - sum).abs();
        let believed = class != BEYOND || heap.value >= LEAST_RESIDENT * sum || apart <= error;
        let agree = believed && apart <= (AGREE * error).max(widest);
        let most_raised = if class == BEYOND { MOST_RAISED_RESIDENT } else { MOST_RAISED };
        let raised = !agree && (sum..=most_raised * sum).contains(&heap.value);
        let nearer = heap.value > 0.0 && heap.error <= NEARER * heap.value.min(error);
        let lowered = !agree && steady && believed && (heap.value..=MOST_LOWERED * heap.value).contains(&sum);
        let is_told = sum > 0.0 && ((steady && raised) || ((steady || nearer) && agree));
        let sure: f64 = self.by_site.values().map(|part| part.sure).sum();
        // Where all of it is doubted, it is still somebody's.
        let has_sure = is_told && sure > 0.0;
        let of = |part: &Part| Part { sure: if has_sure { part.sure } else { part.growth }, ..*part };
        let shared = if has_sure { sure } else { sum };
        Shares {
            factor: (is_told || lowered).then_some(heap.value / shared),
            least_share: if lowered { NEARLY_ALL } else { 0.0 },
            heap: match (is_told, agree) {
                (true, false) => Rate { value: heap.value, error: apart },
                (false, _) if !lowered => Rate { value: sum, error },
                _ => heap,
            },
            goes_on: (is_told && agree || lowered) && goes_on(&points),
            windows: if squares > 0.0 { sum * sum / squares } else { 0.0 },
            all: sum,
            sum: shared,
            by_site: self.by_site.iter().map(|(site, part)| (*site, of(part))).collect(),
        }
    }
}

impl Shares {
    /// What the growth of a site with such a share is to be multiplied by.
    fn factor_of(&self, share: f64) -> Option<f64> {
        self.factor.filter(|_| share >= self.least_share)
    }
}

/// The growth of a site from those of its sizes.
fn site_growth(site: &mut SiteFacts, shares: &[Shares]) {
    let Some(sampled) = &mut site.sampled else { return };
    let (mut before, mut after, mut error, mut moved) = (0.0, 0.0, 0.0, 0.0);
    let (mut all_calibrated, mut going) = (true, 0.0);
    for size in shares {
        let Some(part) = size.by_site.get(&site.id) else { continue };
        let share = if size.sum > 0.0 { (part.sure / size.sum).clamp(0.0, 1.0) } else { 0.0 };
        before += part.growth;
        let factor = size.factor_of(share);
        let told = part.sure * factor.unwrap_or(1.0);
        after += told;
        // What doubt has given to another site, or this one from another, may have been right as it was.
        moved += if size.all > 0.0 { (told - part.growth / size.all * size.heap.value).abs() } else { 0.0 };
        // The site's share is known as far as the windows go, the whole as the heap has it. Of what no window has shown, there may be three in as many as there were.
        let scatter = TWO_SIDED_95 * ((1.0 - share) * share / size.windows.max(1.0)).sqrt();
        let of_share = scatter.max(UNSEEN / (size.windows + UNSEEN)) * size.heap.value;
        error += of_share.hypot(size.heap.error * share);
        all_calibrated &= factor.is_some();
        going += if size.goes_on && factor.is_some() && share >= OWN { part.growth } else { 0.0 };
    }
    if before <= 0.0 || site.growth_bytes_per_second <= 0.0 {
        return;
    }
    let factor = after / before;
    let figure = site.growth_bytes_per_second * factor;
    // Whatever was raised, the samples' own figure is within the error.
    let limit =
        (sampled.errors.growth_bytes_per_second * factor.max(1.0)).max(figure - site.growth_bytes_per_second);
    site.growth_bytes_per_second = figure;
    sampled.growth_at_least = (sampled.growth_at_least * factor).min(figure);
    sampled.errors.growth_bytes_per_second = if all_calibrated { error.min(limit).max(moved) } else { limit };
    if let Some(evidence) = &mut sampled.evidence {
        evidence.goes_on = going >= OWN * before;
        site.verdict = evidence.verdict();
    }
}

/// The blocks of a candidate by class, with the bytes that the allocator gives: its own, and its part.
fn pieces(one: &Candidate) -> impl Iterator<Item = (u64, f64)> + use<> {
    let own = one.domain.map_or(one.size_bytes, |domain| given_bytes(domain, one.size_bytes));
    let pooled = one.domain.is_some_and(|domain| domain.rank() == 0);
    let class = move |bytes: u64| {
        let class = bytes.div_ceil(16);
        if pooled && class <= CLASSES { class } else { BEYOND }
    };
    [own, one.owned_bytes]
        .into_iter()
        .filter(|bytes| *bytes > 0)
        .map(move |bytes| (class(bytes), bytes as f64))
}

#[cfg(test)]
mod tests;
