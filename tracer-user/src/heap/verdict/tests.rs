//! Histories with their verdicts: what each one looks like in the life of a program.

use proptest::prelude::*;
use tracer_common::site::SiteTotals;

use super::*;
use crate::heap::history::Histories;
use crate::heap::snapshot::Moment;

/// A history at a pace of one observation per second; each item is (allocated, freed) in blocks of 100 bytes.
fn history(sums: impl IntoIterator<Item = (u64, u64)>) -> Vec<Observation> {
    let observe = |(at, (allocated, freed)): (usize, (u64, u64))| Observation {
        seconds: at as f64,
        live_bytes: (allocated - freed) * 100,
        live_blocks: allocated - freed,
        allocated_blocks: allocated,
        freed_blocks: freed,
    };
    sums.into_iter().enumerate().map(observe).collect()
}

fn verdict_of(sums: impl IntoIterator<Item = (u64, u64)>) -> Verdict {
    judge(&history(sums)).verdict
}

/// Noise that is the same in each run: 0 to 255.
fn noise(at: u64) -> u64 {
    tracer_common::frame::finish(tracer_common::frame::mix(1, at)) & 255
}

#[test]
fn a_leak_grows_to_the_end() {
    let judgement = judge(&history((0..11).map(|at| (at * 50, 0))));
    assert_eq!(judgement, Judgement { verdict: Verdict::Leak, growth_bytes_per_second: 5000.0 });
    assert_eq!(
        verdict_of([(0, 0), (10, 0), (20, 0), (30, 0)]),
        Verdict::Leak,
        "four observations are enough"
    );
    assert_eq!(verdict_of((0..40).map(|at| (at / 4 * 100, 0))), Verdict::Leak, "in steps");
}

#[test]
fn a_slow_leak_under_heavy_churn_on_one_site() {
    // 100,000 blocks a second come and go, 10,000 or so live at a time, 200 a second stay.
    let judgement = judge(&history((0..60u64).map(|at| {
        let allocated = at * 100_000;
        (allocated, allocated.saturating_sub(10_000 + at * 200 + noise(at) * 8))
    })));
    assert_eq!(judgement.verdict, Verdict::Leak);
    assert!((judgement.growth_bytes_per_second - 20_000.0).abs() < 2_000.0, "{judgement:?}");
}

#[test]
fn a_block_that_only_grows_leaks_though_its_old_selves_were_freed() {
    let grow = |at: u64| Observation {
        seconds: at as f64,
        live_bytes: at * 80_000,
        live_blocks: 1,
        allocated_blocks: at * 10 + 1,
        freed_blocks: at * 10,
    };
    assert_eq!(judge(&(0..20).map(grow).collect::<Vec<_>>()).verdict, Verdict::Leak);
}

#[test]
fn a_cache_fills_then_stops() {
    assert_eq!(verdict_of((0..20).map(|at| (at.min(5) * 1000, 0))), Verdict::Cache);
    assert_eq!(verdict_of((0..20).map(|at| (1000 + at, 20))), Verdict::Cache, "a trickle does not matter");
}

#[test]
fn a_burst_that_stays_is_a_cache_and_one_that_goes_is_churn() {
    assert_eq!(verdict_of((0..20).map(|at| if at < 3 { (0, 0) } else { (100_000, 0) })), Verdict::Cache);
    assert_eq!(
        verdict_of((0..20).map(|at| if at < 3 { (100_000, 0) } else { (100_000, 100_000) })),
        Verdict::Churn
    );
    // In the later half nobody can know yet.
    assert_eq!(verdict_of((0..20).map(|at| if at < 15 { (0, 0) } else { (100_000, 0) })), Verdict::Unknown);
}

#[test]
fn a_plateau_is_flat_while_blocks_come_and_go() {
    let lru = (0..30u64).map(|at| (at * 100 + 1, (at * 100 + 1).saturating_sub(1000)));
    assert_eq!(verdict_of(lru), Verdict::Plateau);
    let noisy = (0..60).map(|at| (5_000 + at * 100 + noise(at), at * 100));
    assert_eq!(verdict_of(noisy), Verdict::Plateau);
}

#[test]
fn teeth_of_the_garbage_collector_are_no_leak() {
    for teeth in [3, 4, 5, 7, 9, 20] {
        for kept in [0, 1_000] {
            let period = 120 / teeth;
            let judged = verdict_of((0..121).map(|at| (kept + at * 1000, at / period * period * 1000)));
            assert!(
                matches!(judged, Verdict::Plateau | Verdict::Churn | Verdict::Unknown),
                "{teeth} {kept} {judged:?}"
            );
        }
    }
    assert_eq!(verdict_of((0..121).map(|at| (at * 1000, at / 10 * 10 * 1000))), Verdict::Churn);
    assert_eq!(verdict_of((0..126).map(|at| (10_000 + at * 100, at / 10 * 1000))), Verdict::Plateau);
}

#[test]
fn teeth_on_a_rising_floor_are_a_leak() {
    let kept = |at: u64| at * 300;
    assert_eq!(
        verdict_of((0..126).map(|at| (at * 1000, at / 10 * 10 * 1000 - kept(at / 10 * 10)))),
        Verdict::Leak
    );
}

#[test]
fn churn_leaves_nearly_nothing() {
    assert_eq!(verdict_of((0..20).map(|at| (at * 10_000, at * 10_000))), Verdict::Churn);
    assert_eq!(verdict_of((0..20).map(|at| (at * 10_000 + noise(at), at * 10_000))), Verdict::Churn);
}

#[test]
fn too_little_says_nothing() {
    assert_eq!(judge(&[]), Judgement { verdict: Verdict::Unknown, growth_bytes_per_second: 0.0 });
    assert_eq!(verdict_of([(0, 0), (100, 0), (200, 0)]), Verdict::Unknown, "three observations");
    assert_eq!(verdict_of((0..20).map(|at| (at / 3, 0))), Verdict::Unknown, "six blocks");
    let mut short = history((0..20).map(|at| (at * 50, 0)));
    short.iter_mut().for_each(|seen| seen.seconds /= 100.0);
    assert_eq!(judge(&short).verdict, Verdict::Unknown, "a fifth of a second");
}

#[test]
fn a_verdict_never_hides_a_big_site() {
    assert!(rank(30_000_000, Verdict::Cache, 0.0) > rank(100_000, Verdict::Leak, 1000.0));
    assert!(rank(88_000, Verdict::Leak, 21_700.0) > rank(4_000_000, Verdict::Unknown, 0.0));
    assert!(rank(88_000, Verdict::Leak, 21_700.0) > rank(3_100_000, Verdict::Cache, -10.0));
    assert_eq!(rank(1_000, Verdict::Unknown, 50.0), rank(1_000, Verdict::Leak, 50.0));
}

fn observation() -> impl Strategy<Value = Observation> {
    let seconds = prop_oneof![0.0..100.0, any::<f64>()];
    let bytes = prop_oneof![0..10_000u64, any::<u64>()];
    (seconds, bytes.clone(), any::<u64>(), bytes.clone(), bytes).prop_map(
        |(seconds, live_bytes, live_blocks, allocated_blocks, freed_blocks)| Observation {
            seconds,
            live_bytes,
            live_blocks,
            allocated_blocks,
            freed_blocks,
        },
    )
}

proptest! {
    #[test]
    fn growth_is_always_a_number(mut seen in prop::collection::vec(observation(), 0..40), sorted: bool) {
        if sorted {
            seen.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        }
        prop_assert!(judge(&seen).growth_bytes_per_second.is_finite());
    }

    #[test]
    fn a_leak_at_constant_rate_is_measured(
        bytes_per_second in 2_000.0..1e10f64,
        block_bytes in 1u64..500,
        step_seconds in 0.1..60.0f64,
        count in 12usize..700,
    ) {
        let mut histories = Histories::default();
        for at in 0..count {
            let seconds = at as f64 * step_seconds;
            let blocks = (seconds * bytes_per_second / block_bytes as f64) as u64;
            let totals = SiteTotals { allocated_blocks: blocks, allocated_bytes: blocks * block_bytes, ..SiteTotals::default() };
            histories.observe(&Moment { seconds, rss_bytes: 0, sites: [(1, totals)].into() });
        }
        let judgement = judge(&histories.of(1));
        let off = judgement.growth_bytes_per_second / bytes_per_second - 1.0;
        prop_assert!(off.abs() < 0.05, "{judgement:?} for {bytes_per_second}");
        let blocks = bytes_per_second * step_seconds * count as f64 / block_bytes as f64;
        prop_assert!(judgement.verdict == Verdict::Leak || blocks < 100.0, "{judgement:?}");
    }
}
