//! The table of `bench accuracy`. Pure: rows in, text out.

use std::fmt::Write;

use serde_json::{Value, json};

use super::cases::NONE;
use super::{Found, Row};

/// The head of the table.
pub(crate) const HEAD: &str = "case                 s  rank  line  growth KB/s of true   ratio  ± error  false %  leaks  CPU/req  core %  own %   RSS  largest false suspect";

/// Growth within so much of the truth, and false suspects below such a part of the leak.
const GROWTH_WITHIN: f64 = 0.2;
const FALSE_WITHIN: f64 = 0.2;

/// One row.
pub(crate) fn row(row: &Row) -> String {
    let name = row.case.name;
    let found = match &row.outcome {
        Ok(found) => found,
        Err(reason) => return format!("{name:<18} {:>3}  not measured: {reason}", row.seconds),
    };
    let judged = &found.judged;
    let place = |rank: Option<usize>| rank.map_or("-".to_owned(), |rank| rank.to_string());
    let error = judged
        .growth_error
        .map_or("-".to_owned(), |error| format!("{:.0} %", error / found.leaked.bytes * 100.0));
    format!(
        "{name:<18} {:>3}  {:>4}  {:>4}  {:>8.1} of {:>7.1}   {:>5}  {error:>7}  {:>7}  {:>5}  {:>7.3}  {:>6}  {:>5.2}  {:>4.0}  {}",
        row.seconds,
        place(judged.rank),
        place(judged.line_rank),
        judged.growth / 1e3,
        found.leaked.bytes / 1e3,
        ratio(found).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        false_share(found).map_or_else(
            || format!("{:.1} K", judged.false_growth / 1e3),
            |share| format!("{:.1}", share * 100.0)
        ),
        judged.false_leaks,
        found.slowdown,
        found.reported_cores.map_or("-".to_owned(), |share| format!("{:.2}", share * 100.0)),
        found.own_share * 100.0,
        found.peak_rss_bytes as f64 / 1_048_576.0,
        judged.false_suspect.as_deref().unwrap_or("none"),
    )
}

/// All rows under the head.
pub(crate) fn rows(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(row).collect();
    format!("{HEAD}\n{}\n{LEGEND}", lines.join("\n"))
}

const LEGEND: &str = "rank, line: place of the first true site among the sites, and of the true line among the lines; ratio: reported growth over the true one;
false %: the largest false suspect's growth in percent of the leak; leaks: false sites that are called a leak; CPU/req: recorded over unrecorded;
core %: what the report says that the target lost; own %, RSS: unshed's own CPU, start-up included, and its memory in MiB";

/// Reported over true growth, where anything leaks.
fn ratio(found: &Found) -> Option<f64> {
    (found.leaked.bytes > 0.0).then(|| found.judged.growth / found.leaked.bytes)
}

fn false_share(found: &Found) -> Option<f64> {
    (found.leaked.bytes > 0.0).then(|| found.judged.false_growth / found.leaked.bytes)
}

/// How many cases of each duration came out right.
pub(crate) fn verdict(rows: &[Row]) -> String {
    let mut durations: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    durations.sort_by(f64::total_cmp);
    durations.dedup();
    let mut text = String::new();
    for seconds in durations {
        let of_it = || rows.iter().filter(move |row| row.seconds.total_cmp(&seconds).is_eq());
        let leaking: Vec<&Row> = of_it().filter(|row| row.case.name != NONE).collect();
        let count = |is_right: fn(&Found) -> bool| {
            leaking.iter().filter_map(|row| row.outcome.as_ref().ok()).filter(|found| is_right(found)).count()
        };
        let _ = writeln!(
            text,
            "{seconds} s, {} leaks: true line first in {}, growth within 20 % in {}, no false suspect above a fifth in {}{}",
            leaking.len(),
            count(|found| found.judged.rank == Some(1)),
            count(|found| ratio(found).is_some_and(|ratio| (ratio - 1.0).abs() <= GROWTH_WITHIN)),
            count(|found| false_share(found).is_some_and(|share| share <= FALSE_WITHIN)),
            of_it().filter(|row| row.case.name == NONE).map(without_leak).collect::<String>(),
        );
    }
    text
}

fn without_leak(row: &Row) -> String {
    match &row.outcome {
        Ok(found) => format!("; without a leak {} sites are called one", found.judged.false_leaks),
        Err(_) => "; without a leak: not measured".to_owned(),
    }
}

/// All rows, for the file of results.
pub(crate) fn json(rows: &[Row]) -> Value {
    rows.iter().map(row_json).collect()
}

fn row_json(row: &Row) -> Value {
    let found = match &row.outcome {
        Ok(found) => found,
        Err(reason) => return json!({"case": row.case.name, "seconds": row.seconds, "not_measured": reason}),
    };
    let judged = &found.judged;
    json!({
        "case": row.case.name,
        "seconds": row.seconds,
        "rank": judged.rank,
        "line_rank": judged.line_rank,
        "verdict": judged.verdict,
        "growth": judged.growth,
        "growth_error": judged.growth_error,
        "true_bytes_per_second": found.leaked.bytes,
        "true_blocks_per_second": found.leaked.blocks,
        "ratio": ratio(found),
        "false_growth": judged.false_growth,
        "false_suspect": judged.false_suspect,
        "false_leaks": judged.false_leaks,
        "sites": judged.sites,
        "cpu_per_request_ratio": found.slowdown,
        "longest_request_ms": found.longest_ms,
        "reported_cores": found.reported_cores,
        "own_share": found.own_share,
        "peak_rss_bytes": found.peak_rss_bytes,
        "sampling": found.sampling,
    })
}

#[cfg(test)]
mod tests {
    use super::super::cases::ALL;
    use super::super::judge::Judged;
    use super::super::service::Leaked;
    use super::*;

    fn case(at: usize, seconds: f64, rank: usize, growth: f64) -> Row {
        let judged =
            Judged { rank: Some(rank), growth, false_growth: 15_000.0, false_leaks: 2, ..Judged::default() };
        let bytes = if ALL[at].name == NONE { 0.0 } else { 100_000.0 };
        let found = Found {
            judged,
            leaked: Leaked { bytes, blocks: 100.0 },
            slowdown: 1.01,
            longest_ms: 3.0,
            reported_cores: Some(0.008),
            own_share: 0.009,
            peak_rss_bytes: 50 << 20,
            sampling: Value::Null,
        };
        Row { case: ALL[at], seconds, outcome: Ok(found) }
    }

    #[test]
    fn rows_show_the_figures() {
        let text = row(&case(1, 20.0, 3, 90_000.0));
        assert!(text.contains("    3     -      90.0 of   100.0    0.90"), "{text}");
        assert!(text.contains("   15.0      2    1.010    0.80   0.90    50  none"), "{text}");
        let failed = Row { outcome: Err("no reason".to_owned()), ..case(1, 20.0, 1, 0.0) };
        assert!(row(&failed).ends_with("not measured: no reason"));
        assert_eq!(json(&[failed])[0]["not_measured"], "no reason");
    }

    #[test]
    fn what_is_right_is_counted_by_duration() {
        let rows = [
            case(0, 20.0, 1, 0.0),
            case(1, 20.0, 1, 90_000.0),
            case(2, 20.0, 2, 70_000.0),
            case(3, 60.0, 1, 1e5),
        ];
        let text = verdict(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("20 s, 2 leaks: true line first in 1, growth within 20 % in 1, no false suspect above a fifth in 2"));
        assert!(lines[0].ends_with("; without a leak 2 sites are called one"), "{text}");
        assert!(lines[1].starts_with("60 s, 1 leaks: true line first in 1"), "{text}");
    }
}
