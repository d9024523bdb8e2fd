//! How far off sums over processes are.
//!
//! Each window looks at one process, and which one is drawn at random: what two processes contribute is independent, so variances add up, and half widths do in quadrature. Each half width allows for one
//! more contribution than was seen, so that of the sum allows for one of each process, which is on the safe side. What is *not* independent is added one by one: the part of a growth that blocks
//! may have which took the place of others errs in the same direction everywhere.

use super::super::sampling::SumErrors;
use super::super::story::{Site, Totals};
use crate::heap::sample::Evidence;
use crate::heap::verdict::Verdict;

/// The errors of two sums of different processes, of their sum.
fn both(one: SumErrors, other: SumErrors) -> SumErrors {
    SumErrors {
        allocated_bytes: one.allocated_bytes.hypot(other.allocated_bytes),
        allocated_blocks: one.allocated_blocks.hypot(other.allocated_blocks),
        freed_bytes: one.freed_bytes.hypot(other.freed_bytes),
        freed_blocks: one.freed_blocks.hypot(other.freed_blocks),
        live_bytes: one.live_bytes.hypot(other.live_bytes),
        live_blocks: one.live_blocks.hypot(other.live_blocks),
    }
}

/// Those of a process that has exited: nothing of it lives, which is sure, and all that it allocated is gone.
const fn exited(errors: SumErrors) -> SumErrors {
    SumErrors {
        freed_bytes: errors.allocated_bytes,
        freed_blocks: errors.allocated_blocks,
        live_bytes: 0.0,
        live_blocks: 0.0,
        ..errors
    }
}

/// Adds the errors of a process's sums to those of the whole.
pub(super) fn add_totals(sum: &mut Totals, of: &Totals, gone: bool) {
    let more = of.errors.map(|errors| if gone { exited(errors) } else { errors });
    sum.errors = match (sum.errors, more) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    };
}

/// What is known of a site whose process has exited: how much it allocated. What grew there grows no more.
pub(super) fn close(site: &mut Site) {
    site.evidence = None;
    site.survivors = site.survivors.map(|_| 0);
    site.growth_at_least = site.growth_at_least.map(|_| 0.0);
    if let Some(errors) = &mut site.errors {
        errors.sums = exited(errors.sums);
        errors.growth_bytes_per_second = 0.0;
    }
}

/// Adds what stands behind a site's estimates to that of the same site in other processes, whose growth is not added yet. The verdict of both together, if there is evidence for one.
pub(super) fn join(sum: &mut Site, site: &Site) -> Option<Verdict> {
    sum.samples = added(sum.samples, site.samples);
    sum.survivors = added(sum.survivors, site.survivors);
    let mistaken = |site: &Site| site.evidence.map_or(0.0, |evidence| evidence.mistaken);
    if let (Some(one), Some(other)) = (&mut sum.errors, site.errors) {
        let (alike, more) = (sum.evidence.map_or(0.0, |evidence| evidence.mistaken), mistaken(site));
        let chance = |error: f64, alike: f64| (error - alike).max(0.0);
        one.sums = both(one.sums, other.sums);
        let (one_by_chance, by_chance) =
            (chance(one.growth_bytes_per_second, alike), chance(other.growth_bytes_per_second, more));
        let alike = one.growth_bytes_per_second.min(alike) + other.growth_bytes_per_second.min(more);
        one.growth_bytes_per_second = one_by_chance.hypot(by_chance) + alike;
    } else {
        sum.errors = sum.errors.or(site.errors);
    }
    let (Some(one), Some(other)) = (sum.evidence, site.evidence) else {
        if sum.evidence.is_none() && site.evidence.is_some() {
            sum.evidence = site.evidence;
            sum.growth_at_least = site.growth_at_least;
            return Some(site.verdict);
        }
        return sum.evidence.map(|_| sum.verdict);
    };
    let evidence = one.plus(other);
    let growth = sum.growth_bytes_per_second + site.growth_bytes_per_second;
    sum.growth_at_least = Some(at_least(&evidence, growth));
    sum.evidence = Some(evidence);
    Some(evidence.verdict())
}

/// What a growth is at least. Growth was made to agree with the heap's own counters after its evidence was taken down; what is sure of it goes with it.
fn at_least(evidence: &Evidence, growth: f64) -> f64 {
    let (value, sure) = (evidence.growth.value, evidence.growth.at_least);
    let scaled = if value > 0.0 { sure * growth / value } else { sure };
    if scaled.is_finite() { scaled.clamp(0.0, growth.max(0.0)) } else { 0.0 }
}

fn added(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
