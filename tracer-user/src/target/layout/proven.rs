//! Which versions the tables were held against, build by build: `cargo xtask layouts` did, and the tests walked their frames. A micro version between two of them is like both: layouts of a
//! minor version that was released stay, but for its last fields.

use std::ops::RangeInclusive;

/// Minor versions of 3, and the micro versions of them.
const PROVEN: [(u8, RangeInclusive<u8>); 8] = [
    (8, 18..=18),
    (9, 2..=18),
    (10, 13..=13),
    (11, 2..=7),
    (12, 1..=1),
    (13, 0..=18),
    (14, 10..=10),
    (15, 2..=2),
];

/// The same of builds without the GIL.
const PROVEN_FREE_THREADED: [(u8, RangeInclusive<u8>); 1] = [(13, 5..=5)];

/// Whether a version is one of those, or does not say which it is.
#[must_use]
pub fn is_proven(minor: u8, micro: Option<u8>, free_threaded: bool) -> bool {
    let known = if free_threaded { &PROVEN_FREE_THREADED[..] } else { &PROVEN };
    let micros = known.iter().find(|(known, _)| *known == minor).map(|(_, micros)| micros);
    micros.is_some_and(|micros| micro.is_none_or(|micro| micros.contains(&micro)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_between_two_that_were_seen_are_proven() {
        let with_gil = |minor, micro| is_proven(minor, micro, false);
        assert!(with_gil(11, Some(4)) && with_gil(13, Some(18)) && with_gil(8, None));
        assert!(!with_gil(11, Some(9)) && !with_gil(16, Some(0)) && !with_gil(7, None));
    }

    #[test]
    fn a_build_without_the_gil_is_proven_by_itself() {
        assert!(
            is_proven(13, Some(5), true) && !is_proven(13, Some(4), true) && !is_proven(14, Some(10), true)
        );
    }
}
