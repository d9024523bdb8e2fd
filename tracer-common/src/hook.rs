//! What one probe point says of itself: its role, its domain, and where the block, its size and its caller are at the probed instruction. The attach
//! cookie is the point's place in the table of these.

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
    /// pymalloc's fast path hands out a block; `a` and [`Hook::block_from`] say where it is, [`Hook::size_from`] how large.
    FastAlloc = 11,
    /// pymalloc's fast path takes a block back; `a` and [`Hook::block_from`] say where it is.
    FastFree = 12,
    /// Entry of `allocate_from_new_pool`; its return gives a block whose size the pool's header tells.
    NewPool = 13,
    /// Return of `allocate_from_new_pool`: counted for itself, and else as [`Role::Return`].
    NewPoolReturn = 14,
    /// `_Py_NewReference`, or a copy of it that was inlined: an object is born, in new memory or out of a freelist. `a` holds the object.
    Birth = 15,
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
            11 => Some(Self::FastAlloc),
            12 => Some(Self::FastFree),
            13 => Some(Self::NewPool),
            14 => Some(Self::NewPoolReturn),
            15 => Some(Self::Birth),
            _ => None,
        }
    }
}

/// What is counted of hits; the row of its counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitKind {
    /// Hits of probed instructions but those of pymalloc's fast paths.
    Entry = 0,
    /// Hits of function returns.
    Return = 1,
    /// Hits of fast paths that hand out a block.
    PoolAlloc = 2,
    /// Hits of fast paths that take one back.
    PoolFree = 3,
    /// Blocks that the slow path handed out; its hits are among the entries and returns.
    NewPoolBlock = 4,
    /// Hits while the gate was shut: they cost the target what a trap costs, and nothing came of them.
    Shut = 5,
}

impl HitKind {
    /// Rows of the counter.
    pub const ROWS: u32 = 6;
}

/// A general purpose register. Those of x86-64 have the numbers of the instruction encoding; those of aarch64 have theirs behind [`Register::FIRST_OF_AARCH64`], so that
/// a probe point for one processor means nothing on the other.
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
    X0 = 32,
    X1 = 33,
    X2 = 34,
    X3 = 35,
    X4 = 36,
    X5 = 37,
    X6 = 38,
    X7 = 39,
    X8 = 40,
    X9 = 41,
    X10 = 42,
    X11 = 43,
    X12 = 44,
    X13 = 45,
    X14 = 46,
    X15 = 47,
    X16 = 48,
    X17 = 49,
    X18 = 50,
    X19 = 51,
    X20 = 52,
    X21 = 53,
    X22 = 54,
    X23 = 55,
    X24 = 56,
    X25 = 57,
    X26 = 58,
    X27 = 59,
    X28 = 60,
    X29 = 61,
    X30 = 62,
    Sp = 63,
}

impl Register {
    /// The number of `x0`.
    pub const FIRST_OF_AARCH64: u8 = 32;

    /// All registers of x86-64 in the order of their numbers.
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

    /// All registers of aarch64 in the order of their numbers: `x0` to `x30`, and the stack pointer.
    pub const AARCH64: [Self; 32] = [
        Self::X0,
        Self::X1,
        Self::X2,
        Self::X3,
        Self::X4,
        Self::X5,
        Self::X6,
        Self::X7,
        Self::X8,
        Self::X9,
        Self::X10,
        Self::X11,
        Self::X12,
        Self::X13,
        Self::X14,
        Self::X15,
        Self::X16,
        Self::X17,
        Self::X18,
        Self::X19,
        Self::X20,
        Self::X21,
        Self::X22,
        Self::X23,
        Self::X24,
        Self::X25,
        Self::X26,
        Self::X27,
        Self::X28,
        Self::X29,
        Self::X30,
        Self::Sp,
    ];

    /// The register with a number.
    #[must_use]
    pub fn numbered(number: usize) -> Option<Self> {
        let first = usize::from(Self::FIRST_OF_AARCH64);
        Self::ALL.get(number).or_else(|| Self::AARCH64.get(number.checked_sub(first)?)).copied()
    }
}

/// Where a block's address is at a hit of pymalloc's fast path.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFrom {
    /// In register `a`.
    Register = 0,
    /// In the word at `a` + 8: `a` holds the pool, whose `freeblock` it has just become.
    Freeblock = 1,
}

/// How the size of a new block is known.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeFrom {
    /// Register `b` holds the bytes that were asked for.
    Register = 0,
    /// It is always [`Hook::size_bytes`].
    Constant = 1,
    /// The header of the block's pool tells the size class.
    Pool = 2,
}

/// Who asked for the memory.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerFrom {
    /// The function that the probed instruction is in.
    Here = 0,
    /// That function's caller: the return address lies [`Hook::caller_words`] above the stack pointer.
    Stack = 1,
    /// Whoever the table of slow calls names by the return address of the probed function; a hit that it does not know is somebody else's, and ignored.
    Table = 2,
}

/// A probe point, as it crosses the fence. The bytes that are codes were made from the enumerations of this module.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// A [`Role`]; 0: a hit means nothing.
    pub role: u8,
    /// A [`Domain`].
    pub domain: u8,
    /// The [`Register`] of the first argument of interest, or of the block.
    pub a: u8,
    /// The [`Register`] of the second argument of interest, or of the size.
    pub b: u8,
    /// A [`BlockFrom`].
    pub block_from: u8,
    /// A [`SizeFrom`].
    pub size_from: u8,
    /// A [`CallerFrom`].
    pub caller_from: u8,
    /// 1 if the hit is the return of the function at whose entry the point is.
    pub returns: u8,
    /// Words from the stack pointer at the hit up to where it stood at the allocator's entry, when it pointed at the return address; −1 at a
    /// `call` that has not pushed it yet.
    pub entry_words: i32,
    /// Words from the stack pointer at the hit up to the caller's return address.
    pub caller_words: i32,
    /// Bytes of each block, for [`SizeFrom::Constant`]. For [`Role::Realloc`], 1: only blocks that are known are followed.
    pub size_bytes: u32,
    /// Signed distance in bytes from the probed instruction to `_PyRuntime`, both in the same file; 0: not known.
    pub runtime_delta: i32,
}

const _: () = assert!(size_of::<Hook>() == 24);

impl Hook {
    /// A hook with this role and domain, whose arguments are in `rdi` and `rsi`, at a function's entry.
    #[must_use]
    pub const fn new(role: Role, domain: Domain) -> Self {
        Self {
            role: role as u8,
            domain: domain as u8,
            a: Register::Rdi as u8,
            b: Register::Rsi as u8,
            block_from: BlockFrom::Register as u8,
            size_from: SizeFrom::Register as u8,
            caller_from: CallerFrom::Stack as u8,
            returns: matches!(role, Role::Return | Role::IntReturn | Role::NewPoolReturn) as u8,
            entry_words: 0,
            caller_words: 0,
            size_bytes: 0,
            runtime_delta: 0,
        }
    }

    /// The role, if it is one.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        Role::from_code(self.role)
    }

    /// The domain; a code that is none reads as the outermost.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        match Domain::from_code(self.domain) {
            Some(domain) => domain,
            None => Domain::Object,
        }
    }
}

/// Key of the table of slow calls: where `allocate_from_new_pool`, or the C library's allocator, returns to, as a distance in bytes from the thread state's slot.
pub type SlowCallKey = i64;

/// What is known of who makes the call: what the fast path that a slow call stands in for would have said of its caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowCall {
    /// The fast path's probed instruction, as a distance in bytes from the return address of the slow call.
    pub here_delta: i32,
    /// If not negative, the caller's return address lies so many words above the slow call's own.
    pub caller_words: i32,
    /// The [`Register`] that still holds the bytes asked for, or [`SlowCall::NO_REGISTER`].
    pub size_register: u32,
    /// The [`Domain`] that is served.
    pub domain: u32,
}

const _: () = assert!(size_of::<SlowCall>() == 16);

impl SlowCall {
    /// No register is known to hold the size.
    pub const NO_REGISTER: u32 = 16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_discriminants() {
        for code in 0..=u8::MAX {
            assert!(Role::from_code(code).is_none_or(|role| role as u8 == code));
        }
        assert_eq!(Role::from_code(15), Some(Role::Birth));
        for (number, register) in Register::ALL.into_iter().enumerate() {
            assert_eq!(register as usize, number);
        }
        for (number, register) in Register::AARCH64.into_iter().enumerate() {
            assert_eq!(register as usize, number + usize::from(Register::FIRST_OF_AARCH64));
        }
        let known = (0..=255).filter_map(Register::numbered);
        assert!(known.eq(Register::ALL.into_iter().chain(Register::AARCH64)));
    }

    #[test]
    fn only_returns_return() {
        let hook = Hook::new(Role::Return, Domain::Raw);
        assert_eq!((hook.returns, hook.role(), hook.domain()), (1, Some(Role::Return), Domain::Raw));
        assert_eq!(Hook::new(Role::FastAlloc, Domain::Mem).returns, 0);
        assert_eq!(Hook::default().role(), None);
    }
}
