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
    run_times: [(u64, u64); 2],
}

impl Meter {
    /// Begins to measure, where the kernel can.
    pub(super) fn start() -> Self {
        Self { stats: kernel::enable_run_time_stats().ok(), run_times: [(0, 0); 2] }
    }

    /// Looks whether enough is known.
    pub(super) fn tick(&mut self, method: &Method, probes: &mut Probes) {
        if self.stats.is_some() {
            self.run_times = method.run_times(probes);
            if self.run_times.iter().map(|(_, runs)| runs).sum::<u64>() >= RUNS_ENOUGH {
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
        let mean_ns = self.run_times.map(|(ns, runs)| if runs == 0 { 0.0 } else { ns as f64 / runs as f64 });
        hits.entries as f64 * (trap.entry_ns + mean_ns[0])
            + hits.returns as f64 * (trap.return_ns + mean_ns[1])
    }
}
