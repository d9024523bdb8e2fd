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
        let mut story = fixture::story();
        story.sites[0].stack[1].file = Some(path);
        for line in text(&story, &Style { width, ..STYLE }).lines() {
            prop_assert!(plain::columns(line) <= width, "{line}");
        }
    }
}
