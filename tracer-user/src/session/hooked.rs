//! The probes on their target: planned, refused if they would not see everything, loaded, attached, and armed.

use std::time::{Instant, SystemTime};

use tracer_common::config::{ProcessState, TraceConfig};
use tracer_common::domain::Domain;
use tracer_common::hook::Hook;

use crate::cli::plan::Plan;
use crate::error::{Error, Kind, Result};
use crate::probe::attach::{Links, Method};
use crate::probe::calibrate::TrapCost;
use crate::probe::load::Probes;
use crate::probe::sites::{self, HookPlan, Wish};
use crate::probe::{calibrate, doctor, multi};
use crate::session::subject::Subject;
use crate::session::{Armed, price};
use crate::target::image::Image;

/// The probes, in.
pub(super) struct Hooked {
    pub(super) probes: Probes,
    pub(super) method: Method,
    pub(super) links: Links,
    /// What a trap costs here.
    pub(super) trap: TrapCost,
    /// What was hooked.
    pub(super) hooks: HookPlan,
}

impl Hooked {
    /// Plans, loads and attaches; nothing counts yet.
    pub(super) fn hook(plan: &Plan, subject: &Subject) -> Result<Self> {
        let hooks = plan_hooks(subject, plan)?;
        if !hooks.completeness.complete && !plan.incomplete {
            let reason = &hooks.completeness.reason;
            return Err(Error::new(
                Kind::Target,
                format!("{}: the hooks would be incomplete: {reason}", subject.name()),
            )
            .next("frees that pass unseen invent leaks; trace what can be seen with --incomplete"));
        }
        price::check(plan, subject, &hooks)?;
        let mut probes = Probes::load(plan.limits, plan.probe_log)?;
        probes.configure(configuration(plan, subject), process_state(subject))?;
        let meanings: Vec<Hook> = hooks.points.iter().map(|point| point.hook).collect();
        probes.set_hooks(&meanings, &hooks.slow_calls)?;
        let multi = !plan.perf_events && multi::supported(&doctor::kernel_release());
        let method = Method::load(&mut probes, multi)?;
        let trap = calibrate::trap_cost(&method, &mut probes)?;
        probes.watch_process()?;
        let links = method.attach(&mut probes, &hooks.points, subject.process.pid())?;
        // The pid was resolved again when the links were made: it must still be the process that was looked into.
        subject.check()?;
        Ok(Self { probes, method, links, trap, hooks })
    }

    /// Begins to count.
    pub(super) fn arm(&mut self, subject: &Subject, empty: bool) -> Result<Armed> {
        if !empty {
            self.probes.arm(true)?;
        }
        Ok(Armed { instant: Instant::now(), wall: SystemTime::now(), rss_bytes: subject.process.rss_bytes() })
    }

    /// The first message: whom, where, and whether that is everything.
    pub(super) fn headline(&self, subject: &Subject) -> String {
        let HookPlan { points, completeness, .. } = &self.hooks;
        let stepped = points.iter().filter(|point| !point.emulated).count();
        let stepped = match stepped {
            0 => String::new(),
            some => format!(", {some} of them single-stepped (slow)"),
        };
        format!(
            "tracing {} (python {}): {} probe points{stepped}, hooks {}; Ctrl-C stops",
            subject.process.pid(),
            subject.python.version,
            points.len(),
            if completeness.complete { "complete" } else { "NOT complete" },
        )
    }
}

/// Plans the hooks of a target. The C library is looked for only where it is asked for.
fn plan_hooks(subject: &Subject, plan: &Plan) -> Result<HookPlan> {
    let libc = match (plan.domains.contains(&Domain::Libc), subject.is_fresh()) {
        (false, _) => None,
        (true, false) => Some(Image::allocator_of(&subject.process)?),
        (true, true) => Some(Image::allocator_among(&subject.python.libraries)?),
    };
    let live = (!subject.is_fresh()).then_some(&subject.process);
    sites::plan(
        &subject.python,
        &Wish { live, domains: &plan.domains, ints: plan.ints, libc: libc.as_ref(), how: plan.how },
    )
}

fn configuration(plan: &Plan, subject: &Subject) -> TraceConfig {
    let (ns_dev, ns_ino) = subject.process.pid_namespace();
    TraceConfig {
        armed: 0,
        max_depth: plan.max_depth,
        ns_dev,
        ns_ino,
        ns_tgid: subject.process.namespace_pid(),
        pool_bytes: subject.layout.pool_bytes,
        work: plan.work,
        reserved: 0,
        layout: subject.layout.walk,
    }
}

/// A program that has not mapped its interpreter yet has no thread state slot: the first hit finds it.
fn process_state(subject: &Subject) -> ProcessState {
    let known = if subject.is_fresh() { None } else { subject.python.tstate_slot() };
    ProcessState { tstate_slot: known.unwrap_or(0) }
}
