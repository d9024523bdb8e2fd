//! When a recording begins, when it ends, and why.

use std::time::{Instant, SystemTime};

use crate::drain::clock;
use crate::session::subject::Subject;

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    TimeUp,
    Interrupted,
    Gone,
    Finalizing,
    Exec,
    /// No window is short enough for the budget.
    TooDear,
}

impl Ended {
    /// The same of a process that has ended, whatever else has happened at that moment.
    pub(super) const fn of_one_that_is_gone(self) -> Self {
        match self {
            Self::TimeUp | Self::Interrupted | Self::TooDear => Self::Gone,
            Self::Gone | Self::Finalizing | Self::Exec => self,
        }
    }

    /// The words of the report.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::TimeUp => "the time was up",
            Self::Interrupted => "interrupted",
            Self::Gone => "the target ended",
            Self::Finalizing => "the interpreter began to end",
            Self::Exec => "the target replaced its image (exec)",
            Self::TooDear => "windows cost too much here",
        }
    }
}

/// The moment of arming, on the three clocks that are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
    pub(super) rss_bytes: Option<u64>,
}

/// The moment of disarming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) ended: Ended,
    pub(super) seconds: f64,
    pub(super) now_ns: u64,
    pub(super) rss_bytes: Option<u64>,
}

impl Closed {
    /// Now.
    pub(super) fn now(ended: Ended, armed: Armed, subject: &Subject) -> Self {
        Self {
            ended,
            seconds: armed.instant.elapsed().as_secs_f64(),
            now_ns: clock::monotonic_ns(),
            // An interpreter that is ending gives its memory back while we look: the last tick knows better.
            rss_bytes: if ended == Ended::Finalizing { None } else { subject.process.rss_bytes() },
        }
    }
}
