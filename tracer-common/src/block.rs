//! What the kernel remembers of one live block.

use crate::domain::Domain;

/// Bits of [`Block::size_and_domain`] that hold the size.
const SIZE_BITS: u32 = 56;
const SIZE_MASK: u64 = (1 << SIZE_BITS) - 1;

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
    fn size_and_domain_share_a_word() {
        let block = Block { size_and_domain: Block::pack(513, Domain::Raw as u8), ..Block::default() };
        assert_eq!((block.size_bytes(), block.domain()), (513, Some(Domain::Raw)));
        let huge = Block { size_and_domain: Block::pack(u64::MAX, Domain::Libc as u8), ..Block::default() };
        assert_eq!((huge.size_bytes(), huge.domain()), (SIZE_MASK, Some(Domain::Libc)));
    }
}
