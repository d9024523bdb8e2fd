//! What grows without a site. Windows see what is often allocated; a block of a megabyte every ten seconds is in none of them, and what is mapped past the allocators never. The process's resident memory
//! grows by it all the same, and a report must not look as if nothing did. Pure.

use super::HeapAt;
use super::course::{goes_on, slope};
use crate::heap::books::SiteFacts;

/// Less than this part of the growth is found: then most of it is not.
const FOUND: f64 = 0.5;
/// Growth that is worth a word, in bytes over all the time: that of the watch engine is a quarter, but it looks at the floor of what breathes.
const LEAST_BYTES: f64 = (1 << 20) as f64;

/// Resident memory that grows all the time, mostly by what no site explains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unexplained {
    /// How fast it grows, bytes per second.
    pub resident: f64,
    /// The growth of all sites together, bytes per second.
    pub found: f64,
}

/// Whether most of what the resident memory grew by is no site's.
#[must_use]
pub fn unexplained(course: &[HeapAt], facts: &[SiteFacts]) -> Option<Unexplained> {
    let points = course.iter().filter_map(|at| Some((at.seconds, at.resident_bytes? as f64)));
    let points: Vec<(f64, f64)> = points.collect();
    let seconds = points.last()?.0 - points.first()?.0;
    let resident = slope(&points);
    let steady = resident.is_steady() && goes_on(&points);
    let found = facts.iter().map(|site| site.growth_bytes_per_second.max(0.0)).sum::<f64>();
    let is_worth_it = resident.value * seconds >= LEAST_BYTES;
    (steady && is_worth_it && found < FOUND * (resident.value - resident.error))
        .then_some(Unexplained { resident: resident.value, found })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn course(resident: impl Fn(u64) -> Option<u64>) -> Vec<HeapAt> {
        let at =
            |second: u64| HeapAt { seconds: second as f64, bytes: [0; 32], resident_bytes: resident(second) };
        (0..30).map(at).collect()
    }

    fn growing(bytes_per_second: f64) -> Vec<SiteFacts> {
        let site = SiteFacts { growth_bytes_per_second: bytes_per_second, ..SiteFacts::default() };
        vec![site.clone(), site]
    }

    #[test]
    fn what_grows_without_a_site_is_told() {
        let leak = course(|second| Some((20 << 20) + second * 100_000));
        let told = unexplained(&leak, &growing(1_000.0)).unwrap();
        assert!((told.resident - 100_000.0).abs() < 1.0, "{told:?}");
        assert!((told.found - 2_000.0).abs() < 1e-9);
        assert_eq!(unexplained(&leak, &[]).map(|told| told.found), Some(0.0));
    }

    #[test]
    fn what_sites_explain_or_does_not_go_on_is_not() {
        let leak = course(|second| Some((20 << 20) + second * 100_000));
        assert_eq!(unexplained(&leak, &growing(30_000.0)), None);
        let none = |resident: fn(u64) -> Option<u64>| assert_eq!(unexplained(&course(resident), &[]), None);
        none(|_| Some(20 << 20));
        none(|second| Some((20 << 20) + second.min(10) * 1_000_000));
        none(|second| Some((20 << 20) + second % 5 * 1_000_000));
        none(|second| Some((20 << 20) + second * 10_000));
        none(|_| None);
        assert_eq!(unexplained(&[], &[]), None);
    }

    #[test]
    fn a_megabyte_every_few_seconds_is_growth() {
        let leak = course(|second| Some((20 << 20) + second / 3 * (1 << 20)));
        assert!(unexplained(&leak, &[]).is_some());
    }

    proptest! {
        #[test]
        fn hostile_courses_never_panic(points in prop::collection::vec((any::<f64>(), any::<u64>()), 0..40), growth in any::<f64>()) {
            let course: Vec<HeapAt> = points.into_iter().map(|(seconds, resident)| HeapAt { seconds, bytes: [0; 32], resident_bytes: Some(resident) }).collect();
            if let Some(told) = unexplained(&course, &growing(growth)) {
                prop_assert!(told.found < told.resident);
            }
        }
    }
}
