//! The sample engine: windows at random times, looks at what survived them, and what they cost.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use tracer_common::domain::Domain;

use crate::cli::plan::{Engine, Plan, When, Whom};
use crate::drain::clock;
use crate::error::Result;
use crate::heap::sample::{Bounds, Random, Sampler};
use crate::probe::attach::Method;
use crate::report::story::Story;
use crate::session::hooked::Hooked;
use crate::session::priority::go_first;
use crate::session::subject::Subject;
use crate::session::watch::Trigger;
use crate::session::{Armed, Closed, Company, Ended, FOREVER, Signals, say, say_points, traced};
use crate::target::survivors::Survivors;

mod counters;
mod expenses;
mod family;

mod growing;
mod kit;
mod looks;
mod members;

mod story;
mod turns;
mod window;

use counters::Looked;
use expenses::{Expenses, Ran};
use kit::{Kit, Pace};

pub(super) use family::record as record_family;

/// How often survivors are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How often the target's size is read.
const SIZE_TICK: Duration = Duration::from_secs(3);

/// The part of the longest window in which births count; the rest is for the first looks.
const OPEN: f64 = 0.75;

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

/// Samples a process to its end, or to that of the recording.
pub(super) async fn record(
    plan: &Plan,
    wish: Wish,
    subject: &mut Subject,
    signals: &mut Signals,
    company: &mut Company,
) -> Result<Story> {
    let begin = Instant::now();
    let expenses = Expenses::begin();
    // Where every processor is busy, a window would be open, and its traps in, until we get one.
    go_first();
    let waited = match plan.when {
        When::Now => None,
        When::Growing => {
            subject.release()?;
            growing::wait(plan, subject, signals).await?
        }
    };
    // Whatever fails when the target has ended meanwhile fails because of that.
    let mut hooked = Hooked::load(plan, subject, &company.shared)
        .map_err(|error| subject.check().err().unwrap_or(error))?;
    if matches!(hooked.method, Method::PerfEvents) {
        drop(hooked);
        let deadline = plan.duration.map(|duration| begin + duration);
        subject.release()?;
        return fall_back(plan, subject, SLOW_KERNEL, deadline, signals, company).await;
    }
    say_points(plan, &hooked);
    // What says that the interpreter ends is in all the time; it is hit once.
    let (probes, points) = (&mut hooked.probes, &hooked.hooks.points);
    hooked.links = hooked.method.attach_some(probes, points, subject.process.pid(), window::is_milestone)?;
    subject.check()?;
    let (mut sampling, mut pace) = (Sampling::new(plan), Pace::new(wish, expenses));
    let mut kit = Kit::new(plan, subject, hooked)?;
    pace.expenses.set_up();
    let armed = kit.hooked.arm(subject, plan.empty_probes)?;
    subject.release()?;
    say(plan, &headline(wish, subject, &kit.hooked));
    // Waiting for growth is part of the time.
    let from = if plan.when == When::Growing { begin } else { armed.instant };
    let deadline = company.until.or(plan.duration.map(|duration| from + duration));
    company.armed(subject, armed, &kit.hooked);
    let ended = match waited {
        Some(ended) => {
            sampling.none = Some("the heap did not grow".to_owned());
            ended
        }
        None => sampling.watch(subject, (&mut kit, &mut pace), signals, armed, deadline).await?,
    };
    if ended == Ended::TooDear {
        drop((sampling, kit));
        let why = format!(
            "even the shortest windows would cost more than {} % of a CPU here (--budget)",
            wish.budget * 100.0
        );
        return fall_back(plan, subject, &why, deadline, signals, company).await;
    }
    signals.next_one_aborts();
    kit.hooked.probes.arm(false)?;
    let closed = Closed::now(ended, armed, subject);
    company.ended = Some(ended);
    say(plan, &format!("{}; looking at the survivors for the last time", ended.words()));
    sampling.finish(subject, kit, (wish, pace), armed, closed)
}

/// Watches for the rest of the time.
async fn fall_back(
    plan: &Plan,
    subject: &mut Subject,
    why: &str,
    deadline: Option<Instant>,
    signals: &mut Signals,
    company: &mut Company,
) -> Result<Story> {
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
    // What was known of a command before it ran is not enough now.
    *subject = Subject::open(&rest.whom, None)?;
    let mut story = Box::pin(traced(&rest, subject, signals, company)).await?;
    story.notes.push(note);
    Ok(story)
}

fn headline(wish: Wish, subject: &Subject, hooked: &Hooked) -> String {
    format!(
        "tracing {} (python {}) in windows of up to {:.1} ms: {} probe points, at most {} % of a CPU, hooks {}; Ctrl-C stops",
        subject.process.pid(),
        subject.python.named(),
        wish.longest.as_secs_f64() * 1e3,
        hooked.hooks.points.len(),
        wish.budget * 100.0,
        if hooked.hooks.completeness.complete { "complete" } else { "NOT complete" },
    )
}

/// What is gathered of one process while it runs.
struct Sampling<'p> {
    plan: &'p Plan,
    sampler: Sampler,
    /// Of a command that was started by us it is not known before its interpreter is mapped.
    survivors: Option<Survivors>,
    /// Seconds between two windows that were expected when the next one was drawn.
    interval_s: f64,
    /// How busy it was between windows.
    ran: Ran,
    /// The heap's own counters.
    heap: Trigger,
    /// When they are looked at next.
    next_heap: Duration,
    /// Processes that share our time: what is done every so often for each of them is done more seldom.
    sharers: u32,
    /// Windows, hits and seconds that it lost, so far.
    windows: u32,
    hits: u64,
    lost_s: f64,
    last_rss_bytes: u64,
    /// When that was read.
    sized: Instant,
    /// Why there were no windows.
    none: Option<String>,
}

impl<'p> Sampling<'p> {
    fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            sampler: Sampler::new(clock::monotonic_ns(), Bounds::default()),
            survivors: None,
            interval_s: 0.0,
            ran: Ran::default(),
            heap: Trigger::default(),
            next_heap: Duration::ZERO,
            sharers: 1,
            windows: 0,
            hits: 0,
            lost_s: 0.0,
            last_rss_bytes: 0,
            sized: Instant::now(),
            none: None,
        }
    }

    /// Waits for the end; windows and looks come in their time.
    async fn watch(
        &mut self,
        subject: &Subject,
        (kit, pace): (&mut Kit, &mut Pace),
        signals: &mut Signals,
        armed: Armed,
        deadline: Option<Instant>,
    ) -> Result<Ended> {
        let target = subject.end()?;
        let deadline = deadline.unwrap_or(armed.instant + FOREVER);
        let mut next_tick = Instant::now() + TICK;
        let mut random = Random::new(clock::monotonic_ns());
        let mut next_window = pace.draw(Instant::now(), &mut random);
        loop {
            let next = next_tick.min(next_window.at);
            tokio::select! {
                biased;
                () = signals.any() => return Ok(Ended::Interrupted),
                ready = kit.ring.ready() => {
                    ready?;
                    if let Some(ended) = kit.read_ring(subject)? {
                        return Ok(ended);
                    }
                }
                ended = target.come() => {
                    ended?;
                    return Ok(kit.read_ring(subject)?.unwrap_or(Ended::Gone));
                }
                () = sleep_until(deadline.into()) => return Ok(Ended::TimeUp),
                () = sleep_until(next.into()) => {}
            }
            if Instant::now() >= next_window.at {
                let begin = Instant::now();
                self.interval_s = next_window.interval_s;
                if let Some(ended) = self.window(subject, kit, pace, armed)? {
                    return Ok(ended);
                }
                if pace.governor.is_too_dear() {
                    return Ok(Ended::TooDear);
                }
                next_window = pace.draw(begin, &mut random);
            }
            if Instant::now() >= next_tick {
                pace.expenses.looks += self.tick(subject, armed);
                next_tick = Instant::now() + TICK;
            }
        }
    }

    /// Looks whose time it is; how many blocks were looked at.
    fn tick(&mut self, subject: &Subject, armed: Armed) -> u64 {
        if self.sized.elapsed() >= SIZE_TICK * self.sharers {
            self.sized = Instant::now();
            self.last_rss_bytes = subject.process.rss_bytes().unwrap_or(self.last_rss_bytes);
        }
        let now = armed.instant.elapsed();
        if now >= self.next_heap {
            self.heap.tick(subject, now);
            let (took, whole) = (self.heap.took(), self.plan.duration);
            self.next_heap = Looked { now, took, whole, sharers: self.sharers }.next();
        }
        self.look(subject, now.as_secs_f64())
    }
}

/// When a window comes.
struct Drawn {
    at: Instant,
    /// Seconds between two that were expected when it was drawn.
    interval_s: f64,
}

impl Pace {
    /// Draws the time of the next window; the last one began then.
    fn draw(&self, begin: Instant, random: &mut Random) -> Drawn {
        let pause = self.governor.pause();
        // From the beginning of the last window, and behind the longest that it may have taken: counted from its end, the next one would come sooner after a dense
        // window than after another, and dense code would be seen too often.
        let dead_s = self.governor.dead_s() * 2.0;
        let gap_s = dead_s + pause.wait_s - pause.mean_gap_s * (1.0 - random.unit()).ln();
        Drawn {
            at: begin + Duration::from_secs_f64(gap_s.min(3600.0)),
            interval_s: dead_s + pause.wait_s + pause.mean_gap_s,
        }
    }
}
