//! Sets of registers: a value may be in several, and on another way to the same place in others.

use tracer_common::hook::Register;

/// A set of general purpose registers, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers(u64);

impl Registers {
    /// Those that are in both sets.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set, or the other where this one is empty.
    pub(super) const fn or(self, other: Self) -> Self {
        if self.0 == 0 { other } else { self }
    }

    /// All of them, in the order of their numbers.
    pub(super) fn all(self) -> impl Iterator<Item = Register> {
        let less = |left: &u64| Some(left & left.wrapping_sub(1));
        let sets = std::iter::successors(Some(self.0), less).take_while(|left| *left != 0);
        sets.filter_map(|left| Register::numbered(left.trailing_zeros() as usize))
    }

    /// The first one, in the order of their numbers.
    pub(super) fn first(self) -> Option<Register> {
        Register::numbered(self.0.trailing_zeros() as usize)
    }
}

impl FromIterator<Register> for Registers {
    fn from_iter<I: IntoIterator<Item = Register>>(registers: I) -> Self {
        Self(registers.into_iter().fold(0, |set, register| set | 1 << register as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Register::{R15, Rax, Rdi, Sp, X0};

    #[test]
    fn sets_are_cut_and_replaced() {
        let set = |registers: &[Register]| registers.iter().copied().collect::<Registers>();
        let (both, one, none) = (set(&[R15, Rdi]), set(&[R15]), set(&[]));
        assert_eq!((both.first(), one.first(), none.first()), (Some(Rdi), Some(R15), None));
        assert_eq!((both.and(one), one.and(set(&[Rax])), both.or(one), none.or(one)), (one, none, both, one));
        assert!(set(&[Sp, Rdi, R15, X0]).all().eq([Rdi, R15, X0, Sp]) && none.all().next().is_none());
        assert_eq!((set(&[Sp, X0]).first(), set(&[Sp]).first()), (Some(X0), Some(Sp)));
    }
}
