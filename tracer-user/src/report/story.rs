//! Everything a report can say, joined and named, in one value. `session` makes it, the outputs print it, the capture file keeps it.

use serde::{Deserialize, Serialize};

pub use super::home::{Cgroup, Container, Home};
pub use super::kin::{Process, Share};
pub use super::sampling::{Sampling, Score, SiteErrors, SumErrors};
pub use super::watch::Watch;
use crate::heap::order::Sort;
use crate::heap::sample::Evidence;
use crate::heap::spread::Spread;
use crate::heap::verdict::{Verdict, rank};
use crate::symbol::Frame;

/// One recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Who was traced.
    pub target: Target,
    /// `trace`: each allocation and each free; `sample`: what windows showed, scaled up; `watch`: slow paths only.
    pub engine: String,
    /// Seconds from arming to disarming.
    pub seconds: f64,
    /// Wall time at arming, milliseconds since the epoch.
    pub started_unix_ms: u64,
    /// Why the recording ended, as a clause: "the time was up", "the target ended", "interrupted".
    pub ended: String,
    /// What was hooked.
    pub hooks: Hooks,
    /// The tables by which C frames were walked; `None` where none were wanted.
    #[serde(default)]
    pub unwind: Option<Unwind>,
    /// What it cost.
    pub cost: Cost,
    /// How it was sampled; `None` where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The heap from outside, of the watch engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// Sums over everything.
    pub totals: Totals,
    /// What the reader must know to read the figures right, a sentence each: "live counts only blocks older than 5 s".
    #[serde(default)]
    pub notes: Vec<String>,
    /// Every process that was recorded, in the order in which they joined; none where only one was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// Every row of the loss table with a count, zero included.
    pub losses: Vec<LossCount>,
    /// Worst first.
    pub sites: Vec<Site>,
}

/// The traced process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Process id as unshed sees it.
    pub pid: u32,
    /// `3.11.7`.
    pub python: String,
    /// Path of the executable, in the target's own mount namespace.
    pub executable: String,
    /// Path of the file that holds CPython, there: the executable, or a shared library.
    #[serde(default)]
    pub interpreter: Option<String>,
    /// Arguments, joined by spaces.
    pub command: String,
    /// Host name.
    pub host: String,
    /// Where on that host it lives.
    #[serde(flatten)]
    pub home: Home,
}

/// What was hooked, and whether that is everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hooks {
    /// No allocation of the chosen domains can pass unseen.
    pub complete: bool,
    /// Probe points, returns included.
    pub points: u32,
    /// Names of the domains.
    pub domains: Vec<String>,
    /// Why the hooks are (in)complete, and whether that was checked: "static, inlined allocator: 171 allocation and 47 free sites, …".
    pub reason: String,
    /// Places that hand out a block of the allocator, and places that take one back; 0 if functions were hooked instead.
    #[serde(default)]
    pub allocation_sites: u32,
    /// See `allocation_sites`.
    #[serde(default)]
    pub free_sites: u32,
    /// What the heap's own counters say of the hooks: true: they agree, false: they do not, `None`: it could not be found out.
    #[serde(default)]
    pub checked: Option<bool>,
    /// Milliseconds that it took to put all traps in.
    #[serde(default)]
    pub attach_ms: f64,
    /// Milliseconds that it took to take them out.
    #[serde(default)]
    pub detach_ms: f64,
}

/// The tables by which C frames were walked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unwind {
    /// `leaf` or `full`.
    pub mode: String,
    /// Files with code that have rows.
    pub files: u64,
    /// Rows of all files.
    pub rows: u64,
    /// Distinct rules.
    pub rules: u64,
    /// Bytes of the tables in use; the kernel has room for more.
    pub table_bytes: u64,
    /// Milliseconds that making the tables took.
    pub build_ms: f64,
    /// Code that its tables describe, but not in a way that is followed here.
    pub unsupported: Vec<Unsupported>,
    /// Files that cannot be unwound at all, with the reason.
    pub without: Vec<String>,
}

/// Code that cannot be unwound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// What is not followed, as a clause.
    pub reason: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of code.
    pub code_bytes: u64,
}

/// What the trace cost the target and the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Probe hits.
    pub hits: u64,
    /// Share of the traced time that the target's threads spent in traps and probes (1.0: one full CPU).
    pub target_cpu_fraction: f64,
    /// Nanoseconds per hit behind that share: the measured trap plus the measured program.
    pub ns_per_hit: f64,
    /// Bytes of kernel memory that the maps held at the end.
    pub kernel_bytes: u64,
}

/// Sums over all sites.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Totals {
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_bytes: u64,
    pub freed_blocks: u64,
    pub live_bytes: u64,
    pub live_blocks: u64,
    pub rss_start_bytes: u64,
    pub rss_end_bytes: u64,
    /// `None`: the sums are exact.
    #[serde(flatten)]
    pub errors: Option<SumErrors>,
}

/// One row of the loss table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossCount {
    /// The row's code.
    pub code: String,
    /// How often.
    pub count: u64,
    /// What it means.
    pub meaning: String,
}

/// How the note of the row begins that sums up the sites which are not told one by one.
pub const OTHER_SITES: &str = "(other sites)";

/// One site: a stack in a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Its hash, which means something only while it is recorded.
    #[serde(skip)]
    pub id: u64,
    /// Name of the domain.
    pub domain: String,
    /// Bytes asked for that still live.
    pub live_bytes: u64,
    /// Blocks that still live.
    pub live_blocks: u64,
    /// Bytes that the allocator gives for the live blocks (a request of 28 takes 32).
    pub live_given_bytes: u64,
    /// Bytes asked for.
    pub allocated_bytes: u64,
    /// Blocks allocated.
    pub allocated_blocks: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
    /// Blocks freed.
    pub freed_blocks: u64,
    /// Slope of the live bytes over the later half of the traced time.
    pub growth_bytes_per_second: f64,
    /// What the history looks like.
    pub verdict: Verdict,
    /// Sizes of the live blocks in bytes.
    pub sizes: Option<Spread>,
    /// Ages at death of the freed blocks in nanoseconds.
    pub lifetimes_ns: Option<Spread>,
    /// Types of the live blocks, most frequent first.
    pub types: Vec<TypeCount>,
    /// Births that were seen, which all estimates rest on; `None`: each one was, and the figures are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Of these, the blocks that are old and lived when they were last looked at, which the growth rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivors: Option<u64>,
    /// Growth that is exceeded in 99 of 100 cases, bytes per second: what sampled sites are put in order by.
    #[serde(rename = "growth_bytes_per_second_at_least", default, skip_serializing_if = "Option::is_none")]
    pub growth_at_least: Option<f64>,
    /// What the verdict of samples was made of; not kept in captures.
    #[serde(skip)]
    pub evidence: Option<Evidence>,
    /// How far off the estimates may be; `None`: they are exact.
    #[serde(flatten)]
    pub errors: Option<SiteErrors>,
    /// `--ints`: what `PyLong_FromLong` did on this stack.
    pub ints: Option<Ints>,
    /// What part of it is whose, where several processes were recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Share>,
    /// Innermost first.
    pub stack: Vec<Frame>,
    /// The stack is not whole, and why: "deeper than --max-depth".
    pub stack_note: Option<String>,
}

/// How many live blocks hold an object of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeCount {
    /// `tp_name`.
    pub name: String,
    /// Blocks.
    pub blocks: u64,
}

/// What `PyLong_FromLong` did on one stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ints {
    /// Calls.
    pub calls: u64,
    /// Calls that returned a cached small int.
    pub small: u64,
    /// The most frequent values, most frequent first.
    pub values: Vec<IntValue>,
}

/// How often a value was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntValue {
    /// The value.
    pub value: i64,
    /// Calls.
    pub calls: u64,
}

impl Site {
    /// How far up it belongs: a sampled site by the growth of old survivors that is sure, discounted by how little its verdict says leak; then, and an exact one from the
    /// start, by what lives, in bytes ([`rank`]).
    #[must_use]
    pub fn score(&self) -> Score {
        let grown = self.growth_at_least.map_or(0.0, |at_least| at_least * self.verdict.weight(true));
        Score { grown, live: rank(self.live_bytes, self.verdict, self.growth_bytes_per_second) }
    }

    /// One of its errors; `None` if its figures are exact.
    #[must_use]
    pub fn error(&self, of: fn(&SumErrors) -> f64) -> Option<f64> {
        self.errors.as_ref().map(|errors| of(&errors.sums))
    }

    /// The error of its growth, bytes per second; `None` if that is exact.
    #[must_use]
    pub fn growth_error(&self) -> Option<f64> {
        self.errors.map(|errors| errors.growth_bytes_per_second)
    }
}

impl Totals {
    /// One of the errors; `None` if the sums are exact.
    #[must_use]
    pub fn error(&self, of: fn(&SumErrors) -> f64) -> Option<f64> {
        self.errors.as_ref().map(of)
    }
}

impl Story {
    /// Puts the sites in another order. The story was told in one order already, which breaks ties.
    pub fn sort(&mut self, sort: Sort) {
        let growth = |site: &Site| site.growth_bytes_per_second;
        match sort {
            Sort::Worst => {
                self.sites.sort_by(|one, other| other.score().compare(&one.score()));
            }
            Sort::Bytes => self.sites.sort_by_key(|site| std::cmp::Reverse(site.live_bytes)),
            Sort::Blocks => self.sites.sort_by_key(|site| std::cmp::Reverse(site.live_blocks)),
            Sort::Growth => self.sites.sort_by(|one, other| growth(other).total_cmp(&growth(one))),
        }
    }
}
