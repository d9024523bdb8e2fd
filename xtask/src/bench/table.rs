//! What the bench prints: pure text from figures.

use std::fmt::Write;

use super::contest::Outcome;
use super::figures::{self, Pair, Spread};
use super::price::{Figures, Step};

/// A hit may cost so many empty traps with stacks off.
const HIT_GOAL: f64 = 1.5;
/// So many times less slowdown than a rival.
const RIVAL_GOAL: f64 = 10.0;

/// Per cent from which on a rival sees all that we see; units of work differ a little.
const WHOLE: f64 = 97.0;

/// The outcomes of one workload, in the order of the tools.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Row {
    fn pairs(&self, tool: usize) -> Option<&[Pair]> {
        self.outcomes.get(tool)?.as_deref().ok()
    }
}

/// The slowdowns of all tools; the first one is ours, and the last columns are how much less ours is.
pub(crate) fn contest(tools: &[String], rows: &[Row]) -> String {
    let mut text = String::from("slowdown of the target: its CPU per unit of work traced / untraced, − 1\n");
    line(&mut text, "workload", tools.iter().cloned());
    for row in rows {
        let cells = (0..tools.len()).map(|tool| match row.pairs(tool) {
            Some(pairs) => spread(Spread::of(pairs.iter().map(Pair::slowdown))),
            None => "not measured".to_owned(),
        });
        line(&mut text, row.workload, cells);
    }
    for row in rows {
        for (tool, outcome) in tools.iter().zip(&row.outcomes) {
            if let Err(reason) = outcome {
                writeln!(text, "{}, {tool}: not measured: {reason}", row.workload).unwrap_or_default();
            }
        }
    }
    text
}

/// How many times less the first tool slows down, and what the others see of the same work.
pub(crate) fn rivals(tools: &[String], rows: &[Row]) -> String {
    let head = "how many times less slowdown unshed is than; (of its allocations, the other saw)";
    compared(head, tools, rows, |ours, theirs| {
        let less = spread(figures::times_less(ours, theirs));
        coverage(ours, theirs).map_or(less.clone(), |share| format!("{less} ({share:.0} %)"))
    })
}

/// The same for each allocation that a tool saw: what a tool misses costs it nothing.
pub(crate) fn rivals_per_allocation(tools: &[String], rows: &[Row]) -> String {
    let head = "how many times less CPU an allocation seen by unshed costs than one seen by";
    compared(head, tools, rows, |ours, theirs| spread(figures::times_less_per_allocation(ours, theirs)))
}

/// A table of the first tool against each of the others.
fn compared(head: &str, tools: &[String], rows: &[Row], cell: impl Fn(&[Pair], &[Pair]) -> String) -> String {
    let others = tools.get(1..).unwrap_or_default();
    if others.is_empty() {
        return String::new();
    }
    let mut text = format!("{head}\n");
    line(&mut text, "workload", others.iter().cloned());
    for row in rows {
        let cells = (1..tools.len()).map(|tool| match row.pairs(0).zip(row.pairs(tool)) {
            Some((ours, theirs)) => cell(ours, theirs),
            None => "not measured".to_owned(),
        });
        line(&mut text, row.workload, cells);
    }
    text
}

/// Per cent of the allocations of a unit of work that the other tool saw; `None` where it counts other things.
fn coverage(ours: &[Pair], theirs: &[Pair]) -> Option<f64> {
    let ours = figures::allocations_per_unit(ours).filter(|count| *count > 0.0)?;
    Some(figures::allocations_per_unit(theirs)? / ours * 100.0)
}

/// What the trace engine itself does: the speed that it leaves, its hits and their price.
pub(crate) fn engine(rows: &[Row]) -> String {
    let mut text = String::from("unshed: what it leaves, and what a hit costs all in\n");
    let heads = ["work traced / untraced", "hits per unit", "hits per CPU-s", "ns per hit"];
    line(&mut text, "workload", heads.map(str::to_owned).into_iter());
    for row in rows {
        let Some(pairs) = row.pairs(0) else { continue };
        let hits = figures::hits_per_unit(pairs);
        let rate = pairs.iter().filter_map(|pair| Some(pair.seen.hits? / pair.traced.cpu_seconds));
        let cells = [
            spread(Spread::of(pairs.iter().map(|pair| 1.0 / (pair.slowdown() + 1.0)))),
            hits.map_or_else(|| "–".to_owned(), |hits| format!("{hits:.0}")),
            Spread::of(rate).map_or_else(|| "–".to_owned(), |rate| format!("{:.0}", rate.median)),
            spread(hits.and_then(|hits| figures::ns_per_hit(pairs, hits))),
        ];
        line(&mut text, row.workload, cells.into_iter());
    }
    text
}

/// The price of a hit, step by step.
pub(crate) fn price(head: &str, steps: &[Step]) -> String {
    let mut text = format!("{head}\n");
    let heads = ["ns per hit", "over the trap", "ratio to the trap", "over it, per allocation"];
    line(&mut text, "step", heads.map(str::to_owned).into_iter());
    for step in steps {
        let name = format!("{} @{}", step.work, step.depth);
        match &step.figures {
            Ok(Figures { ns, over, ratio, allocation }) => {
                let allocation = allocation.map_or_else(|| "–".to_owned(), |ns| format!("{ns:+.0}"));
                let cells = [spread(Some(*ns)), format!("{over:+.0}"), format!("{ratio:.2}"), allocation];
                line(&mut text, &name, cells.into_iter());
            }
            Err(reason) => writeln!(text, "{name}: not measured: {reason}").unwrap_or_default(),
        }
    }
    text
}

/// One line on the price of a hit.
pub(crate) fn price_goal(bare: Option<Result<Figures, String>>) -> String {
    let goal = format!("goal: a hit with stacks off costs at most {HIT_GOAL} empty traps");
    match bare {
        Some(Ok(figures)) => {
            let met = if figures.ratio <= HIT_GOAL { "met" } else { "missed" };
            format!("{goal}: {met}, {:.2}", figures.ratio)
        }
        Some(Err(reason)) => format!("{goal}: not measured: {reason}"),
        None => format!("{goal}: not measured"),
    }
}

/// One line on one rival, by its place among the tools.
pub(crate) fn rival_goal(tools: &[String], rows: &[Row], rival: usize) -> String {
    let name = tools.get(rival).map_or("?", String::as_str);
    let goal = format!("goal: at least {RIVAL_GOAL} times less slowdown than {name}");
    let less = |row: &Row| figures::times_less(row.pairs(0)?, row.pairs(rival)?).map(|spread| spread.median);
    let measured: Vec<(&str, f64)> = rows.iter().filter_map(|row| Some((row.workload, less(row)?))).collect();
    if measured.is_empty() {
        return format!("{goal}: not measured");
    }
    let missed: Vec<String> = measured
        .iter()
        .filter(|(_, less)| *less < RIVAL_GOAL)
        .map(|(workload, less)| format!("{workload} {}", number(*less)))
        .collect();
    let but = if missed.is_empty() { String::new() } else { format!("; not on {}", missed.join(", ")) };
    let (met, all) = (measured.len() - missed.len(), measured.len());
    let left = rows.len() - all;
    let unknown = if left == 0 { String::new() } else { format!("; {left} not measured") };
    format!("{goal}: met on {met} of {all}{but}{unknown}{}", seen_by(rows, rival))
}

/// What a rival saw of our allocations, over the workloads, where that is not all.
fn seen_by(rows: &[Row], rival: usize) -> String {
    let shares = rows.iter().filter_map(|row| coverage(row.pairs(0)?, row.pairs(rival)?));
    match Spread::of(shares) {
        Some(seen) if seen.least < WHOLE => {
            format!("; it saw {:.0} to {:.0} % of the allocations", seen.least, seen.most)
        }
        _ => String::new(),
    }
}

fn line(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    write!(text, "  {first:18}").unwrap_or_default();
    for cell in cells {
        write!(text, " {cell:>26}").unwrap_or_default();
    }
    text.push('\n');
}

fn spread(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { least, median, most }) => {
            format!("{} ({} .. {})", number(median), number(least), number(most))
        }
        None => "–".to_owned(),
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        infinite if infinite.is_infinite() => "∞".to_owned(),
        small if small < 1.0 => format!("{value:.3}"),
        middle if middle < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{Run, Seen};

    fn slower(times: f64, allocations: f64) -> Outcome {
        let traced = Run { work: 1.0, cpu_seconds: times + 1.0 };
        let seen = Seen { hits: Some(3.0 * allocations), allocations: Some(allocations) };
        Ok(vec![Pair { traced, untraced: 1.0, seen }])
    }

    fn tools() -> Vec<String> {
        ["unshed", "naive"].map(str::to_owned).to_vec()
    }

    fn rows() -> Vec<Row> {
        vec![
            Row { workload: "json", outcomes: vec![slower(10.0, 100.0), slower(120.0, 100.0)] },
            Row { workload: "http", outcomes: vec![slower(10.0, 100.0), slower(50.0, 5.0)] },
            Row { workload: "class", outcomes: vec![slower(10.0, 100.0), Err("it fell over".to_owned())] },
        ]
    }

    #[test]
    fn a_goal_says_where_it_was_met_and_where_not() {
        assert_eq!(
            rival_goal(&tools(), &rows(), 1),
            "goal: at least 10 times less slowdown than naive: met on 1 of 2; not on http 5.00; 1 not measured; \
             it saw 5 to 100 % of the allocations"
        );
        assert_eq!(
            rival_goal(&tools(), &[], 1),
            "goal: at least 10 times less slowdown than naive: not measured"
        );
    }

    #[test]
    fn every_gap_is_a_line() {
        let text = contest(&tools(), &rows());
        assert!(text.contains("class, naive: not measured: it fell over"), "{text}");
        assert!(text.contains("120 (120 .. 120)"), "{text}");
    }

    #[test]
    fn what_a_rival_misses_is_said() {
        let text = rivals(&tools(), &rows());
        assert!(text.contains("12.0 (12.0 .. 12.0) (100 %)"), "{text}");
        assert!(text.contains("5.00 (5.00 .. 5.00) (5 %)"), "{text}");
        assert_eq!(rivals(&tools()[..1], &rows()), "");
        // 50 for 5 allocations against 10 for 100.
        let text = rivals_per_allocation(&tools(), &rows());
        assert!(text.contains("100 (100 .. 100)"), "{text}");
    }

    #[test]
    fn the_engine_has_its_own_table() {
        let text = engine(&rows());
        // Eleven seconds for a unit that takes one: ten are shared by 300 hits.
        assert!(text.contains("0.091 (0.091 .. 0.091)"), "{text}");
        assert!(text.contains(" 33333333 "), "{text}");
    }

    #[test]
    fn the_price_of_a_hit_has_a_goal() {
        let ns = Spread { least: 900.0, median: 1000.0, most: 1100.0 };
        let figures = Figures { ns, over: 300.0, ratio: 1.43, allocation: None };
        assert!(price_goal(Some(Ok(figures))).ends_with("met, 1.43"));
        assert!(price_goal(Some(Ok(Figures { ratio: 1.6, ..figures }))).ends_with("missed, 1.60"));
        assert!(price_goal(Some(Err("no flag".to_owned()))).ends_with("not measured: no flag"));
        let steps = [
            Step { work: "none", depth: 5, figures: Ok(figures) },
            Step { work: "all", depth: 60, figures: Err("no flag".to_owned()) },
        ];
        let text = price("price of a hit", &steps);
        assert!(
            text.contains("1000 (900 .. 1100)") && text.contains("+300") && text.contains("1.43"),
            "{text}"
        );
        assert!(text.contains("all @60: not measured: no flag"), "{text}");
    }
}
