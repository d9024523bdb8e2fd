//! The sampler by hand: what each event and each look does, and that nothing that comes in can make it lie or grow.

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
