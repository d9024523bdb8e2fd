//! The same figures by line of code: one line can be reached by many stacks, and an operator mends lines.

use std::collections::HashMap;

use serde::Serialize;

use super::story::{Site, Story};
use crate::heap::verdict::Verdict;
use crate::symbol::{Frame, FrameKind};

/// One line, over all the sites whose leaking frame it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The function, qualified; `None` for sites without frames.
    pub function: Option<String>,
    /// Its file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// Sites that were summed up.
    pub sites: u64,
    /// Bytes asked for that live.
    pub live_bytes: u64,
    /// Blocks that live.
    pub live_blocks: u64,
    /// Slope of the live bytes, bytes per second.
    pub growth_bytes_per_second: f64,
    /// The verdict behind most of what it keeps.
    pub verdict: Verdict,
}

impl Line {
    /// Whether a site is one of those that were summed up here.
    #[must_use]
    pub fn holds(&self, site: &Site) -> bool {
        let own = self.function.as_deref().map(|function| (function, self.file.as_deref(), self.line));
        site.live_blocks > 0 && place(site) == own
    }
}

/// What tells lines apart.
type Place<'a> = Option<(&'a str, Option<&'a str>, Option<u32>)>;

/// The lines that keep something alive, worst first: by what they keep, discounted by how little it looks like a leak.
#[must_use]
pub fn lines(story: &Story) -> Vec<Line> {
    let mut by_place: HashMap<Place<'_>, Vec<&Site>> = HashMap::new();
    for site in story.sites.iter().filter(|site| site.live_blocks > 0) {
        by_place.entry(place(site)).or_default().push(site);
    }
    let mut lines: Vec<(f64, Line)> = by_place
        .into_iter()
        .map(|(place, sites)| (sites.iter().map(|site| site.score()).sum(), sum(place, &sites)))
        .collect();
    lines.sort_by(|(one_weight, one), (other_weight, other)| {
        let name = |line: &Line| (line.file.clone(), line.line, line.function.clone());
        other_weight.total_cmp(one_weight).then_with(|| name(one).cmp(&name(other)))
    });
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Which frame to point at: the innermost one that is Python, or native code with a line that is not the interpreter's own; else the
/// innermost of all.
pub(super) fn leaking(stack: &[Frame]) -> Option<usize> {
    let own = |frame: &Frame| match frame.kind {
        FrameKind::Python => true,
        FrameKind::Native => frame.line.is_some() && !frame.module.as_deref().is_some_and(is_interpreter),
    };
    stack.iter().position(own).or((!stack.is_empty()).then_some(0))
}

/// The file is CPython's or the C library's.
fn is_interpreter(module: &str) -> bool {
    let name = module.rsplit('/').next().unwrap_or(module);
    name.starts_with("libpython")
        || name.starts_with("python")
        || name.starts_with("libc.so")
        || name.starts_with("libc-")
}

fn place(site: &Site) -> Place<'_> {
    let frame = site.stack.get(leaking(&site.stack)?)?;
    Some((&frame.function, frame.file.as_deref(), frame.line))
}

fn sum(place: Place<'_>, sites: &[&Site]) -> Line {
    let mut by_verdict: Vec<(Verdict, f64)> = Vec::new();
    for site in sites {
        match by_verdict.iter_mut().find(|(verdict, _)| *verdict == site.verdict) {
            Some((_, sum)) => *sum += site.score(),
            None => by_verdict.push((site.verdict, site.score())),
        }
    }
    let verdict = by_verdict.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    Line {
        function: place.map(|(function, ..)| function.to_owned()),
        file: place.and_then(|(_, file, _)| file).map(str::to_owned),
        line: place.and_then(|(.., line)| line),
        sites: sites.len() as u64,
        live_bytes: sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_bytes)),
        live_blocks: sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_blocks)),
        growth_bytes_per_second: sites.iter().map(|site| site.growth_bytes_per_second).sum(),
        verdict: verdict.map_or(Verdict::Unknown, |(verdict, _)| *verdict),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// A story with one leak in a helper that is called from many places, each a site, and one larger site elsewhere.
    fn scattered() -> Story {
        let mut story = fixture::story();
        let template = story.sites[0].clone();
        let helper = |caller: u32| Site {
            live_bytes: 1000,
            live_blocks: 10,
            stack: vec![
                fixture::python("helper", "/app/a.py", 7),
                fixture::python("caller", "/app/a.py", caller),
            ],
            ..template.clone()
        };
        let large = Site {
            live_bytes: 5000,
            stack: vec![fixture::python("other", "/app/b.py", 3)],
            ..template.clone()
        };
        story.sites = std::iter::once(large).chain((0..20).map(helper)).collect();
        story
    }

    #[test]
    fn a_line_is_the_sum_of_its_sites() {
        let lines = lines(&scattered());
        let helper = &lines[0];
        assert_eq!((helper.function.as_deref(), helper.line, helper.sites), (Some("helper"), Some(7), 20));
        assert_eq!((helper.live_bytes, helper.live_blocks, helper.verdict), (20_000, 200, Verdict::Leak));
        assert_eq!((lines.len(), lines[1].live_bytes), (2, 5000));
    }

    #[test]
    fn sites_without_frames_are_one_line_without_a_name() {
        let mut story = scattered();
        story.sites.iter_mut().for_each(|site| site.stack.clear());
        let lines = lines(&story);
        assert_eq!((lines.len(), lines[0].function.as_deref(), lines[0].live_bytes), (1, None, 25_000));
    }
}
