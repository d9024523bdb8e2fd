//! What a program says of the stacks of its leaks, machine code included (`programs/c_source.py`), and whether a report shows the same.
//!
//! A stack is shown right if the frames of the extension and of Python are those of the truth, one behind the other, each with its
//! function, file and line. The interpreter's own machine code and the C library's may stand between them where the mode lets it.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::report::{Frame, Report, Site};
use crate::truth::Truth;

/// How much of the outermost machine code of a thread is the C library's, at most: `start_thread` and `clone3`, or what calls `main`.
const OUTERMOST: usize = 3;

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

/// One leak.
#[derive(Clone, Debug, Deserialize)]
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
}

/// One frame of the truth.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the JSON contract")]
pub struct Wanted {
    pub kind: String,
    pub function: String,
    pub file: String,
    pub line: u32,
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

    /// The frames that a report in this mode must show.
    fn wanted(&self, native: Native) -> Vec<&Wanted> {
        let first_python = self.stack.iter().position(|frame| frame.kind == "python");
        let inner = first_python.unwrap_or(self.stack.len());
        let shown = |at: usize, frame: &Wanted| match native {
            Native::Off => frame.kind == "python",
            Native::Leaf => frame.kind == "python" || at < inner,
            Native::Full => true,
        };
        self.stack.iter().enumerate().filter(|(at, frame)| shown(*at, frame)).map(|(_, frame)| frame).collect()
    }

    /// Whether a stack shows this row's; if not, how many of its frames, and what is wrong with the next.
    fn shown_by(&self, stack: &[Frame], native: Native) -> Result<(), (usize, String)> {
        let wanted = self.wanted(native);
        let (mut at, mut before) = (0, None);
        for (number, frame) in wanted.iter().enumerate() {
            let python_seen = wanted[..number].iter().any(|frame| frame.kind == "python");
            let may_skip = native == Native::Full || (native == Native::Leaf && !python_seen);
            let skipped = stack[at..].iter().take_while(|frame| may_skip && !self.is_own(frame)).count();
            let found = stack.get(at + skipped);
            if !found.is_some_and(|found| frame.is(found)) {
                let found = found.map_or_else(|| "the end".to_owned(), Frame::place);
                return Err((number, format!("instead of {} there is {found}", frame.place())));
            }
            self.check_between(before, frame, &stack[at..at + skipped], native)
                .map_err(|wrong| (number, wrong))?;
            (at, before) = (at + skipped + 1, Some(*frame));
        }
        self.check_rest(&wanted, &stack[at..], native).map_err(|wrong| (wanted.len(), wrong))
    }

    /// Checks what stands between two frames of the truth.
    fn check_between(
        &self,
        inner: Option<&Wanted>,
        outer: &Wanted,
        between: &[Frame],
        native: Native,
    ) -> Result<(), String> {
        let names = || between.iter().map(Frame::place).collect::<Vec<_>>().join(" < ");
        match (inner, native) {
            (_, Native::Off) => Ok(()),
            (None, _) => match &self.above {
                Some(above) if !between.iter().any(|frame| frame.function == *above) => {
                    Err(format!("{above} does not stand before {}, but [{}]", outer.place(), names()))
                }
                None if !between.is_empty() => {
                    Err(format!("{} is not the innermost frame, but [{}]", outer.place(), names()))
                }
                _ => Ok(()),
            },
            (Some(inner), _) if inner.inlined && !between.is_empty() => {
                Err(format!("[{}] stands behind an inlined function", names()))
            }
            (Some(inner), Native::Full) if inner.kind == "python" && outer.kind == "python" => {
                if outer.direct == between.is_empty() {
                    return Ok(());
                }
                let called = if outer.direct { "directly" } else { "through C" };
                Err(format!("{} calls {} {called}, but [{}]", outer.place(), inner.place(), names()))
            }
            _ => Ok(()),
        }
    }

    /// Checks what stands further out than the last frame of the truth.
    fn check_rest(&self, wanted: &[&Wanted], rest: &[Frame], native: Native) -> Result<(), String> {
        let ends_in_c = wanted.last().is_some_and(|last| last.kind == "native");
        let wrong = if ends_in_c {
            rest.iter().any(|frame| self.is_own(frame)) || rest.is_empty() || rest.len() > OUTERMOST
        } else {
            native != Native::Full && rest.iter().any(|frame| frame.kind == "native")
        };
        let names = || rest.iter().map(Frame::place).collect::<Vec<_>>().join(" < ");
        if wrong { Err(format!("the stack ends with [{}]", names())) } else { Ok(()) }
    }

    /// Whether a frame is one that the truth tells of: Python, or machine code of the extension.
    fn is_own(&self, frame: &Frame) -> bool {
        let mut modules = self.stack.iter().filter_map(Wanted::module);
        frame.kind == "python" || modules.any(|module| frame.module.as_deref() == Some(module.as_str()))
    }

    /// Whether the report has sites that show this row's stack, with exactly its blocks and bytes.
    fn told_by(&self, report: &Report, native: Native) -> Result<(), String> {
        let shown = report.sites.iter().filter(|site| self.shown_by(&site.stack, native).is_ok());
        let sites: Vec<&Site> = shown.collect();
        if sites.is_empty() {
            return Err(self.nearest(report, native));
        }
        let sum = |field: fn(&Site) -> u64| sites.iter().map(|site| field(site)).sum::<u64>();
        let seen = (sum(|site| site.live_blocks), sum(|site| site.live_bytes));
        let right = seen == (self.blocks, self.bytes);
        let truth = (self.blocks, self.bytes);
        if right { Ok(()) } else { Err(format!("{seen:?} blocks and bytes seen, {truth:?} true")) }
    }

    /// What is wrong with the site that is most like this row, its stack and the true one.
    fn nearest(&self, report: &Report, native: Native) -> String {
        let alike = |site: &&Site| {
            let counted = site.live_blocks == self.blocks && site.live_bytes == self.bytes;
            (counted, self.shown_by(&site.stack, native).map_or_else(|(frames, _)| frames, |()| 0))
        };
        let Some(site) = report.sites.iter().max_by_key(alike) else { return "there are no sites".to_owned() };
        let wrong = self.shown_by(&site.stack, native).err().map(|(_, wrong)| wrong).unwrap_or_default();
        let mut text = format!("{wrong}\n  expected ({} blocks, {} bytes):\n", self.blocks, self.bytes);
        for frame in self.wanted(native) {
            writeln!(text, "    {}", frame.place()).expect("a string takes any text");
        }
        writeln!(text, "  got ({} blocks, {} bytes):", site.live_blocks, site.live_bytes)
            .expect("a string takes any text");
        for frame in &site.stack {
            let (inlined, module) = (frame.inlined, frame.module.as_deref().unwrap_or("-"));
            writeln!(text, "    {} [{module}]{}", frame.place(), if inlined { " inlined" } else { "" })
                .expect("a string takes any text");
        }
        text
    }
}

impl Wanted {
    /// Whether a frame of a report is this one. Functions of C++ may be told with their arguments.
    fn is(&self, frame: &Frame) -> bool {
        let with_arguments = format!("{}(", self.function);
        frame.kind == self.kind
            && (frame.function == self.function || frame.function.starts_with(&with_arguments))
            && frame.file.as_deref() == Some(&self.file)
            && frame.line == Some(self.line)
            && frame.inlined == self.inlined
            && frame.module == self.module()
    }

    /// The file name of the extension that this machine code is in.
    fn module(&self) -> Option<String> {
        let name = Path::new(&self.file).with_extension("so").file_name()?.to_string_lossy().into_owned();
        (self.kind == "native").then_some(name)
    }

    fn place(&self) -> String {
        format!("{} ({}:{})", self.function, self.file, self.line)
    }
}

/// Asserts that a report shows all rows: their stacks, their blocks and their bytes.
///
/// # Panics
/// When it does not; the message has the true stack and the reported one of each row that is wrong.
pub fn assert_told(rows: &[Row], report: &Report, native: Native) {
    let wanted = rows.iter().filter(|row| !row.wanted(native).is_empty());
    let wrong: Vec<String> = wanted
        .clone()
        .filter_map(|row| row.told_by(report, native).err().map(|wrong| format!("{}: {wrong}", row.name)))
        .collect();
    eprintln!("{} of {} rows are wrong with --native {native:?}", wrong.len(), wanted.count());
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), report.worst());
}
