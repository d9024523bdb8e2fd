//! Small blocks: which pool they are in, and whether they are on its free list.
//!
//! A block lives when its pool's class fits it, the pool has carved it (`nextoffset`), and it is not on the chain that begins at `freeblock` (`Objects/obmalloc.c`, `pymalloc_alloc`, `pymalloc_free`).
//! The first word of a free block is the next link: an address of the same pool, or 0. Most living objects begin with something else, so their pools' chains need not be read.

use std::collections::HashMap;

use crate::target::census::pool::{Pool, u32_at, u64_at};
use crate::target::layout;
use crate::target::memory::Bytes;

/// How often a pool is read again because its chain was being written to.
const TRIES: usize = 3;

/// Where a small block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no pool: where its header would be is something else, or nothing at all. A block of `malloc` may lie so near to where its heap begins that nothing is mapped there.
    NoPool,
    /// It is not in use: its pool has become one of another class, or is empty.
    Gone,
    /// At the place of a block that has been carved.
    Block(Slot),
}

/// A carved block of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Bytes of it.
    pub(super) given: u64,
    /// Its pool's address.
    pub(super) pool: u64,
    /// All carved blocks of its pool are in use.
    full: bool,
}

/// What a header says besides what a census wants.
#[derive(Clone, Copy, Debug)]
struct Header {
    pool: Pool,
    /// `nextoffset`.
    next: u64,
    /// `freeblock` is 0: no block is on the free list.
    full: bool,
}

/// The pools of some blocks.
#[derive(Debug)]
pub(super) struct Pools<'layout> {
    layout: &'layout layout::Pools,
    /// By address: `None` for what is no pool.
    headers: HashMap<u64, Option<Header>>,
}

impl<'layout> Pools<'layout> {
    /// Reads the header of each pool that one of the blocks would be in, once.
    pub(super) fn read(memory: &impl Bytes, blocks: &[u64], layout: &'layout layout::Pools) -> Self {
        let mut addresses: Vec<u64> = blocks.iter().map(|block| pool_of(*block, layout)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut bytes = Vec::new();
        let len = usize::try_from(layout.pool_overhead).unwrap_or_default().max(1);
        let readable = memory.read_many(&addresses, len, &mut bytes);
        let each = addresses.iter().zip(bytes.chunks_exact(len)).zip(readable);
        let headers = each
            .filter(|(_, readable)| *readable)
            .map(|((address, bytes), _)| (*address, header(*address, bytes, layout)))
            .collect();
        Self { layout, headers }
    }

    /// Where a block of `size` bytes lies.
    pub(super) fn place(&self, block: u64, size: u64) -> Place {
        let pool = pool_of(block, self.layout);
        let header = match self.headers.get(&pool) {
            None | Some(None) => return Place::NoPool,
            Some(Some(header)) => header,
        };
        let given = header.pool.block_size;
        let Some(inside) = (block - pool).checked_sub(self.layout.pool_overhead) else { return Place::Gone };
        // A block that was made smaller stays where it is until it uses less than three quarters of it (`pymalloc_realloc`).
        let wanted = size.max(1).next_multiple_of(self.layout.alignment);
        let fits = given == wanted || (given > wanted && size.saturating_mul(4) > given.saturating_mul(3));
        let carved = block - pool < header.next;
        if header.pool.blocks > 0 && fits && carved && inside.is_multiple_of(given) {
            Place::Block(Slot { given, pool, full: header.full })
        } else {
            Place::Gone
        }
    }
}

fn header(address: u64, bytes: &[u8], layout: &layout::Pools) -> Option<Header> {
    let pool = Pool::parse(address, bytes, layout)?;
    let full = u64_at(bytes, layout.pool_freeblock)? == 0;
    Some(Header { pool, next: u64::from(u32_at(bytes, layout.pool_nextoffset)?), full })
}

const fn pool_of(block: u64, layout: &layout::Pools) -> u64 {
    block - block % layout.pool_size
}

impl Slot {
    /// Whether the block that begins with this may be free: its pool has free blocks, and its first word can be a link of their chain.
    pub(super) fn may_be_free(&self, head: &[u8], layout: &layout::Pools) -> bool {
        let link = |word: u64| word == 0 || pool_of(word, layout) == self.pool;
        !self.full && u64_at(head, 0).is_none_or(link)
    }
}

/// The free blocks of some pools.
#[derive(Debug)]
pub(super) struct Free<'layout> {
    layout: &'layout layout::Pools,
    /// By address: a bit for each multiple of the alignment; `None` where the chain could not be followed.
    pools: HashMap<u64, Option<Vec<u64>>>,
}

impl<'layout> Free<'layout> {
    /// Reads these pools, each once; those whose chain is being written to, again.
    pub(super) fn read(memory: &impl Bytes, mut pools: Vec<u64>, layout: &'layout layout::Pools) -> Self {
        pools.sort_unstable();
        pools.dedup();
        let mut bytes = vec![0; usize::try_from(layout.pool_size).unwrap_or_default()];
        let free = pools.into_iter().map(|pool| (pool, one(memory, pool, &mut bytes, layout))).collect();
        Self { layout, pools: free }
    }

    /// Whether a block is free; `None` when it could not be found out.
    pub(super) fn holds(&self, pool: u64, block: u64) -> Option<bool> {
        let bits = self.pools.get(&pool)?.as_ref()?;
        let bit = usize::try_from((block - pool) / self.layout.alignment).ok()?;
        Some(bits.get(bit / 64)? >> (bit % 64) & 1 != 0)
    }
}

fn one(memory: &impl Bytes, pool: u64, bytes: &mut [u8], layout: &layout::Pools) -> Option<Vec<u64>> {
    (0..TRIES).find_map(|_| {
        memory.read(pool, bytes).ok()?;
        chain(pool, bytes, layout)
    })
}

/// Follows the chain of a copy of a pool. `None` when it leaves the carved part, or is longer than that has blocks: it was written to while it was copied.
fn chain(pool: u64, bytes: &[u8], layout: &layout::Pools) -> Option<Vec<u64>> {
    let Header { pool: Pool { block_size, .. }, next, .. } = header(pool, bytes, layout)?;
    let slots = usize::try_from(layout.pool_size / layout.alignment).ok()?;
    let mut free = vec![0u64; slots.div_ceil(64)];
    let mut link = u64_at(bytes, layout.pool_freeblock)?;
    for _ in 0..=layout.pool_size / block_size {
        if link == 0 {
            return Some(free);
        }
        let offset = link.checked_sub(pool).filter(|offset| *offset < next)?;
        let inside = offset.checked_sub(layout.pool_overhead)?;
        if !inside.is_multiple_of(block_size) {
            return None;
        }
        let bit = usize::try_from(offset / layout.alignment).ok()?;
        *free.get_mut(bit / 64)? |= 1 << (bit % 64);
        link = u64_at(bytes, usize::try_from(offset).ok()?)?;
    }
    None
}
