//! Who leaves a family, and what all have shown together when it is over.

use super::super::kit::Kit;
use super::super::members::Open;
use super::super::members::State;
use super::super::story::Teller;
use super::super::story::losses;
use super::{Band, LEAST_WINDOWS};
use crate::error::Error;
use crate::error::Result;
use crate::report::kin::Joined;
use crate::report::kin::Process as Row;
use crate::report::story::Story;
use crate::report::story::Totals;
use crate::session::Armed;
use crate::session::Closed;
use crate::session::Ended;
use crate::session::names::StackNames;

impl<'p> Band<'p> {
    pub(super) fn end(&mut self, pid: u32, ended: Ended) {
        if let Some(number) = self.number_of(pid) {
            self.end_number(number, ended);
        }
    }

    /// One is no more, or the recording is over: closes its books.
    pub(super) fn end_number(&mut self, number: u64, ended: Ended) {
        let Some(mut member) = self.members.remove(&number) else { return };
        let exited = matches!(ended, Ended::Gone | Ended::Finalizing | Ended::Exec);
        let row = Row {
            pid: member.pid,
            parent: member.parent,
            joined: member.joined,
            joined_seconds: member.armed.instant.saturating_duration_since(self.begun).as_secs_f64(),
            unseen_ms: member.unseen_ms,
            seconds: member.armed.instant.elapsed().as_secs_f64(),
            ended: ended.words().to_owned(),
            exited,
            ..Row::default()
        };
        match &mut member.state {
            State::Becoming(_) if exited => self.untold.ended(),
            State::Becoming(_) => {}
            // Nobody has looked into it.
            State::Closed(lineage) => {
                let python = lineage.python.version.to_string();
                self.merge.add_unseen(Row { python, totals: Totals::default(), ..row });
            }
            State::Open(open) => self.close(open, member.armed, ended, row),
        }
        self.share_room();
    }

    fn close(&mut self, open: &mut Open<'p>, armed: Armed, ended: Ended, row: Row) {
        let Some((_, kit)) = self.kits.get(open.lineage.kit) else { return };
        let closed = Closed::now(ended, armed, &open.subject);
        if self.pace.expenses.windows >= LEAST_WINDOWS {
            open.sampling.sampler.clock(self.begun.elapsed().as_secs_f64() / self.told_s);
        }
        let mut shown = open.sampling.shown(&open.subject, &mut self.pace, armed, closed);
        shown.sum_up();
        self.candidates += open.sampling.sampler.counts().candidates;
        self.types_unread += shown.types_unread;
        let cost = open.sampling.own_cost(closed.seconds);
        let (subject, names) = (&open.subject, &StackNames::default());
        let hooked = &kit.hooked;
        let teller = Teller { plan: self.plan, subject, hooked, armed, closed, names, detach_ms: 0.0 };
        let story = teller.tell(shown, cost, None, Vec::new());
        let row = Row {
            command: story.target.command.clone(),
            executable: story.target.executable.clone(),
            python: story.target.python.clone(),
            seconds: story.seconds,
            hits: story.cost.hits,
            windows: Some(u64::from(open.sampling.windows)),
            totals: story.totals.clone(),
            ..row
        };
        self.merge.add(story, row);
    }

    /// What all have shown.
    pub(super) fn story(mut self, ended: Ended) -> Result<Story> {
        for number in self.members.keys().copied().collect::<Vec<_>>() {
            self.end_number(number, ended);
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut detach_ms: f64 = 0.0;
        for (_, kit) in &mut self.kits {
            kit.hooked.probes.arm(false)?;
            detach_ms = detach_ms.max(kit.pay_the_rest(&mut self.pace.expenses)?);
        }
        let kits: Vec<&Kit> = self.kits.iter().map(|(_, kit)| kit).collect();
        let cost = self.pace.cost(&kits, seconds);
        let told = self.pace.told(self.wish, seconds, self.candidates, None);
        let (mut names, mut hooked) = (Vec::new(), Vec::new());
        for (_, Kit { frames, names: of, hooked: tools, .. }) in self.kits {
            names.push(of.finish(frames));
            hooked.push(tools);
        }
        let mut notes = self.untold.notes(self.family.lost());
        if self.too_dear {
            notes.push(format!(
                "windows came too seldom: {} % of a CPU is too little here",
                self.wish.budget * 100.0
            ));
        }
        let name = |site: &mut crate::report::story::Site| {
            let knows = names.iter().find(|names| names.knows(site.id)).or(names.first());
            if let Some(named) = knows.map(|names| names.of(site.id)) {
                (site.stack, site.stack_note) = (named.frames, named.note);
            }
        };
        let whole = self.merge.named_story(seconds, notes, name);
        let mut whole = whole.ok_or_else(|| Error::failed("no process was recorded"))?;
        let gone: u64 = names.iter().map(|names| names.gone).sum();
        for (at, tools) in hooked.iter_mut().enumerate() {
            let only_once = if at == 0 { (gone, self.types_unread) } else { (0, 0) };
            let more = losses(tools, only_once.0, only_once.1)?;
            if at == 0 {
                whole.losses = more;
            } else {
                whole.losses.iter_mut().zip(more).for_each(|(sum, more)| sum.count += more.count);
            }
        }
        (whole.hooks.attach_ms, whole.hooks.detach_ms) = (told.attach_ms_max, detach_ms);
        // What hit traps on their way out when all was over is told with the target.
        let told_hits: u64 = whole.processes.iter().map(|row| row.hits).sum();
        if let Some(row) = whole.processes.iter_mut().find(|row| row.joined == Joined::Target) {
            row.hits += cost.hits.saturating_sub(told_hits);
        }
        (whole.cost, whole.sampling) = (cost, Some(told));
        whole.ended = ended.words().to_owned();
        Ok(whole)
    }
}
