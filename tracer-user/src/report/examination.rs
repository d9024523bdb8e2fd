//! What `unshed doctor` says: findings, and of a process the plan of a trace, what was counted and what the trace would cost. Text for people, and
//! the same as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::plain::{clean, shorten};
use super::units;
use crate::error::{Context, Result};

/// The name and version of the contract with other programs. Fields are only ever added to it.
pub const SCHEMA: &str = "unshed.doctor/1";

/// The busiest points that the text names.
const BUSIEST: usize = 8;
/// Columns for the name of a point.
const NAME: usize = 36;

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Examination {
    /// The contract's name and version: [`SCHEMA`].
    pub schema: &'static str,
    /// Every finding is good.
    pub can_trace: bool,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
    /// The process, if one was named.
    pub process: Option<Process>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// It is as it should be.
    pub good: bool,
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub seen: String,
}

/// The plan of a trace of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Process {
    /// Process id as unshed sees it.
    pub pid: u32,
    /// `3.11.7`.
    pub python: String,
    /// The traps would see every block.
    pub complete: bool,
    /// Why they would, or would not.
    pub reason: String,
    /// Sums by kind of probe point.
    pub kinds: Vec<Kind>,
    /// All probe points, in the order of the plan.
    pub points: Vec<Point>,
    /// What was counted; `None` if it could not be.
    pub counted: Option<Counted>,
    /// Why nothing was counted.
    pub not_counted: Option<String>,
}

/// All probe points of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    /// What they are there for.
    pub kind: &'static str,
    /// How many there are.
    pub points: u64,
    /// Those whose instruction the kernel must single-step, which is slow.
    pub single_stepped: u64,
    /// What tracing a hit would take from the target, predicted, in nanoseconds: the mean over the hits, or over the points if there were no hits.
    pub ns_per_hit: f64,
    /// Hits.
    pub hits: u64,
    /// Their part of what tracing all hits would take, 0 to 1.
    pub cost_share: f64,
}

/// One probe point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The function and the offset of the instruction in it.
    pub name: String,
    /// Its address in its file's own address space.
    pub address: u64,
    /// What it is there for.
    pub kind: &'static str,
    /// The trap is at the return of the function.
    pub returns: bool,
    /// The kernel emulates the instruction; otherwise it must single-step it.
    pub emulated: bool,
    /// What tracing a hit would take from the target, predicted, in nanoseconds.
    pub ns_per_hit: f64,
    /// Hits.
    pub hits: u64,
}

/// What was counted in a moment, and what it would cost to trace it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    /// How long.
    pub seconds: f64,
    /// CPU time that the target used meanwhile, in seconds.
    pub cpu_seconds: f64,
    /// All hits.
    pub hits: u64,
    /// Putting the traps in took so long, in seconds.
    pub attach_seconds: f64,
    /// Taking them out took so long, in seconds.
    pub detach_seconds: f64,
    /// What tracing a hit would take, in the mean, in nanoseconds.
    pub ns_per_hit: f64,
    /// CPU time for the same work, traced against untraced: 1 or more.
    pub slowdown: f64,
    /// It may be much more: counting alone took nearly all of the target's time.
    pub slowdown_at_least: bool,
    /// The slowdown over which `record --exact` refuses, unless it is told otherwise.
    pub slowdown_limit: f64,
}

impl Counted {
    fn per_second(&self, hits: u64) -> String {
        units::count((hits as f64 / self.seconds.max(1e-9)).round() as u64)
    }
}

/// One JSON object, and a line end.
///
/// # Errors
/// None that these facts could cause.
pub fn json(examination: &Examination) -> Result<String> {
    let mut text = serde_json::to_string_pretty(examination).context("the examination as JSON")?;
    text.push('\n');
    Ok(text)
}

/// The text; `every_point` lists all probe points and not only the busiest.
#[must_use]
pub fn text(examination: &Examination, every_point: bool) -> String {
    let mut out = String::new();
    for Finding { good, what, seen } in &examination.findings {
        finding(&mut out, *good, what, seen);
    }
    if let Some(process) = &examination.process {
        kinds(&mut out, process);
        if every_point {
            points(&mut out, process);
        } else {
            busiest(&mut out, process);
        }
        finding(&mut out, process.complete, "hooks", &hooks(process));
        prediction(&mut out, process);
    }
    let failed = examination.findings.iter().filter(|finding| !finding.good).count();
    let checks = examination.findings.len() + usize::from(examination.process.is_some());
    let failed = failed + usize::from(examination.process.as_ref().is_some_and(|process| !process.complete));
    let _ = match failed {
        0 => writeln!(out, "unshed can trace here"),
        some => writeln!(out, "{some} of {checks} checks failed"),
    };
    out
}

fn finding(out: &mut String, good: bool, what: &str, seen: &str) {
    let _ = writeln!(out, "{} {:<18} {}", if good { "ok  " } else { "FAIL" }, clean(what), clean(seen));
}

fn hooks(process: &Process) -> String {
    format!("{}: {}", if process.complete { "complete" } else { "incomplete" }, process.reason)
}

/// The plan by kind of probe point.
fn kinds(out: &mut String, process: &Process) {
    let _ = writeln!(
        out,
        "\n     {:<24} {:>6} {:>8} {:>7} {:>12} {:>8}",
        "probe points", "number", "stepped", "ns/hit", "hits/s", "cost"
    );
    for kind in &process.kinds {
        let (rate, share) = match &process.counted {
            Some(counted) => (counted.per_second(kind.hits), units::fraction(kind.cost_share)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(
            out,
            "     {:<24} {:>6} {:>8} {:>7} {rate:>12} {share:>8}",
            kind.kind,
            units::count(kind.points),
            units::count(kind.single_stepped),
            units::count(kind.ns_per_hit.round() as u64),
        );
    }
    out.push('\n');
}

/// The points that were hit most.
fn busiest(out: &mut String, process: &Process) {
    let Some(counted) = &process.counted else { return };
    let mut points: Vec<&Point> = process.points.iter().filter(|point| point.hits > 0).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.hits));
    if points.is_empty() {
        return;
    }
    let _ = writeln!(out, "     {:<NAME$} {:<24} {:>12} {:>8}", "the busiest", "", "hits/s", "share");
    for point in points.iter().take(BUSIEST) {
        let name = clean(&point.name).into_owned();
        let _ = writeln!(
            out,
            "     {:<NAME$} {:<24} {:>12} {:>8}",
            shorten(&name, NAME),
            point.kind,
            counted.per_second(point.hits),
            units::share(point.hits, counted.hits),
        );
    }
    if let Some(more) = points.len().checked_sub(BUSIEST).filter(|more| *more > 0) {
        let _ = writeln!(out, "     {more} more were hit; -v lists all");
    }
    out.push('\n');
}

/// Every probe point.
fn points(out: &mut String, process: &Process) {
    for point in &process.points {
        let rate =
            process.counted.as_ref().map_or_else(|| "-".to_owned(), |counted| counted.per_second(point.hits));
        let name = clean(&point.name).into_owned();
        let _ = writeln!(
            out,
            "     {:<6} {:<NAME$} {:#010x} {:<14} {:<24} {rate:>12}",
            if point.returns { "return" } else { "entry" },
            shorten(&name, NAME),
            point.address,
            if point.emulated { "emulated" } else { "single-stepped" },
            point.kind,
        );
    }
    out.push('\n');
}

/// What `record --exact` would do to the target.
fn prediction(out: &mut String, process: &Process) {
    let what = "     predicted slowdown of `record --exact` now: ";
    let _ = match (&process.counted, &process.not_counted) {
        (Some(counted), _) if counted.hits == 0 => {
            let window = units::nanoseconds((counted.seconds * 1e9) as u64);
            writeln!(
                out,
                "{what}none; no hits in {window}, of which it ran for {}: measure while it works",
                units::nanoseconds((counted.cpu_seconds * 1e9) as u64)
            )
        }
        (Some(counted), _) => writeln!(
            out,
            "{what}{} ({} hits/s at {} each; it used {} of a CPU while they were counted); over {}x it refuses",
            slowdown(counted.slowdown, counted.slowdown_at_least),
            counted.per_second(counted.hits),
            units::nanoseconds(counted.ns_per_hit.round() as u64),
            units::fraction(counted.cpu_seconds / counted.seconds.max(1e-9)),
            counted.slowdown_limit,
        ),
        (None, Some(why)) => writeln!(out, "{what}not measured: {}", clean(why)),
        (None, None) => Ok(()),
    };
}

/// A slowdown as people read it: `3.4x`, `over 40x`.
#[must_use]
pub fn slowdown(factor: f64, at_least: bool) -> String {
    let digits = if factor < 9.95 { 1 } else { 0 };
    format!("{}{factor:.digits$}x", if at_least { "over " } else { "" })
}

#[cfg(test)]
mod tests;
