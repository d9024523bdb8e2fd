//! Estimates as people read them: the figure, how far off it may be, and never more digits than that justifies.
//!
//! The error keeps two digits when it begins with 1, 2 or 3 up to 3.55, else one, as particle physicists have it (Particle Data Group, "Review of Particle Physics", §5.3);
//! it is rounded up, never down. The figure ends where its error ends. A figure without an error is exact and looks as in an exact report.

use super::units;

/// Digits behind the point at most; an error that is smaller is shown as the smallest that can be.
const MOST_DECIMALS: i32 = 2;
/// Errors from here on are of a figure of which nothing is known; their digits would fill the page.
const NO_BOUND: f64 = 1e18;

/// Bytes: `1.2 ± 0.3 MiB`.
#[must_use]
pub fn bytes(bytes: u64, error: Option<f64>) -> String {
    match error.filter(|error| *error > 0.0) {
        None => units::bytes(bytes),
        Some(error) if error >= NO_BOUND => format!("{} ± ?", units::bytes(bytes)),
        Some(error) => scaled(bytes as f64, error),
    }
}

/// Bytes per second with a sign: `+145 ± 12 KiB/s`.
#[must_use]
pub fn rate(bytes_per_second: f64, error: Option<f64>) -> String {
    match error.filter(|error| *error > 0.0) {
        None => units::rate(bytes_per_second),
        Some(error) if error >= NO_BOUND => format!("{} ± ?", units::rate(bytes_per_second)),
        Some(error) => {
            let text = scaled(bytes_per_second.abs(), error);
            // What is rounded to nothing has no sign.
            let sign = match bytes_per_second {
                _ if text.starts_with("0 ±") => "",
                rate if rate < 0.0 => "-",
                _ => "+",
            };
            format!("{sign}{text}/s")
        }
    }
}

/// A count: `12,300 ± 400`.
#[must_use]
pub fn count(count: u64, error: Option<f64>) -> String {
    match error.filter(|error| *error > 0.0) {
        None => units::count(count),
        Some(error) if error >= NO_BOUND => format!("{} ± ?", units::count(count)),
        Some(error) => {
            let [value, error] =
                rounded(count as f64, error, 0).map(|(number, _)| units::count(number as u64));
            format!("{value} ± {error}")
        }
    }
}

/// A count with its noun: `12,300 ± 400 blocks`.
#[must_use]
pub fn plural(number: u64, error: Option<f64>, noun: &str) -> String {
    match error.filter(|error| *error > 0.0) {
        None => units::plural(number, noun),
        error => format!("{} {noun}s", count(number, error)),
    }
}

/// A share in percent, of a part that is off by `error` and a whole in the same unit: `87 %`.
#[must_use]
pub fn share(part: u64, error: Option<f64>, whole: u64) -> String {
    let Some(error) = error.filter(|error| *error > 0.0) else { return units::share(part, whole) };
    if part == 0 || whole == 0 || part >= whole {
        return units::share(part.min(whole), whole);
    }
    let percent = 100.0 / whole as f64;
    let (share, error) = (part as f64 * percent, (error * percent).min(100.0));
    let [(value, decimals), _] = rounded(share, error, 1);
    match value {
        value if value <= 0.0 => "<1 %".to_owned(),
        // What is rounded may not say that nothing is missing.
        value if value >= 100.0 => ">99 %".to_owned(),
        value => format!("{value:.decimals$} %"),
    }
}

/// Bytes in the unit of the larger of figure and error, with one unit for both.
fn scaled(value: f64, error: f64) -> String {
    let mut larger = value.max(error);
    let mut unit_bytes = 1.0;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if larger < 1023.5 {
            break;
        }
        (larger, unit_bytes, unit) = (larger / 1024.0, unit_bytes * 1024.0, next);
    }
    // There are no parts of bytes.
    let most = if unit == "B" { 0 } else { MOST_DECIMALS };
    let [value, error] = rounded(value / unit_bytes, error / unit_bytes, most).map(text);
    format!("{value} ± {error} {unit}")
}

fn text((number, decimals): (f64, usize)) -> String {
    if number == 0.0 { "0".to_owned() } else { format!("{number:.decimals$}") }
}

/// A figure and its error, both positive, where the error's digits end, at most so many behind the point; and how many there are behind it.
fn rounded(value: f64, error: f64, most_decimals: i32) -> [(f64, usize); 2] {
    let exponent = error.log10().floor();
    let lead = error / 10f64.powf(exponent);
    let digits = if lead <= 3.55 { 2.0 } else { 1.0 };
    let places = (digits - 1.0 - exponent).min(f64::from(most_decimals));
    let step = |number: f64, round: fn(f64) -> f64| {
        // Powers of ten below one are no binary numbers: 0.3 must not be more than 3 steps of 0.1.
        let steps = if places >= 0.0 { number * 10f64.powf(places) } else { number / 10f64.powf(-places) };
        let steps = round(steps);
        if places >= 0.0 { steps / 10f64.powf(places) } else { steps * 10f64.powf(-places) }
    };
    let up = |steps: f64| (steps - 1e-9).ceil().max(1.0);
    let decimals = places.max(0.0) as usize;
    [(step(value, f64::round), decimals), (step(error, up), decimals)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: f64 = 1024.0;
    const MIB: f64 = 1024.0 * KIB;

    #[test]
    fn figures_end_where_their_errors_end() {
        let of = |mib: f64, error: f64| bytes((mib * MIB) as u64, Some(error * MIB));
        assert_eq!(of(1.2345, 0.25), "1.23 ± 0.25 MiB");
        assert_eq!(of(1.2345, 0.41), "1.2 ± 0.5 MiB");
        assert_eq!(of(812.3456, 23.0), "812 ± 23 MiB");
        assert_eq!(of(812.3456, 230.0), "810 ± 230 MiB");
        assert_eq!(of(812.3456, 412.0), "800 ± 500 MiB");
        assert_eq!(of(812.3456, 0.000_1), "812.35 ± 0.01 MiB", "not more digits than one can read");
        assert_eq!(of(0.01, 3.0), "0 ± 3.0 MiB");
        assert_eq!(bytes(812, Some(0.3)), "812 ± 1 B");
        assert_eq!(bytes(0, Some(36.0)), "0 ± 40 B");
    }

    #[test]
    fn what_is_exact_looks_exact() {
        for error in [None, Some(0.0)] {
            assert_eq!(bytes(1 << 20, error), "1.0 MiB");
            assert_eq!(rate(2.0 * MIB, error), "+2.0 MiB/s");
            assert_eq!(
                (count(1_000, error), plural(1, error, "block")),
                ("1,000".to_owned(), "1 block".to_owned())
            );
            assert_eq!(share(973, error, 1_000), "97.3 %");
        }
    }

    #[test]
    fn what_is_not_known_at_all_says_so() {
        assert_eq!(bytes(1 << 20, Some(f64::MAX)), "1.0 MiB ± ?");
        assert_eq!(rate(0.0, Some(f64::INFINITY)), "0 B/s ± ?");
        assert_eq!(plural(7, Some(f64::MAX), "block"), "7 ± ? blocks");
        assert_eq!(share(50, Some(f64::MAX), 100), "50 %");
    }

    #[test]
    fn rates_have_a_sign_where_they_are_something() {
        assert_eq!(rate(145.4 * KIB, Some(12.0 * KIB)), "+145 ± 12 KiB/s");
        assert_eq!(rate(-145.4 * KIB, Some(12.0 * KIB)), "-145 ± 12 KiB/s");
        assert_eq!(rate(0.0, Some(900.0)), "0 ± 900 B/s");
        assert_eq!(rate(-3.0, Some(900.0)), "0 ± 900 B/s");
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(count(12_345, Some(412.0)), "12,300 ± 500");
        assert_eq!(count(1_234_567, Some(15_678.0)), "1,235,000 ± 16,000");
        assert_eq!(plural(1, Some(0.2), "block"), "1 ± 1 blocks");
    }

    #[test]
    fn shares_do_not_claim_more_than_they_know() {
        let of = |part: u64, error: f64| share(part, Some(error), 1_000);
        assert_eq!(of(868, 20.0), "86.8 %");
        assert_eq!(of(868, 60.0), "87 %");
        assert_eq!(of(868, 400.0), "90 %");
        assert_eq!(of(999, 60.0), ">99 %");
        assert_eq!(of(2, 60.0), "<1 %");
        assert_eq!([of(0, 60.0), of(1_000, 60.0), of(1_200, 60.0)], ["0 %", "100 %", "100 %"]);
    }

    proptest! {
        /// What is shown holds the interval that it was made of, but for half a step of the figure.
        #[test]
        fn nothing_is_understated(value in 0.0..1e12_f64, error in 1e-3..1e12_f64, most in 0..=2) {
            let [(shown, _), (width, decimals)] = rounded(value, error, most);
            prop_assert!(width >= error * (1.0 - 1e-6), "{width} for {error}");
            prop_assert!(decimals <= most as usize);
            prop_assert!((shown - value).abs() <= width * 0.501, "{shown} for {value} ± {width}");
        }

        #[test]
        fn any_number_is_written(value: u64, growth: f64, error: f64) {
            for text in [bytes(value, Some(error)), rate(growth, Some(error)), count(value, Some(error)), share(value / 2, Some(error), value)] {
                prop_assert!(!text.is_empty() && text.len() < 420, "{text}");
            }
        }
    }
}
