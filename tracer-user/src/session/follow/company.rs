//! What a recording has beside its process: what others have found out already, when to end, and children, whom it follows or leaves in peace.

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep_until;
use tracer_common::kin::{Kin, KinKind};

use super::{News, Shared};
use crate::cli::plan::Plan;
use crate::drain::clock;
use crate::drain::ring::Ring;
use crate::error::Result;
use crate::probe::attach::Method;
use crate::probe::family::Family;
use crate::session::hooked::Hooked;
use crate::session::moments::{Armed, Ended};
use crate::session::subject::Subject;

/// How often traps are taken out of children, at most: a target that forks all the time is not to cost us more than it costs itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Of one recording.
pub(in crate::session) struct Company {
    pub(in crate::session) shared: Shared,
    /// When all end together.
    pub(in crate::session) until: Option<Instant>,
    /// Why this one ended.
    pub(in crate::session) ended: Option<Ended>,
    children: Option<Children>,
    /// Whom to tell that counting has begun.
    lead: Option<(u64, UnboundedSender<(u64, News)>)>,
}

impl Company {
    /// Nobody's.
    pub(in crate::session) fn alone() -> Self {
        Self { shared: Shared::default(), until: None, ended: None, children: None, lead: None }
    }

    /// That of one of several, by its number.
    pub(super) const fn of(
        shared: Shared,
        until: Option<Instant>,
        number: u64,
        lead: UnboundedSender<(u64, News)>,
    ) -> Self {
        Self { shared, until, ended: None, children: None, lead: Some((number, lead)) }
    }

    /// Looks out for children that are not followed. To be called before the first trap is in.
    pub(in crate::session) fn look_out(&mut self, plan: &Plan, subject: &Subject) {
        if self.lead.is_none() && !plan.perf_events {
            // Where children cannot be seen, they keep the traps that they inherit until the recording ends.
            self.children = Children::of(subject).ok();
        }
    }

    /// Counting has begun.
    pub(in crate::session) fn armed(&mut self, subject: &Subject, armed: Armed, hooked: &Hooked) {
        if matches!(hooked.method, Method::PerfEvents) {
            // The kernel does it then, at a child's first hit.
            self.children = None;
        }
        if let Some((number, lead)) = &self.lead {
            let news = News::Armed {
                pid: subject.process.pid(),
                python: subject.python.version.to_string(),
                points: hooked.hooks.points.len(),
                rows: hooked.rows,
                at: armed.instant,
                at_ns: clock::monotonic_ns(),
            };
            // Who leads outlives all others.
            let _ = lead.send((*number, news));
        }
    }

    /// Comes when a child has been forked that has inherited traps.
    pub(in crate::session) async fn children_come(&mut self) {
        match &mut self.children {
            Some(children) => children.come().await,
            None => pending().await,
        }
    }

    /// Takes the traps out of those that have.
    pub(in crate::session) fn sweep(&mut self) -> Result<()> {
        self.children.as_mut().map_or(Ok(()), |children| children.sweep(&self.shared))
    }
}

/// The children of a process that are left in peace.
struct Children {
    family: Family,
    ring: Ring,
    /// Some have traps that they inherited.
    trapped: bool,
    next: Instant,
}

impl Children {
    fn of(subject: &Subject) -> Result<Self> {
        let (mut family, ring) = Family::watch()?;
        family.adopt(subject.process.pid())?;
        Ok(Self { family, ring: Ring::new(ring)?, trapped: false, next: Instant::now() })
    }

    /// May be dropped while it waits.
    async fn come(&mut self) {
        while !self.trapped {
            if self.ring.ready().await.is_err() {
                pending::<()>().await;
            }
            let trapped = &mut self.trapped;
            // Who runs in its parent's memory has nothing of its own.
            self.ring
                .drain_kin(|kind, kin| *trapped |= kind == KinKind::Forked && kin.flags & Kin::BORROWS == 0);
        }
        sleep_until(self.next.into()).await;
    }

    fn sweep(&mut self, shared: &Shared) -> Result<()> {
        // Those that are forked from now on are told again.
        self.trapped = false;
        self.family.sweep(shared.places())?;
        self.next = Instant::now() + PAUSE;
        Ok(())
    }
}
