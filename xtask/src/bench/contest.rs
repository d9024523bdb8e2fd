//! The interleaving: every traced run stands between two untraced runs of the same process, and every tool has its turn in
//! every round, so that a drift of the machine falls out.

use anyhow::Result;

use super::figures::{Pair, Run, Seen};

/// A process that works on demand.
pub(crate) trait Target {
    /// Its process id.
    fn pid(&self) -> u32;

    /// Works for so many seconds of its own CPU time; `None` when that lasts too long by the clock.
    fn run(&mut self, seconds: f64) -> Result<Option<Run>>;

    /// Waits for the end of a run that lasted too long, with nothing attached any more.
    fn catch_up(&mut self) -> Result<()>;
}

/// Something that can watch a process.
pub(crate) trait Tool {
    /// The name in the tables.
    fn name(&self) -> &str;

    /// Attaches; every probe is in when it returns.
    fn attach(&self, pid: u32) -> Result<Box<dyn Attached>>;

    /// Rounds that it takes part in at most: some need seconds to attach and to detach.
    fn most_rounds(&self) -> usize {
        usize::MAX
    }
}

/// A tool at work.
pub(crate) trait Attached {
    /// Detaches; no probe is left when it returns.
    fn detach(self: Box<Self>) -> Result<Seen>;
}

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// CPU-seconds of a traced run.
    pub(crate) traced: f64,
    /// CPU-seconds of an untraced run.
    pub(crate) untraced: f64,
}

/// The pairs of one tool on one workload, or why there are none.
pub(crate) type Outcome = Result<Vec<Pair>, String>;

/// Measures the tools on one target, each at most once a round; the outcomes are in the order of the tools.
///
/// # Errors
/// Only when the target itself fails; what a tool fails at is its outcome.
pub(crate) fn contest(target: &mut dyn Target, tools: &[Box<dyn Tool>], plan: Plan) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Outcome> = tools.iter().map(|_| Ok(Vec::new())).collect();
    undisturbed(target, plan.untraced)?; // Caches, freelists and arenas as they will be.
    let mut before = undisturbed(target, plan.untraced)?;
    for _ in 0..plan.rounds {
        for (tool, outcome) in tools.iter().zip(&mut outcomes) {
            let Ok(pairs) = outcome else { continue };
            if pairs.len() >= tool.most_rounds() {
                continue;
            }
            let turn = disturbed(target, tool.as_ref(), plan.traced)?;
            let after = undisturbed(target, plan.untraced)?;
            match turn {
                Ok((traced, seen)) => {
                    pairs.push(Pair { traced, seen, untraced: f64::midpoint(before.cost(), after.cost()) });
                }
                Err(reason) => *outcome = Err(reason),
            }
            before = after;
        }
    }
    Ok(outcomes)
}

fn undisturbed(target: &mut dyn Target, seconds: f64) -> Result<Run> {
    match target.run(seconds)? {
        Some(run) => Ok(run),
        None => anyhow::bail!("untraced, {seconds} CPU-seconds of the workload do not end"),
    }
}

/// One traced run: the outer error is the target's, the inner one the tool's.
fn disturbed(target: &mut dyn Target, tool: &dyn Tool, seconds: f64) -> Result<Result<(Run, Seen), String>> {
    let attached = match tool.attach(target.pid()) {
        Ok(attached) => attached,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let run = target.run(seconds)?;
    let seen = attached.detach();
    let Some(run) = run else {
        target.catch_up()?;
        return Ok(Err(format!("the target is too slow: {seconds} CPU-seconds of it did not end")));
    };
    Ok(seen.map(|seen| (run, seen)).map_err(|error| format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use anyhow::{Context, bail};

    use super::*;

    /// A target whose unit of work takes as many CPU-seconds as `cost` says; above 100 it does not answer.
    struct FakeTarget {
        cost: Rc<Cell<f64>>,
        late: bool,
        said: Vec<f64>,
    }

    impl Target for FakeTarget {
        fn pid(&self) -> u32 {
            7
        }

        fn run(&mut self, seconds: f64) -> Result<Option<Run>> {
            assert!(!self.late, "an order before the last one is done");
            let cost = self.cost.get();
            self.said.push(cost);
            self.late = cost > 100.0;
            Ok((!self.late).then_some(Run { work: seconds / cost, cpu_seconds: seconds }))
        }

        fn catch_up(&mut self) -> Result<()> {
            self.late = false;
            Ok(())
        }
    }

    struct FakeTool {
        target: Rc<Cell<f64>>,
        factor: f64,
        attaches: bool,
        rounds: usize,
    }

    struct FakeAttached {
        target: Rc<Cell<f64>>,
        factor: f64,
    }

    impl Tool for FakeTool {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn attach(&self, pid: u32) -> Result<Box<dyn Attached>> {
            assert_eq!(pid, 7);
            if !self.attaches {
                bail!("it does not want to");
            }
            self.target.set(self.target.get() * self.factor);
            Ok(Box::new(FakeAttached { target: self.target.clone(), factor: self.factor }))
        }

        fn most_rounds(&self) -> usize {
            self.rounds
        }
    }

    impl Attached for FakeAttached {
        fn detach(self: Box<Self>) -> Result<Seen> {
            self.target.set(self.target.get() / self.factor);
            Ok(Seen { hits: Some(10.0), allocations: None })
        }
    }

    /// Two rounds of tools that are a factor, whether they attach, and their rounds at most.
    fn measured(factors: &[(f64, bool, usize)]) -> (Vec<Outcome>, Vec<f64>) {
        let cost = Rc::new(Cell::new(1.0));
        let mut target = FakeTarget { cost: cost.clone(), late: false, said: Vec::new() };
        let tools: Vec<Box<dyn Tool>> = factors
            .iter()
            .map(|&(factor, attaches, rounds)| -> Box<dyn Tool> {
                Box::new(FakeTool { target: cost.clone(), factor, attaches, rounds })
            })
            .collect();
        let plan = Plan { rounds: 2, traced: 8.0, untraced: 4.0 };
        let outcomes = contest(&mut target, &tools, plan).expect("the target works");
        (outcomes, target.said)
    }

    #[test]
    fn tools_take_turns_between_untraced_runs() {
        let (outcomes, said) = measured(&[(2.0, true, 9), (8.0, true, 9)]);
        assert_eq!(said, [1.0, 1.0, 2.0, 1.0, 8.0, 1.0, 2.0, 1.0, 8.0, 1.0]);
        assert_eq!(slowdowns(&outcomes[0]), Some(vec![1.0, 1.0]));
        assert_eq!(slowdowns(&outcomes[1]), Some(vec![7.0, 7.0]));
    }

    #[test]
    fn a_tool_leaves_after_its_rounds() {
        let (outcomes, said) = measured(&[(2.0, true, 1), (8.0, true, 9)]);
        assert_eq!(said, [1.0, 1.0, 2.0, 1.0, 8.0, 1.0, 8.0, 1.0]);
        assert_eq!(slowdowns(&outcomes[0]), Some(vec![1.0]));
    }

    fn slowdowns(outcome: &Outcome) -> Option<Vec<f64>> {
        Some(outcome.as_ref().ok()?.iter().map(Pair::slowdown).collect())
    }

    #[test]
    fn a_tool_that_fails_is_an_outcome_and_not_asked_again() -> Result<()> {
        let (outcomes, said) = measured(&[(2.0, false, 9), (128.0, true, 9), (4.0, true, 9)]);
        assert_eq!(outcomes[0], Err("it does not want to".to_owned()));
        let slow = outcomes[1].as_ref().err().context("a target that does not answer was measured")?;
        assert!(slow.contains("too slow"), "{slow}");
        assert_eq!(outcomes[2].as_ref().map(Vec::len), Ok(2));
        assert_eq!(said, [1.0, 1.0, 1.0, 128.0, 1.0, 4.0, 1.0, 4.0, 1.0]);
        Ok(())
    }
}
