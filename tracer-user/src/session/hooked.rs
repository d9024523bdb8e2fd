//! The probes on their target: planned, refused if they would not see everything, loaded, attached, and armed.

use std::time::{Instant, SystemTime};

use tracer_common::config::{ProcessState, TraceConfig, work};
use tracer_common::domain::Domain;
use tracer_common::hook::Hook;
use tracer_common::native::Mode;

use crate::cli::plan::{Engine, Plan};
use crate::error::{Error, Kind, Result};
use crate::probe::attach::{Links, Method};
use crate::probe::calibrate::TrapCost;
use crate::probe::load::{Limits, Probes};
use crate::probe::sites::{self, HookPlan, Purpose, Wish};
use crate::probe::{calibrate, doctor, multi};
use crate::session::code::Code;
use crate::session::subject::Subject;
use crate::session::{Armed, price};
use crate::target::image::Image;

/// Perf events that may be attached one by one. Taking one out costs about 0.17 s here (674 of them took 116 s, and no less from many threads: the kernel does it
/// under one lock, kernel/trace/trace_event_perf.c, `perf_uprobe_destroy`), in which we could not be ended.
const PERF_EVENTS: usize = 64;

fn too_many(points: usize) -> Error {
    let seconds = points as f64 * 0.17;
    Error::failed(format!(
        "this build needs {points} probe points, and this kernel (before 6.10) takes them one by one: some {seconds:.0} s to take them out again"
    ))
    .next("trace it on a kernel from 6.10 on, or watch the allocator's functions alone with --hooks functions --incomplete")
}

/// The probes, in.
pub(super) struct Hooked {
    pub(super) probes: Probes,
    pub(super) method: Method,
    pub(super) links: Links,
    /// What a trap costs here.
    pub(super) trap: TrapCost,
    /// What was hooked.
    pub(super) hooks: HookPlan,
    /// The target's code; `None` where no C frames are wanted.
    pub(super) code: Option<Code>,
    /// Milliseconds that it took to put the traps in.
    pub(super) attach_ms: f64,
}

impl Hooked {
    /// Plans, loads and attaches; nothing counts yet.
    pub(super) fn hook(plan: &Plan, subject: &Subject) -> Result<Self> {
        let mut this = Self::load(plan, subject)?;
        let begin = Instant::now();
        this.links = this.method.attach(&mut this.probes, &this.hooks.points, subject.process.pid())?;
        this.attach_ms = begin.elapsed().as_secs_f64() * 1e3;
        // The pid was resolved again when the links were made: it must still be the process that was looked into.
        subject.check()?;
        Ok(this)
    }

    /// Plans and loads; no trap is in yet.
    pub(super) fn load(plan: &Plan, subject: &Subject) -> Result<Self> {
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
        Self::load_hooks(plan, subject, hooks)
    }

    /// The same for hooks that are planned already.
    pub(super) fn load_hooks(plan: &Plan, subject: &Subject, hooks: HookPlan) -> Result<Self> {
        let mut code = if plan.native == Mode::Off { None } else { Some(Code::read(subject)?) };
        let rows = code.as_mut().map_or(0, Code::room_for_rows);
        // Windows keep no blocks in the kernel.
        let blocks = if matches!(plan.engine, Engine::Sample { .. }) { 1 } else { plan.limits.blocks };
        let mut probes = Probes::load(Limits { rows, blocks, ..plan.limits }, plan.probe_log)?;
        if let Some(code) = &mut code {
            code.write(&mut probes)?;
        }
        probes.configure(configuration(plan, subject, &hooks), process_state(subject))?;
        let meanings: Vec<Hook> = hooks.points.iter().map(|point| point.hook).collect();
        probes.set_hooks(&meanings, &hooks.slow_calls)?;
        let multi = !plan.perf_events && multi::supported(&doctor::kernel_release());
        if !multi && hooks.points.len() > PERF_EVENTS {
            return Err(too_many(hooks.points.len()));
        }
        let method = Method::load(&mut probes, multi)?;
        let trap = calibrate::trap_cost(&method, &mut probes)?;
        probes.watch_process()?;
        Ok(Self { probes, method, links: Links::default(), trap, hooks, code, attach_ms: 0.0 })
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
            "tracing {} (python {}): {} probe points{stepped} in {:.0} ms, hooks {}; Ctrl-C stops",
            subject.process.pid(),
            subject.python.version,
            points.len(),
            self.attach_ms,
            if completeness.complete { "complete" } else { "NOT complete" },
        )
    }
}

/// Plans the hooks of a target. The C library is looked for only where it is asked for.
fn plan_hooks(subject: &Subject, plan: &Plan) -> Result<HookPlan> {
    let libc = match (plan.domains.contains(&Domain::Libc), subject.is_fresh()) {
        (false, _) => None,
        // Samples take what there is.
        (true, false) if matches!(plan.engine, Engine::Sample { .. }) => {
            Image::allocator_of(&subject.process).ok()
        }
        (true, false) => Some(Image::allocator_of(&subject.process)?),
        (true, true) => Some(Image::allocator_among(&subject.python.libraries)?),
    };
    let live = (!subject.is_fresh()).then_some(&subject.process);
    sites::plan(
        &subject.python,
        &Wish {
            live,
            domains: &plan.domains,
            ints: plan.ints,
            libc: libc.as_ref(),
            how: plan.how,
            purpose: if matches!(plan.engine, Engine::Sample { .. }) {
                Purpose::Sample
            } else {
                Purpose::Trace
            },
        },
    )
}

fn configuration(plan: &Plan, subject: &Subject, hooks: &HookPlan) -> TraceConfig {
    let (ns_dev, ns_ino) = subject.process.pid_namespace();
    // Only where every free of an object is seen, an address is known to be the same code object.
    let frees_seen = hooks.completeness.complete && plan.domains.contains(&Domain::Object);
    let samples = matches!(plan.engine, Engine::Sample { .. });
    let more = match (samples, frees_seen) {
        (true, _) => work::LOG,
        (false, true) => work::REMEMBER_CODE,
        (false, false) => 0,
    };
    TraceConfig {
        armed: 0,
        max_depth: plan.max_depth,
        ns_dev,
        ns_ino,
        ns_tgid: subject.process.namespace_pid(),
        pool_bytes: subject.layout.pools.pool_size as u32,
        work: plan.work | more,
        // Without stacks there is nothing to walk.
        native: if plan.work & work::STACKS == 0 { Mode::Off } else { plan.native } as u32,
        layout: subject.layout.walk,
    }
}

/// A program that has not mapped its interpreter yet has no thread state slot: the first hit finds it.
fn process_state(subject: &Subject) -> ProcessState {
    let known = if subject.is_fresh() { None } else { subject.python.tstate_slot() };
    ProcessState { tstate_slot: known.unwrap_or(0), kernel_tgid: 0, code_epoch: 1, ..ProcessState::default() }
}
