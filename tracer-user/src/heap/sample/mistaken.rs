//! What may have been taken for something else: between the end of a window and the first look a candidate may die and another block of its size take its place. Its identity is then that of the other,
//! and if that one stays, the candidate's site seems to grow.
//!
//! How many such mistakes are to be expected can be told: how fast a site's blocks die is seen in the windows, how long the look took is known, and how many blocks of a size stay is what other sites' old
//! survivors say. What does not die in windows is never mistaken, so a pure leak loses nothing by this.
//!
//! Later looks can be mistaken too where identity says nothing: an empty list that `select` has returned dies within milliseconds and lies in a freelist, and if other code leaks empty lists, one of them takes its
//! place for good. Objects that look like others are not believed to stay where a good part of their site's died soon after the first look.

use std::collections::BTreeMap;

/// Where so large a part of a site's blocks is dead at the second look, those that look like others may all be others.
const SOON: f64 = 0.1;

/// Blocks that can take each other's place, by size: pymalloc's classes of 16 bytes, and beyond 512 bytes the powers of two.
pub(super) fn class(size_bytes: u64) -> u8 {
    if size_bytes <= 512 { size_bytes.div_ceil(16) as u8 } else { 96 - size_bytes.leading_zeros() as u8 }
}

/// Sums by class.
pub(super) type ByClass = BTreeMap<u8, f64>;

/// How fast the blocks of a site die in windows, and what of them may have been mistaken.
#[derive(Clone, Debug, Default)]
pub(super) struct Mistakable {
    /// Own time that the blocks were watched in windows, seconds.
    watched_s: f64,
    /// Those that died in it.
    died: f64,
    /// Bytes of candidates that lived at their first look and may have died before it.
    bytes: ByClass,
    /// Candidates that lived at their first look, and those of them that were dead at the second.
    looked: f64,
    died_soon: f64,
}

impl Mistakable {
    /// A block was watched in a window for so long.
    pub(super) fn watched(&mut self, weight: f64, watched_s: f64, has_died: bool) {
        self.watched_s += weight * watched_s.max(0.0);
        self.died += if has_died { weight } else { 0.0 };
    }

    /// A candidate was first looked at so long after its window, and something lived there.
    pub(super) fn looked(&mut self, weight: f64, size_bytes: u64, bytes: f64, later_s: f64) {
        self.looked += weight;
        let hazard = if self.watched_s > 0.0 { self.died / self.watched_s } else { 0.0 };
        let chance = -(-hazard * later_s.max(0.0)).exp_m1();
        if chance > 0.0 {
            *self.bytes.entry(class(size_bytes)).or_default() += chance * bytes;
        }
    }

    /// One that lived at its first look was dead at the next one.
    pub(super) fn died_soon(&mut self, weight: f64) {
        self.died_soon += weight;
    }

    /// How likely it is that a later survivor which looks like others is another one, 0 to 1.
    pub(super) fn alike(&self) -> f64 {
        if self.looked > 0.0 { (self.died_soon / self.looked / SOON).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Bytes of mistaken blocks that are to be expected among the old survivors. `stays` is the share of a class's births that stays, as other sites have it.
    pub(super) fn expected(&self, stays: impl Fn(u8) -> f64) -> f64 {
        self.bytes.iter().map(|(&class, bytes)| bytes * stays(class).clamp(0.0, 1.0)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_allocators() {
        for (size, expected) in
            [(0, 0), (1, 1), (16, 1), (17, 2), (512, 32), (513, 42), (1024, 43), (u64::MAX, 96)]
        {
            assert_eq!(class(size), expected, "{size}");
        }
    }

    #[test]
    fn only_what_dies_in_windows_is_mistaken() {
        let mut leak = Mistakable::default();
        leak.watched(100.0, 0.001, false);
        leak.looked(100.0, 48, 4800.0, 0.001);
        assert_eq!(leak.expected(|_| 1.0), 0.0);
        let mut churn = Mistakable::default();
        churn.watched(100.0, 0.001, true);
        churn.looked(100.0, 48, 4800.0, 0.001);
        assert!(
            (churn.expected(|class| if class == 3 { 0.1 } else { 0.0 }) - 480.0 * 0.632).abs() < 0.1,
            "1 − 1/e of a tenth"
        );
        assert_eq!(churn.expected(|_| 0.0), 0.0, "nothing stays");
    }

    #[test]
    fn later_survivors_are_doubted_where_many_died_soon() {
        let mut site = Mistakable::default();
        assert_eq!(site.alike(), 0.0, "nothing is known");
        (0..100).for_each(|_| site.looked(2.0, 48, 96.0, 0.001));
        assert_eq!(site.alike(), 0.0, "a pure leak");
        (0..5).for_each(|_| site.died_soon(2.0));
        assert!((site.alike() - 0.5).abs() < 1e-9);
        (0..20).for_each(|_| site.died_soon(2.0));
        assert_eq!(site.alike(), 1.0);
    }
}
