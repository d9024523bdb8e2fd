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
use crate::probe::{btf, calibrate, doctor, multi};
use crate::session::code::Code;
use crate::session::follow::{Shared, Spare};
use crate::session::subject::Subject;
use crate::session::{Armed, price};
use crate::target::current;
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
    /// Unwind rows for which there is room.
    pub(super) rows: u32,
    /// Milliseconds that it took to put the traps in.
    pub(super) attach_ms: f64,
}

impl Hooked {
    /// Plans, loads and attaches; nothing counts yet.
    pub(super) fn hook(plan: &Plan, subject: &Subject, shared: &Shared) -> Result<Self> {
        let mut this = Self::load(plan, subject, shared)?;
        let begin = Instant::now();
        this.links = this.method.attach(&mut this.probes, &this.hooks.points, subject.process.pid())?;
        this.attach_ms = begin.elapsed().as_secs_f64() * 1e3;
        // The pid was resolved again when the links were made: it must still be the process that was looked into.
        subject.check()?;
        Ok(this)
    }

    /// Plans and loads; no trap is in yet.
    pub(super) fn load(plan: &Plan, subject: &Subject, shared: &Shared) -> Result<Self> {
        let hooks = shared.plan(subject, || plan_hooks(subject, plan))?;
        if !hooks.completeness.complete && !plan.incomplete {
            let reason = &hooks.completeness.reason;
            return Err(Error::new(
                Kind::Target,
                format!("{}: the hooks would be incomplete: {reason}", subject.name()),
            )
            .next("frees that pass unseen invent leaks; trace what can be seen with --incomplete"));
        }
        price::check(plan, subject, &hooks)?;
        Self::load_hooks(plan, subject, hooks, shared)
    }

    /// The same for hooks that are planned already.
    pub(super) fn load_hooks(
        plan: &Plan,
        subject: &Subject,
        hooks: HookPlan,
        shared: &Shared,
    ) -> Result<Self> {
        let mut code = if plan.native == Mode::Off { None } else { Some(Code::read(subject, &shared.rows)?) };
        let rows = code.as_mut().map_or(0, Code::room_for_rows);
        // Windows keep no blocks in the kernel.
        let blocks = if matches!(plan.engine, Engine::Sample { .. }) { 1 } else { plan.limits.blocks };
        let limits = Limits { rows, blocks, ..plan.limits };
        let (mut probes, method) = match shared.spare(plan, limits) {
            Some(Spare { probes, method, .. }) => (probes, method),
            None => load_probes(plan, limits, hooks.points.len())?,
        };
        if let Some(code) = &mut code {
            code.write(&mut probes)?;
        }
        let (config, state) = settings(plan, subject, &hooks);
        probes.configure(config, state)?;
        let meanings: Vec<Hook> = hooks.points.iter().map(|point| point.hook).collect();
        probes.set_hooks(&meanings, &hooks.slow_calls)?;
        let trap = shared.trap(|| calibrate::trap_cost(&method, &mut probes))?;
        probes.watch_process()?;
        Ok(Self { probes, method, links: Links::default(), trap, hooks, code, rows, attach_ms: 0.0 })
    }

    /// Begins to count.
    pub(super) fn arm(&mut self, subject: &Subject, empty: bool) -> Result<Armed> {
        if !empty {
            self.probes.arm(true)?;
        }
        Ok(Armed { instant: Instant::now(), wall: SystemTime::now(), rss_bytes: subject.process.rss_bytes() })
    }

    /// From now on hits of another process count, and of none before.
    pub(super) fn turn_to(&mut self, config: TraceConfig, state: ProcessState) -> Result<()> {
        self.probes.configure(config, state)?;
        self.probes.arm(true)
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
            subject.python.named(),
            points.len(),
            self.attach_ms,
            if completeness.complete { "complete" } else { "NOT complete" },
        )
    }
}

/// Loads the probes for so many points, and their programs; they are on nothing yet.
pub(super) fn load_probes(plan: &Plan, limits: Limits, points: usize) -> Result<(Probes, Method)> {
    let mut probes = Probes::load(limits, plan.probe_log)?;
    let multi = !plan.perf_events && multi::supported(&doctor::kernel_release());
    if !multi && points > PERF_EVENTS {
        return Err(too_many(points));
    }
    let method = Method::load(&mut probes, multi)?;
    Ok((probes, method))
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

/// What the probes must know of a process.
pub(super) fn settings(plan: &Plan, subject: &Subject, hooks: &HookPlan) -> (TraceConfig, ProcessState) {
    (configuration(plan, subject, hooks), process_state(subject))
}

fn configuration(plan: &Plan, subject: &Subject, hooks: &HookPlan) -> TraceConfig {
    let (ns_dev, ns_ino) = subject.process.pid_namespace();
    // Only where every free of an object is seen, an address is known to be the same code object.
    let frees_seen = hooks.completeness.complete && plan.domains.contains(&Domain::Object);
    let samples = matches!(plan.engine, Engine::Sample { .. });
    let remember = if frees_seen { work::REMEMBER_CODE } else { 0 };
    let log = match (samples, plan.follow) {
        (true, true) => work::LOG | work::TURNS,
        (true, false) => work::LOG,
        (false, _) => 0,
    };
    let told = if hooks.table.tells_gil() { work::GIL_TOLD } else { 0 };
    let twice = if hooks.table.frees_twice(&subject.python) { work::TWICE } else { 0 };
    let births = if !samples && hooks.births.hooked > 0 { work::BIRTHS } else { 0 };
    TraceConfig {
        armed: 0,
        max_depth: plan.max_depth,
        ns_dev,
        ns_ino,
        ns_tgid: subject.process.namespace_pid(),
        pool_bytes: subject.layout.pools.pool_size as u32,
        work: plan.work | log | remember | told | births | twice,
        // Without stacks there is nothing to walk.
        native: if plan.work & work::STACKS == 0 { Mode::Off } else { plan.native } as u32,
        current: if subject.is_fresh() {
            current::of_file(&subject.python)
        } else {
            current::of_process(&subject.python, &subject.process)
        },
        thread_pointer_at: btf::thread_pointer_at().unwrap_or(0),
        small_ints: subject.layout.objects.small_ints,
        layout: subject.layout.walk,
    }
}

/// Where the runtime of a program is that has not mapped its interpreter yet, the first hit finds out.
fn process_state(subject: &Subject) -> ProcessState {
    let known = if subject.is_fresh() { None } else { subject.python.runtime() };
    ProcessState { runtime: known.unwrap_or(0), kernel_tgid: 0, code_epoch: 1, ..ProcessState::default() }
}
