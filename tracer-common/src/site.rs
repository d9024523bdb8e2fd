//! What the kernel sums up per site: a site is one stack in one domain.

use crate::limits::LIFETIME_BUCKETS;

/// Sums of one site; the key of its map is the site's id, a hash of its frames and domain. Only kept blocks are counted: what
/// the full block map refused is a loss, not an allocation, so that allocated − freed is what lives.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SiteTotals {
    /// Bytes asked for by the kept blocks.
    pub allocated_bytes: u64,
    /// Kept blocks.
    pub allocated_blocks: u64,
    /// Bytes of this site's blocks that were freed since.
    pub freed_bytes: u64,
    /// Blocks of this site that were freed since.
    pub freed_blocks: u64,
    /// 1 once the frames have gone through the ring; until then every hit tries again.
    pub stack_sent: u32,
    /// Code of the domain.
    pub domain: u32,
    /// Freed blocks by their age at death, see [`lifetime_bucket`].
    pub lifetimes: [u32; LIFETIME_BUCKETS],
}

const _: () = assert!(size_of::<SiteTotals>() == 40 + 4 * LIFETIME_BUCKETS);

impl Default for SiteTotals {
    fn default() -> Self {
        Self {
            allocated_bytes: 0,
            allocated_blocks: 0,
            freed_bytes: 0,
            freed_blocks: 0,
            stack_sent: 0,
            domain: 0,
            lifetimes: [0; LIFETIME_BUCKETS],
        }
    }
}

/// The id of the site that stands in for all the sites which no longer fitted in the map.
pub const OTHER_SITES: u64 = 0;

/// Lifetimes under 2^10 ns share bucket 0.
const FIRST_OCTAVE: u32 = 10;

/// The bucket of a lifetime: half octaves from 1 µs (2^10 ns) on, the last one open to the right (about 36 minutes … ∞).
#[inline(always)]
#[must_use]
pub const fn lifetime_bucket(lifetime_ns: u64) -> usize {
    let log2 = 63 - (lifetime_ns | 1).leading_zeros();
    if log2 < FIRST_OCTAVE {
        return 0;
    }
    let half = (lifetime_ns >> (log2 - 1)) & 1;
    let bucket = 1 + 2 * (log2 - FIRST_OCTAVE) as usize + half as usize;
    if bucket < LIFETIME_BUCKETS { bucket } else { LIFETIME_BUCKETS - 1 }
}

/// The bounds of a lifetime bucket, in nanoseconds: from inclusive, to exclusive.
#[must_use]
pub const fn lifetime_bounds_ns(bucket: usize) -> (u64, u64) {
    if bucket == 0 {
        return (0, 1 << FIRST_OCTAVE);
    }
    let octave = FIRST_OCTAVE + (bucket as u32 - 1) / 2;
    let base = 1u64 << octave;
    if (bucket - 1).is_multiple_of(2) { (base, base + base / 2) } else { (base + base / 2, base * 2) }
}

/// What `--ints` sums up per site of `PyLong_FromLong`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntTotals {
    /// Calls of `PyLong_FromLong`.
    pub calls: u64,
    /// Calls that returned a cached small int: nothing was allocated, but a reference was taken.
    pub small: u64,
}

const _: () = assert!(size_of::<IntTotals>() == 16);

/// Key of the map that counts how often a site made a value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntValueKey {
    /// The site.
    pub site: u64,
    /// The value passed to `PyLong_FromLong`.
    pub value: i64,
}

const _: () = assert!(size_of::<IntValueKey>() == 16);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lifetime_lies_in_its_bucket(lifetime_ns in 0u64..(1 << 41)) {
            let (from, to) = lifetime_bounds_ns(lifetime_bucket(lifetime_ns));
            prop_assert!(from <= lifetime_ns && lifetime_ns < to);
        }

        #[test]
        fn every_lifetime_has_a_bucket(lifetime_ns: u64) {
            prop_assert!(lifetime_bucket(lifetime_ns) < LIFETIME_BUCKETS);
        }
    }
}
