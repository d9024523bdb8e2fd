//! `--when growing`: nothing is attached before the heap grows; it is looked at from outside until then.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::cli::plan::Plan;
use crate::error::Result;
use crate::session::subject::Subject;
use crate::session::watch::Trigger;
use crate::session::{Ended, FOREVER, Signals, say};

/// How often it is asked whether it is time for a look.
const TICK: Duration = Duration::from_millis(250);

/// Waits until the heap grows; `Some` if the recording ended before.
pub(super) async fn wait(plan: &Plan, subject: &Subject, signals: &mut Signals) -> Result<Option<Ended>> {
    let target = subject.end()?;
    say(plan, &format!("waiting until the heap of {} grows; Ctrl-C stops", subject.name()));
    let begin = Instant::now();
    let deadline = begin + plan.duration.unwrap_or(FOREVER);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trigger = Trigger::default();
    loop {
        tokio::select! {
            biased;
            () = signals.any() => return Ok(Some(Ended::Interrupted)),
            ended = target.come() => {
                ended?;
                return Ok(Some(Ended::Gone));
            }
            () = sleep_until(deadline.into()) => return Ok(Some(Ended::TimeUp)),
            _ = ticks.tick() => {}
        }
        let growing = trigger.tick(subject, begin.elapsed());
        if growing.small.is_some() || growing.resident.is_some() {
            say(plan, &format!("the heap grows, {:.0} s after the beginning", begin.elapsed().as_secs_f64()));
            return Ok(None);
        }
    }
}
