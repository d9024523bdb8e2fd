//! Numbers as people read them: three significant places, the unit last.

/// Bytes in binary units: `28 B`, `26.7 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    float_bytes(bytes as f64)
}

/// Bytes per second with a sign: `+2.7 MiB/s`, `-310 B/s`, `0 B/s`.
#[must_use]
pub fn rate(bytes_per_second: f64) -> String {
    let sign = match bytes_per_second {
        rate if rate >= 0.5 => "+",
        rate if rate <= -0.5 => "-",
        _ => "",
    };
    format!("{sign}{}/s", float_bytes(bytes_per_second.abs()))
}

fn float_bytes(bytes: f64) -> String {
    if bytes < 1023.5 {
        return format!("{bytes:.0} B");
    }
    let mut amount = bytes / 1024.0;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be printed as 1024.0 is 1.0 of the next unit.
    while amount >= 1023.95 {
        let Some(next) = units.next() else { break };
        amount /= 1024.0;
        unit = next;
    }
    format!("{amount:.1} {unit}")
}

/// A count with its thousands apart: `1,000,000`.
#[must_use]
pub fn count(count: u64) -> String {
    grouped(&count.to_string())
}

/// A whole number with its thousands apart and its sign: `-5`, `1,000`.
#[must_use]
pub fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(&value.unsigned_abs().to_string()))
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun: `1 block`, `2 blocks`.
#[must_use]
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A share in percent: `97.3 %`, `<0.1 %`. Never `100.0 %` when something is missing.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (0, _) | (_, 0) => "0 %".to_owned(),
        (part, whole) if part == whole => "100 %".to_owned(),
        (part, whole) => percent(part as f64 / whole as f64, 0.999),
    }
}

/// A fraction in percent: 0.309 is `30.9 %`.
#[must_use]
pub fn fraction(fraction: f64) -> String {
    if fraction == 0.0 { "0 %".to_owned() } else { percent(fraction, f64::MAX) }
}

fn percent(fraction: f64, most: f64) -> String {
    if fraction < 0.0005 { "<0.1 %".to_owned() } else { format!("{:.1} %", fraction.min(most) * 100.0) }
}

/// A duration in nanoseconds: `812 ns`, `1.5 ms`, `2.3 h`.
#[must_use]
pub fn nanoseconds(ns: u64) -> String {
    let amount = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_950 => format!("{:.1} µs", amount / 1e3),
        999_950..999_950_000 => format!("{:.1} ms", amount / 1e6),
        _ => seconds(amount / 1e9),
    }
}

/// A duration in seconds: `10.0 s`, `2.5 min`, `1.5 h`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 119.95 => format!("{s:.1} s"),
        s if s < 7_197.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let of = [0, 28, 1023, 1024, 28_000_000, 1_048_575, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(of, ["0 B", "28 B", "1023 B", "1.0 KiB", "26.7 MiB", "1.0 MiB", "1.0 GiB", "16384.0 PiB"]);
        assert_eq!([2_800_000.0, -310.0, 0.2, -0.2].map(rate), ["+2.7 MiB/s", "-310 B/s", "0 B/s", "0 B/s"]);
    }

    #[test]
    fn counts_read_well() {
        assert_eq!([0, 999, 1000, 1_000_000].map(count), ["0", "999", "1,000", "1,000,000"]);
        assert_eq!([i64::MIN, -5, 1000].map(signed), ["-9,223,372,036,854,775,808", "-5", "1,000"]);
        assert_eq!([0, 1, 2].map(|n| plural(n, "block")), ["0 blocks", "1 block", "2 blocks"]);
    }

    #[test]
    fn shares_do_not_lie_at_the_ends() {
        let of = [(0, 5), (5, 0), (5, 5), (1, 1_000_000), (999_999, 1_000_000), (973, 1000)]
            .map(|(a, b)| share(a, b));
        assert_eq!(of, ["0 %", "0 %", "100 %", "<0.1 %", "99.9 %", "97.3 %"]);
        assert_eq!([0.0, 0.0001, 0.309, 2.5].map(fraction), ["0 %", "<0.1 %", "30.9 %", "250.0 %"]);
    }

    #[test]
    fn durations_read_well() {
        let of = [0, 812, 1_500, 999_999, 5_000_000, 999_999_999, 90_000_000_000, 9_000_000_000_000]
            .map(nanoseconds);
        assert_eq!(of, ["0 ns", "812 ns", "1.5 µs", "1.0 ms", "5.0 ms", "1.0 s", "90.0 s", "2.5 h"]);
        assert_eq!([0.25, 119.0, 150.0, 7200.0].map(seconds), ["0.2 s", "119.0 s", "2.5 min", "2.0 h"]);
    }
}
