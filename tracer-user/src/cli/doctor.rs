//! `unshed doctor`: what the kernel allows, and what a trace of a process would be and cost.

use crate::cli::flags::Doctor;
use crate::error::Result;
use crate::heap::balance::{self, Hits, Moment, Verdict};
use crate::probe::doctor::{self, Outlook};
use crate::probe::forecast::{DEFAULT_LIMIT, PointKind, Prices};
use crate::probe::rate::{Rate, Snapshot};
use crate::report::examination::{self, Counted, Examination, Finding, Kind, Point, Process, SCHEMA};
use crate::report::units;

/// Looks, and says what was seen.
pub(super) fn examine(flags: &Doctor) -> Result<String> {
    let seen = doctor::examine(flags.pid)?;
    let findings: Vec<Finding> = seen
        .findings
        .into_iter()
        .map(|doctor::Finding { good, what, seen }| Finding { good, what, seen })
        .collect();
    let process = seen.outlook.as_ref().map(process);
    let can_trace = findings.iter().all(|finding| finding.good)
        && process.as_ref().is_none_or(|process| process.complete);
    let examination = Examination { schema: SCHEMA, can_trace, findings, process };
    if flags.json {
        examination::json(&examination)
    } else {
        Ok(examination::text(&examination, flags.verbose))
    }
}

fn process(outlook: &Outlook) -> Process {
    let Outlook { pid, python, plan, rate } = outlook;
    let rate = rate.as_ref();
    let verdict = rate.ok().filter(|rate| !rate.heap.is_empty()).map(judge);
    let prices = rate.map_or_else(|_| Prices::GUESSED.of(&plan.points), |rate| rate.prices.clone());
    let hits = rate.map_or_else(|_| vec![0; plan.points.len()], |rate| rate.hits.clone());
    let points: Vec<Point> = plan
        .points
        .iter()
        .zip(prices.iter().zip(&hits))
        .map(|(point, (price, hits))| Point {
            name: point.name.clone(),
            address: point.vaddr,
            kind: PointKind::of(point).words(),
            returns: point.returns,
            emulated: point.emulated,
            ns_per_hit: price.traced_ns,
            hits: *hits,
        })
        .collect();
    Process {
        pid: *pid,
        python: python.clone(),
        complete: plan.completeness.complete && !matches!(verdict, Some(Verdict::Disagrees(_))),
        reason: match verdict {
            Some(verdict) => format!("{}; {}", plan.completeness.reason, verdict.sentence(units::count)),
            None => plan.completeness.reason.clone(),
        },
        kinds: kinds(&points),
        points,
        counted: rate.ok().map(counted),
        not_counted: rate.err().map(|error| error.to_string().replace('\n', "; ")),
    }
}

/// What the heap's own counters say of the hooks.
fn judge(rate: &Rate) -> Verdict {
    let hits = |(allocated, freed)| Hits { allocated, freed };
    let moment = |snapshot: &Snapshot| Moment {
        before: hits(snapshot.before),
        live_blocks: snapshot.live_blocks,
        left_out: snapshot.left_out,
        after: hits(snapshot.after),
    };
    balance::judge(&rate.heap.iter().map(moment).collect::<Vec<_>>())
}

/// Sums by kind, in the order in which kinds are told.
fn kinds(points: &[Point]) -> Vec<Kind> {
    let cost_ns =
        |points: &[&Point]| points.iter().map(|point| point.hits as f64 * point.ns_per_hit).sum::<f64>();
    let all_ns = cost_ns(&points.iter().collect::<Vec<_>>());
    let sum = |kind: PointKind| {
        let points: Vec<&Point> = points.iter().filter(|point| point.kind == kind.words()).collect();
        let hits: u64 = points.iter().map(|point| point.hits).sum();
        let mean_ns = points.iter().map(|point| point.ns_per_hit).sum::<f64>() / points.len() as f64;
        let cost_ns = cost_ns(&points);
        let kind = Kind {
            kind: kind.words(),
            points: points.len() as u64,
            single_stepped: points.iter().filter(|point| !point.emulated).count() as u64,
            ns_per_hit: if hits == 0 { mean_ns } else { cost_ns / hits as f64 },
            hits,
            cost_share: if all_ns > 0.0 { cost_ns / all_ns } else { 0.0 },
        };
        (!points.is_empty()).then_some(kind)
    };
    PointKind::ALL.into_iter().filter_map(sum).collect()
}

fn counted(rate: &Rate) -> Counted {
    let slowdown = rate.slowdown();
    Counted {
        seconds: rate.seconds,
        cpu_seconds: rate.cpu_seconds,
        hits: rate.total(),
        attach_seconds: rate.attach_seconds,
        detach_seconds: rate.detach_seconds,
        ns_per_hit: rate.mean_ns(),
        slowdown: slowdown.factor,
        slowdown_at_least: slowdown.at_least,
        slowdown_limit: DEFAULT_LIMIT,
    }
}
