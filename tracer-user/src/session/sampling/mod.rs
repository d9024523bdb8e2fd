//! The sample engine: windows at random times, looks at what survived them, and what they cost.

use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;
use tracer_common::domain::Domain;

use crate::cli::plan::{Engine, Plan, When, Whom};
use crate::drain::clock;
use crate::drain::ring::Ring;
use crate::error::{Context, Result};
use crate::heap::sample::{Bounds, Sampler};
use crate::probe::attach::{Leaving, Method};
use crate::probe::budget::Governor;
use crate::session::hooked::Hooked;
use crate::session::names::Names;
use crate::session::subject::Subject;
use crate::session::watch::Trigger;
use crate::session::{Armed, Closed, Ended, Signals, descriptors, publish, recording, say};
use crate::target::survivors::Survivors;

mod expenses;
mod growing;
mod looks;
mod story;
mod window;

use expenses::Expenses;

/// How often survivors are looked at.
const TICK: Duration = Duration::from_millis(150);

/// How often the target's size is read.
const SIZE_TICK: Duration = Duration::from_secs(1);

/// The part of the longest window in which births count; the rest is for the first looks.
const OPEN: f64 = 0.75;

/// How often the heap's own counters are looked at in a recording whose length is known, and how much time is between two looks.
const HEAP_LOOKS: u32 = 24;
/// Sizes of the process that are kept; when there are as many, every second one is dropped.
const SIZES: usize = 4096;
/// See [`HEAP_LOOKS`].
const MOST_OFTEN: Duration = Duration::from_millis(700);
/// See [`HEAP_LOOKS`].
const MOST_SELDOM: Duration = Duration::from_secs(10);

/// Why there are no windows where each trap is attached for itself: taking one out takes 0.17 s.
const SLOW_KERNEL: &str =
    "this kernel (before 6.10) puts traps in and takes them out one by one, which no short window allows";

/// What the sample engine was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Share of one CPU.
    pub(super) budget: f64,
    /// The longest window.
    pub(super) longest: Duration,
}

/// Samples, prints the short report and writes the file that was asked for.
pub(super) async fn record(plan: &Plan, wish: Wish) -> Result<()> {
    let begin = Instant::now();
    let mut expenses = Expenses::begin();
    let mut signals = Signals::new()?;
    let before = descriptors::raise();
    go_first();
    let mut subject = Subject::open(&plan.whom, before)?;
    let waited = match plan.when {
        When::Now => None,
        When::Growing => {
            subject.release()?;
            growing::wait(plan, &subject, &mut signals).await?
        }
    };
    // Whatever fails when the target has ended meanwhile fails because of that.
    let mut hooked = Hooked::load(plan, &subject).map_err(|error| subject.check().err().unwrap_or(error))?;
    if matches!(hooked.method, Method::PerfEvents) {
        drop(hooked);
        let deadline = plan.duration.map(|duration| begin + duration);
        subject.release()?;
        return fall_back(plan, &subject, SLOW_KERNEL, deadline).await;
    }
    let mut sampling = Sampling::new(plan, wish, &subject, &mut hooked)?;
    if plan.details {
        hooked.hooks.points.iter().for_each(|point| say(plan, &format!("probe point: {point}")));
    }
    // What says that the interpreter ends is in all the time; it is hit once.
    let (probes, points) = (&mut hooked.probes, &hooked.hooks.points);
    hooked.links = hooked.method.attach_some(probes, points, subject.process.pid(), window::is_milestone)?;
    subject.check()?;
    expenses.set_up();
    sampling.expenses = expenses;
    let armed = hooked.arm(&subject, plan.empty_probes)?;
    subject.release()?;
    say(plan, &headline(wish, &subject, &hooked));
    // Waiting for growth is part of the time.
    let from = if plan.when == When::Growing { begin } else { armed.instant };
    let deadline = plan.duration.map(|duration| from + duration);
    let ended = match waited {
        Some(ended) => {
            sampling.none = Some("the heap did not grow".to_owned());
            ended
        }
        None => sampling.watch(&subject, &mut hooked, &mut signals, armed, deadline).await?,
    };
    if ended == Ended::TooDear {
        drop((sampling, hooked));
        let why = format!(
            "even the shortest windows would cost more than {} % of a CPU here (--budget)",
            wish.budget * 100.0
        );
        return fall_back(plan, &subject, &why, deadline).await;
    }
    signals.next_one_aborts();
    hooked.probes.arm(false)?;
    let closed = Closed {
        ended,
        seconds: armed.instant.elapsed().as_secs_f64(),
        now_ns: clock::monotonic_ns(),
        rss_bytes: if ended == Ended::Finalizing { None } else { subject.process.rss_bytes() },
    };
    say(plan, &format!("{}; looking at the survivors for the last time", ended.words()));
    publish(plan, &sampling.finish(&subject, hooked, armed, closed)?)
}

/// Watches for the rest of the time.
async fn fall_back(plan: &Plan, subject: &Subject, why: &str, deadline: Option<Instant>) -> Result<()> {
    let note = format!("{why}: only slow paths were watched");
    say(plan, &note);
    let rest = Plan {
        engine: Engine::Watch,
        whom: Whom::Pid(subject.process.pid()),
        duration: deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        // What C code asks for itself passes no slow path of the interpreter's.
        domains: plan.domains.iter().copied().filter(|domain| *domain != Domain::Libc).collect(),
        ..plan.clone()
    };
    recording(&rest, Some(note)).await
}

/// Where every processor is busy, a window would be open, and its traps in, until we get one. We ask for a hundredth of one, and for that at once.
fn go_first() {
    /// As far as priorities of usual processes are raised (setpriority(2): −20 is the highest).
    const NICE: libc::c_int = -10;
    // SAFETY: it takes three numbers. Where it is not allowed, windows are longer on a busy machine, which the report says.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

fn headline(wish: Wish, subject: &Subject, hooked: &Hooked) -> String {
    format!(
        "tracing {} (python {}) in windows of up to {:.1} ms: {} probe points, at most {} % of a CPU, hooks {}; Ctrl-C stops",
        subject.process.pid(),
        subject.python.version,
        wish.longest.as_secs_f64() * 1e3,
        hooked.hooks.points.len(),
        wish.budget * 100.0,
        if hooked.hooks.completeness.complete { "complete" } else { "NOT complete" },
    )
}

/// What a recording gathers while it runs.
struct Sampling<'p> {
    plan: &'p Plan,
    wish: Wish,
    ring: Ring,
    names: Names,
    sampler: Sampler,
    /// Of a command that was started by us it is not known before its interpreter is mapped.
    survivors: Option<Survivors>,
    governor: Governor,
    expenses: Expenses,
    /// Traps on their way out.
    leaving: Vec<Leaving>,
    /// Hits so far that found the gate shut.
    shut: u64,
    random: Random,
    /// When it was last looked whether code was mapped.
    refreshed: Instant,
    /// When the next window begins.
    next_window: Instant,
    /// Seconds between two windows that were expected when the next one was drawn.
    interval_s: f64,
    /// The heap's own counters.
    heap: Trigger,
    /// Resident bytes with their times in seconds, as often as the counters.
    resident: Vec<(f64, u64)>,
    /// When they are looked at next.
    next_heap: Duration,
    /// Windows so far.
    windows: u32,
    last_rss_bytes: u64,
    /// When that was read.
    sized: Instant,
    /// Why there were no windows.
    none: Option<String>,
}

impl<'p> Sampling<'p> {
    fn new(plan: &'p Plan, wish: Wish, subject: &Subject, hooked: &mut Hooked) -> Result<Self> {
        let mut this = Self {
            plan,
            wish,
            ring: Ring::new(hooked.probes.take_ring()?)?,
            names: Names::new(subject, &plan.debug_dirs)?,
            sampler: Sampler::new(clock::monotonic_ns(), Bounds::default()),
            survivors: None,
            governor: Governor::new(wish.budget, wish.longest.as_secs_f64() * OPEN),
            expenses: Expenses::begin(),
            leaving: Vec::new(),
            shut: 0,
            random: Random(clock::monotonic_ns()),
            refreshed: Instant::now(),
            next_window: Instant::now(),
            interval_s: 0.0,
            heap: Trigger::default(),
            resident: Vec::new(),
            next_heap: Duration::ZERO,
            windows: 0,
            last_rss_bytes: 0,
            sized: Instant::now(),
            none: None,
        };
        this.draw(Instant::now());
        Ok(this)
    }

    /// Waits for the end; windows and looks come in their time.
    async fn watch(
        &mut self,
        subject: &Subject,
        hooked: &mut Hooked,
        signals: &mut Signals,
        armed: Armed,
        deadline: Option<Instant>,
    ) -> Result<Ended> {
        // SAFETY: the descriptor is the subject's, which outlives this function and keeps it open.
        let target =
            unsafe { AsyncFd::register(subject.process.pidfd()) }.context("the target's descriptor")?;
        let forever = Duration::from_secs(100 * 365 * 86400);
        let deadline = deadline.unwrap_or(armed.instant + forever);
        let mut next_tick = Instant::now() + TICK;
        loop {
            let next = next_tick.min(self.next_window);
            tokio::select! {
                biased;
                () = signals.any() => return Ok(Ended::Interrupted),
                ready = self.ring.ready() => {
                    ready?;
                    if let Some(ended) = self.read_ring(subject, hooked)? {
                        return Ok(ended);
                    }
                }
                ended = target.readable() => {
                    ended.context("the target's descriptor")?.retain_ready();
                    return Ok(self.read_ring(subject, hooked)?.unwrap_or(Ended::Gone));
                }
                () = sleep_until(deadline.into()) => return Ok(Ended::TimeUp),
                () = sleep_until(next.into()) => {}
            }
            if Instant::now() >= self.next_window {
                let begin = Instant::now();
                if let Some(ended) = self.window(subject, hooked, armed)? {
                    return Ok(ended);
                }
                if self.governor.is_too_dear() {
                    return Ok(Ended::TooDear);
                }
                self.draw(begin);
            }
            if Instant::now() >= next_tick {
                self.tick(subject, armed);
                next_tick = Instant::now() + TICK;
            }
        }
    }

    fn tick(&mut self, subject: &Subject, armed: Armed) {
        if self.sized.elapsed() >= SIZE_TICK {
            self.sized = Instant::now();
            self.last_rss_bytes = subject.process.rss_bytes().unwrap_or(self.last_rss_bytes);
        }
        let now = armed.instant.elapsed();
        if now >= self.next_heap {
            self.heap.tick(subject, now);
            if self.resident.len() >= SIZES {
                let mut index = 0_u32;
                self.resident.retain(|_| {
                    index += 1;
                    index.is_multiple_of(2)
                });
            }
            self.resident.extend(subject.process.rss_bytes().map(|bytes| (now.as_secs_f64(), bytes)));
            let rest = self.plan.duration.unwrap_or(MOST_SELDOM) / HEAP_LOOKS;
            self.next_heap = now + rest.clamp(MOST_OFTEN, MOST_SELDOM);
        }
        self.look(subject, now.as_secs_f64());
    }

    /// Draws the time of the next window; the last one began then.
    fn draw(&mut self, begin: Instant) {
        let pause = self.governor.pause();
        // From the beginning of the last window, and behind the longest that it may have taken: counted from its end, the next one would come sooner after a dense
        // window than after another, and dense code would be seen too often.
        let dead_s = self.governor.dead_s() * 2.0;
        self.interval_s = dead_s + pause.wait_s + pause.mean_gap_s;
        let gap_s = dead_s + pause.wait_s - pause.mean_gap_s * self.random.unit().ln();
        self.next_window = begin + Duration::from_secs_f64(gap_s.min(3600.0));
    }
}

/// Random numbers for times: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    /// Above 0, up to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64) + f64::EPSILON
    }
}
