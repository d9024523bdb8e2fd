//! The tables of `bench overhead`. Pure: rounds in, text out.

use std::fmt::Write;

use serde_json::{Value, json};

use super::estimate::{Estimate, Summary, loss, median};
use super::phase::Latency;
use super::round::{Round, Rounds};
use crate::bench::figures::Spread;

/// The contract, in shares and bytes: DESIGN §2 and the issue that asked for this bench.
const LOSS_OF_MEDIAN: f64 = 0.01;
const LOSS_OF_WORST: f64 = 0.02;
const OWN_SHARE: f64 = 0.01;
const OWN_BYTES: f64 = 64.0 * MIB;
const STALL_MS: f64 = 20.0;
const MIB: f64 = 1_048_576.0;

type Measured<'a> = [(&'a str, Rounds)];

/// One line as soon as a workload is through.
pub(crate) fn progress(name: &str, rounds: &Rounds) -> String {
    let losses: Vec<String> = rounds.0.iter().map(|round| format!("{:+.2}", loss(round) * 100.0)).collect();
    format!("{name}: loss {} %, round by round {}", percent(Summary::of(rounds).loss), losses.join(" "))
}

/// What the target loses.
pub(crate) fn losses(measured: &Measured<'_>) -> String {
    let mut text = format!(
        "{:<12} {:>16} {:>16} {:>12} {:>12} {:>10}\n",
        "target", "loss of work %", "by uneven units", "core lost %", "reported %", "rep./meas."
    );
    for (name, rounds) in measured {
        let summary = Summary::of(rounds);
        let _ = writeln!(
            text,
            "{name:<12} {:>16} {:>16} {:>12} {:>12} {:>10}",
            percent(summary.loss),
            percent(summary.uneven),
            summary.lost_cores.map_or("-".to_owned(), |lost| format!("{:.2}", lost.mean * 100.0)),
            summary.reported_cores.map_or("-".to_owned(), |share| format!("{:.2}", share * 100.0)),
            summary.agreement().map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
    }
    text
}

/// How long single units take, untraced and traced.
pub(crate) fn latencies(measured: &Measured<'_>) -> String {
    let mut text = format!(
        "{:<12} {:>15} {:>15} {:>15} {:>15} {:>8} {:>8}\n",
        "unit, ms", "p50", "p99", "p99.9", "max", "attach", "detach"
    );
    for (name, Rounds(rounds)) in measured {
        let both = |of: fn(&Latency) -> f64| {
            let untraced = median(rounds.iter().map(|round| of(&round.before.latency)));
            let traced = median(rounds.iter().map(|round| of(&round.traced.latency)));
            format!("{} > {}", ms(untraced), ms(traced))
        };
        let edge = |of: fn(&Round) -> f64| ms(Spread::of(rounds.iter().map(of)).map(|spread| spread.most));
        let _ = writeln!(
            text,
            "{name:<12} {:>15} {:>15} {:>15} {:>15} {:>8} {:>8}",
            both(|latency| latency.p50),
            both(|latency| latency.p99),
            both(|latency| latency.p999),
            both(|latency| latency.max),
            edge(|round| round.stalls_ms.0),
            edge(|round| round.stalls_ms.1),
        );
    }
    text + "medians over the rounds; attach, detach: how much longer than the median the longest unit of all rounds was then\n"
}

/// What unshed itself costs.
pub(crate) fn own(measured: &Measured<'_>) -> String {
    let mut text = format!(
        "{:<12} {:>12} {:>12} {:>14} {:>10}\n",
        "unshed", "CPU % core", "start-up s", "with it % core", "RSS MiB"
    );
    for (name, Rounds(rounds)) in measured {
        let recorded = || rounds.iter().filter_map(|round| round.recorded.as_ref());
        if recorded().next().is_none() {
            continue;
        }
        let share = median(rounds.iter().map(|round| round.own_share * 100.0));
        let setup = median(rounds.iter().map(|round| round.setup_seconds));
        let whole = median(recorded().map(|it| it.own.cpu_seconds / it.seconds * 100.0));
        let rss = recorded().map(|it| it.own.peak_rss_bytes as f64 / MIB).fold(0.0, f64::max);
        let _ =
            writeln!(text, "{name:<12} {:>12} {:>12} {:>14} {rss:>10.1}", ms(share), ms(setup), ms(whole),);
    }
    text
}

/// The figures that the contract is about, over all workloads.
struct Verdict {
    median: Option<f64>,
    worst: Option<(String, f64)>,
    own_share: Option<f64>,
    own_bytes: Option<f64>,
    stall_ms: Option<f64>,
}

fn judged(measured: &Measured<'_>) -> Verdict {
    let losses: Vec<(String, f64)> = measured
        .iter()
        .filter_map(|(name, rounds)| Some(((*name).to_owned(), Summary::of(rounds).loss?.mean)))
        .collect();
    let rounds = || measured.iter().flat_map(|(_, rounds)| &rounds.0);
    let most = |figures: Vec<f64>| Spread::of(figures).map(|spread| spread.most);
    let recorded = || rounds().filter(|round| round.recorded.is_some());
    Verdict {
        median: median(losses.iter().map(|(_, loss)| *loss)),
        worst: losses.into_iter().max_by(|one, other| one.1.total_cmp(&other.1)),
        own_share: most(measured.iter().filter_map(|(_, rounds)| own_share(rounds)).collect()),
        own_bytes: most(
            recorded().filter_map(|round| Some(round.recorded.as_ref()?.own.peak_rss_bytes as f64)).collect(),
        ),
        stall_ms: most(rounds().map(|round| round.stalls_ms.0.max(round.stalls_ms.1)).collect()),
    }
}

/// unshed's own CPU over all rounds of a workload: one round is some seconds, of which naming the first stacks is a large part.
fn own_share(rounds: &Rounds) -> Option<f64> {
    let recorded = rounds.0.iter().filter(|round| round.recorded.is_some());
    let (used_s, wall_s) = recorded.fold((0.0, 0.0), |(used_s, wall_s), round| {
        (used_s + round.own_share * round.traced.wall_seconds, wall_s + round.traced.wall_seconds)
    });
    (wall_s > 0.0).then(|| used_s / wall_s)
}

/// The contract beside what was measured; it decides nothing.
pub(crate) fn verdict(measured: &Measured<'_>) -> String {
    let Verdict { median, worst, own_share, own_bytes, stall_ms } = judged(measured);
    let mut text = String::new();
    let mut row = |what: String, figure: Option<f64>, limit: f64, unit: &str, scale: f64| {
        let Some(figure) = figure else { return };
        let kept = if figure <= limit { "kept" } else { "NOT KEPT" };
        let _ =
            writeln!(text, "{what:<42} {:>8.2} {unit:<4} of {:>5.1}: {kept}", figure * scale, limit * scale);
    };
    row("loss, median of the workloads".to_owned(), median, LOSS_OF_MEDIAN, "%", 100.0);
    if let Some((name, loss)) = worst {
        row(format!("loss, worst workload ({name})"), Some(loss), LOSS_OF_WORST, "%", 100.0);
    }
    row("unshed's own CPU while it watches, worst workload".to_owned(), own_share, OWN_SHARE, "%", 100.0);
    row("unshed's resident memory, most".to_owned(), own_bytes, OWN_BYTES, "MiB", 1.0 / MIB);
    row("longest stall at attach and detach".to_owned(), stall_ms, STALL_MS, "ms", 1.0);
    text
}

/// The same for the file of results.
pub(crate) fn verdict_json(measured: &Measured<'_>) -> Value {
    let Verdict { median, worst, own_share, own_bytes, stall_ms } = judged(measured);
    json!({
        "median_loss": median, "worst_loss": worst.as_ref().map(|(_, loss)| loss), "worst": worst.as_ref().map(|(name, _)| name),
        "own_share_max": own_share, "own_rss_bytes_max": own_bytes, "longest_edge_stall_ms": stall_ms,
    })
}

fn percent(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".to_owned(), |it| format!("{:+.2} ± {:.2}", it.mean * 100.0, it.half * 100.0))
}

fn ms(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure < 10.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::round::fixture::{phase, round};
    use super::*;

    fn measured() -> Vec<(&'static str, Rounds)> {
        let rounds = |traced: f64| {
            Rounds(vec![
                round(phase(1000.0), phase(traced), phase(1000.0)),
                round(phase(1000.0), phase(traced), phase(1000.0)),
            ])
        };
        vec![("json", rounds(995.0)), ("float", rounds(970.0)), ("http", rounds(1001.0))]
    }

    #[test]
    fn the_tables_show_the_figures() {
        let measured = measured();
        assert!(losses(&measured).contains("float            +3.00 ± 0.00"), "{}", losses(&measured));
        assert!(latencies(&measured).contains("0.50 > 0.50"), "{}", latencies(&measured));
        assert_eq!(own(&measured).lines().count(), 1);
        assert!(progress("json", &measured[0].1).ends_with("+0.50 +0.50"));
    }

    #[test]
    fn the_contract_is_compared_with_the_median_and_the_worst() {
        let text = verdict(&measured());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("0.50 %") && lines[0].ends_with("kept"), "{text}");
        assert!(lines[1].contains("(float)") && lines[1].ends_with("NOT KEPT"), "{text}");
        assert!(lines[2].contains("4.00 ms") && lines[2].ends_with(": kept"), "{text}");
    }
}
