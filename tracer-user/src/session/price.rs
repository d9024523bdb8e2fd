//! The price of an exact trace, looked at before it begins, and refused where it is above the operator's limit.

use crate::cli::plan::Plan;
use crate::error::{Error, Result};
use crate::probe::rate::{self, Rate};
use crate::probe::sites::HookPlan;
use crate::report::examination::slowdown;
use crate::report::units;
use crate::session::say;
use crate::session::subject::Subject;

/// Counts how often the traps would be hit now, and compares what they would cost with the limit, if there is one.
pub(super) fn check(plan: &Plan, subject: &Subject, hooks: &HookPlan) -> Result<()> {
    let Some(limit) = plan.max_slowdown else { return Ok(()) };
    if subject.is_fresh() {
        if plan.details {
            say(plan, "the command has not run yet: how much slower it will be cannot be told before");
        }
        return Ok(());
    }
    let rate = rate::measure(&subject.process, &hooks.points, rate::WINDOW, None).map_err(|error| {
        let error = error.about(format!("{}: its slowdown cannot be told before", subject.name()));
        if subject.process.still_same() {
            error.next("trace it at any price with --max-slowdown inf")
        } else {
            error
        }
    })?;
    let found = rate.slowdown();
    if found.factor > limit {
        return Err(refusal(subject, &rate, limit));
    }
    say(plan, &format!("predicted slowdown: {}; the limit is {limit}x", words(&rate)));
    Ok(())
}

fn refusal(subject: &Subject, rate: &Rate, limit: f64) -> Error {
    let found = rate.slowdown();
    let enough =
        if found.at_least { "inf".to_owned() } else { format!("{:.0}", (found.factor * 1.5).ceil()) };
    Error::failed(format!(
        "{}: an exact trace would slow it down {}; the limit is {limit}x",
        subject.name(),
        words(rate)
    ))
    .next(format!(
        "trace it all the same for a short time (--max-slowdown {enough} -d 5), trace fewer domains (--domains raw), or wait until it has less to do"
    ))
}

/// The slowdown and what it comes from.
fn words(rate: &Rate) -> String {
    let found = rate.slowdown();
    format!(
        "{} ({} hits/s at {} each; it used {} of a CPU while they were counted)",
        slowdown(found.factor, found.at_least),
        units::count(rate.per_second(rate.total()).round() as u64),
        units::nanoseconds(rate.mean_ns().round() as u64),
        units::fraction(rate.cpu_fraction()),
    )
}
