//! What the kernel remembers of one live block.

use crate::domain::Domain;

/// Bits of [`Block::size_and_domain`] that hold the size.
const SIZE_BITS: u32 = 56;
const SIZE_MASK: u64 = (1 << SIZE_BITS) - 1;
/// Set in the size of an entry that stands for a pool; no request is so large.
const POOL: u64 = 1 << (SIZE_BITS - 1);

/// One live block; the key of its map is its address. 24 bytes, because there may be millions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The site that allocated it.
    pub site: u64,
    /// `CLOCK_MONOTONIC` at birth.
    pub birth_ns: u64,
    /// Bytes as asked for in the low 56 bits, the domain's code in the high 8.
    pub size_and_domain: u64,
}

const _: () = assert!(size_of::<Block>() == 24);

impl Block {
    /// A block's size and domain in one word. Sizes past 2^56 − 1, which no machine has, are cut to it.
    #[inline(always)]
    #[must_use]
    pub const fn pack(size_bytes: u64, domain_code: u8) -> u64 {
        let size = if size_bytes > SIZE_MASK { SIZE_MASK } else { size_bytes };
        size | (domain_code as u64) << SIZE_BITS
    }

    /// Bytes as asked for.
    #[inline(always)]
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_and_domain & SIZE_MASK
    }

    /// The size of an entry that stands for a whole pool, to be packed: the mark, and the bytes of each of the pool's blocks.
    #[inline(always)]
    #[must_use]
    pub const fn pool_size(class_bytes: u64) -> u64 {
        POOL | class_bytes
    }

    /// If the entry stands for a pool ([`crate::config::work::POOLS`]): the bytes of each of its blocks.
    #[inline(always)]
    #[must_use]
    pub const fn pool_class_bytes(&self) -> Option<u64> {
        let size = self.size_bytes();
        if size & POOL == 0 { None } else { Some(size & !POOL) }
    }

    /// The domain that owns the block.
    #[must_use]
    pub const fn domain(&self) -> Option<Domain> {
        Domain::from_code((self.size_and_domain >> SIZE_BITS) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_told_by_its_size() {
        let of = |size| Block { size_and_domain: Block::pack(size, Domain::Mem as u8), ..Block::default() };
        assert_eq!(of(Block::pool_size(48)).pool_class_bytes(), Some(48));
        assert_eq!(of(Block::pool_size(48)).domain(), Some(Domain::Mem));
        assert_eq!(of(48).pool_class_bytes(), None);
        assert_eq!(of(1 << 47).pool_class_bytes(), None, "all of the address space");
    }

    #[test]
    fn size_and_domain_share_a_word() {
        let block = Block { size_and_domain: Block::pack(513, Domain::Raw as u8), ..Block::default() };
        assert_eq!((block.size_bytes(), block.domain()), (513, Some(Domain::Raw)));
        let huge = Block { size_and_domain: Block::pack(u64::MAX, Domain::Libc as u8), ..Block::default() };
        assert_eq!((huge.size_bytes(), huge.domain()), (SIZE_MASK, Some(Domain::Libc)));
    }
}
