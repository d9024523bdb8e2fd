//! From the kernel's books at the end to the facts of each site: all of a report but types and names.

use std::collections::{HashMap, HashSet};

use tracer_common::block::Block;
use tracer_common::domain::Domain;
use tracer_common::site::SiteTotals;

use super::given::given_bytes;
use super::history::Histories;
use super::order::Sort;
use super::sample::{Errors, Sampled};
use super::snapshot::Books;
use super::spread::Spread;
use super::verdict::{Verdict, judge};

/// Int values kept of a site.
const INT_VALUES: usize = 5;

/// Sums over everything. What is allocated is either freed or lives, in bytes and in blocks, whatever the books say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, the unit is last")]
pub struct Sums {
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_bytes: u64,
    pub freed_blocks: u64,
    pub live_bytes: u64,
    pub live_blocks: u64,
}

/// Live blocks below this age do not count (`--older`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// The kernel's clock (`CLOCK_MONOTONIC`) when the books were closed, nanoseconds.
    pub now_ns: u64,
    /// The least age, nanoseconds.
    pub min_age_ns: u64,
}

impl Older {
    /// The block is old enough to count.
    #[must_use]
    pub const fn keeps(&self, block: &Block) -> bool {
        self.now_ns.saturating_sub(block.birth_ns) >= self.min_age_ns
    }
}

/// All there is to say of a site without its names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteFacts {
    /// The site's id.
    pub id: u64,
    /// The domain; `None` for a code that is not one.
    pub domain: Option<Domain>,
    /// Bytes asked for that live.
    pub live_bytes: u64,
    /// Blocks that live.
    pub live_blocks: u64,
    /// Bytes that the allocator gives for the live blocks.
    pub live_given_bytes: u64,
    /// Bytes asked for.
    pub allocated_bytes: u64,
    /// Blocks allocated.
    pub allocated_blocks: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
    /// Blocks freed.
    pub freed_blocks: u64,
    /// Slope of the live bytes, bytes per second.
    pub growth_bytes_per_second: f64,
    /// What the history looks like.
    pub verdict: Verdict,
    /// Sizes of the live blocks, bytes.
    pub sizes: Option<Spread>,
    /// Ages at death of the freed blocks, nanoseconds.
    pub lifetimes_ns: Option<Spread>,
    /// Address and size in bytes of the live blocks, oldest first: where types are read.
    pub survivors: Vec<(u64, u64)>,
    /// `--ints`: what `PyLong_FromLong` did.
    pub ints: Option<IntFacts>,
    /// What stands behind the figures, if they are estimates.
    pub sampled: Option<Sampled>,
}

/// What `PyLong_FromLong` did on one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntFacts {
    /// Calls.
    pub calls: u64,
    /// Calls that returned a cached small int.
    pub small: u64,
    /// The most frequent values and how often each was made, most frequent first, at most five.
    pub values: Vec<(i64, u64)>,
}

/// Many sites as one, without a verdict, sizes or survivors.
#[must_use]
pub fn sum(id: u64, sites: &[SiteFacts]) -> SiteFacts {
    let of = |field: fn(&SiteFacts) -> u64| sites.iter().map(field).fold(0, u64::saturating_add);
    let ints = |field: fn(&IntFacts) -> u64| {
        sites.iter().filter_map(|site| site.ints.as_ref().map(field)).fold(0, u64::saturating_add)
    };
    let has_ints = sites.iter().any(|site| site.ints.is_some());
    SiteFacts {
        id,
        domain: None,
        live_bytes: of(|site| site.live_bytes),
        live_blocks: of(|site| site.live_blocks),
        live_given_bytes: of(|site| site.live_given_bytes),
        allocated_bytes: of(|site| site.allocated_bytes),
        allocated_blocks: of(|site| site.allocated_blocks),
        freed_bytes: of(|site| site.freed_bytes),
        freed_blocks: of(|site| site.freed_blocks),
        growth_bytes_per_second: sites.iter().map(|site| site.growth_bytes_per_second).sum(),
        verdict: Verdict::Unknown,
        sizes: None,
        lifetimes_ns: None,
        survivors: Vec::new(),
        ints: has_ints.then(|| IntFacts {
            calls: ints(|ints| ints.calls),
            small: ints(|ints| ints.small),
            values: Vec::new(),
        }),
        sampled: sum_of_samples(sites),
    }
}

/// Errors of different sites are chance of the same windows; they are added up as if they all went in one direction.
fn sum_of_samples(sites: &[SiteFacts]) -> Option<Sampled> {
    sites.iter().filter_map(|site| site.sampled).reduce(|one, other| Sampled {
        births: one.births.saturating_add(other.births),
        survivors: one.survivors.saturating_add(other.survivors),
        growth_at_least: one.growth_at_least + other.growth_at_least,
        doubted: one.doubted.max(other.doubted),
        evidence: None,
        errors: Errors {
            live_bytes: one.errors.live_bytes + other.errors.live_bytes,
            live_blocks: one.errors.live_blocks + other.errors.live_blocks,
            allocated_bytes: one.errors.allocated_bytes + other.errors.allocated_bytes,
            allocated_blocks: one.errors.allocated_blocks + other.errors.allocated_blocks,
            freed_bytes: one.errors.freed_bytes + other.errors.freed_bytes,
            freed_blocks: one.errors.freed_blocks + other.errors.freed_blocks,
            growth_bytes_per_second: one.errors.growth_bytes_per_second
                + other.errors.growth_bytes_per_second,
        },
    })
}

/// Sums over all sites.
#[must_use]
pub fn totals(books: &Books) -> Sums {
    let mut all = Sums::default();
    for site in sums_by_site(books).values() {
        all.allocated_bytes = all.allocated_bytes.saturating_add(site.allocated_bytes);
        all.allocated_blocks = all.allocated_blocks.saturating_add(site.allocated_blocks);
        all.freed_bytes = all.freed_bytes.saturating_add(site.freed_bytes);
        all.freed_blocks = all.freed_blocks.saturating_add(site.freed_blocks);
    }
    all.live_bytes = all.allocated_bytes - all.freed_bytes;
    all.live_blocks = all.allocated_blocks - all.freed_blocks;
    all
}

/// The facts of every site, worst first. What lives is what was allocated and not freed.
#[must_use]
pub fn sites(books: &Books, histories: &Histories) -> Vec<SiteFacts> {
    facts(books, histories, None)
}

/// As [`sites`], but what lives is only what lives and is old enough; allocated and freed stay those of the whole trace.
#[must_use]
pub fn sites_older(books: &Books, histories: &Histories, older: Older) -> Vec<SiteFacts> {
    facts(books, histories, Some(older))
}

fn facts(books: &Books, histories: &Histories, older: Option<Older>) -> Vec<SiteFacts> {
    let mut blocks = blocks_by_site(books, older);
    let mut ints = ints_by_site(books);
    let sums = sums_by_site(books);
    let ids: HashSet<u64> = sums.keys().chain(ints.keys()).copied().collect();
    let one = |id: u64| {
        let site = sums.get(&id).copied().unwrap_or_default();
        let blocks = blocks.remove(&id).unwrap_or_default();
        let judgement = judge(&histories.of(id));
        let (live_bytes, live_blocks) = if older.is_some() {
            (
                blocks.iter().fold(0, |sum: u64, (_, block)| sum.saturating_add(block.size_bytes())),
                blocks.len() as u64,
            )
        } else {
            (site.allocated_bytes - site.freed_bytes, site.allocated_blocks - site.freed_blocks)
        };
        SiteFacts {
            id,
            domain: u8::try_from(site.domain).ok().and_then(Domain::from_code),
            live_bytes,
            live_blocks,
            live_given_bytes: blocks.iter().fold(0, |sum, (_, block)| sum.saturating_add(given(block))),
            allocated_bytes: site.allocated_bytes,
            allocated_blocks: site.allocated_blocks,
            freed_bytes: site.freed_bytes,
            freed_blocks: site.freed_blocks,
            growth_bytes_per_second: judgement.growth_bytes_per_second,
            verdict: judgement.verdict,
            sizes: Spread::of_values(blocks.iter().map(|(_, block)| block.size_bytes())),
            lifetimes_ns: Spread::of_lifetimes(&site.lifetimes),
            survivors: blocks.iter().map(|(address, block)| (*address, block.size_bytes())).collect(),
            ints: ints.remove(&id),
            sampled: None,
        }
    };
    let mut sites: Vec<SiteFacts> = ids.into_iter().map(one).collect();
    Sort::Worst.sort(&mut sites);
    sites
}

/// Bytes that the allocator gives for a block. A domain that is not one gives what was asked.
fn given(block: &Block) -> u64 {
    block.domain().map_or(block.size_bytes(), |domain| given_bytes(domain, block.size_bytes()))
}

/// Sums by site, made to agree with themselves: nothing is freed that was not allocated, and a site that has live blocks but no
/// sums (the map of sites was full) has allocated these blocks at least.
fn sums_by_site(books: &Books) -> HashMap<u64, SiteTotals> {
    let mut sums = books.last.sites.clone();
    for site in sums.values_mut() {
        site.freed_bytes = site.freed_bytes.min(site.allocated_bytes);
        site.freed_blocks = site.freed_blocks.min(site.allocated_blocks);
    }
    for (_, block) in &books.blocks {
        if !books.last.sites.contains_key(&block.site) {
            let domain = block.domain().map_or(u32::MAX, |domain| domain as u32);
            let site = sums.entry(block.site).or_insert(SiteTotals { domain, ..SiteTotals::default() });
            site.allocated_bytes = site.allocated_bytes.saturating_add(block.size_bytes());
            site.allocated_blocks += 1;
        }
    }
    sums
}

/// The live blocks that count, by site, oldest first.
fn blocks_by_site(books: &Books, older: Option<Older>) -> HashMap<u64, Vec<(u64, Block)>> {
    let mut by_site: HashMap<u64, Vec<(u64, Block)>> = HashMap::new();
    for (address, block) in &books.blocks {
        if older.is_none_or(|older| older.keeps(block)) {
            by_site.entry(block.site).or_default().push((*address, *block));
        }
    }
    for blocks in by_site.values_mut() {
        blocks.sort_unstable_by_key(|(address, block)| (block.birth_ns, *address));
    }
    by_site
}

fn ints_by_site(books: &Books) -> HashMap<u64, IntFacts> {
    let fact = |totals: &tracer_common::site::IntTotals| IntFacts {
        calls: totals.calls,
        small: totals.small.min(totals.calls),
        values: Vec::new(),
    };
    let mut ints: HashMap<u64, IntFacts> =
        books.ints.iter().map(|(&id, totals)| (id, fact(totals))).collect();
    for (key, calls) in &books.int_values {
        ints.entry(key.site).or_default().values.push((key.value, *calls));
    }
    for site in ints.values_mut() {
        site.values.sort_unstable_by_key(|(value, calls)| (std::cmp::Reverse(*calls), *value));
        site.values.truncate(INT_VALUES);
    }
    ints
}

#[cfg(test)]
mod tests;
