//! What the trace costs: the kernel measures the probes' run time for a moment, `calibrate` has measured the trap, and the counters say how many.

use std::os::fd::OwnedFd;

use crate::drain::books::Hits;
use crate::kernel;
use crate::probe::attach::Method;
use crate::probe::calibrate::TrapCost;
use crate::probe::load::Probes;

/// Runs after which the mean is good enough and the measuring, which costs every BPF program of the host some 20 ns a run, is over.
const RUNS_ENOUGH: u64 = 20_000;

/// Measures the programs' run times.
pub(super) struct Meter {
    stats: Option<OwnedFd>,
    /// Nanoseconds and runs.
    run_time: (u64, u64),
}

impl Meter {
    /// Measures nothing yet.
    pub(super) const fn idle() -> Self {
        Self { stats: None, run_time: (0, 0) }
    }

    /// Begins to measure, where the kernel can. Not before counting has begun: a probe that is not armed returns at once.
    pub(super) fn start() -> Self {
        Self { stats: kernel::enable_run_time_stats().ok(), run_time: (0, 0) }
    }

    /// Looks whether enough is known.
    pub(super) fn tick(&mut self, method: &Method, probes: &mut Probes) {
        if self.stats.is_some() {
            self.run_time = method.run_time(probes);
            if self.run_time.1 >= RUNS_ENOUGH {
                self.stats = None;
            }
        }
    }

    /// Ends the measuring.
    pub(super) fn stop(&mut self, method: &Method, probes: &mut Probes) {
        self.tick(method, probes);
        self.stats = None;
    }

    /// Nanoseconds of the target's time that all hits took: traps as calibrated, programs as measured.
    pub(super) fn spent_ns(&self, hits: Hits, trap: TrapCost) -> f64 {
        let (ns, runs) = self.run_time;
        let mean_ns = if runs == 0 { 0.0 } else { ns as f64 / runs as f64 };
        hits.entries as f64 * (trap.entry_ns + mean_ns) + hits.returns as f64 * (trap.return_ns + mean_ns)
    }
}
