//! What a program says of the stacks of its leaks, machine code included (`programs/c_source.py`), and whether a report shows the same.
//!
//! A stack is shown right if the frames of the extension and of Python are those of the truth, one behind the other, each with its
//! function, file and line. The interpreter's own machine code and the C library's may stand between them where the mode lets it.

use std::fmt;

use serde::Deserialize;

use crate::report::{Frame, Report, Site};
use crate::truth::Truth;

/// The outermost machine code of a thread is the C library's, in at most so many frames: `start_thread` and `clone3`.
const OUTERMOST: usize = 3;

/// What the programs call a function of the interpreter that has no symbol.
const NAMELESS: &str = "?";

/// `--native`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// No machine code.
    Off,
    /// Only inside the innermost Python frame.
    Leaf,
    /// All.
    Full,
}

/// Leaks that have one stack.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Row {
    /// Its name, for messages.
    pub name: String,
    /// Its frames, innermost first, from the line that leaks as far outward as tells it from the others.
    pub stack: Vec<Wanted>,
    /// Blocks that live.
    pub blocks: u64,
    /// Bytes that were asked for them.
    pub bytes: u64,
    /// The interpreter's function that was called for the memory; it stands further in than the line that leaks.
    pub above: Option<String>,
    /// Nothing can be known of the machine code further out than the first frame.
    #[serde(default)]
    pub cut: bool,
}

/// One frame of the truth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Wanted {
    pub kind: String,
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub module: Option<String>,
    pub inlined: bool,
    /// Of a Python frame: it called the frame before without machine code in between.
    #[serde(default)]
    pub direct: bool,
}

impl Native {
    /// The flag.
    #[must_use]
    pub const fn args(self) -> [&'static str; 2] {
        match self {
            Self::Off => ["--native", "off"],
            Self::Leaf => ["--native", "leaf"],
            Self::Full => ["--native", "full"],
        }
    }
}

impl Row {
    /// All rows of a truth.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn all(truth: &Truth) -> Vec<Self> {
        let said = &truth.facts["stacks"];
        let rows: Vec<Self> =
            serde_json::from_value(said.clone()).unwrap_or_else(|error| panic!("{said}: {error}"));
        assert!(!rows.is_empty(), "the program says that it leaks nothing");
        rows
    }

    /// The same where there is nothing but the names of functions, and nothing that leads from one to its caller.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let whole = self.stack.iter().position(|frame| !frame.inlined).unwrap_or(0);
        let frame = &mut self.stack[whole];
        (frame.file, frame.line) = (None, None);
        let python = |frame: &Wanted| frame.kind == "python";
        self.stack = self
            .stack
            .drain(whole..)
            .enumerate()
            .filter(|(at, frame)| *at == 0 || python(frame))
            .map(|(_, frame)| frame)
            .collect();
        self.cut = true;
        self
    }

    /// The same row as a report in this mode shows it.
    fn in_mode(mut self, native: Native) -> Self {
        self.above = self.above.filter(|_| native != Native::Off);
        let first = self.stack.iter().position(|frame| frame.kind == "python").unwrap_or(self.stack.len());
        let mut at = 0..;
        self.stack.retain(|frame| {
            let inside = at.next().is_some_and(|at| at < first);
            frame.kind == "python" || native == Native::Full || (native == Native::Leaf && inside)
        });
        self
    }

    /// Whether a stack shows this row's; if not, how many of its frames, and what is wrong with the next.
    fn shown_by(&self, stack: &[Frame], native: Native) -> Result<(), (usize, String)> {
        let mut at = 0;
        for (number, frame) in self.stack.iter().enumerate() {
            let before = number.checked_sub(1).map(|before| &self.stack[before]);
            let inside = before.is_none_or(|before| before.kind != "python");
            let may_skip = native == Native::Full || (native == Native::Leaf && inside);
            let skipped = stack[at..].iter().take_while(|frame| may_skip && !self.is_own(frame)).count();
            let (between, found) = (&stack[at..at + skipped], stack.get(at + skipped));
            if !found.is_some_and(|found| frame.is(found)) {
                let found = found.map_or_else(|| "the end".to_owned(), Frame::place);
                return Err((number, format!("instead of {frame} there is {found}")));
            }
            if native != Native::Off {
                let right = before.map_or_else(
                    || self.check_above(between),
                    |before| self.check_between(before, frame, between, native),
                );
                right.map_err(|wrong| (number, wrong))?;
            }
            at += skipped + 1;
        }
        self.check_rest(&stack[at..], native).map_err(|wrong| (self.stack.len(), wrong))
    }

    /// Checks what stands further in than the line that leaks.
    fn check_above(&self, inner: &[Frame]) -> Result<(), String> {
        match &self.above {
            Some(above) if !inner.iter().any(|frame| is_called(frame, above)) => {
                Err(format!("{above} is not among the innermost frames, which are [{}]", places(inner)))
            }
            None if !inner.is_empty() => Err(format!("the innermost frames are [{}]", places(inner))),
            _ => Ok(()),
        }
    }

    /// Checks what stands between two frames of the truth.
    fn check_between(
        &self,
        inner: &Wanted,
        outer: &Wanted,
        between: &[Frame],
        native: Native,
    ) -> Result<(), String> {
        let of_python = inner.kind == "python" && outer.kind == "python";
        let right = match native {
            _ if inner.inlined => between.is_empty(),
            // How the interpreter came to call a function is known where its machine code is shown.
            Native::Full if of_python && !self.cut => outer.direct == between.is_empty(),
            _ if self.cut => between.is_empty(),
            _ => true,
        };
        if right {
            Ok(())
        } else {
            Err(format!("between {inner} and {outer} there is [{}]", places(between)))
        }
    }

    /// Checks what stands further out than the last frame of the truth.
    fn check_rest(&self, rest: &[Frame], native: Native) -> Result<(), String> {
        let in_c = self.stack.last().is_some_and(|last| last.kind == "native");
        let right = if self.cut && in_c {
            rest.is_empty()
        } else if self.cut || (native != Native::Full && !in_c) {
            rest.iter().all(|frame| frame.kind == "python")
        } else {
            !in_c || (1..=OUTERMOST).contains(&rest.len()) && rest.iter().all(is_of_libc)
        };
        if right { Ok(()) } else { Err(format!("the stack ends with [{}]", places(rest))) }
    }

    /// Whether a frame is one that the truth tells of: Python, or machine code of the extension.
    fn is_own(&self, frame: &Frame) -> bool {
        frame.kind == "python"
            || self.stack.iter().any(|own| own.module.is_some() && own.module == frame.module)
    }

    /// Blocks and bytes that live at the sites that show this row's stack.
    fn seen_in(&self, report: &Report, native: Native) -> Option<(u64, u64)> {
        let shown = report.sites.iter().filter(|site| self.shown_by(&site.stack, native).is_ok());
        shown
            .map(|site| (site.live_blocks, site.live_bytes))
            .reduce(|one, other| (one.0 + other.0, one.1 + other.1))
    }

    /// Whether the report has sites that show this row's stack, with exactly its blocks and bytes, or, where stacks may be lost, with some of
    /// them.
    fn told_by(&self, report: &Report, native: Native, all: bool) -> Result<(), String> {
        let Some(seen) = self.seen_in(report, native) else { return Err(self.nearest(report, native)) };
        let truth = (self.blocks, self.bytes);
        let some = seen.0 > 0 && seen.0 <= truth.0 && seen.1 <= truth.1;
        let right = if all { seen == truth } else { some };
        if right { Ok(()) } else { Err(format!("{seen:?} blocks and bytes seen, {truth:?} true")) }
    }

    /// What is wrong with the site that is most like this row, its stack and the true one.
    fn nearest(&self, report: &Report, native: Native) -> String {
        let alike = |site: &&Site| {
            let counted = site.live_blocks == self.blocks && site.live_bytes == self.bytes;
            (counted, self.shown_by(&site.stack, native).map_or_else(|(frames, _)| frames, |()| 0))
        };
        let Some(site) = report.sites.iter().max_by_key(alike) else {
            return "there are no sites".to_owned();
        };
        let wrong = self.shown_by(&site.stack, native).err().map(|(_, wrong)| wrong).unwrap_or_default();
        let wanted: Vec<String> = self.stack.iter().map(|frame| format!("\n      {frame}")).collect();
        let tell = |frame: &Frame| {
            let inlined = if frame.inlined { ", inlined" } else { "" };
            format!(
                "\n      {} in {}{inlined}",
                frame.place(),
                frame.module.as_deref().unwrap_or(&frame.kind)
            )
        };
        let got: Vec<String> = site.stack.iter().map(tell).collect();
        format!(
            "{wrong}\n    expected {} blocks, {} bytes:{}\n    got {} blocks, {} bytes:{}",
            self.blocks,
            self.bytes,
            wanted.concat(),
            site.live_blocks,
            site.live_bytes,
            got.concat()
        )
    }
}

impl Wanted {
    /// Whether a frame of a report is this one.
    fn is(&self, frame: &Frame) -> bool {
        is_named(frame, &self.function)
            && (&frame.kind, &frame.file, frame.line) == (&self.kind, &self.file, self.line)
            && (&frame.module, frame.inlined) == (&self.module, self.inlined)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = (self.file.as_deref().unwrap_or("?"), self.line.unwrap_or(0));
        write!(to, "{} ({file}:{line}){}", self.function, if self.inlined { ", inlined" } else { "" })
    }
}

/// Whether a frame is of the interpreter's function of this name.
fn is_called(frame: &Frame, above: &str) -> bool {
    if above == NAMELESS { frame.function.starts_with('<') } else { is_named(frame, above) }
}

/// Whether a frame has this name; functions of C++ may be told with their arguments.
fn is_named(frame: &Frame, name: &str) -> bool {
    frame.function.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
}

fn is_of_libc(frame: &Frame) -> bool {
    frame.module.as_deref().is_some_and(|module| module.starts_with("libc."))
}

fn places(frames: &[Frame]) -> String {
    frames.iter().map(Frame::place).collect::<Vec<_>>().join(" < ")
}

/// Asserts that a report shows all rows: their stacks, their blocks and their bytes. Rows that look alike in this mode count together.
///
/// # Panics
/// When it does not; the message has the true stack and the reported one of each row that is wrong.
pub fn assert_told(rows: &[Row], report: &Report, native: Native) {
    judge(rows, report, native, true);
}

/// Asserts the same where stacks may have been lost: each row's stack is shown, with no more than the row has.
///
/// # Panics
/// As above.
pub fn assert_shown(rows: &[Row], report: &Report, native: Native) {
    judge(rows, report, native, false);
}

fn judge(rows: &[Row], report: &Report, native: Native, all: bool) {
    let mut wanted: Vec<Row> = Vec::new();
    for row in rows.iter().cloned().map(|row| row.in_mode(native)).filter(|row| !row.stack.is_empty()) {
        match wanted.iter_mut().find(|other| (&other.stack, &other.above) == (&row.stack, &row.above)) {
            Some(same) => {
                same.name = format!("{}; {}", same.name, row.name);
                (same.blocks, same.bytes) = (same.blocks + row.blocks, same.bytes + row.bytes);
            }
            None => wanted.push(row),
        }
    }
    let tell =
        |row: &Row| row.told_by(report, native, all).err().map(|wrong| format!("{}: {wrong}", row.name));
    let wrong: Vec<String> = wanted.iter().filter_map(tell).collect();
    eprintln!("{} of {} stacks are wrong with --native {native:?}", wrong.len(), wanted.len());
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), report.worst());
}

#[cfg(test)]
mod tests;
