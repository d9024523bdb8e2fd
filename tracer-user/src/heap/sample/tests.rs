//! The sampler by hand: what each event and each look does, and that nothing that comes in can make it lie or grow.

use proptest::prelude::*;

use super::*;
use crate::heap::books;
use crate::heap::verdict::Verdict;

/// Stands for 100 windows; no hits are charged.
pub(super) fn window(opened_s: f64) -> Window {
    Window {
        opened_s,
        interval_s: 0.2,
        length_s: 0.002,
        share_s: 0.001,
        own_s: 0.002,
        early_s: 20e-6,
        ..Window::default()
    }
}

fn born(site: u64, address: u64, size_bytes: u64, at_s: f64) -> Happened {
    Happened::Born { site, address, size_bytes, domain: Some(Domain::Object), reused: false, at_s }
}

fn alive(kind: u64) -> Look {
    Look::Alive { identity: [kind, 0], owned_bytes: 0 }
}

fn sampler() -> Sampler {
    Sampler::new(7, Bounds::default())
}

fn look_at_all(sampler: &mut Sampler, now_s: f64, look: Look) -> usize {
    let due = sampler.due(now_s, usize::MAX);
    due.iter().for_each(|due| sampler.seen(due.id, now_s, look));
    due.len()
}

#[test]
fn churn_counts_as_allocated_and_freed() {
    let mut sampler = sampler();
    let happened = [
        born(1, 0x10, 50, 1.0),
        Happened::Died { address: 0x10, at_s: 1.000_1 },
        Happened::Died { address: 0x20, at_s: 1.000_1 },
        born(1, 0x10, 70, 1.000_2),
        born(1, 0x10, 30, 1.000_3),
        Happened::Died { address: 0x10, at_s: 1.000_4 },
    ];
    sampler.window(&window(1.0), &happened);
    assert_eq!(sampler.due_at_end(), [], "the second was born over, the third freed");
    let facts = sampler.facts(2.0);
    let site = &facts[0];
    assert_eq!((site.allocated_blocks, site.freed_blocks, site.live_blocks), (300, 300, 0));
    assert_eq!((site.allocated_bytes, site.freed_bytes, site.live_bytes), (15_000, 15_000, 0));
    let lifetimes = site.lifetimes_ns.unwrap();
    assert_eq!(lifetimes.count, 300);
    assert!((65_000..200_000).contains(&lifetimes.p50), "100 µs: {lifetimes:?}");
    assert_eq!(site.sampled.unwrap().births, 3);
}

#[test]
fn a_life_is_told_in_own_time() {
    let mut sampler = sampler();
    let stretched = Window { own_s: 0.0001, cost_s: 0.0009, ..window(1.0) };
    sampler.window(&stretched, &[born(1, 0x10, 50, 1.0), Happened::Died { address: 0x10, at_s: 1.001 }]);
    let lifetimes = sampler.facts(2.0)[0].lifetimes_ns.unwrap();
    assert!((90_000..140_000).contains(&lifetimes.p50), "a tenth of 1 ms: {lifetimes:?}");
}

#[test]
fn a_candidate_is_looked_at_at_growing_ages() {
    let mut sampler = sampler();
    sampler.window(&window(1.0), &[born(1, 0x10, 50, 1.0)]);
    let mut looks = Vec::new();
    for step in 0..200_u32 {
        let now_s = 1.001 + f64::from(step) * 0.05;
        if look_at_all(&mut sampler, now_s, alive(5)) > 0 {
            looks.push(now_s);
        }
    }
    let expected = [1.001, 1.101, 1.301, 2.001, 4.001];
    assert_eq!(looks.len(), expected.len(), "{looks:?}");
    assert!(looks.iter().zip(expected).all(|(at, due)| (at - due).abs() < 0.051), "{looks:?}");
    assert_eq!(sampler.facts(11.0)[0].live_bytes, 5000);
}

#[test]
fn another_identity_death_or_a_part_ends_a_candidate() {
    for (second, freed) in
        [(alive(6), 100), (Look::Dead, 100), (Look::Part, 100), (alive(5), 0), (Look::Unread, 0)]
    {
        let mut sampler = sampler();
        sampler.window(&window(1.0), &[born(1, 0x10, 50, 1.0)]);
        assert_eq!(look_at_all(&mut sampler, 1.001, alive(5)), 1);
        assert_eq!(look_at_all(&mut sampler, 1.2, second), 1);
        let facts = sampler.facts(11.0);
        assert_eq!((facts[0].freed_blocks, facts[0].allocated_blocks), (freed, 100), "{second:?}");
    }
}

#[test]
fn what_is_not_answered_or_not_read_comes_again() {
    let mut sampler = sampler();
    sampler.window(&window(1.0), &[born(1, 0x10, 50, 1.0)]);
    assert_eq!(sampler.due(1.001, 10).len(), 1);
    assert_eq!(sampler.due(1.002, 10).len(), 0);
    assert_eq!(look_at_all(&mut sampler, 1.11, Look::Unread), 1, "nobody answered");
    assert_eq!(look_at_all(&mut sampler, 1.12, Look::Unread), 0);
    assert_eq!(look_at_all(&mut sampler, 1.25, alive(5)), 1, "it could not be read");
    assert_eq!((sampler.counts().looks, sampler.counts().unread), (1, 1));
}

#[test]
fn later_windows_kill() {
    let mut sampler = sampler();
    let three = [born(1, 0x10, 50, 1.0), born(1, 0x20, 50, 1.0), born(1, 0x30, 50, 1.0)];
    sampler.window(&window(1.0), &three);
    look_at_all(&mut sampler, 1.001, alive(5));
    sampler.window(&window(2.0), &[Happened::Died { address: 0x10, at_s: 2.0 }, born(2, 0x20, 8, 2.0)]);
    let left: Vec<u64> = sampler.due_at_end().iter().map(|due| due.address).collect();
    assert_eq!(left, [0x30, 0x20], "in the order of birth; the second is the new one");
    let facts = sampler.facts(3.0);
    let first = facts.iter().find(|site| site.id == 1).unwrap();
    assert_eq!((first.allocated_blocks, first.live_blocks), (300, 100));
}

#[test]
fn owned_bytes_count_as_the_owners() {
    let mut sampler = sampler();
    sampler.window(&window(1.0), &[born(1, 0x10, 50, 1.0)]);
    look_at_all(&mut sampler, 1.001, Look::Alive { identity: [1, 1], owned_bytes: 200 });
    let site = &sampler.facts(2.0)[0];
    assert_eq!((site.live_bytes, site.allocated_bytes, site.freed_bytes), (25_000, 25_000, 0));
    assert_eq!(site.live_given_bytes, 26_400, "64 for 50 asked");
    assert_eq!(site.sizes.unwrap().p50, 50);
}

/// Births of one block every 0.1 s by `when`, each of which lives for what `lives_s` says; looks at all that are due, and at the end at all.
fn course(
    seconds: f64,
    born_at: impl Fn(f64) -> bool,
    lives_s: impl Fn(u64) -> f64,
) -> Vec<books::SiteFacts> {
    let mut sampler = sampler();
    let mut ends: HashMap<u64, f64> = HashMap::new();
    let mut now_s = 0.0;
    let mut number = 0;
    while now_s < seconds {
        let address = 0x1000 + number * 0x40;
        let happened: Vec<Happened> =
            born_at(now_s).then(|| born(1, address, 100, now_s)).into_iter().collect();
        sampler.window(&window(now_s), &happened);
        ends.insert(address, now_s + lives_s(number));
        for due in sampler.due(now_s + 0.003, usize::MAX) {
            let look = if ends[&due.address] > now_s { alive(1) } else { Look::Dead };
            sampler.seen(due.id, now_s + 0.003, look);
        }
        number += 1;
        now_s += 0.2;
    }
    for due in sampler.due_at_end() {
        sampler.seen(due.id, seconds, if ends[&due.address] > seconds { alive(1) } else { Look::Dead });
    }
    sampler.facts(seconds)
}

#[test]
fn verdicts() {
    let verdict = |facts: Vec<books::SiteFacts>| facts[0].verdict;
    let always = |_| true;
    let leak = course(60.0, always, |_| 1e9);
    assert_eq!(leak[0].verdict, Verdict::Leak);
    let growth = leak[0].growth_bytes_per_second;
    assert!(
        (growth - 50_000.0).abs() < 1500.0,
        "100 bytes, 100 times per window, 5 windows a second: {growth}"
    );
    assert_eq!(
        verdict(course(60.0, always, |number| if number % 5 == 0 { 1e9 } else { 2.0 })),
        Verdict::Leak
    );
    assert_eq!(verdict(course(60.0, always, |_| 0.5)), Verdict::Churn);
    assert_eq!(verdict(course(60.0, always, |_| 2.0)), Verdict::Churn);
    assert_eq!(verdict(course(60.0, always, |_| 25.0)), Verdict::Plateau);
    assert_eq!(verdict(course(60.0, |now_s| now_s < 12.0, |_| 1e9)), Verdict::Cache);
    assert_eq!(verdict(course(60.0, |now_s| now_s < 1.0, |_| 1e9)), Verdict::Unknown);
    assert_eq!(verdict(course(0.9, always, |_| 1e9)), Verdict::Unknown);
}

#[test]
fn sites_beyond_the_bound_are_counted_together() {
    let mut sampler = Sampler::new(1, Bounds { sites: 2, ..Bounds::default() });
    let happened: Vec<Happened> = (1..=5).map(|site| born(site, site * 0x100, 10, 1.0)).collect();
    sampler.window(&window(1.0), &happened);
    let mut facts = sampler.facts(2.0);
    facts.sort_by_key(|site| site.id);
    let counted: Vec<(u64, u64)> = facts.iter().map(|site| (site.id, site.allocated_blocks)).collect();
    assert_eq!(counted, [(OTHER_SITES, 300), (1, 100), (2, 100)]);
    assert_eq!((facts[0].domain, facts[0].verdict), (None, Verdict::Unknown));
}

#[test]
fn refused_records_are_made_up_for() {
    let mut sampler = sampler();
    sampler.window(&Window { refused: 1, ..window(1.0) }, &[born(1, 0x10, 10, 1.0)]);
    assert_eq!(sampler.facts(2.0)[0].allocated_blocks, 200);
    sampler.window(&Window { refused: 100, ..window(1.5) }, &[born(1, 0x20, 10, 1.5)]);
    assert_eq!(sampler.facts(2.0)[0].allocated_blocks, 200, "one of a hundred says nothing");
    assert_eq!(
        (sampler.counts().windows, sampler.counts().windows_dropped, sampler.counts().refused),
        (1, 1, 101)
    );
}

#[test]
fn thinning_is_right_on_average_and_keeps_to_the_bounds() {
    let (mut blocks, mut bytes) = (0.0, 0.0);
    let runs = 200;
    for seed in 0..runs {
        let bounds = Bounds { candidates: 64, per_site: 16, sites: 100 };
        let mut sampler = Sampler::new(seed, bounds);
        for step in 0..20_u64 {
            // 14 of 10 bytes and one of 1000 at one site; ten of 10 at others.
            let happened: Vec<Happened> = (0..15)
                .map(|number| born(1, (step * 100 + number) * 16, if number == 7 { 1000 } else { 10 }, 1.0))
                .chain((0..10).map(|number| born(2 + number, (step * 100 + 50 + number) * 16, 10, 1.0)))
                .collect();
            sampler.window(&window(1.0), &happened);
            assert!(sampler.counts().remembered <= 64);
            look_at_all(&mut sampler, 1.0, alive(1));
        }
        // 20 windows of 0.2 s each: the clock has nothing to correct.
        let (sums, _) = sampler.totals(4.0);
        (blocks, bytes) = (blocks + sums.live_blocks as f64, bytes + sums.live_bytes as f64);
    }
    let (blocks, bytes) = (blocks / f64::from(runs as u32), bytes / f64::from(runs as u32));
    assert!((blocks / (500.0 * 100.0) - 1.0).abs() < 0.03, "{blocks}");
    assert!((bytes / ((480.0 * 10.0 + 20.0 * 1000.0) * 100.0) - 1.0).abs() < 0.05, "{bytes}");
}

fn any_happened() -> impl Strategy<Value = Happened> {
    let address = 0..20_u64;
    prop_oneof![
        (0..6_u64, address.clone(), prop_oneof![0..2000_u64, any::<u64>()], any::<bool>(), any::<f64>())
            .prop_map(|(site, address, size_bytes, reused, at_s)| Happened::Born {
                site,
                address,
                size_bytes,
                domain: Domain::from_code((size_bytes % 5) as u8),
                reused,
                at_s,
            }),
        (address, any::<f64>()).prop_map(|(address, at_s)| Happened::Died { address, at_s }),
    ]
}

fn any_look() -> impl Strategy<Value = Look> {
    prop_oneof![
        Just(Look::Dead),
        Just(Look::Part),
        Just(Look::Unread),
        (0..2_u64, any::<u64>())
            .prop_map(|(kind, owned_bytes)| Look::Alive { identity: [kind, 0], owned_bytes }),
    ]
}

fn any_window() -> impl Strategy<Value = Window> {
    let sound = (0.0..100.0_f64, 0.0..1.0_f64, 0.0..0.001_f64, 0..5_u64).prop_map(
        |(opened_s, interval_s, cost_s, refused)| Window { interval_s, cost_s, refused, ..window(opened_s) },
    );
    let absurd = (prop::array::uniform8(any::<f64>()), any::<u64>()).prop_map(|(all, refused)| {
        let [opened_s, interval_s, length_s, share_s, own_s, cost_s, early_s, early_cost_s] = all;
        Window {
            opened_s,
            interval_s,
            length_s,
            share_s,
            own_s,
            cost_s,
            early_s,
            early_cost_s,
            refused,
            thin: 1.0,
        }
    });
    prop_oneof![4 => sound, 1 => absurd]
}

fn is_sound(facts: &[books::SiteFacts], sums: books::Sums, errors: Errors) -> bool {
    let number = |value: f64| value.is_finite() && value >= 0.0;
    let of = |errors: &Errors| {
        number(errors.live_bytes)
            && number(errors.live_blocks)
            && number(errors.allocated_bytes)
            && number(errors.allocated_blocks)
            && number(errors.freed_bytes)
            && number(errors.freed_blocks)
            && number(errors.growth_bytes_per_second)
    };
    let site = |site: &books::SiteFacts| {
        let sampled = site.sampled.unwrap();
        site.allocated_bytes == site.freed_bytes + site.live_bytes
            && site.allocated_blocks == site.freed_blocks + site.live_blocks
            && number(site.growth_bytes_per_second)
            && number(sampled.growth_at_least)
            && of(&sampled.errors)
    };
    facts.iter().all(site)
        && of(&errors)
        && sums.allocated_bytes == sums.freed_bytes.saturating_add(sums.live_bytes)
        && sums.allocated_blocks == sums.freed_blocks.saturating_add(sums.live_blocks)
}

proptest! {
    #[test]
    fn whatever_comes_in_figures_are_sound_and_memory_is_bounded(
        steps in prop::collection::vec((any_window(), prop::collection::vec(any_happened(), 0..60), prop::collection::vec(any_look(), 1..10)), 0..30),
        now_s in prop_oneof![0.0..200.0_f64, any::<f64>()],
        candidates in 1..20_usize,
        per_site in 0..8_usize,
    ) {
        let bounds = Bounds { candidates, per_site, sites: 4 };
        let mut sampler = Sampler::new(3, bounds);
        for (window, happened, looks) in &steps {
            sampler.window(window, happened);
            prop_assert!(sampler.counts().remembered <= candidates as u64);
            for (due, look) in sampler.due(window.opened_s + 0.01, 50).iter().zip(looks.iter().cycle()) {
                sampler.seen(due.id, window.opened_s + 0.01, *look);
            }
            let (sums, errors) = sampler.totals(now_s);
            prop_assert!(is_sound(&sampler.facts(now_s), sums, errors), "{:?} {sums:?} {errors:?}", sampler.facts(now_s));
        }
        prop_assert!(sampler.facts(now_s).len() <= 5);
        let again = sampler.clone();
        prop_assert_eq!(format!("{:?}", again.facts(now_s)), format!("{:?}", sampler.facts(now_s)));
    }

    /// Twice the same gives twice the same: nothing depends on the order of a map.
    #[test]
    fn the_same_windows_give_the_same_facts(
        steps in prop::collection::vec(prop::collection::vec(any_happened(), 0..60), 0..20),
    ) {
        let run = || {
            let mut sampler = Sampler::new(3, Bounds { candidates: 12, per_site: 5, sites: 4 });
            let mut looked = Vec::new();
            for (step, happened) in steps.iter().enumerate() {
                sampler.window(&window(step as f64 * 0.2), happened);
                looked.extend(sampler.due(step as f64 * 0.2, 7).iter().map(|due| (due.id, due.address)));
            }
            (format!("{:?}", sampler.facts(10.0)), looked)
        };
        prop_assert_eq!(run(), run());
    }
}
