//! What windows are opened with, whosever they are: the probes with their ring, the names of what they see, and what it all costs. One process has it to itself; the processes of a family take turns.

use std::time::Instant;

use tracer_common::config::{ProcessState, TraceConfig};
use tracer_common::native::EVALUATOR;
use tracer_common::sample::Gate;

use crate::cli::plan::Plan;
use crate::drain::books;
use crate::drain::ring::{Event, Ring};
use crate::error::Result;
use crate::probe::attach::{Exits, Leaving};
use crate::probe::budget::Governor;
use crate::session::Ended;
use crate::session::code::Code;
use crate::session::frames::{Frames, Told};
use crate::session::hooked::Hooked;
use crate::session::names::Names;
use crate::session::sampling::expenses::Expenses;
use crate::session::sampling::window::REFRESH;
use crate::session::sampling::{OPEN, Wish};
use crate::session::subject::Subject;
use crate::symbol::code::CodeCache;
use crate::target::modules::Modules;

/// A trap that seems to cost so many times more in the target than on ourselves, or less, is not believed.
const BELIEVED: f64 = 3.0;

/// The probes of one interpreter.
pub(super) struct Kit {
    pub(super) hooked: Hooked,
    pub(super) ring: Ring,
    /// Python frames by name, and stacks.
    pub(super) frames: Frames,
    pub(super) names: Names,
    /// Traps on their way out, and who takes them out.
    pub(super) leaving: Vec<Leaving>,
    pub(super) exits: Exits,
    /// What a trap cost on ourselves, in nanoseconds.
    measured_ns: f64,
    /// Hits so far that found the gate shut.
    pub(super) shut: u64,
    /// When it was last looked whether code was mapped.
    refreshed: Instant,
    /// Whose turn it is, in a family; at first that of who came first.
    pub(super) holder: u64,
}

/// What windows may cost, and have cost: one budget for all that share it.
pub(super) struct Pace {
    pub(super) governor: Governor,
    pub(super) expenses: Expenses,
}

impl Pace {
    pub(super) fn new(wish: Wish, expenses: Expenses) -> Self {
        Self { governor: Governor::new(wish.budget, wish.longest.as_secs_f64() * OPEN), expenses }
    }
}

impl Kit {
    pub(super) fn new(plan: &Plan, subject: &Subject, mut hooked: Hooked) -> Result<Self> {
        Ok(Self {
            ring: Ring::new(hooked.probes.take_ring()?)?,
            frames: Frames::new(subject, CodeCache::default()),
            names: Names::new(subject, &plan.debug_dirs, true)?,
            measured_ns: hooked.trap.entry_ns,
            hooked,
            leaving: Vec::new(),
            exits: Exits::default(),
            shut: 0,
            refreshed: Instant::now(),
            holder: 0,
        })
    }

    /// What a trap costs in this target, as a window has shown it, is what the next one begins with.
    pub(super) fn learn_trap(&mut self, gate: &Gate) {
        let trap_ns = gate.trap_ns as f64;
        self.hooked.trap.entry_ns = trap_ns.clamp(self.measured_ns / BELIEVED, self.measured_ns * BELIEVED);
    }

    /// Reads what the ring holds between windows; what happened in one that is over is dropped.
    pub(super) fn read_ring(&mut self, subject: &Subject) -> Result<Option<Ended>> {
        let mut events = Vec::new();
        self.ring.drain_all(|event| events.push(event));
        self.take(subject, events)
    }

    /// The turn goes to another process, of which so much is mapped. What the one before had mapped comes back.
    pub(super) fn turn_to(
        &mut self,
        subject: &Subject,
        (config, state): (TraceConfig, ProcessState),
        modules: Option<Modules>,
    ) -> Result<Option<Modules>> {
        let Self { hooked, ring, frames, names, .. } = self;
        // What is left in the ring is of the one before.
        ring.drain_all(|event| {
            let _ended = frames.told(event).and_then(|told| names.take(told, hooked.code.as_ref()));
        });
        frames.turn_to(subject);
        hooked.turn_to(config, state)?;
        let Hooked { code, probes, .. } = hooked;
        let Some((code, modules)) = code.as_mut().zip(modules) else { return Ok(None) };
        code.turn_to(modules, subject, probes).map(Some)
    }

    /// Takes up names and the target's own milestones.
    pub(super) fn take(&mut self, subject: &Subject, events: Vec<Event>) -> Result<Option<Ended>> {
        let mut ended = None;
        // Names first: the code objects may die while the tables of new code are made.
        let told: Vec<Told> = events.into_iter().filter_map(|event| self.frames.told(event)).collect();
        let Hooked { probes, code, .. } = &mut self.hooked;
        if let Some(code) = code.as_mut() {
            code.answer(subject, probes)?;
            if self.refreshed.elapsed() >= REFRESH || told.iter().any(|told| leaves_the_map(told, code)) {
                self.refreshed = Instant::now();
                code.refresh_if_old(subject, probes)?;
            }
        }
        for told in told {
            ended = self.names.take(told, code.as_ref()).or(ended);
        }
        Ok(ended)
    }

    /// Accounts for the hits of traps that went out after the last window, once they are out; milliseconds that it took to wait for that.
    pub(super) fn pay_the_rest(&mut self, expenses: &mut Expenses) -> Result<f64> {
        let begin = Instant::now();
        self.leaving.drain(..).for_each(Leaving::wait);
        let detach_ms = begin.elapsed().as_secs_f64() * 1e3;
        let shut = books::hits(&mut self.hooked.probes)?.shut;
        let rest = shut - self.shut.min(shut);
        self.shut = shut;
        expenses.hits_outside(rest, self.hooked.trap);
        Ok(detach_ms)
    }
}

/// Whether a stack goes through code of no file that is known to be mapped.
fn leaves_the_map(told: &Told, code: &Code) -> bool {
    let Told::Native { frames, .. } = told else { return false };
    // An address is that behind a call, which may be the last of its file.
    frames.iter().any(|frame| code.place((frame & !EVALUATOR).wrapping_sub(1)).is_none())
}
