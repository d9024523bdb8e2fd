//! Lines, labels and colors: how the text report is laid on a page.

use crate::report::{Style, plain};

/// Columns of the labels at the left.
const LABEL: usize = 10;

/// What a piece of text is, for the eye.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Plain,
    Dim,
    Strong,
    Good,
    Alarm,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Alarm => "\x1b[1;31m",
        }
    }
}

/// A text that grows line by line.
pub(super) struct Page {
    text: String,
    color: bool,
    /// Columns of a line.
    pub(super) width: usize,
}

impl Page {
    pub(super) fn new(style: &Style) -> Self {
        let width = if style.width == 0 { usize::MAX } else { style.width };
        Self { text: String::new(), color: style.color, width }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// One line of inked pieces, never wrapped. What the target named is made harmless here, once for all.
    pub(super) fn line(&mut self, pieces: &[(Ink, &str)]) {
        for (ink, piece) in pieces.iter().filter(|(_, piece)| !piece.is_empty()) {
            let piece = plain::clean(piece);
            let code = if self.color { ink.code() } else { "" };
            self.text.push_str(code);
            self.text.push_str(&piece);
            if !code.is_empty() {
                self.text.push_str("\x1b[0m");
            }
        }
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.wrapped(0, "", Ink::Strong, text);
    }

    /// Words, wrapped.
    pub(super) fn words(&mut self, text: &str) {
        self.wrapped(0, "", Ink::Plain, text);
    }

    /// A label and words, wrapped behind it.
    pub(super) fn row(&mut self, indent: usize, label: &str, ink: Ink, text: &str) {
        self.wrapped(indent, &format!("{}{label:<LABEL$}", " ".repeat(indent)), ink, text);
    }

    fn wrapped(&mut self, indent: usize, label: &str, ink: Ink, text: &str) {
        let hang = " ".repeat(if label.is_empty() { 0 } else { indent + LABEL });
        let room = self.width.saturating_sub(plain::columns(&hang)).max(20);
        let mut before = label;
        for line in wrap(text, room) {
            self.line(&[(Ink::Dim, before), (ink, &line)]);
            before = &hang;
        }
    }
}

/// The words of a text in lines of at most `room` columns; a longer word has its own line, and a figure stays with its error. Never no line.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let text = text.replace(" ± ", "\u{a0}±\u{a0}");
    let mut lines = vec![String::new()];
    let mut taken = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let columns = plain::columns(word);
        if taken > 0 && taken + 1 + columns > room {
            lines.push(String::new());
            taken = 0;
        }
        if let Some(line) = lines.last_mut() {
            if taken > 0 {
                line.push(' ');
                taken += 1;
            }
            line.push_str(word);
            taken += columns;
        }
    }
    lines.iter_mut().for_each(|line| *line = line.replace("\u{a0}±\u{a0}", " ± "));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_and_long_ones_stand_alone() {
        assert_eq!(wrap("a bb  ccc dddddddd e", 6), ["a bb", "ccc", "dddddddd", "e"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("it is 1 ± 2 B", 8), ["it is", "1 ± 2 B"]);
    }

    #[test]
    fn colors_only_when_asked_for() {
        let line = |color| {
            let mut page = Page::new(&Style { color, width: 80, top: 0, hide_interpreter: false });
            page.line(&[(Ink::Alarm, "a\x1b[2J"), (Ink::Plain, "b")]);
            page.into_text()
        };
        assert_eq!(line(false), "a\u{fffd}[2Jb\n");
        assert_eq!(line(true), "\x1b[1;31ma\u{fffd}[2J\x1b[0mb\n");
    }
}
