//! The probe table: every function that is hooked by its symbol, what it means, and which arguments are of interest.

use tracer_common::domain::Domain;
use tracer_common::hook::{Register, Role};

/// A function that hands out, changes or takes back memory, or says something else of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub symbol: &'static str,
    /// What its entry means.
    pub role: Role,
    /// Which domain it belongs to.
    pub domain: Domain,
    /// The registers that hold `a` and `b` of the role at its entry (System V ABI).
    pub arguments: &'static [Register],
    /// A file without it can be traced all the same.
    pub optional: bool,
}

use Domain::{Libc, Map, Mem, Object, Raw};
use Register::{Rdi, Rdx, Rsi};

const A: &[Register] = &[Rdi];
const B: &[Register] = &[Rsi];
const A_B: &[Register] = &[Rdi, Rsi];
const A_C: &[Register] = &[Rdi, Rdx];

const fn required(
    symbol: &'static str,
    role: Role,
    domain: Domain,
    arguments: &'static [Register],
) -> Function {
    Function { symbol, role, domain, arguments, optional: false }
}

const fn optional(
    symbol: &'static str,
    role: Role,
    domain: Domain,
    arguments: &'static [Register],
) -> Function {
    Function { symbol, role, domain, arguments, optional: true }
}

/// All of them. glibc's `reallocarray` is not here because it calls `realloc` (`malloc/reallocarray.c`).
pub const FUNCTIONS: &[Function] = &[
    required("PyObject_Malloc", Role::Malloc, Object, A),
    required("PyObject_Calloc", Role::Calloc, Object, A_B),
    required("PyObject_Realloc", Role::Realloc, Object, A_B),
    required("PyObject_Free", Role::Free, Object, A),
    required("PyMem_Malloc", Role::Malloc, Mem, A),
    required("PyMem_Calloc", Role::Calloc, Mem, A_B),
    required("PyMem_Realloc", Role::Realloc, Mem, A_B),
    required("PyMem_Free", Role::Free, Mem, A),
    required("PyMem_RawMalloc", Role::Malloc, Raw, A),
    required("PyMem_RawCalloc", Role::Calloc, Raw, A_B),
    required("PyMem_RawRealloc", Role::Realloc, Raw, A_B),
    required("PyMem_RawFree", Role::Free, Raw, A),
    required("PyLong_FromLong", Role::IntFromLong, Object, A),
    required("Py_FinalizeEx", Role::Finalize, Object, &[]),
    required("malloc", Role::Malloc, Libc, A),
    optional("calloc", Role::Calloc, Libc, A_B),
    optional("realloc", Role::Realloc, Libc, A_B),
    required("free", Role::Free, Libc, A),
    optional("aligned_alloc", Role::AlignedAlloc, Libc, A_B),
    optional("memalign", Role::AlignedAlloc, Libc, A_B),
    optional("posix_memalign", Role::PosixMemalign, Libc, A_C),
    optional("valloc", Role::Malloc, Libc, A),
    optional("pvalloc", Role::Malloc, Libc, A),
];

/// Those by which a C library gets memory from the kernel and gives it back. glibc calls them inside at the same addresses. `sbrk` is asked for more, or with a
/// number below zero for less, of which nobody is told here; nor of a part that is unmapped: what is left is seen in `/proc/PID/maps`.
pub const MAPPERS: &[Function] = &[
    optional("mmap", Role::Malloc, Map, B),
    optional("munmap", Role::Free, Map, A),
    optional("sbrk", Role::Malloc, Map, A),
];

impl Function {
    /// Whether it is hooked when these domains are chosen. The end of the interpreter always is.
    #[must_use]
    pub fn is_wanted(&self, domains: &[Domain], ints: bool) -> bool {
        match self.role {
            Role::Finalize => true,
            Role::IntFromLong => ints,
            _ => domains.contains(&self.domain),
        }
    }

    /// What its return means, if that is of interest.
    #[must_use]
    pub const fn return_role(&self) -> Option<Role> {
        match self.role {
            Role::Malloc | Role::Calloc | Role::Realloc | Role::AlignedAlloc | Role::PosixMemalign => {
                Some(Role::Return)
            }
            Role::IntFromLong => Some(Role::IntReturn),
            Role::Free
            | Role::Finalize
            | Role::Return
            | Role::IntReturn
            | Role::FastAlloc
            | Role::FastFree
            | Role::NewPool
            | Role::NewPoolReturn
            | Role::Birth => None,
        }
    }

    /// Its place in CPython's `PyMemAllocatorEx {ctx, malloc, calloc, realloc, free}` (`Include/cpython/pymem.h`), in words; `None` if it
    /// is no allocator function of a Python domain.
    #[must_use]
    pub const fn slot_index(&self) -> Option<u64> {
        match (self.domain, self.role) {
            (Libc | Map, _) => None,
            (_, Role::Malloc) => Some(1),
            (_, Role::Calloc) => Some(2),
            (_, Role::Realloc) => Some(3),
            (_, Role::Free) => Some(4),
            _ => None,
        }
    }
}
