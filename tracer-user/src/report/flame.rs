//! The flame graph of live bytes: how wide a frame is says how much its callees keep alive. The only place that knows inferno.

use std::io::{BufWriter, Write};

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::story::Story;
use super::{estimate, folded, plain, units};
use crate::error::{Context, Result};

/// Columns of the subtitle that the picture has room for.
const SUBTITLE: usize = 162;

/// Writes the flame graph, or a small picture that says that nothing lives.
///
/// # Errors
/// When the writer fails.
pub fn write(story: &Story, out: &mut dyn Write) -> Result<()> {
    let what = "cannot write the flame graph";
    let lines = folded::lines(story);
    if lines.is_empty() {
        return out.write_all(empty(story).as_bytes()).context(what);
    }
    let mut options = Options::default();
    options.title = title(story);
    options.subtitle = Some(subtitle(story));
    // The function stands first, the path behind it: what does not fit is cut off at the end.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.count_name = if story.sampling.is_some() { "estimated bytes" } else { "bytes" }.to_owned();
    options.colors = Palette::Basic(BasicPalette::Mem);
    // Equal names, equal colors: two pictures of one program can be compared.
    options.deterministic = true;
    let mut out = BufWriter::new(out);
    from_lines(&mut options, lines.iter().map(String::as_str), &mut out).context(what)?;
    out.flush().context(what)
}

fn title(story: &Story) -> String {
    let target = &story.target;
    let what = if story.sampling.is_some() { "Live bytes (estimates)" } else { "Live bytes" };
    format!("{what} of process {} on {}", target.pid, plain::clean(&target.host))
}

fn subtitle(story: &Story) -> String {
    let totals = &story.totals;
    let behind = story.sampling.as_ref().map(|sampling| {
        let (births, windows) =
            (units::plural(sampling.births, "birth"), units::plural(sampling.windows, "window"));
        format!(" · from {births} seen in {windows}")
    });
    let text = format!(
        "{} in {} allocated and not freed in {}{} · Python {} · ",
        estimate::bytes(totals.live_bytes, totals.error(|errors| errors.live_bytes)),
        estimate::plural(totals.live_blocks, totals.error(|errors| errors.live_blocks), "block"),
        units::seconds(story.seconds),
        behind.unwrap_or_default(),
        plain::clean(&story.target.python),
    );
    let room = SUBTITLE.saturating_sub(plain::columns(&text)).clamp(12, 80);
    format!("{text}{}", plain::shorten(&plain::clean(&story.target.command), room))
}

fn empty(story: &Story) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?>"#,
            "\n",
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="800" height="90" viewBox="0 0 800 90">"#,
            "\n",
            r##"<rect width="800" height="90" fill="#eef2ee"/>"##,
            "\n",
            r#"<text x="400" y="40" text-anchor="middle" font-family="sans-serif" font-size="17">{}</text>"#,
            "\n",
            r#"<text x="400" y="66" text-anchor="middle" font-family="sans-serif" font-size="13">{}</text>"#,
            "\n</svg>\n",
        ),
        escape(&title(story)),
        escape(&format!("nothing that was allocated in these {} still lives", units::seconds(story.seconds))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn svg(story: &Story) -> String {
        let mut bytes = Vec::new();
        write(story, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn frames_are_in_the_picture() {
        let svg = svg(&fixture::story());
        assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("leak_new_reference (cPyRefs.c:149) (28,000,000 bytes"), "{svg}");
        assert!(svg.contains("Live bytes of process 4711 on web-3"));
        assert_eq!(svg, super::tests::svg(&fixture::story()), "the same picture each time");
    }

    #[test]
    fn estimates_are_called_so() {
        let svg = svg(&fixture::sampled());
        for needed in [
            "Live bytes (estimates) of process 4711",
            "12.5 ± 1.3 MiB in 100,000 ± 9,000 blocks allocated and not freed in 60.0 s · from 41,226 births seen in 312 windows",
            "(8,740,000 estimated bytes",
        ] {
            assert!(svg.contains(needed), "{needed}: {svg}");
        }
    }

    #[test]
    fn an_empty_story_has_a_picture_too() {
        let mut story = fixture::story();
        story.target.host = "<&>".to_owned();
        story.sites.clear();
        let svg = svg(&story);
        assert!(
            svg.contains("on &lt;&amp;&gt;")
                && svg.contains("nothing that was allocated in these 10.0 s still lives")
        );
    }

    #[test]
    fn hostile_names_stay_text() {
        let mut story = fixture::story();
        story.target.command = "</text><script>alert(1)</script>".to_owned();
        story.sites[0].stack[0].function = "</title><script>alert(1)</script>\u{1b}".to_owned();
        let svg = svg(&story);
        assert!(!svg.contains("<script>alert") && !svg.contains('\u{1b}'));
    }
}
