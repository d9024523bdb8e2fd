//! `--follow` with samples: one budget, one clock of windows and one set of probes for a process and all that it forks. Each window is one process's (`turns`), so that what it shows is of nobody else, and
//! a hundred processes cost no more than one.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep_until;

use super::expenses::Expenses;
use super::kit::{Kit, Pace};
use super::members::{Lineage, Member, Open, Serves, State};
use super::turns;
use super::{Drawn, SLOW_KERNEL, Sampling, TICK, Wish, headline};
use crate::cli::plan::Plan;
use crate::drain::clock;
use crate::drain::ring::Ring;
use crate::error::{Error, Result};
use crate::heap::sample::Random;
use crate::probe::attach::Method;
use crate::probe::family::Family;
use crate::report::kin::Joined;
use crate::report::merge::Merge;
use crate::session::follow::{Shared, Untold, adopt_children};
use crate::session::hooked::Hooked;
use crate::session::priority::go_first;
use crate::session::subject::Subject;
use crate::session::{Armed, Ended, FOREVER, Signals, descriptors, publish, say, say_points};
use crate::target::process::parent_of;

mod closing;
mod joining;

/// Interpreters with probes of their own, at most.
const KITS: usize = 4;
/// How often each is asked how busy it is, if they are few.
const ASK: Duration = Duration::from_secs(1);
/// Fewer windows of all together are not compared with the clock: a ratio of small numbers is biased.
const LEAST_WINDOWS: u32 = 16;
/// So many are few.
const FEW: u32 = 8;

/// Samples a process and its children, prints the short report and writes the file that was asked for.
pub(in crate::session) async fn record(plan: &Plan, wish: Wish) -> Result<()> {
    let mut signals = Signals::new()?;
    let before = descriptors::raise();
    let (family, ring) = Family::watch()?;
    let expenses = Expenses::begin();
    // Where every processor is busy, a window would be open, and its traps in, until we get one.
    go_first();
    let subject = Subject::open(&plan.whom, before)?;
    let mut band = Band::begin(plan, wish, subject, (family, Ring::new(ring)?), expenses)?;
    let ended = band.run(&mut signals).await?;
    signals.next_one_aborts();
    say(plan, &format!("{}; looking at the survivors for the last time", ended.words()));
    publish(plan, &band.story(ended)?)
}

/// All of them.
struct Band<'p> {
    plan: &'p Plan,
    wish: Wish,
    family: Family,
    kin: Ring,
    shared: Shared,
    kits: Vec<(Serves, Kit)>,
    pace: Pace,
    members: BTreeMap<u64, Member<'p>>,
    next: u64,
    begun: Instant,
    random: Random,
    drawn: Drawn,
    merge: Merge,
    untold: Untold,
    /// Seconds between windows that were told, all together.
    told_s: f64,
    candidates: u64,
    types_unread: u64,
    /// Windows come too seldom to find anything.
    too_dear: bool,
}

impl<'p> Band<'p> {
    fn begin(
        plan: &'p Plan,
        wish: Wish,
        mut subject: Subject,
        (mut family, kin): (Family, Ring),
        expenses: Expenses,
    ) -> Result<Self> {
        let pid = subject.process.pid();
        let shared = Shared::default();
        let mut hooked =
            Hooked::load(plan, &subject, &shared).map_err(|error| subject.check().err().unwrap_or(error))?;
        if matches!(hooked.method, Method::PerfEvents) {
            return Err(Error::failed(SLOW_KERNEL).next("follow children with --exact"));
        }
        say_points(plan, &hooked);
        let serves = Serves::those_like(&subject, &mut hooked)?;
        let lineage = Rc::new(Lineage::of(plan, &subject, &hooked, 0));
        // Whom it forks from now on is told.
        family.adopt(pid)?;
        let children = adopt_children(&mut family, pid)?;
        subject.check()?;
        hooked.probes.arm(true)?;
        let kit = Kit::new(plan, &subject, hooked)?;
        let mut pace = Pace::new(wish, expenses);
        pace.expenses.set_up();
        let armed = armed(&subject);
        say(plan, &headline(wish, &subject, &kit.hooked));
        subject.release()?;
        let mut random = Random::new(clock::monotonic_ns());
        let drawn = pace.draw(Instant::now(), &mut random);
        let mut this = Self {
            plan,
            wish,
            family,
            kin,
            shared,
            kits: vec![(serves, kit)],
            pace,
            members: BTreeMap::new(),
            next: 0,
            begun: armed.instant,
            random,
            drawn,
            merge: Merge::unnamed(plan.sort),
            untold: Untold::default(),
            told_s: 0.0,
            candidates: 0,
            types_unread: 0,
            too_dear: false,
        };
        let open = Open { subject, lineage, sampling: Sampling::new(plan), modules: None };
        this.enter(pid, Joined::Target, None, None, State::Open(Box::new(open)), armed);
        for child in children {
            // Who is told as well is not joined twice.
            this.join(child, Joined::Before, parent_of(child), 0);
        }
        Ok(this)
    }

    /// Until nobody is left, or somebody says that it is enough.
    async fn run(&mut self, signals: &mut Signals) -> Result<Ended> {
        let deadline = self.begun + self.plan.duration.unwrap_or(FOREVER);
        let mut next_tick = Instant::now() + TICK;
        while !self.members.is_empty() {
            let next = next_tick.min(self.drawn.at).min(self.next_look());
            tokio::select! {
                biased;
                () = signals.any() => return Ok(Ended::Interrupted),
                ready = self.kin.ready() => {
                    ready?;
                    self.hear();
                }
                () = sleep_until(deadline.into()) => return Ok(Ended::TimeUp),
                () = sleep_until(next.into()) => {}
            }
            self.look_at_programs();
            if Instant::now() >= self.drawn.at {
                let begin = Instant::now();
                self.told_s += self.drawn.interval_s;
                self.window()?;
                self.drawn = self.pace.draw(begin, &mut self.random);
                if self.pace.governor.is_too_dear() && !self.too_dear {
                    self.too_dear = true;
                    say(self.plan, &self.seldom());
                }
            }
            if Instant::now() >= next_tick {
                let mark = self.pace.expenses.mark();
                self.tick();
                let spent_s = self.pace.expenses.apart_since(mark);
                self.pace.governor.owe(spent_s);
                next_tick = Instant::now() + TICK;
            }
        }
        Ok(Ended::Gone)
    }

    fn seldom(&self) -> String {
        format!(
            "even the shortest windows cost so much here that {} % of a CPU (--budget) allows one in half a minute: expect to find little, or allow more",
            self.wish.budget * 100.0
        )
    }

    /// Opens a window in one of them.
    fn window(&mut self) -> Result<()> {
        let ready = self.members.iter().filter(|(_, member)| !matches!(member.state, State::Becoming(_)));
        let (numbers, busy): (Vec<u64>, Vec<Option<f64>>) =
            ready.map(|(number, member)| (*number, member.busy)).unzip();
        let Some((at, probability)) = turns::draw(&turns::weights(&busy), self.random.unit()) else {
            return Ok(());
        };
        let number = numbers[at];
        if let Err(error) = self.window_of(number, probability) {
            let Some(member) = self.members.get(&number) else { return Ok(()) };
            let (pid, joined) = (member.pid, member.joined);
            let is_gone = match &member.state {
                State::Open(open) => !open.subject.process.still_same(),
                State::Closed(_) | State::Becoming(_) => parent_of(pid).is_none(),
            };
            self.end(pid, Ended::Gone);
            if !is_gone {
                if joined == Joined::Target {
                    return Err(error);
                }
                self.untold.failed(self.plan, pid, &error);
            }
        }
        Ok(())
    }

    fn window_of(&mut self, number: u64, probability: f64) -> Result<()> {
        // What is spent once on a process is no window's: it is paid off, and not expected again.
        let mark = self.pace.expenses.mark();
        self.open(number)?;
        let spent_s = self.pace.expenses.apart_since(mark);
        self.pace.governor.owe(spent_s);
        self.turn_to(number)?;
        let Some(member) = self.members.get_mut(&number) else { return Ok(()) };
        let State::Open(open) = &mut member.state else { return Ok(()) };
        let Some((_, kit)) = self.kits.get_mut(open.lineage.kit) else { return Ok(()) };
        open.sampling.interval_s = self.drawn.interval_s / probability;
        let ended = open.sampling.window(&open.subject, kit, &mut self.pace, member.armed)?;
        if let Some(ended) = ended {
            self.end_number(number, ended);
        }
        Ok(())
    }

    /// From now on hits of this one count.
    fn turn_to(&mut self, number: u64) -> Result<()> {
        let Some(member) = self.members.get_mut(&number) else { return Ok(()) };
        let State::Open(open) = &mut member.state else { return Ok(()) };
        let kit_at = open.lineage.kit;
        let Some((_, kit)) = self.kits.get_mut(kit_at) else { return Ok(()) };
        let before = std::mem::replace(&mut kit.holder, number);
        if before == number {
            return Ok(());
        }
        let settings = open.lineage.settings(&open.subject.process);
        let left = kit.turn_to(&open.subject, settings, open.modules.take())?;
        if let Some(Member { state: State::Open(open), .. }) = self.members.get_mut(&before) {
            open.modules = left;
        }
        Ok(())
    }

    /// Looks at survivors, and at who works.
    fn tick(&mut self) {
        let many = u32::try_from(self.members.len()).unwrap_or(u32::MAX).div_ceil(FEW).max(1);
        let now = Instant::now();
        let mut gone = Vec::new();
        let due: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| member.next_ask <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            // One that was not opened so far lives long enough to be known.
            let opened = self.open(number).is_ok();
            let Some(member) = self.members.get_mut(&number) else { continue };
            member.next_ask = now + ASK * many;
            match &member.state {
                State::Open(open) => {
                    let cpu = open.subject.process.cpu_time();
                    if cpu.is_none() && !open.subject.process.still_same() {
                        gone.push(number);
                    }
                    member.busy = member.ran.busy(cpu);
                }
                State::Closed(_) if !opened => gone.push(number),
                State::Closed(_) | State::Becoming(_) => {}
            }
        }
        // Should the kernel not have been able to tell.
        gone.into_iter().for_each(|number| self.end_number(number, Ended::Gone));
        for member in self.members.values_mut() {
            if let State::Open(open) = &mut member.state {
                self.pace.expenses.looks += open.sampling.tick(&open.subject, member.armed);
            }
        }
    }
}

fn armed(subject: &Subject) -> Armed {
    Armed { instant: Instant::now(), wall: SystemTime::now(), rss_bytes: subject.process.rss_bytes() }
}
