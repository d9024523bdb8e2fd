//! The places memory comes from. They nest: an object of over 512 bytes passes `object`, then `raw`, then `libc`.

/// An allocator domain. The discriminants cross the fence.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// `PyObject_Malloc` and family: Python objects.
    Object = 0,
    /// `PyMem_Malloc` and family: item arrays, key tables, buffers.
    Mem = 1,
    /// `PyMem_RawMalloc` and family: memory that is taken without the GIL.
    Raw = 2,
    /// The C library's `malloc` family.
    Libc = 3,
    /// `mmap` and `sbrk`: memory as the kernel gives it. Only the watch engine looks at it.
    Map = 4,
}

impl Domain {
    /// All domains, outermost first.
    pub const ALL: [Self; 5] = [Self::Object, Self::Mem, Self::Raw, Self::Libc, Self::Map];

    /// The domain of a code that crossed the fence, if it is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Object),
            1 => Some(Self::Mem),
            2 => Some(Self::Raw),
            3 => Some(Self::Libc),
            4 => Some(Self::Map),
            _ => None,
        }
    }

    /// The name as typed after `--domains` and printed in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Mem => "mem",
            Self::Raw => "raw",
            Self::Libc => "libc",
            Self::Map => "map",
        }
    }

    /// How deep in the nesting a domain stands. A call may be nested only in a call of a lower rank, which tells a tail
    /// call (same stack pointer, higher rank) from a call whose predecessor never returned.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Object | Self::Mem => 0,
            Self::Raw => 1,
            Self::Libc => 2,
            Self::Map => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_discriminants() {
        for domain in Domain::ALL {
            assert_eq!(Domain::from_code(domain as u8), Some(domain));
        }
        assert_eq!(Domain::from_code(5), None);
    }
}
