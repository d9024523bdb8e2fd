//! The same figures by line of code: one line can be reached by many stacks, and an operator mends lines.

use std::collections::HashMap;

use serde::Serialize;

use super::own::Program;
use super::story::{Site, Story};
use crate::heap::verdict::Verdict;
use crate::symbol::{Frame, FrameKind};

/// Callers that are kept of a line of C code.
const CALLERS: usize = 3;

/// One line, over all the sites whose leaking frame it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The function, qualified; `None` for sites without frames.
    pub function: Option<String>,
    /// Its file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// For C code: the file that holds it.
    pub module: Option<String>,
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
    /// For C code: the lines of Python that called it for what lives, worst first, three at most. A C function may serve many lines of which one leaks.
    pub callers: Vec<Caller>,
}

/// A line of Python that called C code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// The function, qualified.
    pub function: String,
    /// Its file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// Bytes asked for that live and were allocated on its behalf.
    pub live_bytes: u64,
}

impl Line {
    /// Whether a site of this story is one of those that were summed up here.
    #[must_use]
    pub fn holds(&self, story: &Story, site: &Site) -> bool {
        let frame = leaking(Program::of(story), site);
        let same = |frame: &Frame| {
            self.function.as_ref() == Some(&frame.function)
                && (&self.file, self.line, &self.module) == (&frame.file, frame.line, &frame.module)
        };
        site.live_blocks > 0 && frame.map_or(self.function.is_none(), same)
    }
}

/// What tells lines apart.
type Place<'a> = (&'a str, Option<&'a str>, Option<u32>, Option<&'a str>);

/// The lines that keep something alive, worst first: by what they keep, discounted by how little it looks like a leak.
#[must_use]
pub fn lines(story: &Story) -> Vec<Line> {
    let program = Program::of(story);
    let mut by_place: HashMap<Option<Place<'_>>, Vec<&Site>> = HashMap::new();
    for site in story.sites.iter().filter(|site| site.live_blocks > 0) {
        by_place.entry(leaking(program, site).map(place)).or_default().push(site);
    }
    let weighed = |sites: Vec<&Site>| (sites.iter().map(|site| site.score()).sum(), sum(program, &sites));
    let mut lines: Vec<(f64, Line)> = by_place.into_values().map(weighed).collect();
    lines.sort_by(|(one_weight, one), (other_weight, other)| {
        let name = |line: &Line| (line.file.clone(), line.line, line.function.clone(), line.module.clone());
        other_weight.total_cmp(one_weight).then_with(|| name(one).cmp(&name(other)))
    });
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The line of Python that called the C code that a stack's arrow points at.
pub(super) fn python_caller(stack: &[Frame], leaking: usize) -> Option<&Frame> {
    let (pointed, callers) = stack.get(leaking..)?.split_first()?;
    let called = pointed.kind == FrameKind::Native;
    callers.iter().find(|caller| called && caller.kind == FrameKind::Python)
}

/// Who called the C code of a line for what lives.
fn callers(program: Program<'_>, sites: &[&Site]) -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    let mut by_place: HashMap<Place<'_>, usize> = HashMap::new();
    for site in sites {
        let caller = program.leaking(&site.stack).and_then(|at| python_caller(&site.stack, at));
        let Some(frame) = caller else { continue };
        let at = *by_place.entry(place(frame)).or_insert(callers.len());
        if at == callers.len() {
            let Frame { function, file, line, .. } = frame.clone();
            callers.push(Caller { function, file, line, live_bytes: 0 });
        }
        if let Some(caller) = callers.get_mut(at) {
            caller.live_bytes = caller.live_bytes.saturating_add(site.live_bytes);
        }
    }
    // The sites came in their order, which breaks ties.
    callers.sort_by_key(|caller| std::cmp::Reverse(caller.live_bytes));
    callers.truncate(CALLERS);
    callers
}

/// The frame of a site that the arrow points at.
fn leaking<'a>(program: Program<'_>, site: &'a Site) -> Option<&'a Frame> {
    site.stack.get(program.leaking(&site.stack)?)
}

fn place(frame: &Frame) -> Place<'_> {
    (&frame.function, frame.file.as_deref(), frame.line, frame.module.as_deref())
}

/// One line of sites that share it.
fn sum(program: Program<'_>, sites: &[&Site]) -> Line {
    let frame = sites.first().and_then(|site| leaking(program, site));
    let mut by_verdict: Vec<(Verdict, f64)> = Vec::new();
    for site in sites {
        match by_verdict.iter_mut().find(|(verdict, _)| *verdict == site.verdict) {
            Some((_, sum)) => *sum += site.score(),
            None => by_verdict.push((site.verdict, site.score())),
        }
    }
    let verdict = by_verdict.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    Line {
        function: frame.map(|frame| frame.function.clone()),
        file: frame.and_then(|frame| frame.file.clone()),
        line: frame.and_then(|frame| frame.line),
        module: frame.and_then(|frame| frame.module.clone()),
        sites: sites.len() as u64,
        live_bytes: sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_bytes)),
        live_blocks: sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_blocks)),
        growth_bytes_per_second: sites.iter().map(|site| site.growth_bytes_per_second).sum(),
        verdict: verdict.map_or(Verdict::Unknown, |(verdict, _)| *verdict),
        callers: callers(program, sites),
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

    /// One C function that serves many lines of Python: it is one line, and says who has it do so.
    #[test]
    fn a_line_of_c_code_names_its_worst_callers() {
        let mut story = scattered();
        let template = story.sites[0].clone();
        let serving = |caller: u32, live_bytes: u64, module: &str| {
            let serving = fixture::native("serve", "serve.c", 70, module);
            let between = fixture::native("cfunction_call", "methodobject.c", 5, "python3.11");
            let stack = vec![serving, between, fixture::python("user", "/app/u.py", caller)];
            Site { live_bytes, stack, ..template.clone() }
        };
        story.sites = [(1, 10), (2, 500), (3, 20), (2, 400), (4, 5)]
            .map(|(caller, bytes)| serving(caller, bytes, "serve.so"))
            .to_vec();
        story.sites.push(serving(2, 1, "other.so"));
        let lines = lines(&story);
        let callers: Vec<_> = lines[0].callers.iter().map(|one| (one.line, one.live_bytes)).collect();
        assert_eq!((lines[0].live_bytes, lines[0].module.as_deref()), (935, Some("serve.so")));
        assert_eq!(callers, [(Some(2), 900), (Some(3), 20), (Some(1), 10)]);
        assert_eq!((lines.len(), lines[1].module.as_deref()), (2, Some("other.so")));
        assert!(lines[0].holds(&story, &story.sites[0]) && !lines[0].holds(&story, &story.sites[5]));
    }
}
