//! The JSON report as its readers know it (`unshed.report/1`), and what must hold of every one of them.
//!
//! Fields without a default are the contract: a report without them does not parse. A number below zero does not parse either.

use std::fmt::Write as _;

use serde::Deserialize;

/// A whole report.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Report {
    pub schema: String,
    pub target: TargetFacts,
    pub engine: String,
    pub seconds: f64,
    pub cost: Cost,
    pub totals: Totals,
    pub losses: Vec<Loss>,
    pub sites: Vec<Site>,
    /// Added by the trace engine.
    #[serde(default)]
    pub hooks: Option<Hooks>,
    /// Added by the sample engine.
    #[serde(default)]
    pub sampling: Option<Sampling>,
    /// Added by the watch engine.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// What happened while it traced and a reader must know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Added where several processes were traced.
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// One of several processes.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Process {
    pub pid: u32,
    pub parent: Option<u32>,
    pub joined: String,
    pub command: String,
    pub python: String,
    pub joined_seconds: f64,
    pub unseen_ms: Option<f64>,
    pub seconds: f64,
    pub ended: String,
    pub exited: bool,
    pub hits: u64,
    #[serde(default)]
    pub windows: Option<u64>,
    pub unknown_frees: u64,
    pub allocated_blocks: u64,
    pub freed_blocks: u64,
    pub live_blocks: u64,
    pub live_bytes: u64,
}

/// What part of a site is whose.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Share {
    pub pid: u32,
    pub exited: bool,
    pub live_bytes: u64,
    pub live_blocks: u64,
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_blocks: u64,
    pub verdict: String,
}

/// Who was traced.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct TargetFacts {
    pub pid: u32,
    pub python: String,
    pub executable: String,
    pub host: String,
}

/// What it cost.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Cost {
    pub hits: u64,
    pub target_cpu_fraction: f64,
}

/// Sums over everything.
#[derive(Clone, Debug, Deserialize)]
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
}

/// One way of losing events.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Loss {
    pub code: String,
    pub count: u64,
    pub meaning: String,
}

/// What was hooked.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Hooks {
    pub complete: bool,
    pub points: u64,
    pub domains: Vec<String>,
    pub reason: String,
}

/// The heap from outside.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Watch {
    #[serde(default)]
    pub small_growth: Option<Growth>,
    #[serde(default)]
    pub resident_growth: Option<Growth>,
    pub looks: u64,
    pub classes: Vec<ClassGrowth>,
    pub arenas_start: u64,
    pub arenas_end: u64,
    pub mapped_bytes: u64,
    pub pools_share: f64,
    #[serde(default)]
    pub large_stopped_after_seconds: Option<f64>,
}

/// Steady growth.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Growth {
    pub bytes_per_second: f64,
    pub seconds: f64,
}

/// The small blocks of one size.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct ClassGrowth {
    pub bytes: u64,
    pub blocks_start: u64,
    pub blocks_end: u64,
    pub growth_bytes_per_second: f64,
}

/// How it was sampled.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Sampling {
    pub budget_percent: f64,
    pub windows: u64,
    pub open_seconds: f64,
    pub open_share: f64,
    pub longest_window_ms: f64,
    pub births: u64,
    pub candidates: u64,
    pub looks: u64,
    pub own_cpu_fraction: f64,
    pub rss_bytes_max: u64,
    #[serde(default)]
    pub fell_back: Option<String>,
}

/// One site.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Site {
    pub live_bytes: u64,
    pub live_blocks: u64,
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_blocks: u64,
    pub growth_bytes_per_second: f64,
    pub verdict: String,
    pub types: Vec<Type>,
    pub stack: Vec<Frame>,
    #[serde(default)]
    pub domain: Option<String>,
    #[serde(default)]
    pub freed_bytes: Option<u64>,
    #[serde(default)]
    pub ints: Option<Ints>,
    /// Only where several processes were traced.
    #[serde(default)]
    pub processes: Vec<Share>,
    /// Estimates only, as all below.
    #[serde(default)]
    pub samples: Option<u64>,
    #[serde(default)]
    pub survivors: Option<u64>,
    #[serde(default)]
    pub live_bytes_error: Option<f64>,
    #[serde(default)]
    pub live_blocks_error: Option<f64>,
    #[serde(default)]
    pub growth_bytes_per_second_error: Option<f64>,
}

/// The survivors of one type.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Type {
    pub name: String,
    pub blocks: u64,
}

/// What `PyLong_FromLong` did on a stack (`--ints`).
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct Ints {
    pub calls: u64,
    pub small: u64,
    pub values: Vec<IntValue>,
}

/// How often a value was made.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON report")]
pub struct IntValue {
    pub value: i64,
    pub calls: u64,
}

/// One frame.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Frame {
    pub kind: String,
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub module: Option<String>,
    pub inlined: bool,
    /// Native frames only, as the three below.
    #[serde(default)]
    pub module_path: Option<String>,
    #[serde(default)]
    pub module_offset: Option<u64>,
    #[serde(default)]
    pub module_address: Option<u64>,
    #[serde(default)]
    pub build_id: Option<String>,
    #[serde(default)]
    pub unnamed: Option<String>,
}

mod check;
#[cfg(test)]
mod tests;

impl Report {
    /// Reads a report and checks what must hold of every one.
    ///
    /// # Panics
    /// When a field of the contract is missing or the report contradicts itself; the message says where.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let start: String = text.chars().take(400).collect();
        let report: Self = serde_json::from_str(text).unwrap_or_else(|error| {
            panic!("the report is not what DESIGN §5 promises: {error}; it starts:\n{start}")
        });
        report.check();
        report
    }

    /// The same report as if no machine code had been wanted.
    #[must_use]
    pub fn without_native(&self) -> Self {
        let mut report = self.clone();
        for site in &mut report.sites {
            site.stack.retain(|frame| frame.kind == "python");
        }
        report
    }

    /// The count of a way of losing events.
    ///
    /// # Panics
    /// When the report does not list it: zeros are listed too.
    #[must_use]
    pub fn loss(&self, code: &str) -> u64 {
        let row = self.losses.iter().find(|loss| loss.code == code);
        let codes: Vec<_> = self.losses.iter().map(|loss| &loss.code).collect();
        row.unwrap_or_else(|| panic!("the report does not list the loss {code:?}, only {codes:?}")).count
    }

    /// The sites, as a short text for messages.
    #[must_use]
    pub fn worst(&self) -> String {
        let mut text = String::from("the report's first sites are:\n");
        for (rank, site) in self.sites.iter().take(12).enumerate() {
            let Site { live_blocks, live_bytes, allocated_blocks, verdict, .. } = site;
            let stack: Vec<String> = site.stack.iter().take(3).map(Frame::place).collect();
            let domain = site.domain.as_deref().unwrap_or("?");
            let line = format!(
                "{:3}. {live_blocks} blocks, {live_bytes} bytes live of {allocated_blocks} allocated, {domain}, {verdict}: {}",
                rank + 1,
                stack.join(" < ")
            );
            writeln!(text, "{line}").expect("a string takes any text");
        }
        for loss in self.losses.iter().filter(|loss| loss.count > 0) {
            writeln!(text, "lost: {} {}", loss.count, loss.code).expect("a string takes any text");
        }
        text
    }
}

impl Site {
    /// The innermost Python frame, where the blame lies.
    #[must_use]
    pub fn python(&self) -> Option<&Frame> {
        self.stack.iter().find(|frame| frame.kind == "python")
    }
}

impl Frame {
    /// `function (file:line)`.
    #[must_use]
    pub fn place(&self) -> String {
        let line = self.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
        format!("{} ({}:{line})", self.function, self.file.as_deref().unwrap_or("?"))
    }
}
