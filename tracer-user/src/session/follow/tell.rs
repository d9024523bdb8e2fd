//! What is told of the processes of a family: while they join, and in the report.

use std::time::Instant;

use tracer_common::loss::Loss;

use super::{MOST, Member};
use crate::cli::plan::Plan;
use crate::error::{Error, Kind};
use crate::report::kin::{Joined, Process};
use crate::report::story::Story;
use crate::report::units;
use crate::session::say;

/// Failures that are told one by one.
const FAILURES: usize = 8;

/// The message when one joins.
pub(super) fn following(member: &Member, python: &str, points: usize) -> String {
    let Member { pid, joined, parent, .. } = member;
    let parent = parent.map_or(String::new(), |parent| format!(" by {parent}"));
    let how = match joined {
        Joined::Fork => format!(
            "forked{parent}; {:.0} ms before its first allocation was seen",
            unseen_ms(member).unwrap_or_default()
        ),
        Joined::Exec => format!("a new program since {:.0} ms", unseen_ms(member).unwrap_or_default()),
        Joined::Before | Joined::Target => "it was there before".to_owned(),
    };
    format!("following {pid} (python {python}, {how}): {points} probe points")
}

/// Milliseconds from its beginning until it was traced; `None` for one that was there before.
fn unseen_ms(member: &Member) -> Option<f64> {
    let (_, at_ns) = member.armed?;
    let told = matches!(member.joined, Joined::Fork | Joined::Exec);
    told.then(|| at_ns.saturating_sub(member.since_ns) as f64 / 1e6)
}

/// Its row in the report.
pub(super) fn process(member: &Member, story: &Story, ended: bool, begun: Option<Instant>) -> Process {
    let unknown = Loss::UnknownFree.code();
    Process {
        pid: story.target.pid,
        parent: member.parent,
        joined: member.joined,
        command: story.target.command.clone(),
        executable: story.target.executable.clone(),
        python: story.target.python.clone(),
        joined_seconds: member
            .armed
            .zip(begun)
            .map_or(0.0, |((at, _), begun)| at.saturating_duration_since(begun).as_secs_f64()),
        unseen_ms: unseen_ms(member),
        seconds: story.seconds,
        ended: story.ended.clone(),
        exited: ended,
        hits: story.cost.hits,
        windows: None,
        unknown_frees: story.losses.iter().find(|loss| loss.code == unknown).map_or(0, |loss| loss.count),
        totals: story.totals.clone(),
    }
}

/// Those who have no row.
#[derive(Default)]
pub(in crate::session) struct Untold {
    /// Forked when enough were traced.
    pub(in crate::session) too_many: u64,
    /// Forked when the kernel could not remember more.
    pub(in crate::session) unknown: u64,
    /// Ended before they could be traced.
    gone: u64,
    /// Are no CPython, or not one that is known.
    others: u64,
    failures: Vec<String>,
}

impl Untold {
    /// One could not be traced.
    pub(in crate::session) fn failed(&mut self, plan: &Plan, pid: u32, error: &Error) {
        say(plan, &format!("not following {pid}: {error}"));
        match error.kind() {
            Kind::Target if !is_alive(pid) => self.gone += 1,
            Kind::Target => self.others += 1,
            _ if self.failures.len() < FAILURES => {
                self.failures.push(format!("process {pid} was not followed: {error}"));
            }
            _ => self.others += 1,
        }
    }

    /// One ended before it was known what it is.
    pub(in crate::session) const fn ended(&mut self) {
        self.gone += 1;
    }

    /// In sentences.
    pub(in crate::session) fn notes(self, lost: u64) -> Vec<String> {
        let note = |count: u64, what: &str| {
            (count > 0).then(|| format!("{} {what}", units::plural(count, "child process")))
        };
        let counted = [
            note(self.gone, "ended before it could be traced"),
            note(self.others, "not traced: no CPython that is known"),
            note(self.too_many, &format!("not traced: {MOST} were traced already")),
            note(self.unknown, "not remembered: what it forked is not told"),
            note(lost, "not told: the ring was full"),
        ];
        counted.into_iter().flatten().chain(self.failures).collect()
    }
}

fn is_alive(pid: u32) -> bool {
    crate::target::process::Process::open(pid).is_ok()
}
