//! The heap's word against the samples', by hand: who is believed, and what becomes of a site's growth.

use super::*;
use crate::heap::sample::course::STEADY;
use crate::heap::sample::judge::{Evidence, Half};
use crate::heap::sample::limits::Estimate;
use crate::heap::verdict::Verdict;

fn shares(heap: Rate, factor: f64, by_site: &[(u64, f64)]) -> Shares {
    let sum = by_site.iter().map(|(_, growth)| growth).sum();
    let part = |(site, growth): &(u64, f64)| (*site, Part { growth: *growth, sure: *growth });
    Shares {
        factor: Some(factor),
        least_share: 0.0,
        heap,
        goes_on: true,
        windows: 25.0,
        all: sum,
        sum,
        by_site: by_site.iter().map(part).collect(),
    }
}

fn site(id: u64, growth: f64) -> SiteFacts {
    let mut sampled = crate::heap::sample::Sampled { growth_at_least: growth / 2.0, ..Default::default() };
    sampled.errors.growth_bytes_per_second = growth;
    SiteFacts { id, growth_bytes_per_second: growth, sampled: Some(sampled), ..SiteFacts::default() }
}

/// So many windows have shown alike.
fn size_of(windows: u64, value: f64) -> Size {
    let mut size = Size::default();
    size.by_site.insert(1, Part { growth: value, sure: value });
    for window in 1..=windows {
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
        size.by_window.add(&one, value / windows as f64);
    }
    size
}

/// Twelve windows have shown alike.
fn size(value: f64) -> Size {
    size_of(12, value)
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

/// Of one window that weighs much, a site seems to grow eight times as fast as its size does, whose course goes up and down by a little too much to be steady.
#[test]
fn a_course_that_breathes_is_nearer_the_truth_than_one_window() {
    let course = |swing: f64| -> Vec<HeapAt> {
        let at = |at: u32| {
            let mut bytes = [0; CLASSES as usize];
            bytes[0] = (1e6 + 2000.0 * f64::from(at) + swing * f64::from(at % 3)) as u64;
            HeapAt { seconds: f64::from(at), bytes, resident_bytes: None }
        };
        (0..16).map(at).collect()
    };
    let one_window = || size_of(1, 16_000.0);
    let steadiness = |swing: f64| {
        let points: Vec<_> = course(swing).iter().map(|at| (at.seconds, at.bytes[0] as f64)).collect();
        let slope = slope(&points);
        slope.error / slope.value
    };
    assert!((STEADY..NEARER).contains(&steadiness(3000.0)), "{}", steadiness(3000.0));
    let told = one_window().judge(1, &course(3000.0), 0.0);
    assert!((told.factor.unwrap() * 16_000.0 - 2000.0).abs() < 500.0 && told.heap.error > 300.0, "{told:?}");
    assert!(steadiness(20_000.0) > NEARER);
    assert_eq!(one_window().judge(1, &course(20_000.0), 0.0).factor, None, "that is no course");
    // Twelve windows that say the same know better than a heap that breathes.
    let known = size(2400.0).judge(1, &course(4500.0), 0.0);
    assert!(known.factor.is_none(), "{known:?}");
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
    both.by_site = [(1, Part { growth: 1500.0, sure: 0.0 }), (2, Part { growth: 500.0, sure: 500.0 })].into();
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

/// A site whose late half nobody has seen, for all that windows say of it.
fn unseen_late() -> SiteFacts {
    let half =
        |value: f64| Half { born: 100.0, living: Estimate { value, effective: 20.0, ..Estimate::default() } };
    let evidence = Evidence {
        seconds: 60.0,
        births: 100,
        growth: Estimate { value: 40.0, at_least: 20.0, effective: 10.0, ..Estimate::default() },
        early: half(100.0),
        late: half(5.0),
        ..Evidence::default()
    };
    let mut site = site(1, 40.0);
    site.verdict = evidence.verdict();
    if let Some(sampled) = &mut site.sampled {
        sampled.evidence = Some(evidence);
    }
    assert_eq!(site.verdict, Verdict::Cache);
    site
}

#[test]
fn a_half_that_was_not_seen_was_there_if_the_heap_says_so_and_it_is_nobody_elses() {
    let heap = Rate { value: 40.0, error: 1.0 };
    let judged = |shares: Shares| {
        let mut site = unseen_late();
        site_growth(&mut site, &[shares]);
        site.verdict
    };
    assert_eq!(judged(shares(heap, 1.0, &[(1, 40.0)])), Verdict::Leak);
    assert_eq!(judged(shares(heap, 1.0, &[(1, 40.0), (2, 60.0)])), Verdict::Cache, "it may be the other's");
    assert_eq!(judged(Shares { goes_on: false, ..shares(heap, 1.0, &[(1, 40.0)]) }), Verdict::Cache);
}

#[test]
fn what_the_samples_say_too_much_of_one_site_is_the_heaps() {
    let judge = |value: f64| size_of(60, value).judge(1, &course(100.0), 0.0);
    let told = |shares: &[Shares], growth: f64| {
        let mut site = site(1, growth);
        site_growth(&mut site, shares);
        site.growth_bytes_per_second
    };
    let shares = judge(400.0);
    let (half, goes_on) = (shares.factor_of(0.5), shares.goes_on);
    assert_eq!((half, goes_on), (None, true), "three times their own error");
    assert!((told(&[shares], 400.0) - 100.0).abs() < 1e-6);
    // A cache that turns over, and what else grows there.
    let shares = judge(1_500.0);
    assert_eq!((shares.factor_of(0.5), shares.factor_of(1.0), shares.goes_on), (None, None, false));
    assert!((told(&[shares], 1_500.0) - 1_500.0).abs() < 1e-6);
}

#[test]
fn beside_others_what_the_samples_say_stands() {
    let heap = Rate { value: 100.0, error: 1.0 };
    let beside = |other: f64| {
        let both = [(1, 400.0), (2, other)];
        let shares = [Shares { least_share: NEARLY_ALL, ..shares(heap, 100.0 / (400.0 + other), &both) }];
        both.map(|(id, growth)| {
            let mut site = site(id, growth);
            site_growth(&mut site, &shares);
            (site.growth_bytes_per_second, site.sampled.unwrap().errors.growth_bytes_per_second)
        })
    };
    assert_eq!(beside(200.0).map(|told| told.0), [400.0, 200.0]);
    let [(most, error), other] = beside(40.0);
    assert!((most - 100.0 / 1.1).abs() < 1e-6 && error < 100.0, "{most} ± {error}");
    assert_eq!(other, (40.0, 40.0), "what is little may be the leak beside a cache");
}
