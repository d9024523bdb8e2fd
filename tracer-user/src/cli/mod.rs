//! What was asked for: `flags` is what was typed, `plan` is everything decided; nothing later reads a flag again. One verb, one function.

use std::io::Write;

use crate::error::{Context, Result};
use crate::{probe, session};

pub mod flags;
pub mod output;
pub mod plan;
mod doctor;
mod ps;

use flags::{Flags, Verb};

/// Does what was asked for.
///
/// # Errors
/// Whatever the verb could not do; the error's kind is the exit code.
pub fn run(flags: Flags) -> Result<()> {
    match flags.verb {
        Verb::Record(record) => {
            let plan = plan::Plan::decide(record, &plan::Terminal::look())?;
            session::record(&plan)
        }
        Verb::Report(report) => plan::ReportPlan::decide(report, &plan::Terminal::look())?.run(),
        Verb::Ps(ps) => print(&ps::table(ps.json)?),
        Verb::Doctor(doctor) => print(&doctor::examine(&doctor)?),
        Verb::Verifier => print(&probe::doctor::verifier_lines()?),
    }
}

/// Writes data to stdout. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to stdout"),
    }
}
