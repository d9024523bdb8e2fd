//! What the remembered pools and mappings hold now. Pure: the kernel's books and what was read from outside go in, books come out in which a pool weighs as much as the blocks
//! in it, and a mapping as much as is left of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tracer_common::block::Block;
use tracer_common::domain::Domain;

use crate::heap::books::SiteFacts;
use crate::heap::snapshot::{Books, Moment};
use crate::heap::spread::Spread;
use crate::heap::verdict::Verdict;

/// What is seen from outside at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    /// Bytes of each block and blocks in use, by the address of the pool.
    pub(super) pools: HashMap<u64, (u64, u64)>,
    /// The addresses that the target may use, ascending; `None` if that is not known.
    pub(super) mapped: Option<Vec<Range<u64>>>,
}

/// One site's part of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Weight {
    /// Blocks in pools, by their bytes.
    pooled: BTreeMap<u64, u64>,
    /// What is left of mappings is less by so much than what was asked for and not given back by its address.
    unmapped_bytes: u64,
    unmapped_blocks: u64,
}

/// The remembered pools and mappings, weighed.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighed {
    sites: HashMap<u64, Weight>,
    /// Pools that still hold blocks of the size for which they were opened.
    pub(super) pools: u64,
}

/// The addresses of the pools among the kernel's entries.
pub(super) fn pools(books: &Books) -> Vec<u64> {
    let pools = books.blocks.iter().filter(|(_, block)| block.pool_class_bytes().is_some());
    pools.map(|(address, _)| *address).collect()
}

/// Weighs the pools and mappings of the books and makes the books agree with it: pools are left out of the blocks, mappings are cut to what is left of them, and the sums are those
/// of blocks. If `large` requests were not followed to the end, none of them is said to live.
pub(super) fn weigh(books: &mut Books, outside: &Outside, large: bool) -> Weighed {
    let mut weighed = Weighed::default();
    let mut blocks = Vec::with_capacity(books.blocks.len());
    for (address, mut block) in books.blocks.drain(..) {
        if let Some(class_bytes) = block.pool_class_bytes() {
            if let Some((block_bytes, count)) = outside.pools.get(&address)
                && *block_bytes == class_bytes
            {
                weighed.pools += 1;
                *weighed.sites.entry(block.site).or_default().pooled.entry(class_bytes).or_default() += count;
            }
        } else if block.domain() == Some(Domain::Map) {
            let asked = block.size_bytes();
            let left = outside.mapped.as_ref().map_or(asked, |mapped| overlap(mapped, address, asked));
            let weight = weighed.sites.entry(block.site).or_default();
            weight.unmapped_bytes += asked - left;
            if left == 0 {
                weight.unmapped_blocks += 1;
            } else {
                block.size_and_domain = Block::pack(left, Domain::Map as u8);
                blocks.push((address, block));
            }
        } else if large {
            blocks.push((address, block));
        }
    }
    books.blocks = blocks;
    weighed.enter(&mut books.last, large);
    weighed
}

impl Weighed {
    /// Enters it into the sums. Small blocks were not seen one by one: those that live are what was allocated.
    fn enter(&self, moment: &mut Moment, large: bool) {
        for site in moment.sites.values_mut() {
            if !large && site.domain != Domain::Map as u32 {
                site.allocated_bytes = site.freed_bytes;
                site.allocated_blocks = site.freed_blocks;
            }
        }
        for (id, weight) in &self.sites {
            let site = moment.sites.entry(*id).or_default();
            let (bytes, blocks) = weight.pooled();
            site.allocated_bytes = site.allocated_bytes.saturating_add(bytes);
            site.allocated_blocks = site.allocated_blocks.saturating_add(blocks);
            site.freed_bytes = site.freed_bytes.saturating_add(weight.unmapped_bytes);
            site.freed_blocks = site.freed_blocks.saturating_add(weight.unmapped_blocks);
        }
    }

    /// Completes the facts that were made from such books: what pools give, and the sizes in them. Nothing here deserves a verdict.
    pub(super) fn complete(&self, facts: &mut [SiteFacts], blocks: &[(u64, Block)]) {
        let mut others = HashMap::<u64, Vec<u64>>::new();
        for (_, block) in blocks {
            others.entry(block.site).or_default().push(block.size_bytes());
        }
        for site in facts {
            site.verdict = Verdict::Unknown;
            let Some(weight) = self.sites.get(&site.id).filter(|weight| !weight.pooled.is_empty()) else {
                continue;
            };
            site.live_given_bytes = site.live_given_bytes.saturating_add(weight.pooled().0);
            let mut sizes = weight.pooled.clone();
            for size in others.remove(&site.id).unwrap_or_default() {
                *sizes.entry(size).or_default() += 1;
            }
            site.sizes = spread(&sizes);
        }
    }
}

impl Weight {
    /// Bytes and blocks in pools.
    fn pooled(&self) -> (u64, u64) {
        let bytes = |sum: u64, (size, count): (&u64, &u64)| sum.saturating_add(size.saturating_mul(*count));
        (self.pooled.iter().fold(0, bytes), self.pooled.values().sum())
    }
}

/// The spread of sizes of which so many are there.
fn spread(sizes: &BTreeMap<u64, u64>) -> Option<Spread> {
    let count: u64 = sizes.values().sum();
    let at = |share: f64| {
        let rank = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let mut found = sizes.iter().skip_while(|(_, blocks)| {
            seen += **blocks;
            seen < rank
        });
        found.next().map(|(size, _)| *size)
    };
    let (min, max) = (*sizes.keys().next()?, *sizes.keys().next_back()?);
    Some(Spread { count, min, p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, max })
}

/// Bytes of `address..address + len` that lie in the ranges, which are ascending.
fn overlap(ranges: &[Range<u64>], address: u64, len: u64) -> u64 {
    let end = address.saturating_add(len);
    let first = ranges.partition_point(|range| range.end <= address);
    let inside = ranges.get(first..).unwrap_or_default().iter().take_while(|range| range.start < end);
    inside.map(|range| range.end.min(end).saturating_sub(range.start.max(address))).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_common::site::SiteTotals;

    use super::*;

    const POOL: u64 = 0x7f00_0000_4000;
    const MAP: u64 = 0x7f11_0000_0000;

    fn block(site: u64, size: u64, domain: Domain) -> Block {
        Block { site, birth_ns: 1, size_and_domain: Block::pack(size, domain as u8) }
    }

    /// Site 1 has opened two pools for 48 bytes and asked for 10,000 bytes; site 2 has mapped 3 pages.
    fn books() -> Books {
        let blocks = vec![
            (POOL, block(1, Block::pool_size(48), Domain::Object)),
            (POOL + 0x4000, block(1, Block::pool_size(48), Domain::Object)),
            (0x5555_0000, block(1, 10_000, Domain::Object)),
            (MAP, block(2, 3 * 4096, Domain::Map)),
        ];
        let mut books = Books { blocks, ..Books::default() };
        let sums = |domain: Domain, bytes, freed| SiteTotals {
            allocated_bytes: bytes + freed,
            allocated_blocks: 1 + u64::from(freed > 0),
            freed_bytes: freed,
            freed_blocks: u64::from(freed > 0),
            domain: domain as u32,
            ..SiteTotals::default()
        };
        books.last.sites.insert(1, sums(Domain::Object, 10_000, 500));
        books.last.sites.insert(2, sums(Domain::Map, 3 * 4096, 0));
        books
    }

    fn live(books: &Books, site: u64) -> (u64, u64) {
        let site = &books.last.sites[&site];
        (site.allocated_bytes - site.freed_bytes, site.allocated_blocks - site.freed_blocks)
    }

    #[test]
    fn pools_weigh_what_is_in_them() {
        let mut one = books();
        assert_eq!(pools(&one), [POOL, POOL + 0x4000]);
        let mut outside =
            Outside { pools: HashMap::from([(POOL, (48, 100)), (POOL + 0x4000, (64, 9))]), mapped: None };
        let weighed = weigh(&mut one, &outside, true);
        assert_eq!((live(&one, 1), weighed.pools), ((14_800, 101), 1), "one holds other blocks by now");
        assert_eq!((live(&one, 2), one.blocks.len()), ((3 * 4096, 1), 2));
        outside.pools.clear();
        let mut none = books();
        weigh(&mut none, &outside, true);
        assert_eq!(live(&none, 1), (10_000, 1), "both are empty");
    }

    #[test]
    fn large_requests_that_were_not_followed_are_left_out() {
        let mut books = books();
        let outside = Outside { pools: HashMap::from([(POOL, (48, 100))]), mapped: None };
        weigh(&mut books, &outside, false);
        assert_eq!((live(&books, 1), live(&books, 2)), ((4_800, 100), (3 * 4096, 1)));
        assert!(books.blocks.iter().all(|(address, _)| *address == MAP));
    }

    #[test]
    fn mappings_weigh_what_is_left() {
        for (mapped, expected) in [
            (vec![MAP..MAP + 0x1000, MAP + 0x2000..MAP + 0x9000], (2 * 4096, 1)),
            (vec![0..MAP, MAP + 0x3000..u64::MAX], (0, 0)),
            (vec![], (0, 0)),
        ] {
            let mut books = books();
            weigh(&mut books, &Outside { pools: HashMap::new(), mapped: Some(mapped) }, true);
            assert_eq!(live(&books, 2), expected);
        }
    }

    #[test]
    fn facts_are_completed_and_never_judged() {
        let mut books = books();
        let outside = Outside { pools: HashMap::from([(POOL, (48, 100))]), mapped: None };
        let weighed = weigh(&mut books, &outside, true);
        let mut facts =
            [SiteFacts { id: 1, verdict: Verdict::Leak, live_given_bytes: 10_008, ..SiteFacts::default() }];
        weighed.complete(&mut facts, &books.blocks);
        let sizes = Spread { count: 101, min: 48, p50: 48, p90: 48, p99: 48, max: 10_000 };
        assert_eq!((facts[0].verdict, facts[0].live_given_bytes), (Verdict::Unknown, 14_808));
        assert_eq!(facts[0].sizes, Some(sizes));
    }

    proptest! {
        #[test]
        fn an_overlap_is_never_more_than_both(address: u64, len: u64, cuts in prop::collection::btree_set(any::<u64>(), 0..20)) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let ranges: Vec<Range<u64>> = cuts.chunks_exact(2).map(|two| two[0]..two[1]).collect();
            let all = ranges.iter().map(|range| u128::from(range.end - range.start)).sum::<u128>();
            let found = overlap(&ranges, address, len);
            prop_assert!(found <= len && u128::from(found) <= all);
        }
    }
}
