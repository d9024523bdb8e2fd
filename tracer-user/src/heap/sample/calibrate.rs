//! What the heap's own counters add to the samples: by how much the live small blocks of each size grow is known without a probe, and nearly exactly; and what is resident besides them is what
//! larger blocks, and all that C code asks for itself, have grown by. Samples say which sites that growth belongs to.
//!
//! Within a size the sites keep their shares, and their sum becomes what the heap says, if both agree as far as the samples can tell, and the heap's own course is steady. Objects that may have given their places to others
//! that look the same have no share, if others are there. Where the samples say more (a cache
//! that turns over more slowly than the recording lasts, whose dropped blocks nobody saw born), they stand as they are. Where the heap says more, up to five times (what is resident, up to three), it is believed: it is counted, and a sum of which the few
//! windows that weigh much have by chance shown nothing is too low, without a sign of it. The error then covers both.

use std::collections::{BTreeMap, HashMap};

use super::candidate::Candidate;
use super::facts::ByWindow;
use super::{Errors, Sampler, living, sound_s};
use crate::heap::books::{SiteFacts, Sums};
use crate::heap::given::given_bytes;
use crate::heap::line::Line;

/// Half the width of an interval of 95 %, in standard deviations.
const SIGMAS: f64 = 1.96;
/// A course of the heap is steady if its slope is known to this share.
const STEADY: f64 = 0.2;
/// Samples and the heap agree if they are no further apart than so many errors of the samples.
const AGREE: f64 = 1.5;
/// The heap is believed if it grows by up to so many times what the samples say.
const MOST_RAISED: f64 = 5.0;
/// The same of what is resident, which grows for other reasons too.
const MOST_RAISED_RESIDENT: f64 = 3.0;
/// What was not seen in so many windows happens in fewer than three of so many, 19 times of 20 (the rule of three).
const UNSEEN: f64 = 3.0;
/// Looks at the heap that a slope needs.
const LEAST_LOOKS: usize = 8;
/// pymalloc's sizes, 16 bytes apart.
const CLASSES: u64 = 32;
/// The class of all that is in no pool.
const BEYOND: u64 = CLASSES + 1;
/// What is resident says too little of blocks that were never written to, and of those that `malloc` had free memory for: it is not believed if it is less than this part of what the samples say.
const LEAST_RESIDENT: f64 = 2.0 / 3.0;

/// Live bytes by size class at one moment: of the sizes 16, 32, … 512.
#[derive(Clone, Debug, PartialEq)]
pub struct HeapAt {
    /// Seconds since sampling began.
    pub seconds: f64,
    /// Bytes in use.
    pub bytes: [u64; CLASSES as usize],
    /// Resident bytes of the process; `None` where that is not known.
    pub resident_bytes: Option<u64>,
}

impl HeapAt {
    /// Bytes of a class. What is resident besides small blocks stands for all others.
    fn of(&self, class: u64) -> Option<f64> {
        if class == BEYOND {
            let small = self.bytes.iter().sum::<u64>();
            return self.resident_bytes.map(|resident| resident as f64 - small as f64);
        }
        self.bytes.get(usize::try_from(class.checked_sub(1)?).ok()?).map(|bytes| *bytes as f64)
    }
}

/// A figure with the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate {
    value: f64,
    error: f64,
}

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
struct Shares {
    /// What the sites' growth is to be multiplied by; `None` where the heap does not say.
    factor: Option<f64>,
    /// The heap's own growth.
    heap: Rate,
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
        let doubted = |site: &SiteFacts| site.sampled.map(|sampled| (site.id, sampled.doubted));
        let doubted: HashMap<u64, f64> = facts.iter().filter_map(doubted).collect();
        let mut sizes: BTreeMap<u64, Size> = BTreeMap::new();
        for (_, one) in self.pool.iter().filter(|(_, one)| one.born_s <= bar_s) {
            for (class, bytes) in pieces(one) {
                let size = sizes.entry(class).or_default();
                let bytes = one.weight * bytes * scale;
                size.by_window.add(one, bytes);
                let part = size.by_site.entry(one.site).or_default();
                part.growth += bytes;
                part.sure += bytes * (1.0 - doubted.get(&one.site).copied().unwrap_or(0.0).clamp(0.0, 1.0));
            }
        }
        let error = |site: &SiteFacts| Some((site.id, site.sampled?.errors.growth_bytes_per_second));
        let by_site: HashMap<u64, f64> = facts.iter().filter_map(error).collect();
        let judge = |(class, size): (u64, Size)| {
            let widest = size.by_site.keys().filter_map(|id| by_site.get(id)).copied().fold(0.0, f64::max);
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
        let error = SIGMAS * squares.sqrt();
        let points = heap.iter().filter_map(|at| Some((at.seconds, at.of(class)?)));
        let heap = slope(&points.collect::<Vec<_>>());
        let steady = heap.value > 0.0 && heap.error <= STEADY * heap.value;
        let apart = (heap.value - sum).abs();
        let believed = class != BEYOND || heap.value >= LEAST_RESIDENT * sum || apart <= error;
        let agree = believed && apart <= (AGREE * error).max(widest);
        let most_raised = if class == BEYOND { MOST_RAISED_RESIDENT } else { MOST_RAISED };
        let raised = !agree && (sum..=most_raised * sum).contains(&heap.value);
        let is_told = steady && (agree || raised) && sum > 0.0;
        let sure: f64 = self.by_site.values().map(|part| part.sure).sum();
        // Where all of it is doubted, it is still somebody's.
        let has_sure = is_told && sure > 0.0;
        let of = |part: &Part| Part { sure: if has_sure { part.sure } else { part.growth }, ..*part };
        let shared = if has_sure { sure } else { sum };
        Shares {
            factor: is_told.then_some(heap.value / shared),
            heap: match (steady, agree, raised) {
                (true, true, _) => heap,
                (true, _, true) => Rate { value: heap.value, error: apart },
                _ => Rate { value: sum, error },
            },
            windows: if squares > 0.0 { sum * sum / squares } else { 0.0 },
            all: sum,
            sum: shared,
            by_site: self.by_site.iter().map(|(site, part)| (*site, of(part))).collect(),
        }
    }
}

/// The growth of a site from those of its sizes.
fn site_growth(site: &mut SiteFacts, shares: &[Shares]) {
    let Some(sampled) = &mut site.sampled else { return };
    let (mut before, mut after, mut error, mut moved) = (0.0, 0.0, 0.0, 0.0);
    let mut all_calibrated = true;
    for size in shares {
        let Some(part) = size.by_site.get(&site.id) else { continue };
        let share = if size.sum > 0.0 { (part.sure / size.sum).clamp(0.0, 1.0) } else { 0.0 };
        before += part.growth;
        let told = part.sure * size.factor.unwrap_or(1.0);
        after += told;
        // What doubt has given to another site, or this one from another, may have been right as it was.
        moved += if size.all > 0.0 { (told - part.growth / size.all * size.heap.value).abs() } else { 0.0 };
        // The site's share is known as far as the windows go, the whole as the heap has it. Of what no window has shown, there may be three in as many as there were.
        let scatter = SIGMAS * ((1.0 - share) * share / size.windows.max(1.0)).sqrt();
        let of_share = scatter.max(UNSEEN / (size.windows + UNSEEN)) * size.heap.value;
        error += of_share.hypot(size.heap.error * share);
        all_calibrated &= size.factor.is_some();
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

/// The slope, and how far off it may be; neighbours are alike, so they count as a quarter as many.
fn slope(points: &[(f64, f64)]) -> Rate {
    let line = if points.len() < LEAST_LOOKS { None } else { Line::through(points) };
    line.map_or_else(Rate::default, |line| Rate { value: line.slope, error: SIGMAS * 2.0 * line.slope_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_course_has_a_slope() {
        let line: Vec<(f64, f64)> =
            (0..20).map(|at| (f64::from(at), 1000.0 + 50.0 * f64::from(at))).collect();
        let rate = slope(&line);
        assert!((rate.value - 50.0).abs() < 1e-9 && rate.error < 1e-6, "{rate:?}");
        assert_eq!(slope(&line[..7]), Rate::default());
        let teeth: Vec<(f64, f64)> = (0..20).map(|at| (f64::from(at), f64::from(at % 5) * 1000.0)).collect();
        let rate = slope(&teeth);
        assert!(rate.error > STEADY * rate.value.abs(), "{rate:?}");
    }

    #[test]
    fn what_is_resident_besides_small_blocks_is_of_the_others() {
        let mut bytes = [0; CLASSES as usize];
        bytes[1] = 320;
        let at = HeapAt { seconds: 1.0, bytes, resident_bytes: Some(1000) };
        assert_eq!((at.of(2), at.of(3), at.of(BEYOND)), (Some(320.0), Some(0.0), Some(680.0)));
        assert_eq!(HeapAt { resident_bytes: None, ..at }.of(BEYOND), None);
    }

    fn shares(heap: Rate, factor: f64, by_site: &[(u64, f64)]) -> Shares {
        let sum = by_site.iter().map(|(_, growth)| growth).sum();
        let part = |(site, growth): &(u64, f64)| (*site, Part { growth: *growth, sure: *growth });
        Shares {
            factor: Some(factor),
            heap,
            windows: 25.0,
            all: sum,
            sum,
            by_site: by_site.iter().map(part).collect(),
        }
    }

    fn site(id: u64, growth: f64) -> SiteFacts {
        let mut sampled =
            crate::heap::sample::Sampled { growth_at_least: growth / 2.0, ..Default::default() };
        sampled.errors.growth_bytes_per_second = growth;
        SiteFacts { id, growth_bytes_per_second: growth, sampled: Some(sampled), ..SiteFacts::default() }
    }

    /// Twelve windows have shown alike.
    fn size(value: f64) -> Size {
        let mut size = Size::default();
        size.by_site.insert(1, Part { growth: value, sure: value });
        for window in 1..=12 {
            let one = Candidate {
                site: 1,
                address: window,
                size_bytes: 16,
                domain: None,
                born_s: 0.0,
                window,
                drawn_s: 0.1,
                weight: 1.0,
                identity: None,
                owned_bytes: 0,
                seen_s: 0.0,
                due_s: 0.0,
            };
            size.by_window.add(&one, value / 12.0);
        }
        size
    }

    fn course(slope: f64) -> Vec<HeapAt> {
        let mut bytes = [0; CLASSES as usize];
        (0..12_u32)
            .map(|at| {
                bytes[0] = (1e6 + slope * f64::from(at)) as u64;
                HeapAt { seconds: f64::from(at), bytes, resident_bytes: None }
            })
            .collect()
    }

    #[test]
    fn the_heap_is_believed_where_it_says_more_but_not_any_more() {
        let factor = |heap: f64| size(2000.0).judge(1, &course(heap), 0.0).factor.unwrap_or(1.0);
        assert!((factor(2500.0) - 1.25).abs() < 1e-9, "they agree");
        assert!((factor(8000.0) - 4.0).abs() < 1e-9, "chance has shown too little");
        assert!((factor(12_000.0) - 1.0).abs() < 1e-9, "that is another site's growth");
        assert!((factor(200.0) - 1.0).abs() < 1e-9, "a cache that turns over slowly");
        let raised = size(2000.0).judge(1, &course(8000.0), 0.0).heap;
        assert!((raised.value - 8000.0).abs() < 1e-6 && (raised.error - 6000.0).abs() < 1e-6, "{raised:?}");
    }

    #[test]
    fn what_is_resident_is_believed_less() {
        let course = |slope: f64| -> Vec<HeapAt> {
            let at = |at: u32| HeapAt {
                seconds: f64::from(at),
                bytes: [0; CLASSES as usize],
                resident_bytes: Some((1e6 + slope * f64::from(at)) as u64),
            };
            (0..12).map(at).collect()
        };
        let factor = |resident: f64| size(2000.0).judge(BEYOND, &course(resident), 0.0).factor.unwrap_or(1.0);
        assert!((factor(5000.0) - 2.5).abs() < 1e-9, "chance has shown too little");
        assert!((factor(8000.0) - 1.0).abs() < 1e-9, "pages that nobody asked a heap for");
        assert!((factor(200.0) - 1.0).abs() < 1e-9, "out of free memory");
    }

    /// A future that died long ago looks like the one that was leaked in its place: what the size grows by is the other site's.
    #[test]
    fn what_may_have_become_anothers_has_no_share_beside_the_other() {
        let mut both = size(2000.0);
        both.by_site =
            [(1, Part { growth: 1500.0, sure: 0.0 }), (2, Part { growth: 500.0, sure: 500.0 })].into();
        let shares = [both.judge(1, &course(2200.0), 0.0)];
        let (mut doubted, mut leak) = (site(1, 1500.0), site(2, 500.0));
        for site in [&mut doubted, &mut leak] {
            site_growth(site, &shares);
        }
        assert!(doubted.growth_bytes_per_second < 1e-9, "{doubted:?}");
        assert!((leak.growth_bytes_per_second - 2200.0).abs() < 1e-6, "{leak:?}");
        let error = |site: &SiteFacts| site.sampled.unwrap().errors.growth_bytes_per_second;
        // Without doubt they had 1650 and 550.
        assert!(error(&doubted) >= 1650.0 - 1e-6 && error(&leak) >= 1650.0 - 1e-6, "{doubted:?} {leak:?}");
    }

    #[test]
    fn what_may_have_become_anothers_stays_where_there_is_no_other() {
        let mut alone = size(2000.0);
        alone.by_site = [(1, Part { growth: 2000.0, sure: 0.0 })].into();
        let mut only = site(1, 2000.0);
        site_growth(&mut only, &[alone.judge(1, &course(2200.0), 0.0)]);
        assert!((only.growth_bytes_per_second - 2200.0).abs() < 1e-6, "{only:?}");
    }

    #[test]
    fn the_only_site_of_a_size_grows_as_the_heap_does() {
        let mut leak = site(1, 60.0);
        site_growth(&mut leak, &[shares(Rate { value: 100.0, error: 3.0 }, 100.0 / 60.0, &[(1, 60.0)])]);
        let errors = leak.sampled.unwrap().errors;
        assert!((leak.growth_bytes_per_second - 100.0).abs() < 1e-9, "{leak:?}");
        // 25 windows have shown no other site.
        assert!((errors.growth_bytes_per_second - (300.0_f64 / 28.0).hypot(3.0)).abs() < 1e-9, "{errors:?}");
    }

    #[test]
    fn sites_of_one_size_keep_their_shares() {
        let size = [shares(Rate { value: 200.0, error: 0.0 }, 2.0, &[(1, 75.0), (2, 25.0)])];
        let (mut one, mut two, mut other) = (site(1, 75.0), site(2, 25.0), site(3, 7.0));
        for site in [&mut one, &mut two, &mut other] {
            site_growth(site, &size);
        }
        let growth = [&one, &two, &other].map(|site| site.growth_bytes_per_second.round());
        assert_eq!(growth, [150.0, 50.0, 7.0]);
        assert!(one.sampled.unwrap().errors.growth_bytes_per_second > 20.0);
    }
}
