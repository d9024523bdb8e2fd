//! The text report, as a stranger sees it.

use proptest::prelude::*;

use super::*;
use crate::heap::verdict::Verdict;
use crate::report::{fixture, plain};

const STYLE: Style = Style { color: false, width: 100, top: 10, hide_interpreter: false };

fn text(story: &Story, style: &Style) -> String {
    let mut bytes = Vec::new();
    write(story, style, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn golden() {
    insta::assert_snapshot!(text(&fixture::story(), &STYLE));
}

#[test]
fn golden_narrow_with_one_site_in_color() {
    let text = text(&fixture::story(), &Style { color: true, width: 72, top: 1, ..STYLE });
    insta::assert_snapshot!(text.replace('\x1b', "␛"));
}

#[test]
fn golden_with_all_that_can_be_wrong() {
    let mut story = fixture::story();
    story.hooks.complete = false;
    story.hooks.reason = "PyObject_Malloc is inlined into its callers on this build".to_owned();
    story.notes.push("the target began to finalize after 3.2 s; counting stopped there".to_owned());
    story.losses[2].count = 90_000;
    story.totals.rss_end_bytes = 900_000_000;
    story.sites.truncate(1);
    story.sites[0].verdict = Verdict::Unknown;
    insta::assert_snapshot!(text(&story, &STYLE));
}

#[test]
fn golden_idle() {
    let mut story = fixture::story();
    story.sites.clear();
    story.totals = crate::report::story::Totals {
        rss_start_bytes: 1 << 20,
        rss_end_bytes: 1 << 20,
        ..Default::default()
    };
    story.losses[0].count = 0;
    insta::assert_snapshot!(text(&story, &STYLE));
}

#[test]
fn golden_sampled() {
    insta::assert_snapshot!(text(&fixture::sampled(), &STYLE));
}

#[test]
fn golden_sampled_with_all_that_can_be_wrong() {
    let mut story = fixture::sampled();
    story.sites.drain(..1);
    story.cost.target_cpu_fraction = 0.023;
    let sampling = story.sampling.as_mut().unwrap();
    sampling.fell_back = Some("even the smallest window costs the target 3.1 % of a CPU".to_owned());
    sampling.refused_records = 1_200;
    story.sites[0].errors.as_mut().unwrap().growth_bytes_per_second = f64::MAX;
    let style = Style { top: 1, ..STYLE };
    insta::assert_snapshot!(text(&story, &style));
}

/// A stack of C and Python, whole and with the interpreter hidden.
#[test]
fn golden_mixed_stack() {
    let mut story = fixture::story();
    story.sites = vec![fixture::mixed()];
    let sites = |hide_interpreter| {
        let style = Style { hide_interpreter, ..STYLE };
        let mut bytes = Vec::new();
        crate::report::write(crate::report::Format::Text, &story, &style, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text[text.find("Lines that").unwrap()..].to_owned()
    };
    insta::assert_snapshot!(format!("{}\n--hide-interpreter:\n\n{}", sites(false), sites(true)));
}

/// Stripped interpreters give many frames that say nothing; the arrow's is never left out.
#[test]
fn frames_of_the_interpreter_without_names_are_folded() {
    let mut story = fixture::story();
    let nameless = crate::symbol::Frame {
        module: Some("python3.11".to_owned()),
        function: "<python3.11+0x1>".to_owned(),
        place: None,
        ..fixture::nameless()
    };
    let mut lines = |stack: Vec<crate::symbol::Frame>| -> Vec<String> {
        story.sites.truncate(1);
        story.sites[0].stack = stack;
        let text = text(&story, &STYLE);
        let (_, stack) = text.split_once("values 1000 ×1,000,000\n").unwrap();
        stack.lines().take_while(|line| !line.starts_with("    unnamed")).map(str::to_owned).collect()
    };
    let (python, many) = ([fixture::python("f", "/app/a.py", 1)], vec![nameless.clone(); 3]);
    let mixed = [&many[..2], &python, &many[..], &python, &many[..2]].concat();
    let unnamed = "    <python3.11+0x1>  [python3.11]";
    let folded = "    … 3 C frames of the interpreter without names";
    let frame = "f                 /app/a.py:1";
    assert_eq!(
        lines(mixed),
        [unnamed, unnamed, &format!("==> {frame}"), folded, &format!("    {frame}"), unnamed, unnamed]
    );
    assert_eq!(lines([&many[..], &[nameless]].concat()), ["==> <python3.11+0x1>  [python3.11]", folded]);
}

#[test]
fn all_freed_is_good_news() {
    let mut story = fixture::story();
    story.sites.drain(..4);
    (story.totals.live_blocks, story.totals.live_bytes) = (0, 0);
    let text = text(&story, &STYLE);
    assert!(text.contains("no site looks like a leak") && text.contains("were freed again"), "{text}");
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let mut story = fixture::story();
    story.target.command = "\x1b]0;title\x07".to_owned();
    story.sites[0].stack[0].function = "\x1b[2J\nf".to_owned();
    story.sites[0].types[0].name = "\r".to_owned();
    let text = text(&story, &STYLE);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

proptest! {
    /// Function names and file names are never cut; all else fits.
    #[test]
    fn lines_fit(width in 90usize..200, path in "(/[a-z]{1,20}){1,12}") {
        for mut story in [fixture::story(), fixture::sampled()] {
            story.sites[0].stack[1].file = Some(path.clone());
            for line in text(&story, &Style { width, ..STYLE }).lines() {
                prop_assert!(plain::columns(line) <= width, "{line}");
            }
        }
    }
}
