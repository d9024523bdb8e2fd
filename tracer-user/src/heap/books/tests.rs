//! Books written by a model of the kernel's own bookkeeping, read back.

use proptest::prelude::*;
use tracer_common::site::{IntTotals, IntValueKey, lifetime_bucket};

use super::*;

/// One step of a made-up target.
#[derive(Clone, Debug)]
enum Step {
    Allocate { site: u64, size_bytes: u64 },
    Free { which: prop::sample::Index },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let allocate = (0..6u64, 0..5000u64).prop_map(|(site, size_bytes)| Step::Allocate { site, size_bytes });
    let free = any::<prop::sample::Index>().prop_map(|which| Step::Free { which });
    prop::collection::vec(prop_oneof![3 => allocate, 2 => free], 0..300)
}

/// Keeps books as the probes do; a step takes 1 µs.
fn keep(steps: &[Step]) -> Books {
    let mut books = Books::default();
    for (at, step) in steps.iter().enumerate() {
        let now_ns = at as u64 * 1000;
        match step {
            Step::Allocate { site, size_bytes } => {
                let block =
                    Block { site: *site, birth_ns: now_ns, size_and_domain: Block::pack(*size_bytes, 0) };
                books.blocks.push((0x1000 + at as u64 * 16, block));
                let totals = books.last.sites.entry(*site).or_default();
                totals.allocated_bytes += size_bytes;
                totals.allocated_blocks += 1;
            }
            Step::Free { which } if !books.blocks.is_empty() => {
                let (_, block) = books.blocks.swap_remove(which.index(books.blocks.len()));
                let totals = books.last.sites.entry(block.site).or_default();
                totals.freed_bytes += block.size_bytes();
                totals.freed_blocks += 1;
                totals.lifetimes[lifetime_bucket(now_ns - block.birth_ns)] += 1;
            }
            Step::Free { .. } => {}
        }
    }
    books
}

proptest! {
    #[test]
    fn what_is_allocated_is_freed_or_lives(steps in steps()) {
        let books = keep(&steps);
        let all = totals(&books);
        prop_assert_eq!(all.allocated_bytes, all.freed_bytes + all.live_bytes);
        prop_assert_eq!(all.allocated_blocks, all.freed_blocks + all.live_blocks);
        prop_assert_eq!(all.live_blocks, books.blocks.len() as u64);
        let sites = sites(&books, &Histories::default());
        prop_assert_eq!(sites.len(), books.last.sites.len());
        prop_assert_eq!(sites.iter().map(|site| site.live_bytes).sum::<u64>(), all.live_bytes);
        for site in sites {
            // The sums and the blocks were kept apart and agree.
            prop_assert_eq!(site.live_blocks, site.survivors.len() as u64);
            prop_assert_eq!(site.live_blocks, site.sizes.map_or(0, |sizes| sizes.count));
            prop_assert_eq!(site.freed_blocks, site.lifetimes_ns.map_or(0, |lifetimes| lifetimes.count));
            let blocks = books.blocks.iter().filter(|(_, block)| block.site == site.id);
            prop_assert_eq!(site.live_bytes, blocks.map(|(_, block)| block.size_bytes()).sum::<u64>());
            prop_assert!(site.live_given_bytes >= site.live_bytes);
        }
    }

    #[test]
    fn older_only_takes_away(steps in steps(), min_age_ns in 0u64..300_000) {
        let books = keep(&steps);
        let older = Older { now_ns: steps.len() as u64 * 1000, min_age_ns };
        let all: HashMap<u64, SiteFacts> =
            sites(&books, &Histories::default()).into_iter().map(|site| (site.id, site)).collect();
        for site in sites_older(&books, &Histories::default(), older) {
            let whole = &all[&site.id];
            prop_assert!(site.live_bytes <= whole.live_bytes && site.live_blocks <= whole.live_blocks);
            prop_assert_eq!((site.allocated_bytes, site.freed_blocks), (whole.allocated_bytes, whole.freed_blocks));
            prop_assert_eq!(min_age_ns > 0 || site == *whole, true);
        }
    }

    #[test]
    fn books_that_contradict_themselves_still_add_up(sums in prop::collection::vec(any::<[u64; 4]>(), 0..8)) {
        let mut books = Books::default();
        for (id, [allocated_bytes, allocated_blocks, freed_bytes, freed_blocks]) in sums.into_iter().enumerate() {
            let totals = SiteTotals { allocated_bytes, allocated_blocks, freed_bytes, freed_blocks, ..SiteTotals::default() };
            books.last.sites.insert(id as u64, totals);
        }
        let all = totals(&books);
        prop_assert_eq!(all.allocated_bytes, all.freed_bytes + all.live_bytes);
        prop_assert_eq!(sites(&books, &Histories::default()).len(), books.last.sites.len());
    }
}

#[test]
fn only_the_old_count() {
    let old = Older { now_ns: 10_000, min_age_ns: 5_000 };
    let block = |birth_ns| Block { birth_ns, ..Block::default() };
    assert_eq!([0, 5_000, 5_001, 99_000].map(|birth| old.keeps(&block(birth))), [true, true, false, false]);
}

#[test]
fn blocks_of_a_site_without_sums_are_not_forgotten() {
    let block = Block { site: 9, birth_ns: 0, size_and_domain: Block::pack(28, Domain::Mem as u8) };
    let books = Books { blocks: vec![(0x10, block), (0x30, block)], ..Books::default() };
    let all = sites(&books, &Histories::default());
    assert_eq!((all.len(), all[0].live_blocks, all[0].live_bytes, all[0].live_given_bytes), (1, 2, 56, 64));
    assert_eq!((all[0].domain, totals(&books).live_bytes), (Some(Domain::Mem), 56));
}

#[test]
fn ints_come_with_their_most_frequent_values() {
    let mut books = Books::default();
    books.ints.insert(3, IntTotals { calls: 100, small: 40 });
    for (value, calls) in [(5, 1), (1000, 60), (7, 20), (8, 20), (9, 2), (10, 3)] {
        books.int_values.push((IntValueKey { site: 3, value }, calls));
    }
    let all = sites(&books, &Histories::default());
    let ints = all[0].ints.clone().unwrap();
    assert_eq!((all[0].id, ints.calls, ints.small), (3, 100, 40));
    assert_eq!(ints.values, [(1000, 60), (7, 20), (8, 20), (10, 3), (9, 2)]);
}
