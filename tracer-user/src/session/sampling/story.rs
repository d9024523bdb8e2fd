//! The end of a recording in windows: last looks, and what there is to tell.

use tracer_common::loss::Loss;

use crate::cli::plan::Plan;
use crate::drain::books;
use crate::error::Result;
use crate::heap::books::SiteFacts;
use crate::heap::order::Sort;
use crate::heap::sample::{HeapAt, Unexplained, unexplained};
use crate::report::story::{Cost, LossCount, Sampling as Told, Story, Totals, TypeCount};
use crate::report::units;
use crate::session::hooked::Hooked;
use crate::session::names::StackNames;
use crate::session::sampling::kit::{Kit, Pace};
use crate::session::sampling::{Sampling, Wish, expenses};
use crate::session::story::{self, Frame, Ledger};
use crate::session::subject::Subject;
use crate::session::types;
use crate::session::watch::Look;
use crate::session::{Armed, Closed, Ended};

/// Losses that mean nothing where blocks are not followed one by one.
const NOT_OF_WINDOWS: [Loss; 3] = [Loss::UnknownFree, Loss::UnknownRealloc, Loss::AddressReborn];

/// What windows and looks have shown of a process.
pub(super) struct Shown {
    facts: Vec<SiteFacts>,
    types: Vec<Vec<TypeCount>>,
    pub(super) types_unread: u64,
    totals: Totals,
    unexplained: Option<Unexplained>,
}

impl Shown {
    /// Makes the sums those of the sites, so that the parts of a whole say what it says: what is estimated as one is rounded otherwise.
    pub(super) fn sum_up(&mut self) {
        let sum = |of: fn(&SiteFacts) -> u64| self.facts.iter().map(of).sum();
        self.totals = Totals {
            allocated_bytes: sum(|site| site.allocated_bytes),
            allocated_blocks: sum(|site| site.allocated_blocks),
            freed_bytes: sum(|site| site.freed_bytes),
            freed_blocks: sum(|site| site.freed_blocks),
            live_bytes: sum(|site| site.live_bytes),
            live_blocks: sum(|site| site.live_blocks),
            ..self.totals.clone()
        };
    }
}

/// What a story is told with.
pub(super) struct Teller<'t> {
    pub(super) plan: &'t Plan,
    pub(super) subject: &'t Subject,
    pub(super) hooked: &'t Hooked,
    pub(super) armed: Armed,
    pub(super) closed: Closed,
    pub(super) names: &'t StackNames,
    pub(super) detach_ms: f64,
}

impl Teller<'_> {
    /// Tells it.
    pub(super) fn tell(&self, shown: Shown, cost: Cost, told: Option<Told>, losses: Vec<LossCount>) -> Story {
        let ledger = Ledger { engine: "sample", totals: shown.totals, losses, sampling: told, watch: None };
        let Hooked { hooks, code, .. } = self.hooked;
        let frame = Frame {
            plan: self.plan,
            subject: self.subject,
            armed: self.armed,
            closed: self.closed,
            hooks,
            check: &crate::session::check::Check::default(),
            times_ms: (ledger.sampling.as_ref().map_or(0.0, |told| told.attach_ms_max), self.detach_ms),
            cost,
            names: self.names,
            code: code.as_ref(),
        };
        let mut story = story::tell(&frame, ledger, shown.facts, shown.types);
        story.notes.extend(shown.unexplained.as_ref().map(note));
        story
    }
}

impl Sampling<'_> {
    /// Looks at the survivors for the last time, and joins everything into a story.
    pub(super) fn finish(
        mut self,
        subject: &Subject,
        mut kit: Kit,
        (wish, mut pace): (Wish, Pace),
        armed: Armed,
        closed: Closed,
    ) -> Result<Story> {
        kit.read_ring(subject)?;
        let shown = self.shown(subject, &mut pace, armed, closed);
        let candidates = self.sampler.counts().candidates;
        let told = pace.told(wish, closed.seconds, candidates, self.none.take());
        let detach_ms = kit.pay_the_rest(&mut pace.expenses)?;
        let cost = pace.cost(&[&kit], closed.seconds);
        let Kit { mut hooked, frames, names, .. } = kit;
        let names = names.finish(frames);
        let losses = losses(&mut hooked, names.gone, shown.types_unread)?;
        let teller =
            Teller { plan: self.plan, subject, hooked: &hooked, armed, closed, names: &names, detach_ms };
        Ok(teller.tell(shown, cost, Some(told), losses))
    }

    /// The last looks, and what all of them have shown.
    pub(super) fn shown(
        &mut self,
        subject: &Subject,
        pace: &mut Pace,
        armed: Armed,
        closed: Closed,
    ) -> Shown {
        // What an ending interpreter has given back by now says nothing about leaks.
        let over = !matches!(closed.ended, Ended::Finalizing | Ended::Exec | Ended::Gone);
        if over {
            pace.expenses.looks += self.look_at_all(subject, closed.seconds);
        }
        let mark = pace.expenses.mark();
        let mut totals = self.sampler.totals(closed.seconds);
        let mut facts = self.sampler.facts(closed.seconds);
        let course = self.heap_course();
        self.sampler.calibrate(&mut facts, &mut totals, &course, closed.seconds);
        let unexplained = unexplained(&course, &facts);
        Sort::Worst.sort(&mut facts);
        let facts = story::in_order(self.plan, facts);
        let (types, types_unread) = types::of_survivors(subject, &facts);
        let (sums, errors) = totals;
        let totals = Totals {
            errors: Some(story::sum_errors(&errors)),
            ..story::totals(sums, &armed, &closed, self.last_rss_bytes)
        };
        if over {
            // What follows the last look is in no budget; where others go on, it is.
            pace.expenses.is_after(mark);
        }
        Shown { facts, types, types_unread, totals, unexplained }
    }

    /// What the heap's own counters said, looks that were made alike.
    fn heap_course(&self) -> Vec<HeapAt> {
        let looks = self.heap.kept();
        // What could not be counted alike each time tells no course.
        let first = looks.first().and_then(|look| look.census.left_out());
        let alike = looks.iter().filter(|look| first.is_some() && look.census.left_out() == first);
        let at = |look: &Look| HeapAt {
            seconds: look.seconds,
            resident_bytes: look.resident_bytes,
            bytes: std::array::from_fn(|class| look.census.class_bytes(class)),
        };
        alike.map(at).collect()
    }

    /// What its windows cost the process itself.
    pub(super) fn own_cost(&self, seconds: f64) -> Cost {
        Cost {
            hits: self.hits,
            target_cpu_fraction: self.lost_s / seconds.max(1e-9),
            ns_per_hit: self.lost_s * 1e9 / (self.hits.max(1) as f64),
            kernel_bytes: 0,
        }
    }
}

/// That more grows than the sites tell of, and who sees it.
fn note(Unexplained { resident, found }: &Unexplained) -> String {
    format!(
        "resident memory grew all the time, by {}, and all sites together by {}: what grows is allocated too seldom for windows to see it, or past the allocators (mappings, files that are read in); \
         `unshed record --watch` follows large requests and mappings, `--exact` every allocation",
        units::rate(*resident),
        units::rate(*found)
    )
}

/// What was lost, as far as that means something here.
pub(super) fn losses(hooked: &mut Hooked, gone: u64, types_unread: u64) -> Result<Vec<LossCount>> {
    let mut counted = books::losses(&mut hooked.probes)?;
    counted.retain(|(loss, _)| !NOT_OF_WINDOWS.contains(loss));
    Ok(story::losses(&counted, gone, types_unread))
}

impl Pace {
    /// What all of it cost.
    pub(super) fn cost(&self, kits: &[&Kit], seconds: f64) -> Cost {
        let spent = &self.expenses;
        Cost {
            hits: spent.hits,
            target_cpu_fraction: spent.target_s / seconds.max(1e-9),
            ns_per_hit: spent.target_s * 1e9 / (spent.hits.max(1) as f64),
            kernel_bytes: kits.iter().map(|kit| books::kernel_bytes(&kit.hooked.probes)).sum(),
        }
    }

    /// How it was sampled.
    pub(super) fn told(&self, wish: Wish, seconds: f64, candidates: u64, none: Option<String>) -> Told {
        let spent = &self.expenses;
        let attach_us = spent.attach_us();
        let (setup_s, own_s) = spent.own_s();
        let seconds = seconds.max(1e-9);
        Told {
            budget_percent: wish.budget * 100.0,
            windows: u64::from(spent.windows),
            open_seconds: spent.open_s,
            open_share: spent.open_s / seconds,
            longest_window_ms: spent.longest_s * 1e3,
            mean_interval_seconds: seconds / f64::from(spent.windows.max(1)),
            births: spent.births,
            candidates,
            looks: spent.looks,
            refused_records: spent.refused,
            attach_ms_p50: attach_us.map_or(0.0, |us| us.p50 as f64 / 1e3),
            attach_ms_max: attach_us.map_or(0.0, |us| us.max as f64 / 1e3),
            traps_in_ms_max: spent.traps_in_s * 1e3,
            own_cpu_seconds: own_s,
            setup_cpu_seconds: setup_s,
            own_cpu_fraction: own_s / seconds,
            rss_bytes_max: expenses::own_rss_bytes(),
            fell_back: none,
        }
    }
}
