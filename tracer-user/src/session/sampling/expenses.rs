//! What sampling costs: the targets' time in traps, and our own CPU time and memory.

use std::time::{Duration, Instant};

use crate::heap::spread::Spread;
use crate::probe::calibrate::TrapCost;

/// Times of attaching that are kept, at most.
const TIMES: usize = 1 << 16;

/// How much of its time a process has run.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// CPU time when it was last asked for, and when that was.
    last: Option<(Duration, Instant)>,
}

impl Ran {
    /// The part of the time since it was last asked for in which the process ran, 0 to 1; `None` where that is not known.
    pub(super) fn busy(&mut self, cpu: Option<Duration>) -> Option<f64> {
        let now = cpu.map(|cpu| (cpu, Instant::now()));
        let (before, at) = std::mem::replace(&mut self.last, now)?;
        let ran_s = cpu?.saturating_sub(before).as_secs_f64();
        Some((ran_s / at.elapsed().as_secs_f64().max(1e-9)).clamp(0.0, 1.0))
    }
}

/// What was spent so far.
#[derive(Debug, Default)]
pub(super) struct Expenses {
    /// Own CPU time at the beginning, when everything was set up, and when it was last asked for, in seconds.
    begin_s: f64,
    set_up_s: f64,
    last_s: f64,
    /// What was spent since on setting up for further programs.
    more_s: f64,
    /// What was spent since on other things than windows.
    apart_s: f64,
    /// The part of it that followed the last looks.
    after_s: f64,
    /// When time was last asked for.
    last: Option<Instant>,
    /// What the target lost, in seconds.
    pub(super) target_s: f64,
    /// Windows.
    pub(super) windows: u32,
    /// Hits, in and out of windows.
    pub(super) hits: u64,
    /// Time that windows were open, in seconds.
    pub(super) open_s: f64,
    /// The longest of them, in seconds.
    pub(super) longest_s: f64,
    /// The longest time that traps were in, in seconds.
    pub(super) traps_in_s: f64,
    /// Records that found the ring full.
    pub(super) refused: u64,
    /// Births and deaths that were logged.
    pub(super) births: u64,
    /// Looks at survivors.
    pub(super) looks: u64,
    /// Microseconds that putting the traps in took.
    attach_us: Vec<u64>,
}

/// A moment of our own CPU time.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    own_s: f64,
    apart_s: f64,
}

impl Expenses {
    /// From now on.
    pub(super) fn begin() -> Self {
        let now_s = own_cpu_s();
        Self { begin_s: now_s, set_up_s: now_s, last_s: now_s, ..Self::default() }
    }

    /// Everything is set up.
    pub(super) fn set_up(&mut self) {
        self.set_up_s = own_cpu_s();
        self.last_s = self.set_up_s;
        self.last = Some(Instant::now());
    }

    /// Now, for [`Self::apart_since`].
    pub(super) fn mark(&self) -> Mark {
        Mark { own_s: own_cpu_s(), apart_s: self.apart_s }
    }

    /// What was done since then is no part of a window; CPU time that it took, in seconds, without what was taken apart already.
    pub(super) fn apart_since(&mut self, mark: Mark) -> f64 {
        let spent_s = (own_cpu_s() - mark.own_s - (self.apart_s - mark.apart_s)).max(0.0);
        self.apart_s += spent_s;
        self.last_s += spent_s;
        spent_s
    }

    /// What was done since then follows the last look.
    pub(super) fn is_after(&mut self, mark: Mark) {
        let spent_s = self.apart_since(mark);
        self.after_s += spent_s;
    }

    /// So much of what was spent since belongs to setting up.
    pub(super) const fn is_setting_up(&mut self, spent_s: f64) {
        self.more_s += spent_s;
    }

    /// The target ran into traps of a shut gate; what that took it, in seconds.
    pub(super) fn hits_outside(&mut self, hits: u64, trap: TrapCost) -> f64 {
        let seconds = hits as f64 * trap.entry_ns * 1e-9;
        self.hits += hits;
        self.target_s += seconds;
        seconds
    }

    /// Time since it was last asked for, in seconds.
    pub(super) fn passed_s(&mut self) -> f64 {
        let now = Instant::now();
        self.last.replace(now).map_or(0.0, |last| (now - last).as_secs_f64())
    }

    /// Own CPU time since it was last asked for, in seconds.
    pub(super) fn own_since_s(&mut self) -> f64 {
        let now_s = own_cpu_s();
        let since_s = now_s - self.last_s;
        self.last_s = now_s;
        since_s.max(0.0)
    }

    /// Own CPU time for setting up, and since, in seconds.
    pub(super) fn own_s(&self) -> (f64, f64) {
        (self.set_up_s - self.begin_s + self.more_s, own_cpu_s() - self.set_up_s - self.more_s - self.after_s)
    }

    /// The traps took so long to go in, in seconds.
    pub(super) fn attached(&mut self, seconds: f64) {
        if self.attach_us.len() < TIMES {
            self.attach_us.push((seconds * 1e6) as u64);
        }
    }

    /// How long the traps took to go in, in microseconds.
    pub(super) fn attach_us(&self) -> Option<Spread> {
        Spread::of_values(self.attach_us.iter().copied())
    }
}

/// CPU time of all our threads, in seconds.
fn own_cpu_s() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the destination is ours; the call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// The most memory that we had resident, in bytes.
pub(super) fn own_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0u64).saturating_mul(1024)
}
