//! One pool of CPython's small-block allocator: what its header says, and whether it can be the header of a pool at all.

use super::{CLASSES, Class};
use crate::target::layout::Pools;
use crate::target::memory::Bytes;

/// Arenas that are believed in; also the most that a census follows: 64 GiB of small blocks.
pub(super) const MAX_ARENAS: u32 = 1 << 16;

/// Headers that are read in one go; bounds the memory that a census needs.
pub(super) const BATCH: usize = 4096;

/// What the header of a pool says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::target) struct Pool {
    /// Blocks in use (`ref.count`).
    pub(in crate::target) blocks: u32,
    /// Bytes of each.
    pub(in crate::target) block_size: u64,
    /// The index of its arena in the table of arenas.
    pub(super) arena: u32,
}

impl Pool {
    /// Reads the header of a pool at `address`; `None` where the bytes cannot be one.
    ///
    /// The target may write while the bytes are copied, so only what any mixture of an older and a newer state of a live pool satisfies is asked for: the class, and what follows
    /// from it, change only while the pool has no block (`allocate_from_new_pool`, `Objects/obmalloc.c`), and such a pool may be taken or refused. That is still far more than
    /// foreign memory satisfies by chance, and an empty page does not. A pool in the middle of its initialisation is refused: its first block is being allocated at that very moment.
    pub(in crate::target) fn parse(address: u64, header: &[u8], layout: &Pools) -> Option<Self> {
        let blocks = u32_at(header, layout.pool_ref)?;
        let class = u32_at(header, layout.pool_szidx).filter(|class| *class < layout.size_classes)?;
        let arena = u32_at(header, layout.pool_arenaindex).filter(|arena| *arena < MAX_ARENAS)?;
        let next = u64::from(u32_at(header, layout.pool_nextoffset)?);
        let last = u64::from(u32_at(header, layout.pool_maxnextoffset)?);
        let free = u64_at(header, layout.pool_freeblock)?;
        let block_size = (u64::from(class) + 1) * layout.alignment;
        let carved = next.checked_sub(layout.pool_overhead)?;
        let room = layout.pool_size - layout.pool_overhead;
        let free_inside =
            free.checked_sub(address).and_then(|inside| inside.checked_sub(layout.pool_overhead));
        let sound = last == layout.pool_size - block_size
            && (block_size..=room).contains(&carved)
            && carved.is_multiple_of(block_size)
            && u64::from(blocks) <= room / block_size
            && (free == 0
                || free_inside.is_some_and(|inside| inside < room && inside.is_multiple_of(block_size)));
        sound.then_some(Self { blocks, block_size, arena })
    }
}

/// The sums over some pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pools with at least one block in use.
    pub(super) pools: u64,
    /// Blocks in use.
    pub(super) blocks: u64,
    /// Bytes of these, as the size classes round them.
    pub(super) bytes: u64,
    /// The same by size class.
    pub(super) classes: [Class; CLASSES],
}

impl Tally {
    /// Adds the pools among `addresses` that `accept` takes, given the position of the address. What is no pool or cannot be read adds nothing.
    pub(super) fn add(
        &mut self,
        memory: &impl Bytes,
        addresses: &[u64],
        layout: &Pools,
        accept: impl Fn(usize, &Pool) -> bool,
    ) {
        for (at, pool) in read(memory, addresses, layout) {
            if pool.blocks > 0 && accept(at, &pool) {
                self.pools += 1;
                self.blocks += u64::from(pool.blocks);
                self.bytes += u64::from(pool.blocks) * pool.block_size;
                let class = (pool.block_size / layout.alignment.max(1)).saturating_sub(1);
                if let Some(class) = usize::try_from(class).ok().and_then(|at| self.classes.get_mut(at)) {
                    class.pools += 1;
                    class.blocks += u64::from(pool.blocks);
                }
            }
        }
    }
}

/// The pools at some addresses, each with the position of its address.
pub(super) fn read(memory: &impl Bytes, addresses: &[u64], layout: &Pools) -> Vec<(usize, Pool)> {
    let Ok(len) = usize::try_from(layout.pool_overhead) else { return Vec::new() };
    let mut bytes = Vec::new();
    let readable = memory.read_many(addresses, len, &mut bytes);
    let headers = addresses.iter().zip(bytes.chunks_exact(len.max(1))).zip(readable).enumerate();
    let whole = headers.filter(|(_, (_, readable))| *readable);
    whole
        .filter_map(|(at, ((address, header), _))| Some((at, Pool::parse(*address, header, layout)?)))
        .collect()
}

/// A little-endian 32-bit word at an offset.
pub(in crate::target) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A little-endian 64-bit word at an offset.
pub(in crate::target) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(in crate::target) mod tests {
    use super::*;
    use crate::target::layout::v3_11::LAYOUT;
    use proptest::prelude::*;

    pub(in crate::target) const POOLS: &Pools = &LAYOUT.pools;

    /// A header as CPython writes it: `blocks` in use of `carved`, in size class `class`; `free` is the address of the first free block, or 0.
    pub(in crate::target) fn header(blocks: u32, class: u32, carved: u32, free: u64, arena: u32) -> Vec<u8> {
        let size = (class + 1) * 16;
        let mut bytes = vec![0; 48];
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        for (at, word) in
            [(0, blocks), (32, arena), (36, class), (40, 48 + carved * size), (44, 16384 - size)]
        {
            put(at, word);
        }
        bytes[8..16].copy_from_slice(&free.to_le_bytes());
        bytes
    }

    const AT: u64 = 0x7f00_0000_4000;

    fn parse(bytes: &[u8]) -> Option<Pool> {
        Pool::parse(AT, bytes, POOLS)
    }

    #[test]
    fn a_header_is_read() {
        let first_free = AT + 48 + 32 * 5;
        let pool = Pool { blocks: 7, block_size: 32, arena: 3 };
        assert_eq!(parse(&header(7, 1, 9, first_free, 3)), Some(pool));
        assert_eq!(parse(&header(7, 1, 7, 0, 3)), Some(pool), "full so far");
        assert_eq!(parse(&header(31, 31, 31, 0, 0)).map(|pool| pool.block_size), Some(512));
        assert_eq!(parse(&header(1021, 0, 1021, 0, 0)).map(|pool| pool.blocks), Some(1021));
        assert_eq!(parse(&header(0, 1, 9, first_free, 3)).map(|pool| pool.blocks), Some(0), "empty");
    }

    /// Each case breaks one rule, so that each rule is needed.
    #[test]
    fn what_cannot_be_a_pool_is_none() {
        assert_eq!(parse(&[0; 48]), None, "an empty page");
        assert_eq!(parse(&header(7, 1, 9, 0, 3)[..47]), None, "cut short");
        assert_eq!(parse(&header(511, 1, 9, 0, 3)), None, "more in use than fit");
        assert_eq!(parse(&header(7, 32, 9, 0, 3)), None, "no such class");
        assert_eq!(parse(&header(7, 1, 9, 0, MAX_ARENAS)), None, "no such arena");
        assert_eq!(parse(&header(7, 1, 0, 0, 3)), None, "nothing carved");
        assert_eq!(parse(&header(7, 1, 511, 0, 3)), None, "carved past its end");
        for (free, why) in [
            (AT + 47, "in the header"),
            (AT - 48, "before it"),
            (AT + 48 + 8, "between blocks"),
            (AT + 16384, "behind it"),
        ] {
            assert_eq!(parse(&header(7, 1, 9, free, 3)), None, "{why}");
        }
        let mut other_size = header(7, 1, 9, 0, 3);
        other_size[44] ^= 16;
        assert_eq!(parse(&other_size), None, "of a pool of another class");
        // A pool just carved from its arena: `DUMMY_SIZE_IDX` and a count of nothing yet.
        let mut raw = vec![0; 48];
        raw[36..40].copy_from_slice(&0xffff_u32.to_le_bytes());
        assert_eq!(parse(&raw), None, "not yet initialised");
    }

    /// `pymalloc_pool_extend` stores `freeblock` before `nextoffset`, and a copy may hold a newer count than `nextoffset`.
    #[test]
    fn a_pool_that_is_being_written_to_is_still_one() {
        let next_to_carve = AT + 48 + 9 * 32;
        assert_eq!(parse(&header(9, 1, 9, next_to_carve, 3)).map(|pool| pool.blocks), Some(9));
        assert_eq!(parse(&header(20, 1, 9, 0, 3)).map(|pool| pool.blocks), Some(20));
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(address: u64, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Pool::parse(address, &bytes, POOLS);
        }

        #[test]
        fn every_sound_header_is_read(class in 0u32..32, carved in 1u32..1021, used in 0u32..1021, arena in 0..MAX_ARENAS) {
            let most = (16384 - 48) / ((class + 1) * 16);
            let carved = carved.min(most);
            let used = used.min(carved);
            let free = if used == carved { 0 } else { AT + 48 + u64::from((carved - 1) * (class + 1) * 16) };
            let pool = parse(&header(used, class, carved, free, arena));
            prop_assert_eq!(pool, Some(Pool { blocks: used, block_size: u64::from(class + 1) * 16, arena }));
        }
    }
}
