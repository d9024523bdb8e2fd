//! The heap without its table of arenas: every address of the target's own memory where a pool could begin is looked at.
//!
//! Slow in a process with much other memory, but it needs to know nothing about the interpreter except the shape of a pool.

use std::ops::Range;

use super::pages::{Page, Pages};
use super::pool::{BATCH, Tally};
use super::{Census, LeftOut};
use crate::target::layout::Pools;
use crate::target::memory::Bytes;

/// Counts the pools in `regions`, of which at most `limit` bytes are looked at, the lowest addresses first.
pub(super) fn scan(
    memory: &impl Bytes,
    pages: &mut impl Pages,
    regions: &[Range<u64>],
    layout: &Pools,
    limit: u64,
) -> Census {
    let (mut tally, mut left_out, mut looked_at) = (Tally::default(), LeftOut::default(), 0u64);
    let stride = layout.pool_size;
    for slots in regions.iter().filter_map(|region| slots(region, stride)) {
        let mut at = slots.start;
        while at < slots.end {
            let wanted = (slots.end - at) / stride;
            let allowed = limit.saturating_sub(looked_at) / stride;
            let count = wanted.min(BATCH as u64);
            if count > allowed {
                left_out.truncated = true;
            }
            let count = count.min(allowed);
            if count == 0 {
                return Census::new(tally, &left_out, looked_at);
            }
            let places = (0u64..).map(|slot| at + slot * stride).zip(pages.at(at, stride, count as usize));
            let addresses = left_out.present(places);
            tally.add(memory, &addresses, layout, |_, _| true);
            looked_at += count * stride;
            at += count * stride;
        }
    }
    Census::new(tally, &left_out, looked_at)
}

/// The part of a region in which whole pools lie.
fn slots(region: &Range<u64>, stride: u64) -> Option<Range<u64>> {
    let start = region.start.checked_next_multiple_of(stride)?;
    let end = region.end / stride * stride;
    (start < end).then_some(start..end)
}

impl LeftOut {
    /// The addresses of the pages that are in memory; those that are swapped out are noted.
    pub(super) fn present(&mut self, places: impl Iterator<Item = (u64, Page)>) -> Vec<u64> {
        let mut present = Vec::new();
        for (address, page) in places {
            match page {
                Page::Present => present.push(address),
                Page::Swapped => self.swapped_out(address),
                Page::Absent => {}
            }
        }
        present
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::target::census::arenas::Arena;
    use crate::target::census::count;
    use crate::target::census::pool::tests::{POOLS, header};
    use crate::target::recorded::Recorded;

    const BASE: u64 = 0x7f00_0000_0000;
    const STEP: u64 = 16384;

    /// Pages by address; all others are absent.
    struct Known(HashMap<u64, Page>);

    impl Pages for Known {
        fn at(&mut self, start: u64, stride: u64, count: usize) -> Vec<Page> {
            let places = (0..count as u64).map(|at| start + at * stride);
            places.map(|place| self.0.get(&place).copied().unwrap_or(Page::Absent)).collect()
        }
    }

    /// Pools of 3 blocks of 48 bytes at every slot of 16, whatever their pages are; slot 2 is no pool.
    fn world(pages: &[(u64, Page)]) -> (Recorded, Known) {
        let mut regions: Vec<_> = (0..16).map(|slot| (BASE + slot * STEP, header(3, 2, 9, 0, 1))).collect();
        regions[2].1 = vec![0xaa; 48];
        let pages = pages.iter().map(|(slot, page)| (BASE + slot * STEP, *page)).collect();
        (Recorded::new(regions), Known(pages))
    }

    fn all_present() -> Vec<(u64, Page)> {
        (0..16).map(|slot| (slot, Page::Present)).collect()
    }

    fn scanned(pages: &[(u64, Page)], regions: &[Range<u64>], limit: u64) -> Census {
        let (memory, mut pages) = world(pages);
        scan(&memory, &mut pages, regions, POOLS, limit)
    }

    #[test]
    fn whole_pools_at_their_places() {
        let whole = BASE..BASE + 16 * STEP;
        let census = scanned(&all_present(), std::slice::from_ref(&whole), u64::MAX);
        assert_eq!((census.pools, census.live_blocks, census.live_bytes), (15, 45, 45 * 48));
        assert_eq!((census.looked_at_bytes, census.left_out()), (16 * STEP, Some(0)));
        // The first and the last are cut off by a page, and of the middle there is a hole.
        let pieces = [BASE + 4096..BASE + 5 * STEP, BASE + 8 * STEP..BASE + 16 * STEP - 4096];
        assert_eq!(scanned(&all_present(), &pieces, u64::MAX).pools, 3 + 7);
        let hostile = [u64::MAX - 4096..u64::MAX, 5..6];
        assert_eq!(scanned(&all_present(), &hostile, u64::MAX), Census::default());
    }

    #[test]
    fn what_is_not_in_memory_is_not_read() {
        let whole = BASE..BASE + 16 * STEP;
        let regions = std::slice::from_ref(&whole);
        let pages = [(0, Page::Present), (1, Page::Swapped), (5, Page::Present), (6, Page::Swapped)];
        let census = scanned(&pages, regions, u64::MAX);
        assert_eq!((census.pools, census.swapped), (2, 2));
        assert!(census.left_out().is_some_and(|left_out| left_out != 0));
        assert_eq!(scanned(&pages, regions, u64::MAX).left_out(), census.left_out(), "the same places");
        let others = [(0, Page::Present), (1, Page::Swapped), (5, Page::Present), (7, Page::Swapped)];
        assert_ne!(scanned(&others, regions, u64::MAX).left_out(), census.left_out());
    }

    #[test]
    fn pools_of_the_table_are_left_out_as_well() {
        let arenas = [Arena { index: 1, pools: BASE..BASE + 8 * STEP }];
        let (memory, mut pages) = world(&[(0, Page::Present), (1, Page::Swapped), (3, Page::Present)]);
        let census = count(&memory, Some(&mut pages), &arenas, POOLS);
        assert_eq!((census.live_blocks, census.swapped, census.looked_at_bytes), (6, 1, 8 * STEP));
        let (_, mut pages) = world(&all_present());
        assert_eq!(count(&memory, Some(&mut pages), &arenas, POOLS).live_blocks, 21);
        let last = [Arena { index: u32::MAX >> 16, pools: BASE..BASE + STEP }];
        let census = count(&memory, Some(&mut pages), &last, POOLS);
        assert_eq!((census.truncated, census.left_out(), census.live_blocks), (true, None, 0));
    }

    #[test]
    fn the_limit_is_kept_and_told() {
        let whole = BASE..BASE + 16 * STEP;
        let regions = std::slice::from_ref(&whole);
        let census = scanned(&all_present(), regions, 10 * STEP);
        assert_eq!((census.looked_at_bytes, census.pools, census.left_out()), (10 * STEP, 9, None));
        assert!(census.truncated && !scanned(&all_present(), regions, 16 * STEP).truncated);
        assert_eq!(scanned(&all_present(), regions, STEP - 1).looked_at_bytes, 0);
    }
}
