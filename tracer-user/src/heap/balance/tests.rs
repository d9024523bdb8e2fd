//! Complete probes are never blamed and incomplete ones are found: by figures that can be checked by hand, and on a simulated allocator.

use super::*;
use proptest::prelude::*;

fn moment(before: (u64, u64), live_blocks: u64, after: (u64, u64)) -> Moment {
    let hits = |(allocated, freed)| Hits { allocated, freed };
    Moment { before: hits(before), live_blocks, left_out: Some(0), after: hits(after) }
}

/// Blocks written with thousands apart, as the report does it.
fn count(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

fn sentence(moments: &[Moment]) -> String {
    judge(moments).sentence(count)
}

#[test]
fn the_hits_are_the_change() {
    let start = moment((1_000, 900), 50_000, (1_000, 900));
    let grown = moment((42_203, 41_000), 51_103, (42_203, 41_000));
    let Verdict::Agrees(figures) = judge(&[start, grown]) else { panic!("{:?}", judge(&[start, grown])) };
    assert_eq!(
        figures,
        Figures { allocated: 41_203, freed: 40_100, grew: 1_103, difference: 0, least: -4, greatest: 4 }
    );
    assert_eq!(
        sentence(&[start, grown]),
        "checked: 41,203 allocations − 40,100 frees = 1,103 blocks; the heap's own counters grew by 1,103"
    );
    let shrunk = moment((1_100, 40_001), 10_999, (1_100, 40_001));
    assert_eq!(
        sentence(&[start, shrunk]),
        "checked: 100 allocations − 39,101 frees = −39,001 blocks; the heap's own counters fell by 39,001"
    );
    let busy = moment((42_203, 41_000), 51_153, (42_303, 41_010));
    assert_eq!(
        sentence(&[start, busy]),
        "checked: 41,203 allocations − 40,100 frees = 1,103 blocks; the heap's own counters grew by 1,153, \
         the same as far as can be told: up to 118 blocks came or went while it was counted"
    );
}

#[test]
fn a_miss_is_named_by_its_side() {
    let start = moment((0, 0), 50_000, (10, 5));
    // 60 allocations during the second census, 50 frees: up to 60 more and 55 fewer blocks, and 10 and 4 for the first and what is in flight.
    let end = |live| moment((10_010, 9_005), live, (10_060, 9_055));
    let verdict = |live| judge(&[start, end(live)]);
    let figures = |live| match verdict(live) {
        Verdict::Agrees(figures) | Verdict::Disagrees(figures) => figures,
        Verdict::TooLittle(why) => panic!("{why:?}"),
    };
    assert_eq!((figures(51_000).least, figures(51_000).greatest), (-59, 64));
    for live in [51_000 - 59, 51_000, 51_000 + 64] {
        assert!(matches!(verdict(live), Verdict::Agrees(_)), "{live}: {:?}", verdict(live));
    }
    for (live, excess) in [(51_000 - 60, 1), (51_000 + 65, 1), (51_000 + 264, 200), (0, 50_941)] {
        assert!(matches!(verdict(live), Verdict::Disagrees(_)), "{live}: {:?}", verdict(live));
        assert_eq!(figures(live).excess(), excess, "{live}");
    }
    assert_eq!(
        sentence(&[start, end(51_264)]),
        "hooks miss allocations, 200 at least: 10,000 allocations − 9,000 frees = 1,000 blocks, but the heap's own counters grew by 1,264"
    );
    assert_eq!(
        sentence(&[start, end(50_000)]),
        "hooks miss frees, 941 at least: 10,000 allocations − 9,000 frees = 1,000 blocks, but the heap's own counters stand where they stood"
    );
}

#[test]
fn too_little_says_why() {
    let start = moment((0, 0), 50_000, (0, 0));
    assert_eq!(judge(&[]), Verdict::TooLittle(Why::NothingToCompare));
    assert_eq!(judge(&[start]), Verdict::TooLittle(Why::NothingToCompare));
    let quiet = moment((60, 39), 50_021, (60, 39));
    assert_eq!(sentence(&[start, quiet]), "not checked: only 99 small blocks were allocated or freed");
    assert!(matches!(judge(&[start, moment((61, 39), 50_022, (61, 39))]), Verdict::Agrees(_)));
    let hasty = moment((600_000, 500_000), 150_000, (606_000, 505_000));
    assert_eq!(
        sentence(&[start, hasty]),
        "not checked: 1,100,000 hits, but up to 11,008 blocks came or went while the heap was counted, too many to notice a small miss"
    );
    assert!(sentence(&[start]).starts_with("not checked: "));
}

/// A probe that never fires is the worst miss of all.
#[test]
fn a_heap_that_moves_without_hits_is_a_miss() {
    let start = moment((0, 0), 50_000, (0, 0));
    assert!(matches!(judge(&[start, moment((0, 0), 50_005, (0, 0))]), Verdict::Disagrees(_)));
    assert!(matches!(judge(&[start, moment((0, 0), 50_004, (0, 0))]), Verdict::TooLittle(Why::Quiet(_))));
}

#[test]
fn only_the_same_is_compared() {
    let with = |moment: Moment, left_out| Moment { left_out, ..moment };
    let (start, end) = (moment((0, 0), 50_000, (0, 0)), moment((500, 100), 80_000, (500, 100)));
    assert!(matches!(judge(&[start, end]), Verdict::Disagrees(_)));
    for (one, two) in [(Some(0), Some(7)), (Some(7), Some(8)), (None, None), (None, Some(0))] {
        let verdict = judge(&[with(start, one), with(end, two)]);
        assert_eq!(verdict, Verdict::TooLittle(Why::NothingToCompare), "{one:?} {two:?}");
    }
    assert!(matches!(judge(&[with(start, Some(7)), with(end, Some(7))]), Verdict::Disagrees(_)));
    // The second moment cannot be compared; the first and the third can.
    assert!(matches!(judge(&[start, with(end, None), end]), Verdict::Disagrees(_)));
}

#[test]
fn a_later_moment_sharpens() {
    let start = moment((0, 0), 0, (0, 0));
    let busy = moment((1_000, 0), 1_030, (1_100, 0));
    assert!(matches!(judge(&[start, busy]), Verdict::TooLittle(Why::Hasty(_))));
    let calm = moment((2_000, 0), 2_000, (2_000, 0));
    assert!(matches!(judge(&[start, busy, calm]), Verdict::Agrees(figures) if figures.allocated == 2_000));
    let other = moment((2_000, 0), 2_005, (2_000, 0));
    assert!(matches!(judge(&[start, busy, other]), Verdict::Disagrees(_)));
    assert_eq!(Moment::default(), start, "what a process is that has not run yet");
}

/// An allocator whose pools are read while it works, and probes on it, some of which are missing.
#[derive(Debug)]
struct World {
    random: u64,
    pools: Vec<u64>,
    hits: Hits,
    /// Of 1000 calls, in how many the probe counts before the pool does.
    probe_first: u64,
    /// The call that is half done.
    half_done: Option<Call>,
    /// Of 1000 allocations and of 1000 frees, how many go through code without a probe.
    unseen: [u64; 2],
    /// Of 1000 calls, how many are allocations.
    allocations: u64,
    /// Blocks by which the hits are wrong by now.
    missed: i64,
    misses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    pool: usize,
    is_free: bool,
    /// A probe sees it.
    seen: bool,
    probe_first: bool,
}

impl World {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64, of G. Marsaglia; the bias of the remainder does not matter here.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound.max(1)
    }

    /// Half a call.
    fn step(&mut self) {
        if let Some(call) = self.half_done.take() {
            self.half(call, !call.probe_first);
            return;
        }
        let pool = self.below(self.pools.len() as u64) as usize;
        let is_free = self.below(1000) >= self.allocations && self.pools[pool] > 0;
        let seen = self.below(1000) >= self.unseen[usize::from(is_free)];
        let call = Call { pool, is_free, seen, probe_first: self.below(1000) < self.probe_first };
        self.half(call, call.probe_first);
        self.half_done = Some(call);
    }

    fn half(&mut self, call: Call, probe: bool) {
        if probe {
            self.hit(call);
        } else {
            self.change(call);
        }
    }

    fn run(&mut self, most: u64) {
        for _ in 0..self.below(most + 1) {
            self.step();
        }
    }

    fn hit(&mut self, call: Call) {
        match (call.seen, call.is_free) {
            (true, false) => self.hits.allocated += 1,
            (true, true) => self.hits.freed += 1,
            (false, is_free) => {
                self.missed += if is_free { -1 } else { 1 };
                self.misses += 1;
            }
        }
    }

    fn change(&mut self, call: Call) {
        let pool = &mut self.pools[call.pool];
        *pool = if call.is_free { *pool - 1 } else { *pool + 1 };
    }

    /// A census with up to `pace` half calls before each of its reads.
    fn moment(&mut self, pace: u64) -> Moment {
        let before = self.read_hits(pace);
        let mut live_blocks = 0;
        for pool in 0..self.pools.len() {
            self.run(pace);
            live_blocks += self.pools[pool];
        }
        self.run(pace);
        Moment { before, live_blocks, left_out: Some(0), after: self.read_hits(pace) }
    }

    /// The two sums, one after the other.
    fn read_hits(&mut self, pace: u64) -> Hits {
        let allocated = self.hits.allocated;
        self.run(pace);
        Hits { allocated, freed: self.hits.freed }
    }
}

prop_compose! {
    fn world(unseen: [u64; 2])(
        random in 1u64..,
        pools in prop::collection::vec(0u64..500, 1..40),
        probe_first in prop_oneof![Just(0u64), Just(1000), Just(500)],
        allocations in 300u64..700,
    ) -> World {
        let hits = Hits { allocated: random % 1000, freed: random % 777 };
        World { random, pools, hits, probe_first, half_done: None, unseen, allocations, missed: 0, misses: 0 }
    }
}

proptest! {
    #[test]
    fn complete_probes_are_never_blamed(
        mut world in world([0, 0]),
        times in prop::collection::vec((0u64..6000, prop_oneof![Just(0u64), 0u64..3, 0u64..40]), 2..6),
    ) {
        let mut moments = Vec::new();
        for (between, pace) in times {
            world.run(between);
            moments.push(world.moment(pace));
        }
        prop_assert!(!matches!(judge(&moments), Verdict::Disagrees(_)), "{:?}", judge(&moments));
    }

    /// What is missed while the censuses are taken may not show; what is missed between them must.
    #[test]
    fn agreement_means_that_nothing_that_matters_is_missed(
        mut world in world([0, 0]),
        unseen in (0u64..60, 0u64..60),
        between in 200u64..30_000,
        paces in (0u64..4, 0u64..4),
    ) {
        world.unseen = [unseen.0, unseen.1];
        let first = world.moment(paces.0);
        let (missed, during_first) = (world.missed, world.misses);
        for _ in 0..between {
            world.step();
        }
        let (missed, misses) = (world.missed - missed, world.misses);
        let second = world.moment(paces.1);
        let unclear = during_first + (world.misses - misses);
        match judge(&[first, second]) {
            Verdict::Agrees(figures) => {
                let matters = (figures.hits() / 100).max(MATTERS);
                prop_assert!(missed.unsigned_abs() <= matters + unclear, "{missed} missed, {figures:?}");
            }
            Verdict::Disagrees(figures) => {
                prop_assert!(world.misses > 0);
                prop_assert!(figures.excess() <= missed.unsigned_abs() + unclear, "no more is claimed than was missed");
            }
            Verdict::TooLittle(_) => {}
        }
    }

    #[test]
    fn no_figures_panic(words in prop::collection::vec(any::<[u64; 5]>(), 0..5)) {
        let moments: Vec<Moment> =
            words.iter().map(|[a, b, c, d, e]| moment((*a, *b), *c, (*d, *e))).collect();
        prop_assert!(!judge(&moments).sentence(count).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// 2 % of the allocations have no probe, and a census lets about 0.1 % of the calls happen.
    #[test]
    fn a_site_without_a_probe_is_found(mut world in world([20, 0])) {
        let first = world.moment(1);
        for _ in 0..60_000 {
            world.step();
        }
        let second = world.moment(1);
        let verdict = judge(&[first, second]);
        prop_assert!(matches!(verdict, Verdict::Disagrees(figures) if figures.difference > 0), "{verdict:?}");
    }
}
