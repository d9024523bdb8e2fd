//! Out: a story in, bytes out, one file per output. Pure: no clock, no files; the caller owns the writer.

use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use story::Story;

pub mod archive;
pub mod estimate;
pub mod examination;
pub mod flame;
pub mod folded;
mod finite;
mod hide;
pub mod home;
pub mod json;
pub mod kin;
pub mod lines;
pub mod merge;
mod own;
pub mod plain;
pub mod processes;
pub mod sampling;
pub mod story;
pub mod text;
mod together;
pub mod units;
pub mod watch;

#[cfg(test)]
mod fixture;

/// The suffixes that [`Format::of_path`] knows, for messages.
const SUFFIXES: &str = ".txt, .json, .folded, .svg or .unshed";

/// A kind of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What a person reads first.
    Text,
    /// The contract with other programs, `unshed.report/1`.
    Json,
    /// Stacks with their live bytes, a line each, for flame graph tools.
    Folded,
    /// A flame graph of live bytes.
    Svg,
    /// The whole story, which `unshed report` reads again on any machine.
    Capture,
}

impl Format {
    /// The format that a file's suffix asks for.
    ///
    /// # Errors
    /// [`Kind::Usage`] for any other suffix, or none.
    pub fn of_path(path: &Path) -> Result<Self> {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("txt") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some("folded") => Ok(Self::Folded),
            Some("svg") => Ok(Self::Svg),
            Some("unshed") => Ok(Self::Capture),
            _ => {
                let message = format!("the name {} does not say which format to write", path.display());
                Err(Error::new(Kind::Usage, message).next(format!("end it in {SUFFIXES}")))
            }
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    /// The name as typed after `-f`. A capture has none: it is read, not shown.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "folded" => Ok(Self::Folded),
            "svg" => Ok(Self::Svg),
            _ => {
                let message = format!("no format is called \"{}\"", plain::clean(name));
                Err(Error::new(Kind::Usage, message).next("there are text, json, folded and svg"))
            }
        }
    }
}

/// How a report looks. Colors, width and number of sites are the text report's; the other formats have one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Terminal colors.
    pub color: bool,
    /// Columns that a line may take; 0: any number.
    pub width: usize,
    /// Sites shown; 0: all.
    pub top: usize,
    /// Leave the C frames of the interpreter and the platform out of the stacks; a capture keeps them.
    pub hide_interpreter: bool,
}

/// Writes a story in a format.
///
/// # Errors
/// [`Kind::Failed`] when the writer fails.
pub fn write(format: Format, story: &Story, style: &Style, out: &mut dyn Write) -> Result<()> {
    let story = finite::finite(story);
    let hidden = style.hide_interpreter && format != Format::Capture;
    let story = if hidden { hide::interpreter(&story) } else { story };
    match format {
        Format::Text => text::write(&story, style, out),
        Format::Json => json::write(&story, out),
        Format::Folded => folded::write(&story, out),
        Format::Svg => flame::write(&story, out),
        Format::Capture => archive::write(&story, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_choose_the_format() {
        let of = |path: &str| Format::of_path(Path::new(path));
        assert_eq!(of("a/b.c.svg"), Ok(Format::Svg));
        assert_eq!(of("x.txt"), Ok(Format::Text));
        assert_eq!(of("x.json"), Ok(Format::Json));
        assert_eq!(of("x.folded"), Ok(Format::Folded));
        assert_eq!(of("/x.unshed"), Ok(Format::Capture));
        for path in ["x", "x.html", ".svg", "x.SVG", ""] {
            assert_eq!(of(path).unwrap_err().kind(), Kind::Usage, "{path}");
        }
        let expected = "the name x.pdf does not say which format to write\nend it in .txt, .json, .folded, .svg or .unshed";
        assert_eq!(of("x.pdf").unwrap_err().to_string(), expected);
    }

    #[test]
    fn names_choose_the_format() {
        assert_eq!("text".parse(), Ok(Format::Text));
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("folded".parse(), Ok(Format::Folded));
        assert_eq!("svg".parse(), Ok(Format::Svg));
        assert_eq!("capture".parse::<Format>().unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn frames_are_hidden_from_what_is_shown_and_kept_in_captures() {
        let holds = |format, hide_interpreter| {
            let mut bytes = Vec::new();
            let style = Style { color: false, width: 0, top: 0, hide_interpreter };
            write(format, &fixture::story(), &style, &mut bytes).unwrap();
            if format == Format::Capture {
                return archive::read(&mut bytes.as_slice()).unwrap() == fixture::story();
            }
            String::from_utf8(bytes).unwrap().contains("PyUnicode_New")
        };
        for format in [Format::Text, Format::Json, Format::Folded, Format::Svg] {
            assert!(holds(format, false) && !holds(format, true), "{format:?}");
        }
        assert!(holds(Format::Capture, false) && holds(Format::Capture, true));
    }

    #[test]
    fn a_writer_that_fails_is_an_error_in_every_format() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("no space left"))
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let style = Style { color: false, width: 80, top: 10, hide_interpreter: false };
        for format in [Format::Text, Format::Json, Format::Folded, Format::Svg, Format::Capture] {
            let error = write(format, &fixture::story(), &style, &mut Full).unwrap_err().to_string();
            assert!(error.starts_with("cannot write the ") && error.contains("no space left"), "{error}");
        }
    }
}
