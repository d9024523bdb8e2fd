//! The stories of several processes as one: sites with the same stack are one site, which says what part of it is whose.
//!
//! Sites of samples are joined by their ids first, because processes come and go while names are still being looked up; how their errors go together is in `errors`.
//!
//! What a process held when it exited is gone with it. So it counts as freed in the sums of the whole, and as what it is in the process's own row and in its shares.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::kin::{Joined, Process, Share};
use super::story::{LossCount, OTHER_SITES, Site, Story, Totals, TypeCount};
use crate::heap::order::Sort;
use crate::heap::spread::Spread;
use crate::heap::verdict::{Verdict, rank};
use crate::symbol::{Frame, FrameKind};

/// Processes with a row of their own when they have exited, at most: a server that renews its workers goes through thousands. The living ones all have one.
const ROWS: usize = 192;
/// The same of those that have exited and nobody has seen anything of.
const UNSEEN_ROWS: usize = 64;
/// Shares of a site, at most.
const SHARES: usize = 64;
/// Sites, at most; the rest is summed up.
const SITES: usize = 5_000;

/// Stories that are being joined.
pub struct Merge {
    sort: Sort,
    /// Sites have no names yet: the same id is the same stack.
    unnamed: bool,
    /// The target's own, which gives the frame; and whether the target has exited.
    frame: Option<(Story, Process)>,
    rows: Vec<Process>,
    /// Those without a row of their own, and how many they are.
    others: Option<(Process, u64)>,
    sites: Vec<Site>,
    /// Places in `sites` by a hash of what makes a site.
    places: HashMap<u64, Vec<usize>>,
    hasher: RandomState,
    sums: Sums,
    alive: bool,
}

/// Sums over processes that are not in the frame.
#[derive(Default)]
struct Sums {
    totals: Totals,
    losses: Vec<LossCount>,
    hits: u64,
    spent_s: f64,
    kernel_bytes: u64,
    incomplete: Vec<String>,
    notes: Vec<String>,
}

impl Merge {
    /// Nothing yet; sites will be in this order.
    #[must_use]
    pub fn new(sort: Sort) -> Self {
        Self {
            sort,
            unnamed: false,
            frame: None,
            rows: Vec::new(),
            others: None,
            sites: Vec::new(),
            places: HashMap::new(),
            hasher: RandomState::new(),
            sums: Sums::default(),
            alive: false,
        }
    }

    /// The same for sites that are named when all is over, by [`Self::named_story`].
    #[must_use]
    pub fn unnamed(sort: Sort) -> Self {
        Self { unnamed: true, ..Self::new(sort) }
    }

    /// Takes up the story of a process. The first that is the target's is the frame of the whole.
    pub fn add(&mut self, story: Story, process: Process) {
        if self.frame.is_none() && process.joined == Joined::Target {
            // Whether it has exited matters only if somebody outlives it: that is known at the end.
            self.frame = Some((story, process));
            return;
        }
        self.alive |= !process.exited;
        self.take(story, process);
    }

    /// Takes up a process of which nothing was seen.
    pub fn add_unseen(&mut self, process: Process) {
        self.alive |= !process.exited;
        if process.exited && self.rows.len() >= UNSEEN_ROWS {
            return self.rest(&process);
        }
        self.row(process);
    }

    /// The whole, of so many seconds; `None` if there was no target.
    #[must_use]
    pub fn story(self, seconds: f64, notes: Vec<String>) -> Option<Story> {
        self.named_story(seconds, notes, |_| {})
    }

    /// The same with names: `name` gives a site its stack.
    #[must_use]
    pub fn named_story(
        mut self,
        seconds: f64,
        notes: Vec<String>,
        name: impl Fn(&mut Site),
    ) -> Option<Story> {
        let (frame, mut process) = self.frame.take()?;
        // What lives at the end of the last one is what the recording ends with.
        process.exited &= self.alive;
        let mut whole = Story { sites: Vec::new(), ..frame.clone() };
        self.take(frame, process);
        self.name(name);
        let Self { sort, mut rows, others, sites, sums, .. } = self;
        rows.sort_by(|one, other| one.joined_seconds.total_cmp(&other.joined_seconds));
        rows.extend(
            others.map(|(row, count)| Process { command: format!("({count} more processes)"), ..row }),
        );
        whole.seconds = seconds.max(whole.seconds);
        whole.totals = sums.totals;
        whole.losses = sums.losses;
        whole.cost.hits = sums.hits;
        whole.cost.target_cpu_fraction = sums.spent_s / whole.seconds.max(1e-9);
        whole.cost.ns_per_hit = sums.spent_s * 1e9 / sums.hits.max(1) as f64;
        whole.cost.kernel_bytes = sums.kernel_bytes;
        if let Some(reason) = sums.incomplete.first().filter(|_| whole.hooks.complete) {
            whole.hooks.complete = false;
            whole.hooks.reason.clone_from(reason);
        }
        whole.notes = sums.notes;
        whole.notes.extend(notes);
        whole.processes = rows;
        whole.sites = sites;
        whole.sort(sort);
        if whole.sites.len() > SITES {
            let rest = beyond(&mut whole.sites, SITES - 1);
            whole.sort(sort);
            whole.sites.extend(rest.into_iter().reduce(|mut sum, site| {
                join(&mut sum, site);
                Site {
                    stack: Vec::new(),
                    stack_note: Some(format!("{OTHER_SITES}: those that matter least")),
                    ..sum
                }
            }));
        }
        Some(whole)
    }

    /// Gives all sites their names. Two that differ in addresses alone are the same then.
    fn name(&mut self, name: impl Fn(&mut Site)) {
        if !self.unnamed {
            return;
        }
        self.unnamed = false;
        self.places.clear();
        for mut site in std::mem::take(&mut self.sites) {
            name(&mut site);
            self.enter(site);
        }
    }

    fn take(&mut self, story: Story, mut process: Process) {
        let pid = process.pid;
        if self.has_no_row(&process) {
            // Nor has it shares of its own.
            process.pid = 0;
        }
        for site in story.sites {
            self.site(site, &process);
        }
        let of = &story.totals;
        let gone = if process.exited { (of.live_bytes, of.live_blocks) } else { (0, 0) };
        let sums = &mut self.sums;
        let totals = &mut sums.totals;
        totals.allocated_bytes += of.allocated_bytes;
        totals.allocated_blocks += of.allocated_blocks;
        totals.freed_bytes += of.freed_bytes + gone.0;
        totals.freed_blocks += of.freed_blocks + gone.1;
        totals.live_bytes += of.live_bytes - gone.0;
        totals.live_blocks += of.live_blocks - gone.1;
        totals.rss_start_bytes += of.rss_start_bytes;
        totals.rss_end_bytes += of.rss_end_bytes;
        errors::add_totals(totals, of, process.exited);
        losses(&mut sums.losses, story.losses);
        sums.hits += story.cost.hits;
        sums.spent_s += story.cost.target_cpu_fraction * story.seconds;
        sums.kernel_bytes += story.cost.kernel_bytes;
        if !story.hooks.complete {
            sums.incomplete.push(format!("process {pid}: {}", story.hooks.reason));
        }
        sums.notes.extend(story.notes.into_iter().map(|note| format!("process {pid}: {note}")));
        self.row(process);
    }

    fn row(&mut self, process: Process) {
        if self.has_no_row(&process) {
            return self.rest(&process);
        }
        self.rows.push(process);
    }

    const fn has_no_row(&self, process: &Process) -> bool {
        process.exited && self.rows.len() >= ROWS
    }

    /// One of those that have a row together.
    fn rest(&mut self, process: &Process) {
        let (row, count) =
            self.others.get_or_insert_with(|| (Process { exited: true, ..Process::default() }, 0));
        *count += 1;
        row.hits += process.hits;
        row.unknown_frees += process.unknown_frees;
        row.exited &= process.exited;
        let (sum, of) = (&mut row.totals, &process.totals);
        sum.allocated_bytes += of.allocated_bytes;
        sum.allocated_blocks += of.allocated_blocks;
        sum.freed_bytes += of.freed_bytes;
        sum.freed_blocks += of.freed_blocks;
        sum.live_bytes += of.live_bytes;
        sum.live_blocks += of.live_blocks;
    }

    fn site(&mut self, mut site: Site, process: &Process) {
        site.processes = vec![Share::of(&site, process)];
        if process.exited {
            // Gone with its process.
            site.freed_bytes = site.allocated_bytes;
            site.freed_blocks = site.allocated_blocks;
            site.live_bytes = 0;
            site.live_blocks = 0;
            site.live_given_bytes = 0;
            site.growth_bytes_per_second = 0.0;
            site.verdict = Verdict::Unknown;
            site.sizes = None;
            site.types.clear();
            errors::close(&mut site);
        }
        self.enter(site);
    }

    fn enter(&mut self, site: Site) {
        let unnamed = self.unnamed;
        let hash = self.hasher.hash_one(key(&site, unnamed));
        let places = self.places.entry(hash).or_default();
        match places.iter().find(|place| {
            self.sites.get(**place).is_some_and(|known| key(known, unnamed).eq(&key(&site, unnamed)))
        }) {
            Some(place) => join(&mut self.sites[*place], site),
            None => {
                places.push(self.sites.len());
                self.sites.push(site);
            }
        }
    }
}

/// Takes out the sites beyond so many, which come in the order in which they matter. In that order what processes held when they exited is last, because none of it lives; a quarter of the room is theirs that held the most.
fn beyond(sites: &mut Vec<Site>, most: usize) -> Vec<Site> {
    let mut rest = sites.split_off(most);
    rest.sort_by_cached_key(|site| Reverse(site.held_at_exit()));
    let held = rest.iter().take(most / 4).take_while(|site| site.held_at_exit().1 > 0).count();
    let others = rest.split_off(held);
    let least = sites.split_off(sites.len() - held);
    sites.extend(rest);
    others.into_iter().chain(least).collect()
}

/// What makes a frame, whatever process it is in: nothing that says where in memory code lies.
type Named<'s> = (FrameKind, &'s str, Option<&'s str>, Option<u32>, Option<&'s str>, bool);
/// The same of a site: its domain, why its stack is not whole, and its frames; or its id.
type Key<'s> = (&'s str, Option<&'s str>, Vec<Named<'s>>, u64);

fn key(site: &Site, unnamed: bool) -> Key<'_> {
    if unnamed {
        return (site.domain.as_str(), None, Vec::new(), site.id);
    }
    let named = site.stack.iter().map(|frame| {
        let Frame { kind, function, file, line, module, inlined, .. } = frame;
        (*kind, function.as_str(), file.as_deref(), *line, module.as_deref(), *inlined)
    });
    let stack = named.collect();
    (site.domain.as_str(), site.stack_note.as_deref(), stack, 0)
}

/// Adds a site to one with the same stack.
fn join(sum: &mut Site, site: Site) {
    let before = rank(sum.live_bytes, sum.verdict, sum.growth_bytes_per_second);
    if let Some(verdict) = errors::join(sum, &site) {
        sum.verdict = verdict;
    } else if sum.live_blocks == 0
        || rank(site.live_bytes, site.verdict, site.growth_bytes_per_second) > before
    {
        sum.verdict = site.verdict;
    }
    sum.sizes = alike(sum.sizes, site.sizes, sum.live_blocks, site.live_blocks);
    sum.lifetimes_ns = alike(sum.lifetimes_ns, site.lifetimes_ns, sum.freed_blocks, site.freed_blocks);
    sum.live_bytes += site.live_bytes;
    sum.live_blocks += site.live_blocks;
    sum.live_given_bytes += site.live_given_bytes;
    sum.allocated_bytes += site.allocated_bytes;
    sum.allocated_blocks += site.allocated_blocks;
    sum.freed_bytes += site.freed_bytes;
    sum.freed_blocks += site.freed_blocks;
    sum.growth_bytes_per_second += site.growth_bytes_per_second;
    types(&mut sum.types, site.types);
    if let (Some(ints), Some(more)) = (&mut sum.ints, site.ints.as_ref()) {
        ints.calls += more.calls;
        ints.small += more.small;
        for value in &more.values {
            match ints.values.iter_mut().find(|known| known.value == value.value) {
                Some(known) => known.calls += value.calls,
                None => ints.values.push(value.clone()),
            }
        }
        ints.values.sort_by(|one, other| other.calls.cmp(&one.calls).then(one.value.cmp(&other.value)));
    } else {
        sum.ints = sum.ints.take().or(site.ints);
    }
    site.processes.into_iter().for_each(|share| shared(&mut sum.processes, share));
}

/// Adds a share to those of its site.
fn shared(shares: &mut Vec<Share>, mut share: Share) {
    let place = |shares: &[Share], of: &Share| {
        shares.iter().position(|known| (known.pid, known.exited) == (of.pid, of.exited))
    };
    if place(shares, &share).is_none() && shares.len() >= SHARES {
        share.pid = 0;
    }
    match place(shares, &share).and_then(|at| shares.get_mut(at)) {
        Some(known) => known.add(&share),
        None => shares.push(share),
    }
}

/// The spread of two lots of values: summaries can be joined only where all values are the same, or one lot is empty.
fn alike(one: Option<Spread>, other: Option<Spread>, of_one: u64, of_other: u64) -> Option<Spread> {
    match (one, other) {
        (spread, None) if of_other == 0 => spread,
        (None, spread) if of_one == 0 => spread,
        (Some(one), Some(other)) if one.min == one.max && (other.min, other.max) == (one.min, one.max) => {
            Some(Spread { count: one.count + other.count, ..one })
        }
        _ => None,
    }
}

fn types(sum: &mut Vec<TypeCount>, more: Vec<TypeCount>) {
    for of in more {
        match sum.iter_mut().find(|known| known.name == of.name) {
            Some(known) => known.blocks += of.blocks,
            None => sum.push(of),
        }
    }
    sum.sort_by(|one, other| other.blocks.cmp(&one.blocks).then_with(|| one.name.cmp(&other.name)));
}

fn losses(sum: &mut Vec<LossCount>, more: Vec<LossCount>) {
    for loss in more {
        match sum.iter_mut().find(|known| known.code == loss.code) {
            Some(known) => known.count += loss.count,
            None => sum.push(loss),
        }
    }
}

mod errors;
#[cfg(test)]
mod tests;
