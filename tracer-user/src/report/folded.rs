//! Stacks with their live bytes, a line each, root first: `main (app.py:3);handler (app.py:12) 28000000`. What flame graph tools read.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use super::plain;
use super::story::{Site, Story};
use crate::error::{Context, Result};
use crate::symbol::Frame;

/// Writes a line per distinct stack that keeps something alive.
///
/// # Errors
/// When the writer fails.
pub fn write(story: &Story, out: &mut dyn Write) -> Result<()> {
    let what = "cannot write the folded stacks";
    let mut out = BufWriter::new(out);
    for line in lines(story) {
        writeln!(out, "{line}").context(what)?;
    }
    out.flush().context(what)
}

/// The lines in the order of their text. Sites that differ only in their domain share one.
#[must_use]
pub fn lines(story: &Story) -> Vec<String> {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for site in story.sites.iter().filter(|site| site.live_bytes > 0) {
        let sum = stacks.entry(stack(site)).or_default();
        *sum = sum.saturating_add(site.live_bytes);
    }
    stacks.into_iter().map(|(stack, live_bytes)| format!("{stack} {live_bytes}")).collect()
}

/// The frames, root first. A stack that is not whole starts with the reason in brackets, so that it does not stand among whole ones.
fn stack(site: &Site) -> String {
    let note = site.stack_note.iter().map(|note| word(&format!("[{note}]")));
    let frames: Vec<String> = note.chain(site.stack.iter().rev().map(frame)).collect();
    if frames.is_empty() { "[no frames]".to_owned() } else { frames.join(";") }
}

fn frame(frame: &Frame) -> String {
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    match (&frame.file, &frame.module) {
        (Some(file), _) => word(&format!("{} ({file}{line})", frame.function)),
        // It is called by its module and the address in it.
        (None, Some(_)) if frame.unnamed.is_some() => word(&frame.function),
        (None, Some(module)) => word(&format!("{} ({module})", frame.function)),
        // In brackets a name cannot be taken for a number at the end of the line.
        (None, None) if frame.function.ends_with(|c: char| c.is_ascii_digit()) => {
            word(&format!("({})", frame.function))
        }
        (None, None) => word(&frame.function),
    }
}

/// The text without what has a meaning in this format: `;` parts frames, a newline lines, `# ` starts a comment.
fn word(text: &str) -> String {
    let word = plain::clean(text).replace(';', ":").replace("# ", "#");
    if word.trim().is_empty() { "?".to_owned() } else { word.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::symbol::FrameKind;

    #[test]
    fn golden() {
        let mut bytes = Vec::new();
        write(&fixture::story(), &mut bytes).unwrap();
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
    }

    #[test]
    fn equal_stacks_are_one_line() {
        let mut story = fixture::story();
        let mut twin = story.sites[0].clone();
        twin.domain = "mem".to_owned();
        twin.live_bytes = 1;
        story.sites = vec![story.sites[0].clone(), twin];
        let lines = lines(&story);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with(" 28000001"), "{lines:?}");
    }

    #[test]
    fn names_do_not_break_the_format() {
        let named = |function: &str| Frame {
            kind: FrameKind::Python,
            function: function.to_owned(),
            file: None,
            line: None,
            module: None,
            inlined: false,
            place: None,
            unnamed: None,
        };
        assert_eq!(frame(&named("a;b\nc")), "a:b\u{fffd}c");
        assert_eq!(frame(&named("f 12")), "(f 12)");
        assert_eq!(frame(&named(" ")), "?");
        assert_eq!(frame(&named("# f")), "#f");
        assert_eq!(frame(&fixture::nameless()), "<libfast.so+0x3c3f>");
    }
}
