//! What one probe point says of itself in the 64 bits of its attach cookie: its role, its domain and which registers
//! hold the arguments at the probed instruction.

use crate::domain::Domain;

/// What a probe point means when it is hit. The discriminants cross the fence.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Entry of `malloc(a)`.
    Malloc = 1,
    /// Entry of `calloc(a, b)`.
    Calloc = 2,
    /// Entry of `realloc(a, b)`.
    Realloc = 3,
    /// Entry of `free(a)`.
    Free = 4,
    /// Entry of `aligned_alloc(_, b)` and `memalign(_, b)`.
    AlignedAlloc = 5,
    /// Entry of `posix_memalign(&a, _, c)`; `b` names the register of `c`. The pointer is read from `*a` on return.
    PosixMemalign = 6,
    /// Entry of `PyLong_FromLong(a)`.
    IntFromLong = 7,
    /// Entry of `Py_FinalizeEx()`: the interpreter begins to tear itself down, which says nothing about leaks.
    Finalize = 8,
    /// Return of any of the allocating roles.
    Return = 9,
    /// Return of `PyLong_FromLong`.
    IntReturn = 10,
}

impl Role {
    /// The role of a code that crossed the fence, if it is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Malloc),
            2 => Some(Self::Calloc),
            3 => Some(Self::Realloc),
            4 => Some(Self::Free),
            5 => Some(Self::AlignedAlloc),
            6 => Some(Self::PosixMemalign),
            7 => Some(Self::IntFromLong),
            8 => Some(Self::Finalize),
            9 => Some(Self::Return),
            10 => Some(Self::IntReturn),
            _ => None,
        }
    }
}

/// Which of the two programs a hit ran; the row of its counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitKind {
    /// A probed instruction.
    Entry = 0,
    /// A function's return.
    Return = 1,
}

/// A general purpose register of x86-64, numbered as the instruction encoding numbers them.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registers' own")]
pub enum Register {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

impl Register {
    /// All registers in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Rax,
        Self::Rcx,
        Self::Rdx,
        Self::Rbx,
        Self::Rsp,
        Self::Rbp,
        Self::Rsi,
        Self::Rdi,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

/// A probe point as the cookie carries it.
///
/// | bits | field |
/// |---|---|
/// | 0–7 | role |
/// | 8–15 | domain |
/// | 16–19 | register of the first argument |
/// | 20–23 | register of the second argument |
/// | 24–31 | bytes pushed since the function's entry, in words |
/// | 32–63 | signed distance in bytes from the probed instruction to the word that points at the current thread state; 0: not known |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What a hit means.
    pub role: Role,
    /// Which allocator is called.
    pub domain: Domain,
    /// Register that holds the first argument of interest.
    pub a: Register,
    /// Register that holds the second argument of interest.
    pub b: Register,
    /// Machine words pushed between the function's entry and the probed instruction, so that the stack pointer of the
    /// entry can be known.
    pub pushed_words: u8,
    /// Distance in bytes from the probed instruction to the thread state slot, both in the same file; 0 when unknown.
    pub tstate_delta: i32,
}

impl Hook {
    /// The 64 bits that the kernel hands to the program on each hit.
    #[must_use]
    pub const fn to_cookie(self) -> u64 {
        self.role as u64
            | (self.domain as u64) << 8
            | (self.a as u64) << 16
            | (self.b as u64) << 20
            | (self.pushed_words as u64) << 24
            | (self.tstate_delta as u32 as u64) << 32
    }

    /// The hook of a cookie; `None` for bits that [`Hook::to_cookie`] cannot have made.
    #[must_use]
    pub const fn from_cookie(cookie: u64) -> Option<Self> {
        let Some(role) = Role::from_code(cookie as u8) else { return None };
        let Some(domain) = Domain::from_code((cookie >> 8) as u8) else { return None };
        Some(Self {
            role,
            domain,
            a: Register::ALL[(cookie >> 16 & 15) as usize],
            b: Register::ALL[(cookie >> 20 & 15) as usize],
            pushed_words: (cookie >> 24) as u8,
            tstate_delta: (cookie >> 32) as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cookie_carries_the_whole_hook(
            role in 1u8..=10, domain in 0u8..4, a in 0usize..16, b in 0usize..16, pushed_words: u8, tstate_delta: i32,
        ) {
            let hook = Hook {
                role: Role::from_code(role).unwrap(),
                domain: Domain::from_code(domain).unwrap(),
                a: Register::ALL[a],
                b: Register::ALL[b],
                pushed_words,
                tstate_delta,
            };
            prop_assert_eq!(Hook::from_cookie(hook.to_cookie()), Some(hook));
        }

        #[test]
        fn no_cookie_panics(cookie: u64) {
            let _ = Hook::from_cookie(cookie);
        }
    }
}
