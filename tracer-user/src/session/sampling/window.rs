//! One window: traps in, gate open, gate shut, traps out, and what happened in it.

use std::time::{Duration, Instant};

use tracer_common::domain::Domain;
use tracer_common::hook::Role;
use tracer_common::sample::{Gate, Happening};

use crate::drain::ring::{Event, Ring};
use crate::drain::{books, clock};
use crate::error::Result;
use crate::heap::sample::{Happened, Window};
use crate::probe::budget::{SHORTEST_S, Spent, Terms};
use crate::probe::sites::Point;
use crate::session::sampling::Sampling;
use crate::session::sampling::expenses::Expenses;
use crate::session::sampling::kit::{Kit, Pace};
use crate::session::subject::Subject;
use crate::session::{Armed, Ended};

/// The part of the shortest window over which the cost rate at its start is measured: 5 µs, in which the densest code has some hundred hits.
const EARLY: f64 = 0.025;

/// What it costs a target that runs that one breakpoint goes in and out, in seconds: two interruptions of the processors that it runs on, to make them forget the page. Measured
/// as what a busy target loses besides its hits (docs/cost.md).
const INTERRUPTIONS_S: f64 = 3.5e-6;
/// What it costs whether it runs at that moment or not: the faults that bring the pages back, several breakpoints each.
const FAULTS_S: f64 = 0.5e-6;

/// How long after it is written a gate opens, in nanoseconds.
const AHEAD_NS: u64 = 100_000;

/// How often it is looked whether code was mapped, besides when a stack goes through code that is not known. A look takes some 0.2 ms.
pub(super) const REFRESH: Duration = Duration::from_secs(5);

impl Sampling<'_> {
    /// Opens a window, and closes it; the target's end, if that is what it saw.
    pub(super) fn window(
        &mut self,
        subject: &Subject,
        kit: &mut Kit,
        pace: &mut Pace,
        armed: Armed,
    ) -> Result<Option<Ended>> {
        let begin = Instant::now();
        let hooked = &mut kit.hooked;
        let attached = hooked.method.attach_some(
            &mut hooked.probes,
            &hooked.hooks.points,
            subject.process.pid(),
            |point| !is_milestone(point),
        );
        let links = match attached {
            Ok(links) => links,
            // A target that has ended meanwhile has nothing to attach to.
            Err(_) if !subject.process.still_same() => return Ok(Some(Ended::Gone)),
            Err(error) => return Err(error),
        };
        let attached = Instant::now();
        let terms = pace.governor.terms();
        self.windows += 1;
        pace.expenses.windows += 1;
        let opened_s = armed.instant.elapsed().as_secs_f64();
        hooked.probes.open_gate(gate(terms, pace.expenses.windows, hooked.trap.entry_ns));
        kit.ring.wait(
            Duration::from_secs_f64(terms.length_s.max(terms.share_s)) + Duration::from_nanos(AHEAD_NS),
        );
        let gate = hooked.probes.end_window();
        let opened = Opened { ns: gate.opened_ns, seconds: opened_s };
        let (happened, mut others) = log(&mut kit.ring, opened, &mut pace.expenses);
        let window = self.seen(&gate, terms, opened_s, &mut pace.expenses);
        self.sampler.window(&window, &happened);
        // While they are looked at for the first time, it is still logged what dies: what takes its place is not taken for it, so the looks count as of the window's end.
        let looks = self.look(subject, opened_s + window.own_s + window.cost_s);
        let gate = hooked.probes.close_gate();
        kit.learn_trap(&gate);
        pace.expenses.looks += looks;
        kit.leaving.retain(|leaving| !leaving.is_over());
        kit.leaving.push(links.take_out(&mut kit.exits));
        let traps_in_s = attached.elapsed().as_secs_f64();
        pace.expenses.attached((attached - begin).as_secs_f64());
        let (deaths, more) = log(&mut kit.ring, opened, &mut pace.expenses);
        self.sampler.aftermath(&deaths);
        others.extend(more);
        let ended = kit.take(subject, others)?;
        // Those of the traps that are still on their way out are paid with the next window.
        let shut = books::hits(&mut kit.hooked.probes)?.shut;
        let before = std::mem::replace(&mut kit.shut, shut);
        self.pay(subject, kit, pace, &Paid { gate, begin, shut: shut - before.min(shut), traps_in_s });
        Ok(ended)
    }

    /// What the window was.
    fn seen(&self, gate: &Gate, terms: Terms, opened_s: f64, expenses: &mut Expenses) -> Window {
        let closed_ns = if gate.closed_ns == 0 { clock::monotonic_ns() } else { gate.closed_ns };
        let elapsed_s = seconds(closed_ns.saturating_sub(gate.opened_ns));
        let cost_s = seconds(gate.cost_ns);
        // A window that nobody hit at its end ended when its time was up, whenever that was noticed.
        let most_s = terms.length_s * (1.0 - cost_s / terms.share_s).max(0.0);
        let own_s = (elapsed_s - cost_s).clamp(0.0, most_s);
        expenses.open_s += own_s + cost_s;
        expenses.longest_s = expenses.longest_s.max(own_s + cost_s);
        expenses.refused += gate.refused;
        Window {
            opened_s,
            interval_s: self.interval_s,
            length_s: terms.length_s,
            share_s: terms.share_s,
            own_s,
            cost_s,
            early_s: seconds(gate.early_ns),
            early_cost_s: seconds(gate.early_cost_ns),
            refused: gate.refused,
            thin: f64::from(terms.thin),
        }
    }

    /// Accounts for the window.
    fn pay(&mut self, subject: &Subject, kit: &Kit, pace: &mut Pace, paid: &Paid) {
        let Paid { gate, begin, shut, traps_in_s } = paid;
        let (hooked, spent) = (&kit.hooked, &mut pace.expenses);
        let passed_s = spent.passed_s();
        let busy = self.ran.busy(subject.process.cpu_time()).unwrap_or(1.0);
        let point_s = FAULTS_S + INTERRUPTIONS_S * busy;
        let inside_s = seconds(gate.cost_ns + gate.tail_cost_ns) + hooked.hooks.points.len() as f64 * point_s;
        let target_s = inside_s + spent.hits_outside(*shut, hooked.trap);
        spent.target_s += inside_s;
        spent.hits += gate.hits;
        self.lost_s += target_s;
        self.hits += gate.hits + shut;
        spent.traps_in_s = spent.traps_in_s.max(*traps_in_s);
        let own_s = spent.own_since_s();
        let dead_s = begin.elapsed().as_secs_f64();
        pace.governor.account(Spent {
            target_s,
            own_s,
            dead_s,
            passed_s,
            has_hits: gate.hits > 0,
            is_cut: gate.cost_ns * 2 > gate.share_ns,
        });
    }
}

/// What a window has come to.
struct Paid {
    gate: Gate,
    begin: Instant,
    /// Hits since the last one that found the gate shut.
    shut: u64,
    traps_in_s: f64,
}

/// What the ring holds: what happened in the window, and all else.
fn log(ring: &mut Ring, opened: Opened, expenses: &mut Expenses) -> (Vec<Happened>, Vec<Event>) {
    let (mut happened, mut others) = (Vec::new(), Vec::new());
    ring.drain_all(|event| match event {
        Event::Born(happening) | Event::Died(happening) => happened.extend(told(&happening, opened)),
        other => others.push(other),
    });
    expenses.births += happened.iter().filter(|event| matches!(event, Happened::Born { .. })).count() as u64;
    (happened, others)
}

/// Whether a point is of interest at any time.
pub(super) fn is_milestone(point: &Point) -> bool {
    point.hook.role() == Some(Role::Finalize)
}

/// When a window was opened, by the kernel's clock and since counting began.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    ns: u64,
    seconds: f64,
}

/// What happened, in the heap's words; `None` for a straggler of the window before.
fn told(happening: &Happening, opened: Opened) -> Option<Happened> {
    let at_s = opened.seconds + seconds(happening.at_ns.checked_sub(opened.ns)?);
    let address = happening.address;
    Some(if happening.is_birth() {
        Happened::Born {
            site: happening.site,
            address,
            size_bytes: happening.size_bytes,
            domain: Domain::from_code(happening.domain_code()),
            reused: happening.is_reused(),
            at_s,
        }
    } else {
        Happened::Died { address, at_s }
    })
}

/// The gate of a window that begins now.
fn gate(terms: Terms, window: u32, trap_ns: f64) -> Gate {
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    Gate {
        window,
        // We may stand on the target's processor: what it does until it has it back is not in the window.
        opened_ns: clock::monotonic_ns() + AHEAD_NS,
        length_ns: ns(terms.length_s),
        share_ns: ns(terms.share_s),
        trap_ns: trap_ns as u64,
        early_ns: ns(SHORTEST_S * EARLY),
        thin: u64::from(terms.thin - 1),
        ..Gate::default()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 * 1e-9
}
