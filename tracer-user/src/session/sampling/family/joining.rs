//! Who comes into a family: children of forks, and programs that turn out to be CPythons.

use std::rc::Rc;
use std::time::Instant;
use std::time::SystemTime;

use super::super::Sampling;
use super::super::expenses::Ran;
use super::super::kit::Kit;
use super::super::members::Becoming;
use super::super::members::Lineage;
use super::super::members::Member;
use super::super::members::Open;
use super::super::members::Serves;
use super::super::members::State;
use super::{ASK, Band, KITS, armed};
use crate::cli::plan::Whom;
use crate::drain::clock;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::heap::sample::Bounds;
use crate::report::kin::Joined;
use crate::session::Armed;
use crate::session::Ended;
use crate::session::FOREVER;
use crate::session::code::Code;
use crate::session::follow::MOST;
use crate::session::hooked::Hooked;
use crate::session::say;
use crate::session::subject::Subject;
use crate::target::process::parent_of;
use crate::target::python::Python;
use tracer_common::kin::Kin;
use tracer_common::kin::KinKind;

impl<'p> Band<'p> {
    /// What the kernel has told of the family.
    pub(super) fn hear(&mut self) {
        let mut told = Vec::new();
        self.kin.drain_kin(|kind, kin| told.push((kind, kin)));
        for (kind, kin) in told {
            self.untold.unknown += u64::from(kin.flags & Kin::UNKNOWN != 0);
            match kind {
                KinKind::Forked if kin.flags & Kin::BORROWS == 0 => {
                    self.join(kin.child, Joined::Fork, Some(kin.parent), kin.at_ns);
                }
                // It has nothing of its own before it execs.
                KinKind::Forked => {}
                KinKind::Execed => {
                    self.end(kin.child, Ended::Exec);
                    self.join(kin.child, Joined::Exec, parent_of(kin.child), kin.at_ns);
                }
                KinKind::Exited => self.end(kin.child, Ended::Gone),
            }
        }
    }

    pub(super) fn number_of(&self, pid: u32) -> Option<u64> {
        self.members.iter().find(|(_, member)| member.pid == pid).map(|(number, _)| *number)
    }

    /// Somebody is in the family.
    pub(super) fn join(&mut self, pid: u32, joined: Joined, parent: Option<u32>, since_ns: u64) {
        if self.number_of(pid).is_some() {
            return;
        }
        if self.members.len() >= MOST {
            self.untold.too_many += 1;
            return;
        }
        let lineage = match joined {
            Joined::Fork => parent.and_then(|parent| self.lineage_of(parent)),
            _ => None,
        };
        let state = lineage.map_or_else(|| State::Becoming(Becoming::now()), State::Closed);
        let unseen_ms = (since_ns > 0).then(|| clock::monotonic_ns().saturating_sub(since_ns) as f64 / 1e6);
        let armed = Armed { instant: Instant::now(), wall: SystemTime::now(), rss_bytes: None };
        if matches!(state, State::Closed(_)) {
            self.following(pid, joined, parent, unseen_ms);
        }
        self.enter(pid, joined, parent, unseen_ms, state, armed);
    }

    fn following(&self, pid: u32, joined: Joined, parent: Option<u32>, unseen_ms: Option<f64>) {
        let how = match joined {
            Joined::Fork => format!("forked by {}", parent.unwrap_or_default()),
            Joined::Exec => format!("a new program since {:.0} ms", unseen_ms.unwrap_or_default()),
            Joined::Before | Joined::Target => "it was there before".to_owned(),
        };
        say(
            self.plan,
            &format!("following {pid} ({how}): windows are dealt out among {}", self.members.len() + 1),
        );
    }

    pub(super) fn enter(
        &mut self,
        pid: u32,
        joined: Joined,
        parent: Option<u32>,
        unseen_ms: Option<f64>,
        state: State<'p>,
        armed: Armed,
    ) {
        let (busy, next_ask) = (None, Instant::now() + ASK);
        let ran = Ran::default();
        let member = Member { pid, joined, parent, unseen_ms, armed, state, busy, ran, next_ask };
        self.members.insert(self.next, member);
        self.next += 1;
        self.share_room();
    }

    /// What is done for each, and remembered of each, is less where they are many.
    pub(super) fn share_room(&mut self) {
        let most = self.members.len();
        for member in self.members.values_mut() {
            if let State::Open(open) = &mut member.state {
                open.sampling.sharers = u32::try_from(most).unwrap_or(u32::MAX).max(1);
                open.sampling.sampler.bound(Bounds::default().part(most));
            }
        }
    }

    /// What a child of a process has in common with it.
    fn lineage_of(&mut self, pid: u32) -> Option<Rc<Lineage>> {
        let number = self.number_of(pid)?;
        match &mut self.members.get_mut(&number)?.state {
            State::Becoming(_) => None,
            State::Closed(lineage) => Some(Rc::clone(lineage)),
            State::Open(open) => {
                // A command that was started by us is known by its file until it runs.
                if open.lineage.is_of_file()
                    && let Ok(python) = Python::find(&open.subject.process)
                {
                    open.subject.python = python;
                    let kit = open.lineage.kit;
                    let hooked = &self.kits.get(kit)?.1.hooked;
                    open.lineage = Rc::new(Lineage::of(self.plan, &open.subject, hooked, kit));
                }
                (!open.lineage.is_of_file()).then(|| Rc::clone(&open.lineage))
            }
        }
    }

    /// When a program is looked at next that may become a CPython.
    pub(super) fn next_look(&self) -> Instant {
        let next = |member: &Member<'_>| match &member.state {
            State::Becoming(becoming) => Some(becoming.next),
            State::Closed(_) | State::Open(_) => None,
        };
        let far = Instant::now() + FOREVER;
        self.members.values().filter_map(next).min().unwrap_or(far)
    }

    /// Looks whether programs have become CPythons.
    pub(super) fn look_at_programs(&mut self) {
        let now = Instant::now();
        let is_due =
            |member: &Member<'_>| matches!(&member.state, State::Becoming(becoming) if becoming.next <= now);
        let due: Vec<(u64, Joined)> = self
            .members
            .iter()
            .filter(|(_, member)| is_due(member))
            .map(|(number, member)| (*number, member.joined))
            .collect();
        for (number, joined) in due {
            let mark = self.pace.expenses.mark();
            self.look_at_program(number);
            let spent_s = self.pace.expenses.apart_since(mark);
            if joined == Joined::Before {
                // They belong to what the recording begins with.
                self.pace.expenses.is_setting_up(spent_s);
            } else {
                self.pace.governor.owe(spent_s);
            }
        }
    }

    fn look_at_program(&mut self, number: u64) {
        let Some(pid) = self.members.get(&number).map(|member| member.pid) else { return };
        let outcome = match Subject::open(&Whom::Pid(pid), None) {
            Ok(subject) if subject.python.has_begun(&subject.process) => self.take_up(number, subject),
            looked => {
                let Some(Member { state: State::Becoming(becoming), .. }) = self.members.get_mut(&number)
                else {
                    return;
                };
                if becoming.wait() {
                    return;
                }
                let why = format!("process {pid} does not begin to run Python");
                looked.and_then(|_| Err(Error::new(Kind::Target, why)))
            }
        };
        if let Err(error) = outcome {
            self.members.remove(&number);
            self.untold.failed(self.plan, pid, &error);
        }
    }

    /// A program has become a CPython.
    fn take_up(&mut self, number: u64, subject: Subject) -> Result<()> {
        let kit = match self.kits.iter().position(|(serves, kit)| serves.fits(&subject, kit)) {
            Some(kit) => kit,
            None => self.new_kit(&subject, number)?,
        };
        let Some((_, tools)) = self.kits.get(kit) else { return Ok(()) };
        let lineage = Rc::new(Lineage::of(self.plan, &subject, &tools.hooked, kit));
        let holds = tools.holder == number;
        let code = tools.hooked.code.as_ref().filter(|_| !holds);
        let modules = code.map(Code::modules_of_another);
        let Some(member) = self.members.get_mut(&number) else { return Ok(()) };
        if let Some(ms) = &mut member.unseen_ms {
            *ms += member.armed.instant.elapsed().as_secs_f64() * 1e3;
        }
        member.armed = armed(&subject);
        let (pid, joined, parent, unseen_ms) = (member.pid, member.joined, member.parent, member.unseen_ms);
        let sampling = Sampling::new(self.plan);
        member.state = State::Open(Box::new(Open { subject, lineage, sampling, modules }));
        self.following(pid, joined, parent, unseen_ms);
        self.share_room();
        Ok(())
    }

    /// Probes for another interpreter.
    fn new_kit(&mut self, subject: &Subject, holder: u64) -> Result<usize> {
        if self.kits.len() >= KITS {
            return Err(Error::failed(format!(
                "it runs another interpreter than {KITS} that are sampled already"
            )));
        }
        let mark = self.pace.expenses.mark();
        let mut hooked = Hooked::load(self.plan, subject, &self.shared)?;
        let serves = Serves::those_like(subject, &mut hooked)?;
        hooked.probes.arm(true)?;
        let mut kit = Kit::new(self.plan, subject, hooked)?;
        kit.holder = holder;
        let spent_s = self.pace.expenses.apart_since(mark);
        self.pace.expenses.is_setting_up(spent_s);
        let made = (serves, kit);
        self.kits.push(made);
        Ok(self.kits.len() - 1)
    }

    /// Looks into a child of `fork`, for its first turn.
    pub(super) fn open(&mut self, number: u64) -> Result<()> {
        let Some(member) = self.members.get(&number) else { return Ok(()) };
        let State::Closed(lineage) = &member.state else { return Ok(()) };
        let lineage = Rc::clone(lineage);
        let subject = lineage.child(member.pid)?;
        let mut sampling = Sampling::new(self.plan);
        let relative = self.members.values().find_map(|member| match &member.state {
            State::Open(open) if Rc::ptr_eq(&open.lineage, &lineage) => Some(&open.sampling),
            _ => None,
        });
        if let Some(relative) = relative {
            sampling.survivors =
                relative.survivors.as_ref().and_then(|known| known.of_child(&subject.process).ok());
            sampling.heap = relative.heap.of_child();
        }
        let kit = self.kits.get(lineage.kit).map(|(_, kit)| kit);
        let modules = kit.and_then(|kit| kit.hooked.code.as_ref()).map(Code::modules_of_another);
        if let Some(member) = self.members.get_mut(&number) {
            member.armed.rss_bytes = subject.process.rss_bytes();
            member.state = State::Open(Box::new(Open { subject, lineage, sampling, modules }));
        }
        self.share_room();
        Ok(())
    }
}
