//! What the head of a sampled story says besides: how much was looked at, what the two budgets were used for, and when sampling was given up.

use super::page::{Ink, Page};
use crate::report::story::{Sampling, Story};
use crate::report::units;

/// How the process was looked at, for the title: "traced for 10.0 s".
pub(super) fn looked(story: &Story) -> String {
    let seconds = units::seconds(story.seconds);
    match &story.sampling {
        Some(sampling) => format!(
            "sampled for {seconds} in {}, {} of the time",
            units::plural(sampling.windows, "window"),
            units::fraction(sampling.open_share),
        ),
        None if story.watch.is_some() => format!("watched for {seconds}"),
        None => format!("traced for {seconds}"),
    }
}

/// What stands behind the figures.
pub(super) fn samples(page: &mut Page, sampling: &Sampling) {
    if let Some(why) = &sampling.fell_back {
        page.row(0, "NO WINDOW", Ink::Alarm, why);
    }
    if sampling.births == 0 {
        let text = "no birth was seen: sample for longer (-d SECONDS), or while the process works";
        return page.row(0, "samples", Ink::Strong, text);
    }
    let refused = match sampling.refused_records {
        0 => String::new(),
        refused => format!("; {} births and deaths were not taken down", units::count(refused)),
    };
    let text = format!(
        "{} seen; {} outlived their window and were looked at {} from outside{refused}. All figures are estimates: the truth is within ± of them 19 times of 20",
        units::plural(sampling.births, "birth"),
        units::count(sampling.candidates),
        units::plural(sampling.looks, "time"),
    );
    page.row(0, "samples", Ink::Plain, &text);
}

/// What it cost, against what it was allowed to.
pub(super) fn cost(page: &mut Page, story: &Story, sampling: &Sampling) {
    let lost = story.cost.target_cpu_fraction;
    let budget = sampling.budget_percent;
    let over = lost.max(sampling.own_cpu_fraction) * 100.0 > budget;
    let text = format!(
        "{} lost {} of one CPU, unshed took {} ({}: {} of one CPU each); {} resident, {} of kernel memory; {} of CPU before it began",
        if story.processes.len() > 1 { "all processes together" } else { "the target" },
        percent(lost),
        percent(sampling.own_cpu_fraction),
        if over { "OVER THE BUDGET" } else { "budget" },
        percent(budget / 100.0),
        units::bytes(sampling.rss_bytes_max),
        units::bytes(story.cost.kernel_bytes),
        units::seconds(sampling.setup_cpu_seconds),
    );
    page.row(0, "cost", if over { Ink::Alarm } else { Ink::Plain }, &text);
    if sampling.windows > 0 {
        let text = format!(
            "one every {} on average, the longest {}; attaching took {} (median; {} at most), traps were in for {} at most",
            ms(sampling.mean_interval_seconds * 1e3),
            ms(sampling.longest_window_ms),
            ms(sampling.attach_ms_p50),
            ms(sampling.attach_ms_max),
            ms(sampling.traps_in_ms_max),
        );
        page.row(0, "windows", Ink::Plain, &text);
    }
}

/// Percent with two digits: budgets are small.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        percent if percent <= 0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

fn ms(ms: f64) -> String {
    units::nanoseconds((ms.max(0.0) * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shares_are_told_apart() {
        let of = [0.0, 0.000_01, 0.000_4, 0.004_2, 0.01, 0.25].map(percent);
        assert_eq!(of, ["0 %", "<0.01 %", "0.04 %", "0.42 %", "1.0 %", "25.0 %"]);
    }
}
