//! The same figures by line of code: one line can be reached by many stacks, and an operator mends lines.

use std::collections::HashMap;

use serde::Serialize;

use super::own::Program;
use super::story::{Score, Site, Story};
use super::together::Together;
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
    /// Births that were seen; this and what follows only of samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Of these, old survivors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivors: Option<u64>,
    /// Half width of the 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_error: Option<f64>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_blocks_error: Option<f64>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_second_error: Option<f64>,
    /// For C code: the lines of Python that called it for what lives, worst first, three at most. A C function may serve many lines of which one leaks.
    pub callers: Vec<Caller>,
}

/// A line of Python that called C code.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caller {
    /// The function, qualified.
    pub function: String,
    /// Its file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// Bytes asked for that live and were allocated on its behalf.
    pub live_bytes: u64,
    /// Half width of the 95 % interval, of samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_error: Option<f64>,
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

/// The lines that keep something alive, worst first: as sites are put in order.
#[must_use]
pub fn lines(story: &Story) -> Vec<Line> {
    let program = Program::of(story);
    let together = Together::of(story);
    let mut by_place: HashMap<Option<Place<'_>>, Vec<&Site>> = HashMap::new();
    for site in story.sites.iter().filter(|site| site.live_blocks > 0) {
        by_place.entry(leaking(program, site).map(place)).or_default().push(site);
    }
    let scored = |sites: Vec<&Site>| {
        let line = sum(program, together, &sites);
        (score(&line, &sites), line)
    };
    let mut lines: Vec<(Score, Line)> = by_place.into_values().map(scored).collect();
    lines.sort_by(|(one_score, one), (other_score, other)| {
        let name = |line: &Line| (line.file.clone(), line.line, line.function.clone(), line.module.clone());
        other_score.compare(one_score).then_with(|| name(one).cmp(&name(other)))
    });
    lines.into_iter().map(|(_, line)| line).collect()
}

/// How far up a line belongs. Its growth is sure by as much as that of its sites is, or by more: many stacks of which each was seen once or twice are sure of nothing, and their
/// sum may well be.
fn score(line: &Line, sites: &[&Site]) -> Score {
    let scores = sites.iter().map(|site| site.score());
    let all = scores
        .fold(Score::default(), |sum, one| Score { grown: sum.grown + one.grown, live: sum.live + one.live });
    let sure = line.growth_bytes_per_second_error.map_or(0.0, |error| line.growth_bytes_per_second - error);
    Score { grown: all.grown.max(sure * line.verdict.weight(true)), ..all }
}

/// The line of Python that called the C code that a stack's arrow points at.
pub(super) fn python_caller(stack: &[Frame], leaking: usize) -> Option<&Frame> {
    let (pointed, callers) = stack.get(leaking..)?.split_first()?;
    let called = pointed.kind == FrameKind::Native;
    callers.iter().find(|caller| called && caller.kind == FrameKind::Python)
}

/// Who called the C code of a line for what lives.
fn callers(program: Program<'_>, together: Together, sites: &[&Site]) -> Vec<Caller> {
    let mut callers: Vec<(&Frame, Vec<&Site>)> = Vec::new();
    let mut by_place: HashMap<Place<'_>, usize> = HashMap::new();
    for site in sites {
        let caller = program.leaking(&site.stack).and_then(|at| python_caller(&site.stack, at));
        let Some(frame) = caller else { continue };
        let at = *by_place.entry(place(frame)).or_insert(callers.len());
        if at == callers.len() {
            callers.push((frame, Vec::new()));
        }
        if let Some((_, served)) = callers.get_mut(at) {
            served.push(site);
        }
    }
    let told = |(frame, served): (&Frame, Vec<&Site>)| {
        let Frame { function, file, line, .. } = frame.clone();
        let live_bytes = served.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_bytes));
        let errors = served.iter().filter_map(|site| site.error(|errors| errors.live_bytes));
        Caller { function, file, line, live_bytes, live_bytes_error: together.sum(errors) }
    };
    let mut callers: Vec<Caller> = callers.into_iter().map(told).collect();
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
fn sum(program: Program<'_>, together: Together, sites: &[&Site]) -> Line {
    let frame = sites.first().and_then(|site| leaking(program, site));
    let of = |field: fn(&Site) -> u64| sites.iter().fold(0, |sum: u64, site| sum.saturating_add(field(site)));
    let counted = |field: fn(&Site) -> Option<u64>| {
        let mut counts = sites.iter().filter_map(|site| field(site)).peekable();
        counts.peek().copied().map(|_| counts.fold(0, u64::saturating_add))
    };
    let error = |of: fn(&Site) -> Option<f64>| together.sum(sites.iter().filter_map(|site| of(site)));
    Line {
        function: frame.map(|frame| frame.function.clone()),
        file: frame.and_then(|frame| frame.file.clone()),
        line: frame.and_then(|frame| frame.line),
        module: frame.and_then(|frame| frame.module.clone()),
        sites: sites.len() as u64,
        live_bytes: of(|site| site.live_bytes),
        live_blocks: of(|site| site.live_blocks),
        growth_bytes_per_second: sites.iter().map(|site| site.growth_bytes_per_second).sum(),
        verdict: verdict(sites),
        samples: counted(|site| site.samples),
        survivors: counted(|site| site.survivors),
        live_bytes_error: error(|site| site.error(|errors| errors.live_bytes)),
        live_blocks_error: error(|site| site.error(|errors| errors.live_blocks)),
        growth_bytes_per_second_error: error(Site::growth_error),
        callers: callers(program, together, sites),
    }
}

/// The verdict that most of what lives has, counted as sites are put in order.
fn verdict(sites: &[&Site]) -> Verdict {
    let mut by_verdict: Vec<(Verdict, f64)> = Vec::new();
    for site in sites {
        let live = site.score().live;
        match by_verdict.iter_mut().find(|(verdict, _)| *verdict == site.verdict) {
            Some((_, sum)) => *sum += live,
            None => by_verdict.push((site.verdict, live)),
        }
    }
    let most = by_verdict.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    most.map_or(Verdict::Unknown, |(verdict, _)| *verdict)
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

    /// Many stacks that were seen once each are sure of nothing; their line grows more surely than one that was seen more often.
    #[test]
    fn a_line_of_many_rare_stacks_comes_first() {
        let mut story = fixture::sampled();
        let (often, rare) = (story.sites[0].clone(), story.sites[1].clone());
        let with = |site: &Site, growth: f64, error: f64, at_least: f64| {
            let mut site =
                Site { growth_bytes_per_second: growth, growth_at_least: Some(at_least), ..site.clone() };
            site.errors.as_mut().unwrap().growth_bytes_per_second = error;
            site
        };
        story.sites = vec![with(&often, 50.0, 20.0, 28.0)];
        story.sites.extend(vec![with(&rare, 1.0, 4.6, 0.01); 100]);
        story.totals.errors = None;
        let lines = lines(&story);
        let line = &lines[0];
        assert_eq!(
            (line.function.as_deref(), line.sites, line.samples),
            (Some("Session.open"), 100, Some(200))
        );
        assert_eq!(line.growth_bytes_per_second, 100.0);
        assert!((line.growth_bytes_per_second_error.unwrap() - 46.0).abs() < 1e-9, "{line:?}");
        assert_eq!(lines[1].growth_bytes_per_second_error, Some(20.0));
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
