//! How often the points of a plan are hit, counted for a moment before anything is traced; and what a trace would cost the target then.

use std::time::{Duration, Instant};

use tracer_common::config::{ProcessState, TraceConfig};
use tracer_common::hook::Role;

use crate::error::{Error, Kind, Result};
use crate::probe::attach::Method;
use crate::probe::calibrate;
use crate::probe::doctor::kernel_release;
use crate::probe::forecast::{Price, Prices, Slowdown, total_ns};
use crate::probe::load::Probes;
use crate::probe::multi::{self, Programs};
use crate::probe::sites::Point;
use crate::target::census::Heap;
use crate::target::process::Process;

/// How long hits are counted: long enough for some thousands of them in a busy target, short enough to do no harm to it.
pub const WINDOW: Duration = Duration::from_millis(100);

/// A target that has hardly run is looked at for so many times as long: it may be about to, and traps cost nothing where nothing runs.
const WINDOWS: u32 = 5;
/// The part of the window, 1 in so many, that a target must have run for its rate to be known.
const BUSY: u32 = 20;

/// What was counted, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// Hits per point, in the order of the plan.
    pub hits: Vec<u64>,
    /// How long they were counted.
    pub seconds: f64,
    /// CPU time that the target used meanwhile, in seconds, all threads together; to within a tick of the kernel's clock per running thread.
    pub cpu_seconds: f64,
    /// Putting the traps in took so long.
    pub attach_seconds: f64,
    /// Taking them out took so long.
    pub detach_seconds: f64,
    /// What each point takes at a hit, in the order of the plan.
    pub prices: Vec<Price>,
    /// The heap's own counters when counting began and when it ended, if they were wanted and could be read.
    pub heap: Vec<Snapshot>,
}

/// Small blocks, as the hits have them just before and just after the heap's own counters were read, and as those have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Blocks handed out and taken back, by the hits, before.
    pub before: (u64, u64),
    /// Blocks in use, by the heap.
    pub live_blocks: u64,
    /// See [`crate::target::census::Census::left_out`].
    pub left_out: Option<u64>,
    /// Blocks handed out and taken back, by the hits, after.
    pub after: (u64, u64),
}

impl Rate {
    /// All hits.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// So many hits, per second.
    #[must_use]
    pub fn per_second(&self, hits: u64) -> f64 {
        hits as f64 / self.seconds.max(1e-9)
    }

    /// Nanoseconds that tracing one of the counted hits would take, in the mean; 0 if there were none.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.traced_ns() / (self.total().max(1) as f64)
    }

    /// What the part of a CPU was that the target used.
    #[must_use]
    pub fn cpu_fraction(&self) -> f64 {
        self.cpu_seconds / self.seconds.max(1e-9)
    }

    /// Nanoseconds that tracing all the counted hits would take.
    #[must_use]
    pub fn traced_ns(&self) -> f64 {
        total_ns(&self.hits, &self.prices, |price| price.traced_ns)
    }

    /// How much slower the target would be if it was traced, at what it did while hits were counted.
    #[must_use]
    pub fn slowdown(&self) -> Slowdown {
        let counted_ns = total_ns(&self.hits, &self.prices, |price| price.counted_ns);
        Slowdown::of(self.cpu_seconds * 1e9, counted_ns, self.traced_ns())
    }
}

/// Counts the hits of all points of a plan in a process, and the blocks of its `heap`, for so long, or up to [`WINDOWS`] times that where it hardly runs. No trap is left when it returns.
///
/// # Errors
/// [`Kind::Target`] when the process ends meanwhile; [`Kind::Failed`] where the kernel cannot put all traps in at once; else what the kernel says.
pub fn measure(process: &Process, points: &[Point], window: Duration, heap: Option<&Heap>) -> Result<Rate> {
    let release = kernel_release();
    if !multi::supported(&release) {
        return Err(Error::failed(format!(
            "the kernel {release} has no uprobe_multi that can be trusted, and putting in {} perf events to count for a moment takes too long",
            points.len()
        )));
    }
    let counted = count(process, points, window, heap);
    // Whatever went wrong went wrong because it ended.
    if process.still_same() { counted } else { Err(ended(process)) }
}

fn ended(process: &Process) -> Error {
    Error::new(Kind::Target, format!("process {} ended while its probe points were counted", process.pid()))
        .next("list the Pythons of this host with `unshed ps`")
}

fn count(process: &Process, points: &[Point], window: Duration, heap: Option<&Heap>) -> Result<Rate> {
    let mut probes = Probes::load_for_counting(points.len())?;
    let method = Method::Multi(Programs::load_counting(&probes)?);
    let prices = prices(&method, &mut probes, points)?;
    probes.configure(whom(process), ProcessState::default())?;
    let begin = Instant::now();
    let links = method.attach(&mut probes, points, process.pid())?;
    let attach_seconds = begin.elapsed().as_secs_f64();
    let before = process.cpu_time().ok_or_else(|| ended(process))?;
    probes.arm(true)?;
    let armed = Instant::now();
    let mut snapshots = Vec::new();
    let mut look = |probes: &mut Probes| -> Result<()> {
        if let Some(heap) = heap {
            snapshots.extend(snapshot(process, probes, points, heap)?);
        }
        Ok(())
    };
    look(&mut probes)?;
    for _ in 0..WINDOWS {
        std::thread::sleep(window);
        let used = process.cpu_time().ok_or_else(|| ended(process))?.saturating_sub(before);
        if used >= window / BUSY {
            break;
        }
    }
    look(&mut probes)?;
    probes.arm(false)?;
    let seconds = armed.elapsed().as_secs_f64();
    let after = process.cpu_time().ok_or_else(|| ended(process))?;
    let begin = Instant::now();
    drop(links);
    Ok(Rate {
        hits: probes.counted(points.len())?,
        seconds,
        cpu_seconds: after.saturating_sub(before).as_secs_f64(),
        attach_seconds,
        detach_seconds: begin.elapsed().as_secs_f64(),
        prices: prices.of(points),
        heap: snapshots,
    })
}

/// Counts the heap between two readings of the hits; nothing if it cannot be counted.
fn snapshot(
    process: &Process,
    probes: &mut Probes,
    points: &[Point],
    heap: &Heap,
) -> Result<Option<Snapshot>> {
    let before = small_blocks(probes, points)?;
    let Ok(census) = heap.census(process) else { return Ok(None) };
    let after = small_blocks(probes, points)?;
    Ok(Some(Snapshot { before, live_blocks: census.live_blocks, left_out: census.left_out(), after }))
}

/// Small blocks handed out and taken back, by the hits of the points that say so. No other is read: the target runs on meanwhile.
fn small_blocks(probes: &mut Probes, points: &[Point]) -> Result<(u64, u64)> {
    let mut of = |roles: &[Role]| -> Result<u64> {
        let wanted = |point: &Point| point.hook.role().is_some_and(|role| roles.contains(&role));
        let cookies = (1u32..).zip(points).filter(|(_, point)| wanted(point)).map(|(cookie, _)| cookie);
        Ok(probes.counted_at(cookies)?.iter().sum())
    };
    Ok((of(&[Role::FastAlloc, Role::NewPoolReturn])?, of(&[Role::FastFree])?))
}

/// What a hit takes here: measured on ourselves, once as nobody's business and once counted.
fn prices(method: &Method, probes: &mut Probes, points: &[Point]) -> Result<Prices> {
    let trap = calibrate::trap_cost(method, probes)?;
    let all_emulated = points.iter().all(|point| point.emulated);
    let stepped_ns = if all_emulated { 0.0 } else { calibrate::stepped_ns(method, probes)? };
    probes.configure(whom(&Process::open(std::process::id())?), ProcessState::default())?;
    probes.arm(true)?;
    let counted = calibrate::trap_cost(method, probes);
    probes.arm(false)?;
    let count_ns = (counted?.entry_ns - trap.entry_ns).max(0.0);
    Ok(Prices { entry_ns: trap.entry_ns, return_ns: trap.return_ns, stepped_ns, count_ns })
}

/// The configuration of a program that wants to know nothing but whose hit it is.
fn whom(process: &Process) -> TraceConfig {
    let (ns_dev, ns_ino) = process.pid_namespace();
    TraceConfig { ns_dev, ns_ino, ns_tgid: process.namespace_pid(), ..TraceConfig::default() }
}
