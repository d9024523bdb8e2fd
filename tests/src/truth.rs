//! What a program says of itself, and whether a report says the same.

use serde::Deserialize;
use serde_json::Value;

use crate::report::{Report, Site};

/// The answer to `go`.
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    /// Lines that have leaked, the worst one first.
    pub leaks: Vec<Leak>,
    /// Whatever else the program has to say.
    #[serde(flatten)]
    pub facts: Value,
}

/// One line that has leaked.
#[derive(Clone, Debug, Deserialize)]
pub struct Leak {
    /// Qualified name of its function.
    pub function: String,
    /// Its file.
    pub file: String,
    /// Its number.
    pub line: u32,
    /// Live blocks that it allocated.
    pub blocks: u64,
    /// Bytes that it asked for, if the program knows.
    pub bytes: Option<u64>,
    /// The type of the object that was meant to be leaked.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
}

impl Truth {
    /// Reads a program's answer.
    ///
    /// # Panics
    /// When it is no truth.
    #[must_use]
    pub fn parse(answer: Value) -> Self {
        let said = answer.to_string();
        serde_json::from_value(answer).unwrap_or_else(|error| panic!("this is no truth: {said}: {error}"))
    }

    /// Finds the truth among the lines that a program has printed.
    ///
    /// # Panics
    /// When it is not among them.
    #[must_use]
    pub fn among(output: &str) -> Self {
        let line = output.lines().find(|line| line.starts_with("{\"leaks\""));
        let line = line.unwrap_or_else(|| panic!("the program did not print its truth, but:\n{output}"));
        Self::parse(serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    /// A whole number that the program has said.
    ///
    /// # Panics
    /// When it has not.
    #[must_use]
    pub fn fact(&self, name: &str) -> u64 {
        self.facts[name]
            .as_u64()
            .unwrap_or_else(|| panic!("the program does not say {name:?}, but {}", self.facts))
    }

    /// Asserts that every leaking line is reported with its live blocks within 1 %, and the worst one first or second.
    ///
    /// # Panics
    /// When that is not so; the message shows both sides.
    pub fn assert_told_by(&self, report: &Report) {
        for leak in &self.leaks {
            leak.assert_told_by(report);
        }
        if let Some(worst) = self.leaks.first() {
            let rank = report.sites.iter().position(|site| worst.is_at(site));
            assert!(
                rank.is_some_and(|rank| rank < 2),
                "{} is not first or second, but at index {rank:?}\n{}",
                worst.place(),
                report.worst()
            );
        }
    }
}

impl Leak {
    /// Whether a site's innermost Python frame is this line.
    #[must_use]
    pub fn is_at(&self, site: &Site) -> bool {
        site.python().is_some_and(|frame| {
            (frame.function.as_str(), frame.file.as_deref(), frame.line)
                == (self.function.as_str(), Some(self.file.as_str()), Some(self.line))
        })
    }

    /// The sites at this line. A line may have several: one per domain, one per way to it.
    #[must_use]
    pub fn sites<'a>(&self, report: &'a Report) -> Vec<&'a Site> {
        report.sites.iter().filter(|site| self.is_at(site)).collect()
    }

    /// The line's live blocks, as reported.
    #[must_use]
    pub fn live_blocks(&self, report: &Report) -> u64 {
        self.sites(report).iter().map(|site| site.live_blocks).sum()
    }

    /// `function (file:line)`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} ({}:{})", self.function, self.file, self.line)
    }

    /// Asserts that the line is reported, with its live blocks (and bytes, where they are known) within 1 %.
    ///
    /// # Panics
    /// When that is not so; the message shows both sides.
    pub fn assert_told_by(&self, report: &Report) {
        let sites = self.sites(report);
        assert!(!sites.is_empty(), "no site is at {}\n{}", self.place(), report.worst());
        let blocks = self.live_blocks(report);
        eprintln!("{}: {blocks} live blocks reported, {} true", self.place(), self.blocks);
        let told = |what| format!("{what} at {}\n{}", self.place(), report.worst());
        assert_within_percent(blocks, self.blocks, &told("live blocks"));
        if let Some(bytes) = self.bytes {
            let live: u64 = sites.iter().map(|site| site.live_bytes).sum();
            assert_within_percent(live, bytes, &told("live bytes"));
        }
    }

    /// Asserts that the type of the survivors, where it was read, is the true one: most of those read at this line.
    ///
    /// # Panics
    /// When no type was read, or mostly another.
    pub fn assert_type_told_by(&self, report: &Report) {
        let Some(expected) = &self.type_name else { return };
        let types: Vec<_> = self.sites(report).into_iter().flat_map(|site| &site.types).collect();
        let blocks = types.iter().filter(|each| each.name == *expected).map(|each| each.blocks).sum::<u64>();
        assert!(blocks > 0, "no survivor of {} is told to be {expected:?}, only {types:?}", self.place());
    }
}

/// Asserts that what was seen is within 1 % of what is true.
///
/// # Panics
/// When it is not.
pub fn assert_within_percent(seen: u64, expected: u64, what: &str) {
    let off = seen.abs_diff(expected);
    assert!(off * 100 <= expected, "{seen} seen, but {expected} true (off by {off}, more than 1 %): {what}");
}
