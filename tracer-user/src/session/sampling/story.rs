//! The end of a recording in windows: last looks, and what there is to tell.

use std::time::Instant;

use tracer_common::loss::Loss;

use crate::drain::books;
use crate::error::Result;
use crate::heap::order::Sort;
use crate::heap::sample::{self, HeapAt};
use crate::probe::attach::Leaving;
use crate::report::story::{Cost, Sampling as Told, Story, Totals};
use crate::session::hooked::Hooked;
use crate::session::sampling::{Sampling, expenses};
use crate::session::story::{self, Frame, Ledger};
use crate::session::subject::Subject;
use crate::session::{Armed, Closed, Ended};
use crate::target::census::Census;

/// Losses that mean nothing where blocks are not followed one by one.
const NOT_OF_WINDOWS: [Loss; 3] = [Loss::UnknownFree, Loss::UnknownRealloc, Loss::AddressReborn];

impl Sampling<'_> {
    /// Looks at the survivors for the last time, and joins everything into a story.
    pub(super) fn finish(
        mut self,
        subject: &Subject,
        mut hooked: Hooked,
        armed: Armed,
        closed: Closed,
    ) -> Result<Story> {
        self.read_ring(subject, &mut hooked)?;
        // What an ending interpreter has given back by now says nothing about leaks.
        if !matches!(closed.ended, Ended::Finalizing | Ended::Exec | Ended::Gone) {
            self.look_at_all(subject, closed.seconds);
        }
        let told = self.told(closed);
        let (sums, errors) = self.sampler.totals(closed.seconds);
        let mut facts = self.sampler.facts(closed.seconds);
        self.sampler.calibrate(&mut facts, &self.heap_course(), closed.seconds);
        Sort::Worst.sort(&mut facts);
        let facts = story::in_order(self.plan, facts);
        let (types, types_unread) = story::types(subject, &facts);
        let losses: Vec<_> = books::losses(&mut hooked.probes)?
            .into_iter()
            .filter(|(loss, _)| !NOT_OF_WINDOWS.contains(loss))
            .collect();
        let begin = Instant::now();
        self.leaving.drain(..).for_each(Leaving::wait);
        let detach_ms = begin.elapsed().as_secs_f64() * 1e3;
        self.pay_the_rest(&mut hooked)?;
        let cost = self.cost(&hooked, closed);
        let names = self.names.finish();
        let ledger = Ledger {
            engine: "sample",
            totals: totals(sums, errors, &armed, &closed, self.last_rss_bytes),
            losses: story::losses(&losses, names.gone, types_unread),
            sampling: Some(told),
            watch: None,
        };
        let Hooked { hooks, code, .. } = hooked;
        let frame = Frame {
            plan: self.plan,
            subject,
            armed,
            closed,
            hooks: &hooks,
            check: &crate::session::check::Check::default(),
            times_ms: (ledger.sampling.as_ref().map_or(0.0, |told| told.attach_ms_max), detach_ms),
            cost,
            names: &names,
            code: code.as_ref(),
        };
        Ok(story::tell(&frame, ledger, facts, types))
    }

    /// What the heap's own counters said, looks that were made alike.
    fn heap_course(&self) -> Vec<HeapAt> {
        let censuses = self.heap.censuses();
        // What could not be counted alike each time tells no course.
        let first = censuses.first().and_then(|(_, census)| census.left_out());
        let alike = censuses.iter().filter(|(_, census)| first.is_some() && census.left_out() == first);
        let resident = |seconds: f64| {
            let after = self.resident.partition_point(|(at, _)| *at < seconds);
            self.resident.get(after).or(self.resident.last()).map(|(_, bytes)| *bytes)
        };
        let at = |(seconds, census): &(f64, Census)| HeapAt {
            seconds: *seconds,
            resident_bytes: resident(*seconds),
            bytes: std::array::from_fn(|class| {
                census.classes.get(class).map_or(0, |of| of.blocks * (class as u64 + 1) * 16)
            }),
        };
        alike.map(at).collect()
    }

    /// Accounts for the hits of traps that went out after the last window.
    fn pay_the_rest(&mut self, hooked: &mut Hooked) -> Result<()> {
        let shut = books::hits(&mut hooked.probes)?.shut;
        let rest = shut - self.shut.min(shut);
        self.expenses.hits += rest;
        self.expenses.target_s += rest as f64 * hooked.trap.entry_ns * 1e-9;
        Ok(())
    }

    fn cost(&self, hooked: &Hooked, closed: Closed) -> Cost {
        let spent = &self.expenses;
        Cost {
            hits: spent.hits,
            target_cpu_fraction: spent.target_s / closed.seconds.max(1e-9),
            ns_per_hit: spent.target_s * 1e9 / (spent.hits.max(1) as f64),
            kernel_bytes: books::kernel_bytes(&hooked.probes),
        }
    }

    /// How it was sampled.
    fn told(&self, closed: Closed) -> Told {
        let spent = &self.expenses;
        let attach_us = spent.attach_us();
        let (setup_s, own_s) = spent.own_s();
        let seconds = closed.seconds.max(1e-9);
        Told {
            budget_percent: self.wish.budget * 100.0,
            windows: u64::from(self.windows),
            open_seconds: spent.open_s,
            open_share: spent.open_s / seconds,
            longest_window_ms: spent.longest_s * 1e3,
            mean_interval_seconds: seconds / f64::from(self.windows.max(1)),
            births: spent.births,
            candidates: self.sampler.counts().candidates,
            looks: spent.looks,
            refused_records: spent.refused,
            attach_ms_p50: attach_us.map_or(0.0, |us| us.p50 as f64 / 1e3),
            attach_ms_max: attach_us.map_or(0.0, |us| us.max as f64 / 1e3),
            traps_in_ms_max: spent.traps_in_s * 1e3,
            own_cpu_seconds: own_s,
            setup_cpu_seconds: setup_s,
            own_cpu_fraction: own_s / seconds,
            rss_bytes_max: expenses::own_rss_bytes(),
            fell_back: self.none.clone(),
        }
    }
}

fn totals(
    sums: crate::heap::books::Sums,
    errors: sample::Errors,
    armed: &Armed,
    closed: &Closed,
    last_rss_bytes: u64,
) -> Totals {
    Totals {
        allocated_bytes: sums.allocated_bytes,
        allocated_blocks: sums.allocated_blocks,
        freed_bytes: sums.freed_bytes,
        freed_blocks: sums.freed_blocks,
        live_bytes: sums.live_bytes,
        live_blocks: sums.live_blocks,
        rss_start_bytes: armed.rss_bytes.unwrap_or(0),
        rss_end_bytes: closed.rss_bytes.unwrap_or(last_rss_bytes),
        errors: Some(story::sum_errors(&errors)),
    }
}
