//! What a program says of itself, and whether a report says the same.

use serde::Deserialize;
use serde_json::Value;

use crate::report::{Report, Site};

/// pymalloc's own are requests of up to so many bytes (`SMALL_REQUEST_THRESHOLD` in CPython 3.11's obmalloc.c).
const SMALL_BYTES: u64 = 512;
/// Its size classes are so many bytes apart (`ALIGNMENT`).
const CLASS_STEP: u64 = 16;

/// The answer to `go`.
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    /// Lines that have leaked, the worst one first.
    pub leaks: Vec<Leak>,
    /// Whether the interpreter's allocators are inlined: then some sizes are known as asked, and some only as the allocator's
    /// size class. The harness knows it, not the program.
    #[serde(skip)]
    pub inlined: bool,
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
    /// How many of them were asked for with how many bytes, if the program knows: pairs of bytes and blocks.
    #[serde(default)]
    pub sizes: Vec<(u64, u64)>,
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

    /// Asserts the live bytes of many blocks of many sizes, of which the program says what was asked for (`live_bytes`) and the sum of
    /// the size classes (`given_bytes`): within 1 % of the first, or, on a build with inlined allocators, between the two.
    ///
    /// # Panics
    /// When that is not so.
    pub fn assert_live_bytes(&self, seen: u64, what: &str) {
        let (asked, given) = (self.fact("live_bytes"), self.fact("given_bytes"));
        eprintln!("{seen} live bytes reported, {asked} asked for, {given} with size classes");
        let nearest = if self.inlined { seen.clamp(asked, given) } else { asked };
        assert_within_percent(seen, nearest, what);
    }

    /// Asserts that every leaking line is reported with its live blocks within 1 % and their bytes, and the worst one first or
    /// second.
    ///
    /// # Panics
    /// When that is not so; the message shows both sides.
    pub fn assert_told_by(&self, report: &Report) {
        for leak in &self.leaks {
            leak.assert_told_by(report, self.inlined);
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

    /// Whether the line stands anywhere on a site's stack.
    #[must_use]
    pub fn is_passed_by(&self, site: &Site) -> bool {
        let here = |file: Option<&str>, line| (file, line) == (Some(self.file.as_str()), Some(self.line));
        site.stack.iter().any(|frame| frame.kind == "python" && here(frame.file.as_deref(), frame.line))
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

    /// Asserts that the line is reported, with its live blocks within 1 % and, where the sizes are known, with their bytes.
    ///
    /// # Panics
    /// When that is not so; the message shows both sides.
    pub fn assert_told_by(&self, report: &Report, inlined: bool) {
        assert!(!self.sites(report).is_empty(), "no site is at {}\n{}", self.place(), report.worst());
        let blocks = self.live_blocks(report);
        eprintln!("{}: {blocks} live blocks reported, {} true", self.place(), self.blocks);
        let told = format!("live blocks at {}\n{}", self.place(), report.worst());
        assert_within_percent(blocks, self.blocks, &told);
        self.assert_bytes_told_by(report, inlined);
    }

    /// Asserts the same with the number of blocks exactly as the program says.
    ///
    /// # Panics
    /// When that is not so; the message shows both sides.
    pub fn assert_exactly_told_by(&self, report: &Report, inlined: bool) {
        self.assert_told_by(report, inlined);
        let (blocks, place) = (self.live_blocks(report), self.place());
        assert_eq!(blocks, self.blocks, "live blocks seen and true at {place}\n{}", report.worst());
        let bytes: u64 = self.sites(report).iter().map(|site| site.live_bytes).sum();
        let asked: u64 = self.sizes.iter().map(|(bytes, blocks)| bytes * blocks).sum();
        let given: u64 = self.sizes.iter().map(|&(bytes, blocks)| size_class(bytes) * blocks).sum();
        assert!(
            self.sizes.is_empty() || bytes == asked || (inlined && (asked..=given).contains(&bytes)),
            "{bytes} live bytes seen, {asked} asked for at {place}\n{}",
            report.worst()
        );
    }

    /// Asserts the bytes of each site at the line, to the byte: all of its blocks are told with the size that was asked, or, on a
    /// build with inlined allocators, all with the size class of it. A site whose blocks were asked with several sizes is told
    /// with as many bytes as were asked, which the program may only claim of sizes that are their own class.
    fn assert_bytes_told_by(&self, report: &Report, inlined: bool) {
        if self.sizes.is_empty() {
            return;
        }
        let is_one_size = |site: &Site| self.sizes.iter().any(|&(size, _)| has_size(site, size, inlined));
        // What tracemalloc, say, notes of the line are blocks of the line too; the count has let those few pass already.
        let is_many = |site: &&Site| site.live_blocks * 100 > self.blocks || is_one_size(site);
        let live: Vec<&Site> = self.sites(report).into_iter().filter(is_many).collect();
        if live.iter().all(|site| is_one_size(site)) {
            return;
        }
        let place = self.place();
        let told = format!("of {:?} at {place}\n{}", self.sizes, report.worst());
        let exact = self.sizes.iter().all(|&(bytes, _)| size_class(bytes) == bytes);
        assert!(
            exact,
            "a site's live bytes are neither the sizes asked nor, where known, their classes, {told}"
        );
        let asked: u64 = self.sizes.iter().map(|(bytes, blocks)| bytes * blocks).sum();
        let seen: u64 = live.iter().map(|site| site.live_bytes).sum();
        assert_eq!(seen, asked, "live bytes seen and asked for, {told}");
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

/// What pymalloc gives for a request: size classes of 16 bytes; longer requests go to `malloc`, whose hooks see the size asked for.
#[must_use]
pub fn size_class(asked: u64) -> u64 {
    if asked <= SMALL_BYTES { asked.max(1).next_multiple_of(CLASS_STEP) } else { asked }
}

/// Whether each live block of a site has this size, or, where sizes may be known as classes only, its class: when somebody replaces the allocators, the fast paths, which know the class, are
/// left for functions that are told the size.
fn has_size(site: &Site, asked: u64, inlined: bool) -> bool {
    let pymalloc = site.domain.as_deref().is_none_or(|domain| ["object", "mem"].contains(&domain));
    let more_each = size_class(asked) - asked;
    let more = site.live_bytes.checked_sub(site.live_blocks * asked);
    let some_as_class =
        |more: u64| more_each > 0 && more.is_multiple_of(more_each) && more <= site.live_blocks * more_each;
    more.is_some_and(|more| more == 0 || (inlined && pymalloc && some_as_class(more)))
}

/// Asserts that what was seen is within 1 % of what is true.
///
/// # Panics
/// When it is not.
pub fn assert_within_percent(seen: u64, expected: u64, what: &str) {
    let off = seen.abs_diff(expected);
    assert!(off * 100 <= expected, "{seen} seen, but {expected} true (off by {off}, more than 1 %): {what}");
}

#[cfg(test)]
mod tests;
