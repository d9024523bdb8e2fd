//! Everything decided, from what was typed and what the terminal is. Nothing after this reads a flag or an environment variable.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use tracer_common::domain::Domain;
use tracer_common::limits::{DEFAULT_DEPTH, MAX_DEPTH};
use tracer_common::native::Mode;

use crate::cli::flags::{NativeArg, Record, Report, SortArg, View, WhenArg, WorkArg};
use crate::cli::output::Output;
use crate::error::{Context, Error, Kind, Result};
use crate::heap::order::Sort;
use crate::probe::forecast::DEFAULT_LIMIT;
use crate::probe::load::{Limits, ProbeLog};
use crate::probe::sites::How;
use crate::report::{Format, Style, archive, write};
use crate::symbol::rename::Renamer;

/// Columns of a report that goes to no terminal.
const COLUMNS_OF_A_FILE: usize = 120;
/// `--budget`, percent of a core.
const DEFAULT_BUDGET_PERCENT: f64 = 1.0;
/// `--window`.
const DEFAULT_WINDOW: Duration = Duration::from_millis(2);

/// What stdout is.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Escape sequences may be used.
    color: bool,
    /// Columns.
    columns: usize,
}

impl Terminal {
    /// Looks at stdout and at `NO_COLOR` (<https://no-color.org>).
    #[must_use]
    pub fn look() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let columns = if is_terminal { columns().unwrap_or(COLUMNS_OF_A_FILE) } else { COLUMNS_OF_A_FILE };
        Self { color: is_terminal && !forbidden, columns }
    }

    fn style(self, view: &View) -> Style {
        Style {
            color: self.color,
            width: self.columns,
            top: view.top,
            hide_interpreter: view.hide_interpreter,
        }
    }
}

/// Columns of the terminal on stdout.
fn columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the destination is ours and of the type that this request fills.
    let status = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (status == 0 && size.ws_col > 20).then_some(usize::from(size.ws_col))
}

/// Whom to trace.
#[derive(Clone, Debug)]
pub enum Whom {
    /// A process that runs.
    Pid(u32),
    /// A command to start.
    Command(Vec<OsString>),
}

/// How to look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    /// Every allocation and every free.
    Trace,
    /// Short windows at random times.
    Sample {
        /// Share of a core (0.01: one percent) that the target may lose, and that unshed may take besides.
        budget: f64,
        /// How long a window may be at most.
        window: Duration,
    },
    /// The allocator's slow paths only.
    Watch,
}

/// When the sample engine opens windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the start.
    Now,
    /// While the heap grows.
    Growing,
}

/// A recording, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to trace.
    pub whom: Whom,
    /// Trace its children too.
    pub follow: bool,
    /// How to look.
    pub engine: Engine,
    /// When the sample engine looks.
    pub when: When,
    /// For how long; `None`: until told to stop.
    pub duration: Option<Duration>,
    /// A file besides the short report.
    pub output: Option<Output>,
    /// Domains, outermost first, each once.
    pub domains: Vec<Domain>,
    /// Watch `PyLong_FromLong`.
    pub ints: bool,
    /// Refuse if the target would be so many times slower, 1 or more; `None`: trace at any price.
    pub max_slowdown: Option<f64>,
    /// Trace although the hooks are incomplete.
    pub incomplete: bool,
    /// Where the traps of the Python domains go.
    pub how: How,
    /// What a hit does, a sum of [`tracer_common::config::work`]s; 0 for nothing but counting.
    pub work: u32,
    /// Traps are put in, but the probes return at once: for the benchmark.
    pub empty_probes: bool,
    /// Attach one perf event per probe point even where the kernel has better.
    pub perf_events: bool,
    /// Bounds of the kernel's memory.
    pub limits: Limits,
    /// Frames per stack.
    pub max_depth: u32,
    /// C frames per stack.
    pub native: Mode,
    /// Report only blocks at least this old.
    pub older: Option<Duration>,
    /// Order of the sites.
    pub sort: Sort,
    /// How the short report looks.
    pub style: Style,
    /// Folders with debug files, besides the system's.
    pub debug_dirs: Vec<PathBuf>,
    /// Messages on stderr.
    pub messages: bool,
    /// A message per probe point as well.
    pub details: bool,
    /// The probes' own messages.
    pub probe_log: ProbeLog,
}

impl Plan {
    /// Decides a recording.
    ///
    /// # Errors
    /// When the output file is impossible.
    pub fn decide(flags: Record, terminal: &Terminal) -> Result<Self> {
        let mut domains: Vec<_> = flags.domains.iter().map(|domain| domain.0).collect();
        if domains.is_empty() {
            // The C library's own would make a trace much dearer, and windows cost what they may.
            let most =
                if matches!(engine(&flags), Engine::Sample { .. }) { Domain::Libc } else { Domain::Raw };
            domains.extend(Domain::ALL.into_iter().filter(|domain| *domain <= most));
        }
        domains.sort_unstable();
        domains.dedup();
        let engine = engine(&flags);
        if flags.follow && engine == Engine::Watch {
            return Err(Error::new(Kind::Usage, "--watch looks at one process: it does not follow children")
                .next("leave out --watch (samples follow them), or --follow"));
        }
        if flags.follow && matches!(flags.when, WhenArg::Growing) {
            return Err(Error::new(
                Kind::Usage,
                "--when growing waits for one process to grow, whatever its children do",
            )
            .next("leave out --when growing, or --follow"));
        }
        let output = match flags.output {
            Some(path) => Some(Output::check(&path, Format::of_path(&path)?, flags.force)?),
            None => None,
        };
        Ok(Self {
            whom: flags.pid.map_or(Whom::Command(flags.command), Whom::Pid),
            follow: flags.follow,
            engine,
            when: match flags.when {
                WhenArg::Now => When::Now,
                WhenArg::Growing => When::Growing,
            },
            duration: flags.duration,
            output,
            domains,
            ints: flags.ints,
            max_slowdown: flags
                .exact
                .then(|| flags.max_slowdown.unwrap_or(DEFAULT_LIMIT))
                .filter(|limit| limit.is_finite()),
            incomplete: flags.incomplete,
            how: flags.hooks.into(),
            work: flags.work.iter().fold(0, |sum, part| sum | part.bits()),
            empty_probes: flags.work.contains(&WorkArg::Trap),
            perf_events: flags.perf_events,
            limits: Limits { blocks: flags.max_blocks, sites: flags.max_sites, rows: 0 },
            // A call from Python to C and back is five to seven C frames.
            max_depth: flags.max_depth.unwrap_or(match flags.native {
                NativeArg::Full => MAX_DEPTH as u32,
                NativeArg::Off | NativeArg::Leaf => DEFAULT_DEPTH,
            }),
            native: flags.native.into(),
            older: flags.older,
            sort: sort(flags.view.sort),
            style: terminal.style(&flags.view),
            debug_dirs: flags.debug_dir,
            messages: !flags.quiet,
            details: flags.verbose > 0,
            probe_log: if flags.verbose > 1 { ProbeLog::Debug } else { ProbeLog::Off },
        })
    }
}

/// A report of a capture, decided.
#[derive(Clone, Debug)]
pub struct ReportPlan {
    capture: PathBuf,
    format: Format,
    output: Option<Output>,
    debug_dirs: Vec<PathBuf>,
    style: Style,
    sort: Sort,
}

impl ReportPlan {
    /// Decides a report: `-f` chooses the form, else the suffix of `-o`, else it is text.
    ///
    /// # Errors
    /// When the form is unknown or the output file impossible.
    pub fn decide(flags: Report, terminal: &Terminal) -> Result<Self> {
        let format = match (&flags.format, &flags.output) {
            (Some(name), _) => name.parse()?,
            (None, Some(path)) => Format::of_path(path)?,
            (None, None) => Format::Text,
        };
        let mut style = terminal.style(&flags.view);
        let output = match flags.output {
            Some(path) => {
                style.color = false;
                Some(Output::check(&path, format, flags.force)?)
            }
            None => None,
        };
        Ok(Self {
            capture: flags.file,
            format,
            output,
            debug_dirs: flags.debug_dir,
            style,
            sort: sort(flags.view.sort),
        })
    }

    /// Reads the capture and writes the report.
    ///
    /// # Errors
    /// When the capture cannot be read, or the report not be written.
    pub fn run(&self) -> Result<()> {
        let mut file = std::fs::File::open(&self.capture).context(self.capture.display())?;
        let mut story = archive::read(&mut file).map_err(|error| error.about(self.capture.display()))?;
        story.sort(self.sort);
        if !self.debug_dirs.is_empty() {
            let stacks = story.sites.iter_mut().map(|site| &mut site.stack);
            if Renamer::new(&self.debug_dirs)?.rename(stacks) == 0 {
                eprintln!("--debug-dir: no file there has the build id of a module on these stacks");
            }
        }
        if let Some(output) = &self.output {
            return output.save(&story, &self.style);
        }
        let mut bytes = Vec::new();
        write(self.format, &story, &self.style, &mut bytes)?;
        super::print(&String::from_utf8_lossy(&bytes))
    }
}

/// The engine that was asked for; samples unless another was.
fn engine(flags: &Record) -> Engine {
    // What is asked of each call can only be answered where each call is seen.
    if flags.exact || flags.ints {
        Engine::Trace
    } else if flags.watch {
        Engine::Watch
    } else {
        let budget = flags.budget.unwrap_or(DEFAULT_BUDGET_PERCENT) / 100.0;
        Engine::Sample { budget, window: flags.window.unwrap_or(DEFAULT_WINDOW) }
    }
}

/// The order as the heap knows it.
fn sort(arg: SortArg) -> Sort {
    match arg {
        SortArg::Worst => Sort::Worst,
        SortArg::Bytes => Sort::Bytes,
        SortArg::Blocks => Sort::Blocks,
        SortArg::Growth => Sort::Growth,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::flags::{Flags, Verb};

    fn decided(more: &[&str]) -> Plan {
        let args = [&["unshed", "record", "-p", "1"], more].concat();
        let Verb::Record(record) = Flags::try_parse_from(args).unwrap().verb else { panic!("another verb") };
        Plan::decide(record, &Terminal { color: false, columns: 80 }).unwrap()
    }

    #[test]
    fn the_engine_is_chosen_by_its_flag() {
        let sample = |budget, ms| Engine::Sample { budget, window: Duration::from_millis(ms) };
        assert_eq!((decided(&[]).engine, decided(&[]).when), (sample(0.01, 2), When::Now));
        assert_eq!(decided(&["--budget", "0.5", "--window", "1"]).engine, sample(0.005, 1));
        assert_eq!(decided(&["--when", "growing"]).when, When::Growing);
        assert_eq!(decided(&["--exact"]).engine, Engine::Trace);
        assert_eq!(decided(&["--watch"]).engine, Engine::Watch);
    }

    #[test]
    fn only_an_exact_trace_has_a_limit_of_the_slowdown() {
        assert_eq!(decided(&[]).max_slowdown, None);
        assert_eq!(decided(&["--exact"]).max_slowdown, Some(DEFAULT_LIMIT));
        assert_eq!(decided(&["--exact", "--max-slowdown", "inf"]).max_slowdown, None);
    }
}
