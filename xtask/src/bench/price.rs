//! The price of a hit: the same probes, with one thing after the other switched on.
//!
//! The reference is the empty trap: the probes are in, and their program returns at once. An empty program counts no hits,
//! so the hits of a unit of work come from the runs of the same workload that do count.

use std::path::Path;

use anyhow::Result;

use super::contest::{Outcome, Plan, Tool, contest};
use super::figures::{Pair, Spread, allocations_per_unit, hits_per_unit, ns_per_hit};
use super::interpreter::Interpreter;
use super::tools::Unshed;
use super::workload::{C_DEPTHS, DEPTHS, Working, Workload};
use crate::run::say;

/// The reference.
pub(crate) const TRAP: &str = "trap";
/// Checks and registers: no stack is walked, nothing is stored.
const BARE: &str = "none";
/// What the program does at the smallest depth, where all steps are measured.
const STEPS: [&str; 7] = [TRAP, BARE, "sites", "blocks", "sites,blocks", "stacks", "all"];
/// What it does at the other depths: the reference, and what depends on the depth.
const DEEP_STEPS: [&str; 3] = [TRAP, "stacks", "all"];

/// Which C frames are walked, and the flags for it.
const NATIVE: [(&str, &str); 4] = [
    (TRAP, "--work trap"),
    ("native off", "--native off"),
    ("native leaf", "--native leaf"),
    ("native full", "--native full"),
];

/// The figures of one step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) work: &'static str,
    /// Frames on the stack: in Python, or in C.
    pub(crate) depth: u32,
    pub(crate) figures: Result<Figures, String>,
}

/// What a step costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Nanoseconds a hit, the trap included.
    pub(crate) ns: Spread,
    /// Nanoseconds a hit over the empty trap at the same depth.
    pub(crate) over: f64,
    /// Against the empty trap at the same depth.
    pub(crate) ratio: f64,
    /// Nanoseconds over the empty trap for each allocation with all its hits; `None` if nobody counted allocations.
    pub(crate) allocation: Option<f64>,
}

/// unshed with so much of its program switched on.
pub(crate) fn step(unshed: &Path, work: &str) -> Unshed {
    Unshed::new(work, unshed, &format!("--work {work}"))
}

/// Measures all steps on one interpreter.
pub(crate) fn measure(python: &Interpreter, unshed: &Path, plan: Plan) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (at, (depth, workload)) in DEPTHS.iter().enumerate() {
        say(format!("{}: the price of a hit, {}", python.name, workload.name));
        let works: &[&'static str] = if at == 0 { &STEPS } else { &DEEP_STEPS };
        let tools = works.iter().map(|work| (*work, step(unshed, work)));
        steps.extend(at_depth(python, plan, (*depth, workload), tools)?);
    }
    Ok(steps)
}

/// Measures what the walk along C frames adds, on one interpreter.
pub(crate) fn measure_native(python: &Interpreter, unshed: &Path, plan: Plan) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (depth, workload) in &C_DEPTHS {
        say(format!("{}: the price of a hit, {}", python.name, workload.name));
        let tools = NATIVE.iter().map(|(name, flags)| (*name, Unshed::new(*name, unshed, flags)));
        steps.extend(at_depth(python, plan, (*depth, workload), tools)?);
    }
    Ok(steps)
}

/// Measures these steps, by name, at one depth.
fn at_depth(
    python: &Interpreter,
    plan: Plan,
    (depth, workload): (u32, &Workload),
    steps: impl Iterator<Item = (&'static str, Unshed)>,
) -> Result<Vec<Step>> {
    let (names, tools): (Vec<_>, Vec<Box<dyn Tool>>) =
        steps.map(|(name, tool)| -> (_, Box<dyn Tool>) { (name, Box::new(tool)) }).unzip();
    let outcomes = contest(&mut Working::start(workload, python)?, &tools, plan)?;
    Ok(judged(depth, &names, &outcomes))
}

/// The step that the goal of 1.5 empty traps is about.
pub(crate) fn bare(steps: &[Step]) -> Option<Result<Figures, String>> {
    steps.iter().find(|step| step.work == BARE).map(|step| step.figures.clone())
}

/// Turns the outcomes at one depth into figures.
fn judged(depth: u32, works: &[&'static str], outcomes: &[Outcome]) -> Vec<Step> {
    let of = |wanted: &str| {
        let at = works.iter().position(|work| *work == wanted)?;
        outcomes.get(at)?.as_deref().ok()
    };
    // The barest program that counts: it is the nearest to the empty one.
    let counting = [BARE, "native off", "all", "stacks"].iter().filter_map(|work| of(work));
    let reference = counting.clone().find_map(hits_per_unit).zip(of(TRAP));
    let allocations = counting.clone().filter_map(allocations_per_unit).find(|count| *count > 0.0);
    let figures = |outcome: &Outcome| {
        let pairs = outcome.as_ref().map_err(Clone::clone)?;
        let (hits, trap) = reference.ok_or("there is no empty trap, or nobody counts hits")?;
        figures(pairs, trap, hits, allocations).ok_or_else(|| "nothing was measured".to_owned())
    };
    works
        .iter()
        .zip(outcomes)
        .map(|(work, outcome)| Step { work, depth, figures: figures(outcome) })
        .collect()
}

fn figures(pairs: &[Pair], trap: &[Pair], hits: f64, allocations: Option<f64>) -> Option<Figures> {
    let ns = ns_per_hit(pairs, hits)?;
    let empty = ns_per_hit(trap, hits)?.median;
    let over = ns.median - empty;
    let allocation = allocations.map(|allocations| over * hits / allocations);
    Some(Figures { ns, over, ratio: ns.median / empty, allocation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{Run, Seen};

    /// Ten units whose untraced cost is 1 µs each.
    fn outcome(traced_us: f64, hits: f64, allocations: f64) -> Outcome {
        let traced = Run { work: 10.0, cpu_seconds: traced_us * 1e-5 };
        let seen = Seen { hits: Some(hits), allocations: Some(allocations) };
        Ok(vec![Pair { traced, untraced: 1e-6, seen }])
    }

    #[test]
    fn steps_are_measured_against_the_empty_trap() {
        // Ten hits and four allocations a unit. The trap adds 5 µs a unit: 500 ns a hit; bare adds 7 µs.
        let outcomes = [outcome(6.0, 0.0, 0.0), outcome(8.0, 100.0, 0.0), outcome(16.0, 100.0, 40.0)];
        let steps = judged(5, &[TRAP, BARE, "all"], &outcomes);
        let of = |at: usize| *steps[at].figures.as_ref().expect("it was measured");
        let close = |left: f64, right: f64| (left - right).abs() < 1e-6;
        assert!(close(of(0).ns.median, 500.0) && close(of(0).ratio, 1.0) && close(of(0).over, 0.0));
        assert!(close(of(1).ns.median, 700.0) && close(of(1).ratio, 1.4) && close(of(1).over, 200.0));
        assert!(close(of(2).ns.median, 1500.0) && close(of(2).over, 1000.0));
        assert!(of(2).allocation.is_some_and(|ns| close(ns, 2500.0)));
        assert!(bare(&steps).is_some_and(|bare| bare.is_ok()));
    }

    #[test]
    fn without_a_reference_there_is_a_reason() {
        let missing: Outcome = Err("unexpected argument '--work'".to_owned());
        let steps = judged(5, &[TRAP, BARE], &[missing, outcome(8.0, 100.0, 0.0)]);
        assert_eq!(steps[0].figures.as_ref().err().map(String::as_str), Some("unexpected argument '--work'"));
        assert!(steps[1].figures.as_ref().is_err_and(|reason| reason.contains("no empty trap")));
    }

    #[test]
    fn hits_that_nobody_counts_are_not_invented() {
        let steps = judged(5, &[TRAP, BARE], &[outcome(6.0, 0.0, 0.0), outcome(8.0, 0.0, 0.0)]);
        assert!(steps.iter().all(|step| step.figures.is_err()));
    }
}
