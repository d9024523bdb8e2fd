//! The line that fits points best (least squares), and how far they are from it.

/// A line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// By how much y grows when x grows by one.
    pub slope: f64,
    /// The standard error of the slope, by the points' own scatter; 0 of two points, which no line misses.
    pub slope_error: f64,
}

impl Line {
    /// The line through points `(x, y)`; `None` where no x differs from another.
    #[must_use]
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut both, mut square) = (0.0, 0.0);
        for (x, y) in points {
            both += (x - mean_x) * (y - mean_y);
            square += (x - mean_x) * (x - mean_x);
        }
        let slope = both / square;
        let off = points.iter().map(|(x, y)| y - mean_y - slope * (x - mean_x));
        let scatter = off.map(|off| off * off).sum::<f64>() / (count - 2.0).max(1.0);
        slope.is_finite().then(|| Self { slope, slope_error: (scatter / square).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        let points: Vec<(f64, f64)> = (0..5).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        assert_eq!(Line::through(&points), Some(Line { slope: 3.0, slope_error: 0.0 }));
        assert_eq!(Line::through(&[(1.0, 5.0)]), None);
        assert_eq!(Line::through(&[(1.0, 5.0), (1.0, 6.0)]), None);
        assert_eq!(Line::through(&[]), None);
    }

    #[test]
    fn points_off_the_line_make_it_uncertain() {
        // Residuals of 0.2, −0.6, 0.6 and −0.2 around a slope of 0.4: a variance of 0.8 / 2, and squares of 5.
        let line = Line::through(&[(0.0, 0.0), (1.0, -0.4), (2.0, 1.2), (3.0, 0.8)]).unwrap();
        assert!(
            (line.slope - 0.4).abs() < 1e-12 && (line.slope_error - 0.08_f64.sqrt()).abs() < 1e-12,
            "{line:?}"
        );
    }
}
