//! Several stories as one: sums, shares, and who counts as living.

use super::*;
use crate::report::fixture;

fn process(pid: u32, joined: Joined, exited: bool, story: &Story) -> Process {
    Process { pid, joined, exited, totals: story.totals.clone(), ..Process::default() }
}

/// The fixture's story with totals that its sites make.
fn story() -> Story {
    let mut story = fixture::story();
    let sum = |of: fn(&Site) -> u64| story.sites.iter().map(of).sum::<u64>();
    story.totals = Totals {
        allocated_bytes: sum(|site| site.allocated_bytes),
        allocated_blocks: sum(|site| site.allocated_blocks),
        freed_bytes: sum(|site| site.freed_bytes),
        freed_blocks: sum(|site| site.freed_blocks),
        live_bytes: sum(|site| site.live_bytes),
        live_blocks: sum(|site| site.live_blocks),
        ..story.totals
    };
    story
}

fn merged(processes: &[(Joined, bool)]) -> Story {
    let mut merge = Merge::new(Sort::Worst);
    for (pid, (joined, exited)) in (1..).zip(processes) {
        merge.add(story(), process(pid, *joined, *exited, &story()));
    }
    merge.story(10.0, Vec::new()).unwrap()
}

#[test]
fn the_same_stack_is_one_site_with_a_share_for_each() {
    let whole = merged(&[(Joined::Target, false), (Joined::Fork, false)]);
    let one = story();
    assert_eq!(whole.sites.len(), one.sites.len());
    assert_eq!(whole.totals.live_blocks, 2 * one.totals.live_blocks);
    let (leak, alone) = (&whole.sites[0], &one.sites[0]);
    assert_eq!((leak.live_bytes, leak.verdict), (2 * alone.live_bytes, alone.verdict));
    assert_eq!(leak.processes.iter().map(|share| share.live_bytes).sum::<u64>(), leak.live_bytes);
    assert_eq!(leak.types[0].blocks, 2 * alone.types[0].blocks);
    assert_eq!(whole.losses[0].count, 2 * one.losses[0].count);
    assert_eq!(whole.cost.hits, 2 * one.cost.hits);
}

#[test]
fn what_was_held_at_exit_lives_no_more_but_is_told() {
    let whole = merged(&[(Joined::Target, false), (Joined::Fork, true)]);
    let one = story();
    let totals = &whole.totals;
    assert_eq!(totals.live_blocks, one.totals.live_blocks);
    assert_eq!(totals.allocated_blocks, totals.freed_blocks + totals.live_blocks);
    assert_eq!(totals.allocated_bytes, totals.freed_bytes + totals.live_bytes);
    let held: u64 = whole.sites.iter().map(|site| site.held_at_exit().1).sum();
    assert_eq!(held, one.totals.live_blocks);
    for site in &whole.sites {
        assert_eq!(site.allocated_blocks, site.freed_blocks + site.live_blocks);
    }
}

#[test]
fn the_target_counts_as_living_unless_somebody_outlives_it() {
    let one = story().totals.live_blocks;
    assert_eq!(merged(&[(Joined::Target, true), (Joined::Fork, true)]).totals.live_blocks, one);
    let outlived = merged(&[(Joined::Target, true), (Joined::Fork, false)]);
    assert_eq!(outlived.totals.live_blocks, one);
    assert_eq!(outlived.processes.iter().filter(|row| row.exited).count(), 1);
    assert!(Merge::new(Sort::Worst).story(1.0, Vec::new()).is_none());
}

#[test]
fn what_was_held_at_exit_is_told_among_however_many_sites() {
    let of = story().sites[0].clone();
    let many = |count: u64, live_bytes: u64| -> Vec<Site> {
        let site = |number| Site {
            stack_note: Some(format!("site {number} of {live_bytes}")),
            live_bytes,
            live_blocks: u64::from(live_bytes > 0),
            ..of.clone()
        };
        (0..count).map(site).collect()
    };
    let mut merge = Merge::new(Sort::Worst);
    let living = Story { sites: many(5000, 8), ..story() };
    let gone = Story { sites: [many(900, 0), many(3, 100)].concat(), ..story() };
    for (pid, joined, exited, story) in [(1, Joined::Target, false, living), (2, Joined::Fork, true, gone)] {
        let row = process(pid, joined, exited, &story);
        merge.add(story, row);
    }
    let whole = merge.story(10.0, Vec::new()).unwrap();
    assert_eq!(whole.sites.len(), SITES);
    let held = whole.sites[..SITES - 1].iter().filter(|site| site.held_at_exit() == (100, 1));
    assert_eq!(held.count(), 3);
    let shares = whole.sites.iter().flat_map(|site| &site.processes);
    assert_eq!(shares.map(|share| share.live_bytes).sum::<u64>(), 5000 * 8 + 300, "nothing is lost");
}

#[test]
fn rows_and_shares_are_bounded() {
    let many: Vec<_> = std::iter::once((Joined::Target, false)).chain([(Joined::Fork, true); 400]).collect();
    let whole = merged(&many);
    assert_eq!(whole.processes.len(), ROWS + 2, "the target, and the rest together");
    let blocks: u64 = whole.processes.iter().map(|row| row.totals.allocated_blocks).sum();
    assert_eq!(blocks, whole.totals.allocated_blocks);
    for site in &whole.sites {
        assert!(site.processes.len() <= SHARES + 2);
        assert_eq!(
            site.processes.iter().map(|share| share.allocated_blocks).sum::<u64>(),
            site.allocated_blocks
        );
    }
}

#[test]
fn spreads_are_joined_only_where_that_is_exact() {
    let of = |values: &[u64]| Spread::of_values(values.iter().copied());
    assert_eq!(alike(of(&[5, 5]), of(&[5]), 2, 1), of(&[5, 5, 5]));
    assert_eq!(alike(of(&[5, 5]), of(&[6]), 2, 1), None);
    assert_eq!(alike(of(&[5, 6]), None, 2, 0), of(&[5, 6]));
    assert_eq!(alike(of(&[5]), None, 1, 7), None);
}

mod of_samples {
    use proptest::prelude::*;

    use super::*;
    use crate::heap::sample::{Estimate, Evidence, Half};
    use crate::report::sampling::{SiteErrors, SumErrors};

    fn sums(error: f64) -> SumErrors {
        SumErrors {
            allocated_bytes: 2.0 * error,
            allocated_blocks: 2.0 * error,
            freed_bytes: error,
            freed_blocks: error,
            live_bytes: error,
            live_blocks: error,
        }
    }

    /// So much growth, seen in so many windows alike.
    fn estimate(value: f64, windows: f64) -> Estimate {
        Estimate { value, error: 2.0 * value / windows.sqrt(), at_least: 0.0, effective: windows }
    }

    fn evidence(growth: f64, windows: f64, mistaken: f64) -> Evidence {
        let half = Half { born: 50.0, living: estimate(50.0, windows / 2.0) };
        Evidence {
            seconds: 10.0,
            births: 20,
            allocated: 100.0,
            live_share: 1.0,
            growth: estimate(growth, windows),
            mistaken,
            early: half,
            late: half,
            ..Evidence::default()
        }
    }

    /// One process's story with one site, whose growth is off by `error`, of which `mistaken` is no chance.
    fn one(growth: f64, windows: f64, error: f64, mistaken: f64) -> Story {
        let evidence = evidence(growth, windows, mistaken);
        let mut story = story();
        let site = Site {
            id: 7,
            growth_bytes_per_second: growth,
            samples: Some(20),
            survivors: Some(10),
            growth_at_least: Some(0.0),
            errors: Some(SiteErrors { sums: sums(error), growth_bytes_per_second: error }),
            evidence: Some(evidence),
            verdict: evidence.verdict(),
            stack: Vec::new(),
            ..story.sites[0].clone()
        };
        story.totals.errors = Some(sums(error));
        story.sites = vec![site];
        story
    }

    fn joined(stories: Vec<(Story, bool)>) -> Story {
        let mut merge = Merge::unnamed(Sort::Worst);
        for (pid, (story, exited)) in (1..).zip(stories) {
            let joined = if pid == 1 { Joined::Target } else { Joined::Fork };
            let row = process(pid, joined, exited, &story);
            merge.add(story, row);
        }
        merge
            .named_story(10.0, Vec::new(), |site| site.stack_note = Some(format!("stack {}", site.id)))
            .unwrap()
    }

    #[test]
    fn errors_of_processes_add_up_in_quadrature() {
        let whole = joined(vec![(one(30.0, 9.0, 3.0, 0.0), false), (one(40.0, 16.0, 4.0, 0.0), false)]);
        let [site] = &whole.sites[..] else { panic!("one stack is one site: {:?}", whole.sites) };
        assert_eq!(site.error(|errors| errors.live_bytes), Some(5.0));
        assert_eq!(site.error(|errors| errors.allocated_bytes), Some(10.0));
        assert_eq!((site.growth_error(), site.growth_bytes_per_second), (Some(5.0), 70.0));
        assert_eq!((site.samples, site.survivors), (Some(40), Some(20)));
        assert_eq!(whole.totals.error(|errors| errors.freed_blocks), Some(5.0));
        assert_eq!(site.stack_note.as_deref(), Some("stack 7"));
    }

    #[test]
    fn what_errs_in_the_same_direction_everywhere_is_added_one_by_one() {
        let whole = joined(vec![
            (one(30.0, 9.0, 3.0 + 10.0, 10.0), false),
            (one(40.0, 16.0, 4.0 + 20.0, 20.0), false),
        ]);
        assert_eq!(whole.sites[0].growth_error(), Some(35.0));
    }

    #[test]
    fn what_has_exited_is_known_to_be_gone() {
        let whole = joined(vec![(one(30.0, 9.0, 3.0, 0.0), false), (one(40.0, 16.0, 4.0, 0.0), true)]);
        let site = &whole.sites[0];
        assert_eq!((site.growth_error(), site.growth_bytes_per_second), (Some(3.0), 30.0));
        assert_eq!(site.error(|errors| errors.live_bytes), Some(3.0));
        assert_eq!(
            site.error(|errors| errors.freed_bytes),
            Some(3.0_f64.hypot(8.0)),
            "all that it allocated"
        );
        assert_eq!((site.samples, site.survivors), (Some(40), Some(10)));
    }

    #[test]
    fn workers_of_which_none_was_seen_enough_are_enough_together() {
        let few = || (one(30.0, 2.0, 30.0, 0.0), false);
        assert_eq!(few().0.sites[0].verdict, Verdict::Unknown);
        let whole = joined((0..8).map(|_| few()).collect());
        let site = &whole.sites[0];
        assert_eq!(site.verdict, Verdict::Leak, "{:?}", site.evidence);
        let at_least = site.growth_at_least.unwrap();
        assert!(at_least > 0.0 && at_least < site.growth_bytes_per_second, "{at_least}");
    }

    #[test]
    fn stacks_that_differ_in_addresses_alone_are_one_in_the_end() {
        let mut other = one(40.0, 16.0, 4.0, 0.0);
        other.sites[0].id = 8;
        let mut merge = Merge::unnamed(Sort::Worst);
        let first = one(30.0, 9.0, 3.0, 0.0);
        let row = process(1, Joined::Target, false, &first);
        merge.add(first, row);
        let row = process(2, Joined::Fork, false, &other);
        merge.add(other, row);
        let whole = merge
            .named_story(10.0, Vec::new(), |site| site.stack_note = Some("the same".to_owned()))
            .unwrap();
        let [site] = &whole.sites[..] else { panic!("{:?}", whole.sites) };
        assert_eq!((site.growth_error(), site.processes.len()), (Some(5.0), 2));
    }

    proptest! {
        /// The sum is known no better than in quadrature, no worse than one by one, in whatever order processes come, and what is sure never exceeds what is estimated.
        #[test]
        fn sums_of_estimates_are_bounded(
            parts in prop::collection::vec((0.0..1e9_f64, 1.0..100.0_f64, 0.0..1e9_f64, 0.0..1.0_f64, any::<bool>()), 1..20),
        ) {
            let stories = |parts: &[(f64, f64, f64, f64, bool)]| -> Vec<(Story, bool)> {
                parts.iter().map(|(growth, windows, error, mistaken, exited)| {
                    (one(*growth, *windows, *error, error * mistaken), *exited)
                }).collect()
            };
            let whole = joined(stories(&parts));
            let mut turned = parts.clone();
            turned[1..].reverse();
            let other = joined(stories(&turned));
            // The target counts as living if nobody outlives it.
            let alive = parts[1..].iter().any(|part| !part.4);
            let living = parts.iter().enumerate().filter(|(at, part)| !part.4 || *at == 0 && !alive);
            let errors: Vec<f64> = living.map(|(_, part)| part.2).collect();
            let (sum, squares) = errors.iter().fold((0.0, 0.0), |(sum, squares), error| (sum + error, squares + error * error));
            let site = &whole.sites[0];
            let error = site.growth_error().unwrap();
            prop_assert!(error >= squares.sqrt() * 0.999_999 && error <= sum * 1.000_001, "{error}");
            let live = site.error(|errors| errors.live_bytes).unwrap();
            prop_assert!((live - squares.sqrt()).abs() <= 1e-6 * live.max(1.0), "{live}");
            prop_assert!((error - other.sites[0].growth_error().unwrap()).abs() <= 1e-6 * error.max(1.0));
            let at_least = site.growth_at_least.unwrap();
            prop_assert!(at_least >= 0.0 && at_least <= site.growth_bytes_per_second * 1.000_001 + 1e-6);
            prop_assert!(site.errors.unwrap().sums.freed_bytes.is_finite());
        }
    }
}
