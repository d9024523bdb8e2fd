//! `--follow`: a process and all that it forks, side by side. Each has a recording of its own (maps, traps, books) in a thread of its own, so that none waits while another is set up; this is who
//! starts them, ends them and joins what they tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tracer_common::kin::{Kin, KinKind};

use crate::cli::plan::{Plan, Whom};
use crate::drain::ring::Ring;
use crate::error::{Error, Result};
use crate::probe::family::Family;
use crate::probe::load::Limits;
use crate::report::kin::Joined;
use crate::report::merge::Merge;
use crate::session::descriptors::Before;
use crate::session::hooked::load_probes;
use crate::session::{Signals, descriptors, publish, say};
use crate::target::process::{all_pids, parent_of};

mod company;
mod member;
mod shared;
mod spares;
mod tell;

pub(super) use company::Company;
use member::{Done, Task};
pub(super) use shared::Shared;
pub(super) use spares::Spare;
pub(super) use tell::Untold;

/// Processes that are traced at a time.
pub(super) const MOST: usize = 64;

/// What the recording of one process tells while it runs.
pub(super) enum News {
    /// Counting has begun.
    Armed { pid: u32, python: String, points: usize, rows: u32, at: Instant, at_ns: u64 },
    /// It is over.
    Done(Result<Box<Done>>),
}

/// Records a process and its children, prints the short report and writes the file that was asked for.
pub(super) async fn record(plan: &Plan) -> Result<()> {
    let mut signals = Signals::new()?;
    let before = descriptors::raise();
    let mut lead = Lead::new(plan)?;
    let target = lead.start(plan.whom.clone(), Joined::Target, None, 0, before)?;
    let outcome = lead.run(target, &mut signals).await;
    lead.shared.spares.end();
    if outcome.is_err() {
        lead.stop_all();
    }
    outcome?;
    publish(plan, &lead.story()?)
}

/// Enters all living children of a process, and theirs, into its family; who they are.
pub(super) fn adopt_children(family: &mut Family, pid: u32) -> Result<Vec<u32>> {
    let mut known = vec![pid];
    loop {
        let is_new = |child: &u32| {
            !known.contains(child) && parent_of(*child).is_some_and(|parent| known.contains(&parent))
        };
        let new: Vec<u32> = all_pids().into_iter().filter(is_new).collect();
        if new.is_empty() {
            known.remove(0);
            return Ok(known);
        }
        for child in new {
            // From now on its children are told; those that it has are found in the next round.
            family.adopt(child)?;
            known.push(child);
        }
    }
}

/// A process that is recorded.
struct Member {
    pid: u32,
    joined: Joined,
    parent: Option<u32>,
    /// When it was forked or became what it is; 0 if that was before the recording.
    since_ns: u64,
    /// When counting began, by both clocks.
    armed: Option<(Instant, u64)>,
    /// It became another program before it could be traced: what is told of it is of no use.
    overtaken: bool,
    word: watch::Sender<bool>,
}

/// Who leads.
struct Lead<'p> {
    plan: &'p Plan,
    family: Arc<Mutex<Family>>,
    ring: Ring,
    shared: Shared,
    news: UnboundedReceiver<(u64, News)>,
    teller: UnboundedSender<(u64, News)>,
    members: BTreeMap<u64, Member>,
    next: u64,
    /// When the first one began to count.
    begun: Option<Instant>,
    until: Option<Instant>,
    merge: Merge,
    untold: Untold,
    /// Nobody joins any more: who came now would not hear that it is over.
    stopped: bool,
}

impl<'p> Lead<'p> {
    fn new(plan: &'p Plan) -> Result<Self> {
        let (family, ring) = Family::watch()?;
        let (teller, news) = unbounded_channel();
        Ok(Self {
            plan,
            family: Arc::new(Mutex::new(family)),
            ring: Ring::new(ring)?,
            shared: Shared::default(),
            news,
            teller,
            members: BTreeMap::new(),
            next: 0,
            begun: None,
            until: None,
            merge: Merge::new(plan.sort),
            untold: Untold::default(),
            stopped: false,
        })
    }

    /// Starts to record a process.
    fn start(
        &mut self,
        whom: Whom,
        joined: Joined,
        parent: Option<u32>,
        since_ns: u64,
        before: Option<Before>,
    ) -> Result<u64> {
        let pid = if let Whom::Pid(pid) = &whom { *pid } else { 0 };
        let number = self.next;
        self.next += 1;
        let (word, told) = watch::channel(false);
        let plan =
            if joined == Joined::Target { self.plan.clone() } else { member::plan_for_child(self.plan, pid) };
        let task = Task {
            plan: Plan { whom, ..plan },
            joined,
            before,
            family: Arc::clone(&self.family),
            company: Company::of(self.shared.clone(), self.until, number, self.teller.clone()),
            signals: Signals::Told(told),
        };
        member::start(task, number, self.teller.clone())?;
        let member = Member { pid, joined, parent, since_ns, armed: None, overtaken: false, word };
        self.members.insert(number, member);
        Ok(number)
    }

    /// Until nobody is left, or somebody says that it is enough.
    async fn run(&mut self, target: u64, signals: &mut Signals) -> Result<()> {
        while !self.members.is_empty() {
            tokio::select! {
                biased;
                () = signals.any(), if !self.stopped => {
                    self.stop_all();
                    signals.next_one_aborts();
                }
                // Forks are of interest when it is known until when.
                ready = self.ring.ready(), if self.begun.is_some() => {
                    ready?;
                    let told = self.told();
                    if self.until.is_none_or(|until| Instant::now() < until) {
                        told.into_iter().try_for_each(|(kind, kin)| self.kin(kind, kin))?;
                    }
                }
                Some((number, news)) = self.news.recv() => match news {
                    News::Armed { pid, python, points, rows, at, at_ns } => {
                        if number == target {
                            self.keep_spares(rows)?;
                            self.begin(pid, at)?;
                        }
                        self.armed(number, &python, points, (at, at_ns));
                    }
                    News::Done(outcome) => self.done(number, number == target, outcome)?,
                },
            }
        }
        Ok(())
    }

    fn stop_all(&mut self) {
        self.stopped = true;
        for member in self.members.values() {
            // One that has ended hears nothing.
            let _ = member.word.send(true);
        }
    }

    /// The first one counts: whom it has forked before joins.
    fn begin(&mut self, pid: u32, at: Instant) -> Result<()> {
        self.begun = Some(at);
        self.until = self.plan.duration.map(|duration| at + duration);
        let mut known = adopt_children(&mut self.family.lock().unwrap_or_else(PoisonError::into_inner), pid)?;
        // Those of whom the kernel has told as well were forked a moment ago.
        let told = self.told();
        known.retain(|child| !told.iter().any(|(_, kin)| kin.child == *child));
        for child in known {
            self.join(child, Joined::Before, parent_of(child), 0)?;
        }
        told.into_iter().try_for_each(|(kind, kin)| self.kin(kind, kin))
    }

    /// Keeps probes ready for children: they run what the target runs, with its tables of so many rows.
    fn keep_spares(&self, rows: u32) -> Result<()> {
        let plan = member::plan_for_child(self.plan, 0);
        let limits = Limits { rows, ..plan.limits };
        self.shared.spares.keep(limits, move |limits| load_probes(&plan, limits, 0))
    }

    /// What the kernel has told of the family.
    fn told(&mut self) -> Vec<(KinKind, Kin)> {
        let mut told = Vec::new();
        self.ring.drain_kin(|kind, kin| told.push((kind, kin)));
        told
    }

    fn kin(&mut self, kind: KinKind, kin: Kin) -> Result<()> {
        self.untold.unknown += u64::from(kin.flags & Kin::UNKNOWN != 0);
        match kind {
            KinKind::Forked if kin.flags & Kin::BORROWS == 0 => {
                self.join(kin.child, Joined::Fork, Some(kin.parent), kin.at_ns)
            }
            // It has nothing of its own before it execs.
            KinKind::Forked => Ok(()),
            KinKind::Execed => {
                for member in self
                    .members
                    .values_mut()
                    .filter(|member| member.pid == kin.child && member.armed.is_none())
                {
                    member.overtaken = true;
                    let _ = member.word.send(true);
                }
                self.join(kin.child, Joined::Exec, parent_of(kin.child), kin.at_ns)
            }
            // Its own recording hears of it.
            KinKind::Exited => Ok(()),
        }
    }

    fn join(&mut self, pid: u32, joined: Joined, parent: Option<u32>, since_ns: u64) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        let traced = self.members.values().filter(|member| !member.overtaken).count();
        if traced >= MOST {
            self.untold.too_many += 1;
            return self.sweep();
        }
        self.start(Whom::Pid(pid), joined, parent, since_ns, None).map(drop)
    }

    /// Takes the traps out of those that have inherited them and are not traced.
    fn sweep(&self) -> Result<()> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner).sweep(self.shared.places())
    }

    fn armed(&mut self, number: u64, python: &str, points: usize, at: (Instant, u64)) {
        let Some(member) = self.members.get_mut(&number) else { return };
        member.armed = Some(at);
        if member.joined != Joined::Target && !member.overtaken {
            say(self.plan, &tell::following(member, python, points));
        }
    }

    fn done(&mut self, number: u64, is_target: bool, outcome: Result<Box<Done>>) -> Result<()> {
        let Some(member) = self.members.remove(&number) else { return Ok(()) };
        match outcome {
            // What cannot be begun with the first one cannot be begun at all.
            Err(error) if is_target && member.armed.is_none() => return Err(error),
            _ if member.overtaken => {}
            Ok(done) => {
                let Done { story, ended } = *done;
                let row = tell::process(&member, &story, ended, self.begun);
                self.merge.add(story, row);
                if is_target && !self.members.is_empty() && !self.stopped && ended {
                    say(self.plan, &format!("{} of its children are still traced", self.members.len()));
                }
            }
            Err(error) => {
                if is_target {
                    return Err(error);
                }
                self.untold.failed(self.plan, member.pid, &error);
                self.sweep()?;
            }
        }
        Ok(())
    }

    /// What all have told.
    fn story(self) -> Result<crate::report::story::Story> {
        let seconds = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let lost = self.family.lock().unwrap_or_else(PoisonError::into_inner).lost();
        let notes = self.untold.notes(lost);
        self.merge.story(seconds, notes).ok_or_else(|| Error::failed("no process was recorded"))
    }
}
