//! Sets of registers: a value may be in several, and on another way to the same place in others.

use tracer_common::hook::Register;

/// A set of general purpose registers, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers(u16);

impl Registers {
    /// Those that are in both sets.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set, or the other where this one is empty.
    pub(super) const fn or(self, other: Self) -> Self {
        if self.0 == 0 { other } else { self }
    }

    /// The first one, in the order of their numbers.
    pub(super) fn first(self) -> Option<Register> {
        Register::ALL.get(self.0.trailing_zeros() as usize).copied()
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
    use Register::{R15, Rax, Rdi};

    #[test]
    fn sets_are_cut_and_replaced() {
        let set = |registers: &[Register]| registers.iter().copied().collect::<Registers>();
        let (both, one, none) = (set(&[R15, Rdi]), set(&[R15]), set(&[]));
        assert_eq!((both.first(), one.first(), none.first()), (Some(Rdi), Some(R15), None));
        assert_eq!((both.and(one), one.and(set(&[Rax])), both.or(one), none.or(one)), (one, none, both, one));
    }
}
