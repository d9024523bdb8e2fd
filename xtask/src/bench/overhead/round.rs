//! The interleaving: each recording stands between two untraced phases of the same process, which it shares with its neighbours.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::load::Worker;
use super::phase::Phase;
use super::{EDGES, GLANCE};
use crate::bench::recording::{Recorded, Recorder, Recording};
use crate::run;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Seconds of a phase.
    pub(crate) seconds: f64,
    /// Seconds of each of the phases that follow each other while a recording begins or ends.
    pub(crate) edge: f64,
}

/// One recording and what stands around it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) before: Phase,
    pub(crate) traced: Phase,
    pub(crate) after: Phase,
    /// The longest unit while the recording began, and while it ended, in milliseconds.
    pub(crate) stalls_ms: (f64, f64),
    /// unshed's own CPU in the traced phase, as a share of a core.
    pub(crate) own_share: f64,
    /// unshed's own CPU until it watched, in seconds.
    pub(crate) setup_seconds: f64,
    /// `None` where nothing was attached.
    pub(crate) recorded: Option<Recorded>,
}

/// The rounds of one workload.
#[derive(Clone, Debug)]
pub(crate) struct Rounds(pub(crate) Vec<Round>);

/// Measures so many rounds; without a recorder the phases between are like the others.
pub(crate) fn contest(worker: &mut dyn Worker, recorder: Option<&Recorder>, plan: Plan) -> Result<Rounds> {
    let mut rounds = Vec::new();
    let mut before = worker.work("untraced", plan.seconds)?;
    for _ in 0..plan.rounds {
        let mut round = match recorder {
            Some(recorder) => recorded(worker, recorder, plan, before)?,
            None => unrecorded(worker, plan, before)?,
        };
        round.after = worker.work("untraced", plan.seconds)?;
        before = round.after;
        rounds.push(round);
    }
    Ok(Rounds(rounds))
}

/// A round up to its last phase, with something attached.
fn recorded(worker: &mut dyn Worker, recorder: &Recorder, plan: Plan, before: Phase) -> Result<Round> {
    let report = run::target_dir().join("bench").join(format!("overhead-{}.report.json", std::process::id()));
    worker.begin("attach", plan.edge)?;
    let mut recording = recorder.start(worker.pid(), 3600.0, &[], &report)?;
    let attach = edge(worker, plan, &mut recording, |recording| recording.watches(GLANCE))?;
    let setup_seconds = recording.cpu_seconds()?;
    let traced = worker.work("traced", plan.seconds)?;
    let own_share = (recording.cpu_seconds()? - setup_seconds) / traced.wall_seconds;
    worker.begin("detach", plan.edge)?;
    recording.interrupt()?;
    let detach = edge(worker, plan, &mut recording, |recording| Ok(recording.has_ended()))?;
    let recorded = recording.finish()?;
    std::fs::remove_file(&report)?;
    let stalls_ms = (attach, detach);
    Ok(Round { before, traced, after: traced, stalls_ms, own_share, setup_seconds, recorded: Some(recorded) })
}

/// Works on, phase by phase, until the recording is where it should be; the longest unit. A phase has begun already, and one more
/// follows the end of what is waited for, so that nothing of it is left out.
fn edge(
    worker: &mut dyn Worker,
    plan: Plan,
    recording: &mut Recording,
    is_there: fn(&mut Recording) -> Result<bool>,
) -> Result<f64> {
    let mut longest = worker.end()?.latency.max;
    for _ in 0..EDGES {
        if is_there(recording)? {
            return Ok(longest);
        }
        longest = longest.max(worker.work("edge", plan.edge)?.latency.max);
    }
    bail!("unshed takes longer than {} s to begin or to end", EDGES as f64 * plan.edge)
}

/// The same with nothing attached.
fn unrecorded(worker: &mut dyn Worker, plan: Plan, before: Phase) -> Result<Round> {
    let attach = worker.work("attach", plan.edge)?.latency.max;
    let traced = worker.work("traced", plan.seconds)?;
    let detach = worker.work("detach", plan.edge)?.latency.max;
    let stalls_ms = (attach, detach);
    Ok(Round { before, traced, after: traced, stalls_ms, own_share: 0.0, setup_seconds: 0.0, recorded: None })
}

impl Rounds {
    /// For the file of results.
    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(Round::json).collect()
    }
}

impl Round {
    fn json(&self) -> Value {
        let own = self.recorded.as_ref().map(|recorded| {
            let report = &recorded.report;
            json!({
                "cpu_seconds": recorded.own.cpu_seconds, "seconds": recorded.seconds,
                "peak_rss_bytes": recorded.own.peak_rss_bytes,
                "cost": report["cost"], "sampling": report["sampling"], "engine": report["engine"], "losses": report["losses"],
            })
        });
        json!({
            "before": self.before.json(), "traced": self.traced.json(), "after": self.after.json(),
            "longest_unit_ms": {"attach": self.stalls_ms.0, "detach": self.stalls_ms.1},
            "own_share": self.own_share, "setup_cpu_seconds": self.setup_seconds, "own": own,
        })
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Rounds with literals.

    use super::super::phase::Latency;
    use super::*;

    /// A phase of a second in which so many units were done.
    pub(crate) fn phase(units: f64) -> Phase {
        let latency = Latency { p50: 0.5, p99: 0.6, p999: 0.7, max: 2.0 };
        Phase { units, cpu_seconds: 1.0, wall_seconds: 2.0, unevenness: None, latency }
    }

    /// A round with nothing attached.
    pub(crate) fn round(before: Phase, traced: Phase, after: Phase) -> Round {
        Round {
            before,
            traced,
            after,
            stalls_ms: (3.0, 4.0),
            own_share: 0.0,
            setup_seconds: 0.0,
            recorded: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that slows down from phase to phase.
    struct Tired {
        said: Vec<String>,
    }

    impl Worker for Tired {
        fn pid(&self) -> u32 {
            7
        }

        fn begin(&mut self, phase: &str, _: f64) -> Result<()> {
            self.said.push(phase.to_owned());
            Ok(())
        }

        fn end(&mut self) -> Result<Phase> {
            Ok(fixture::phase(1000.0 - self.said.len() as f64))
        }
    }

    #[test]
    fn neighbours_share_the_phase_between_them() {
        let mut worker = Tired { said: Vec::new() };
        let plan = Plan { rounds: 2, seconds: 1.0, edge: 1.0 };
        let Rounds(rounds) = contest(&mut worker, None, plan).expect("the worker works");
        let names =
            ["untraced", "attach", "traced", "detach", "untraced", "attach", "traced", "detach", "untraced"];
        assert_eq!(worker.said, names);
        assert_eq!(rounds[0].after, rounds[1].before);
        // A steady drift is no loss.
        assert!(rounds.iter().all(|round| super::super::estimate::loss(round).abs() < 1e-12));
    }
}
