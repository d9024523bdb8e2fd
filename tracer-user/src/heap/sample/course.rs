//! The heap's own course, as its counters tell it at some moments: how fast it grows, how sure that is, and whether it goes on. Pure.

use super::limits::TWO_SIDED_95;
use crate::heap::line::Line;

/// A course of the heap is steady if its slope is known to this share.
pub(super) const STEADY: f64 = 0.2;
/// Looks at the heap that a slope needs.
const LEAST_LOOKS: usize = 8;
/// Something goes on growing if in neither half of the time it grows by less than this part of what it does in the other.
const GOES_ON: f64 = 0.5;
/// pymalloc's sizes, 16 bytes apart.
pub(super) const CLASSES: u64 = 32;
/// The class of all that is in no pool.
pub(super) const BEYOND: u64 = CLASSES + 1;

/// Live bytes by size class at one moment: of the sizes 16, 32, … 512.
#[derive(Clone, Debug, PartialEq)]
pub struct HeapAt {
    /// Seconds since sampling began.
    pub seconds: f64,
    /// Bytes in use.
    pub bytes: [u64; CLASSES as usize],
    /// Resident bytes of the process; `None` where that is not known.
    pub resident_bytes: Option<u64>,
}

impl HeapAt {
    /// Bytes of a class. What is resident besides small blocks stands for all others.
    pub(super) fn of(&self, class: u64) -> Option<f64> {
        if class == BEYOND {
            let small = self.bytes.iter().sum::<u64>();
            return self.resident_bytes.map(|resident| resident as f64 - small as f64);
        }
        self.bytes.get(usize::try_from(class.checked_sub(1)?).ok()?).map(|bytes| *bytes as f64)
    }
}

/// A figure with the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Rate {
    /// Whether it is growth, and known well.
    pub(super) fn is_steady(&self) -> bool {
        self.value > 0.0 && self.error <= STEADY * self.value
    }
}

/// The slope, and how far off it may be; neighbours are alike, so they count as a quarter as many.
pub(super) fn slope(points: &[(f64, f64)]) -> Rate {
    let line = if points.len() < LEAST_LOOKS { None } else { Line::through(points) };
    line.map_or_else(Rate::default, |line| Rate {
        value: line.slope,
        error: TWO_SIDED_95 * 2.0 * line.slope_error,
    })
}

/// Whether what is counted grows in both halves of the time alike.
pub(super) fn goes_on(points: &[(f64, f64)]) -> bool {
    let half = |points: &[(f64, f64)]| Line::through(points).map_or(0.0, |line| line.slope);
    let (early, late) = points.split_at(points.len() / 2);
    let (early, late) = (half(early), half(late));
    early > 0.0 && late > 0.0 && early.min(late) >= GOES_ON * early.max(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_course_has_a_slope() {
        let line: Vec<(f64, f64)> =
            (0..20).map(|at| (f64::from(at), 1000.0 + 50.0 * f64::from(at))).collect();
        let rate = slope(&line);
        assert!((rate.value - 50.0).abs() < 1e-9 && rate.error < 1e-6, "{rate:?}");
        assert_eq!(slope(&line[..7]), Rate::default());
        let teeth: Vec<(f64, f64)> = (0..20).map(|at| (f64::from(at), f64::from(at % 5) * 1000.0)).collect();
        let rate = slope(&teeth);
        assert!(rate.error > STEADY * rate.value.abs() && !rate.is_steady(), "{rate:?}");
    }

    #[test]
    fn what_is_resident_besides_small_blocks_is_of_the_others() {
        let mut bytes = [0; CLASSES as usize];
        bytes[1] = 320;
        let at = HeapAt { seconds: 1.0, bytes, resident_bytes: Some(1000) };
        assert_eq!((at.of(2), at.of(3), at.of(BEYOND)), (Some(320.0), Some(0.0), Some(680.0)));
        assert_eq!(HeapAt { resident_bytes: None, ..at }.of(BEYOND), None);
    }

    #[test]
    fn what_grows_early_and_late_goes_on() {
        let course = |of: fn(f64) -> f64| -> Vec<(f64, f64)> {
            (0..40).map(|at| (f64::from(at), of(f64::from(at)))).collect()
        };
        assert!(goes_on(&course(|at| 1e6 + 50.0 * at)));
        assert!(goes_on(&course(|at| 50.0 * at + at * at / 4.0)), "a little faster all the time");
        assert!(!goes_on(&course(|at| 50.0 * at.min(20.0))), "a cache that was filled");
        assert!(!goes_on(&course(|at| 50.0 * (at - 20.0).max(0.0))), "something new");
        assert!(!goes_on(&course(|at| -50.0 * at)));
        assert!(!goes_on(&[(0.0, 1.0)]));
        assert!(!goes_on(&[]));
    }
}
