//! What the allocator gives for what was asked: the difference between a report's bytes and the process's.

use tracer_common::domain::Domain;

/// pymalloc serves requests up to this many bytes; it hands longer ones to `malloc`.
const PYMALLOC_BYTES: u64 = 512;
/// pymalloc's size classes are this many bytes apart.
const PYMALLOC_STEP: u64 = 16;
/// Bytes of a page, the least that the kernel gives.
const PAGE: u64 = 4096;
/// The least that glibc's `malloc` gives, in bytes.
const MALLOC_LEAST: u64 = 24;

/// Bytes that a block asked for with `asked` bytes can use.
///
/// CPython's `object` and `mem` domains go to pymalloc: size classes of 16 bytes, and nothing counts as one byte. All else is
/// glibc's `malloc`: chunks of 16 bytes of which 8 are the header (`malloc_usable_size`). Requests that glibc serves with a
/// mapping of their own get up to a page more, which is not counted.
#[must_use]
pub const fn given_bytes(domain: Domain, asked: u64) -> u64 {
    if matches!(domain, Domain::Object | Domain::Mem) && asked <= PYMALLOC_BYTES {
        let asked = if asked == 0 { 1 } else { asked };
        return asked.next_multiple_of(PYMALLOC_STEP);
    }
    if matches!(domain, Domain::Map) {
        return asked.saturating_add(PAGE - 1) & !(PAGE - 1);
    }
    let usable = (asked.saturating_add(8 + 15) & !15).saturating_sub(8);
    if usable < MALLOC_LEAST { MALLOC_LEAST } else { usable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pymalloc_rounds_to_sixteen() {
        for (asked, given) in [(0, 16), (1, 16), (16, 16), (17, 32), (28, 32), (511, 512), (512, 512)] {
            assert_eq!(given_bytes(Domain::Object, asked), given, "{asked} asked");
            assert_eq!(given_bytes(Domain::Mem, asked), given, "{asked} asked");
        }
    }

    /// What `malloc_usable_size` printed for these requests on glibc 2.36.
    #[test]
    fn malloc_gives_what_glibc_gives() {
        for (asked, given) in
            [(0, 24), (1, 24), (24, 24), (25, 40), (40, 40), (41, 56), (513, 520), (1000, 1000)]
        {
            assert_eq!(given_bytes(Domain::Raw, asked), given, "{asked} asked");
            assert_eq!(given_bytes(Domain::Libc, asked), given, "{asked} asked");
        }
        assert_eq!(given_bytes(Domain::Object, 513), 520);
    }

    proptest! {
        #[test]
        fn never_less_than_asked_and_never_much_more(code in 0u8..4, asked in 0u64..1 << 56) {
            let given = given_bytes(Domain::from_code(code).unwrap(), asked);
            prop_assert!(given >= asked && given <= asked + 24);
        }

        #[test]
        fn no_size_panics(code in 0u8..4, asked: u64) {
            prop_assert!(given_bytes(Domain::from_code(code).unwrap(), asked) >= 16);
        }
    }
}
