//! What was typed, and the words of `--help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracer_common::config::work;
use tracer_common::domain::Domain;
use tracer_common::limits::{DEFAULT_BLOCKS, DEFAULT_SITES, MAX_BLOCKS, MAX_DEPTH};
use tracer_common::native::Mode;

use crate::probe::sites::How;

/// What goes with another engine than the exact one. Where one of these is typed, clap does not ask for the `--exact` that would conflict with it.
const NOT_EXACT: [&str; 4] = ["budget", "window", "when", "watch"];

/// Finds the memory that a running CPython process never sheds.
#[derive(Debug, Parser)]
#[command(name = "unshed", version, arg_required_else_help = true)]
pub struct Flags {
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch a process (or a command from its start) and report what it allocated and never freed
    Record(Record),
    /// Print a capture (x.unshed) in another form, on any machine
    Report(Report),
    /// List the CPython processes of this host, and whether unshed would see everything in them
    Ps(Ps),
    /// Say what this kernel, and a process on it, allow
    Doctor(Doctor),
    /// Load every probe and print the verifier's figures as JSON lines
    #[command(hide = true)]
    Verifier,
}

/// `unshed record`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["pid", "command"]))]
pub struct Record {
    /// The process to trace
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Also trace the processes that it forks, and what they become (exec, multiprocessing, prefork servers): one report over all, split by process. With samples all of them share one --budget
    #[arg(long)]
    pub follow: bool,
    /// Stop after this long: 10, 1.5s, 2m, 1h (default: until Ctrl-C, or until the target ends)
    #[arg(short, long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Also write a file; its suffix chooses the form: .unshed .json .svg .folded .txt
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long)]
    pub force: bool,
    /// CPU that it may cost, in percent of one core: so much what the target loses, and so much what unshed takes itself (0.01 to 100) [default: 1]
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with_all = ["exact", "watch"])]
    pub budget: Option<f64>,
    /// Milliseconds that a window may take at most: while it is open, each allocation of the target is seen and costs (0.1 to 20; also 500us) [default: 2ms]
    #[arg(long, value_name = "MS", value_parser = window, conflicts_with_all = ["exact", "watch"])]
    pub window: Option<Duration>,
    /// When windows are opened: from the start, or only while the heap grows
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = WhenArg::Now, conflicts_with_all = ["exact", "watch"])]
    pub when: WhenArg,
    /// Trace every allocation and every free instead of samples: exact, and slow. Refused if it would slow the process down too much: its allocations are
    /// counted for 0.1 s before (not those of a command: it has not run yet)
    #[arg(long)]
    pub exact: bool,
    /// With --exact: refuse if the process would be more than N times slower; inf: trace at any price, without counting before (default: 2)
    #[arg(long, value_name = "N", requires = "exact", conflicts_with_all = NOT_EXACT, value_parser = factor)]
    pub max_slowdown: Option<f64>,
    /// Only watch where the heap takes more memory, at no cost that could be measured: says that it grows and by which sizes, never what leaks
    #[arg(long, conflicts_with_all = ["exact", "older"])]
    pub watch: bool,
    /// Which allocators to trace [default: all; with --exact: object,mem,raw]
    #[arg(long, value_delimiter = ',', value_name = "DOMAIN,…")]
    pub domains: Vec<DomainArg>,
    /// Also watch PyLong_FromLong: calls, cached small ints and frequent values per stack, and from CPython 3.14 on which line keeps an int (or any object) that came out of a freelist; a trace of every allocation, as with --exact --max-slowdown inf
    #[arg(long, conflicts_with_all = NOT_EXACT)]
    pub ints: bool,
    /// Trace although some allocations or frees would pass unseen
    #[arg(long)]
    pub incomplete: bool,
    /// Live blocks to remember at most (about 100 bytes of kernel memory each, taken as needed)
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BLOCKS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_BLOCKS)))]
    pub max_blocks: u32,
    /// Distinct stacks to remember at most
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SITES, value_parser = clap::value_parser!(u32).range(1..=(1 << 22)))]
    pub max_sites: u32,
    /// Frames to keep of a stack, innermost first: so many Python frames, and so many C frames (default: 64; with --native full 128, the most)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_DEPTH as i64))]
    pub max_depth: Option<u32>,
    /// C frames to keep of a stack: none, those above the interpreter's evaluator (what called the allocator), or all, between the Python frames
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = NativeArg::Leaf)]
    pub native: NativeArg,
    /// Where to put the traps: on all fast paths (sites), on the allocator functions, or on their entries as it is usually done
    #[arg(long, hide = true, value_enum, default_value_t = HooksArg::Sites)]
    pub hooks: HooksArg,
    /// What a hit does, for the benchmark
    #[arg(
        long,
        hide = true,
        value_enum,
        value_delimiter = ',',
        value_name = "PART,…",
        default_value = "all"
    )]
    pub work: Vec<WorkArg>,
    /// Attach one perf event per probe point, as kernels before 6.10 need it
    #[arg(long, hide = true)]
    pub perf_events: bool,
    /// Report only blocks at least this old at the end: 30s, 5m
    #[arg(long, value_name = "AGE", value_parser = duration)]
    pub older: Option<Duration>,
    /// Also look for debug information in this folder: .build-id/xx/yyyy.debug, NAME.debug, or modules by name or whole path; again for more folders
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// How the sites are shown
    #[command(flatten)]
    pub view: View,
    /// No messages on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// More messages: every probe point; twice: the probes' own as well
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// The command to start and trace from before its first bytecode
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How the sites are shown.
#[derive(Clone, Debug, Args)]
pub struct View {
    /// Sites to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Order of the sites
    #[arg(long, value_enum, default_value_t = SortArg::Worst)]
    pub sort: SortArg,
    /// Hide the C frames of the interpreter, its standard library and the C library (a capture keeps them)
    #[arg(long)]
    pub hide_interpreter: bool,
}

/// `unshed report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The capture
    pub file: PathBuf,
    /// The form: text, json, folded, svg
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// Write there instead of to stdout
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long)]
    pub force: bool,
    /// Name native frames with debug information from this folder: .build-id/xx/yyyy.debug, NAME.debug, or modules by name or whole path; again for
    /// more folders
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// How the sites are shown
    #[command(flatten)]
    pub view: View,
}

/// `unshed ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// One JSON array instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `unshed doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Examine this process as well: what a trace would hook, how often that is hit (counted for 0.1 s) and what it would cost
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Every probe point
    #[arg(short, long)]
    pub verbose: bool,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortArg {
    /// What looks most like a leak, by live bytes
    Worst,
    /// Live bytes
    Bytes,
    /// Live blocks
    Blocks,
    /// Growth per second
    Growth,
}

/// `--native`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NativeArg {
    /// No C frames
    Off,
    /// From the allocation up to the interpreter's evaluator
    Leaf,
    /// All, in their order among the Python frames
    Full,
}

impl From<NativeArg> for Mode {
    fn from(arg: NativeArg) -> Self {
        match arg {
            NativeArg::Off => Self::Off,
            NativeArg::Leaf => Self::Leaf,
            NativeArg::Full => Self::Full,
        }
    }
}

/// `--when`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenArg {
    /// From the start
    Now,
    /// While the heap grows
    Growing,
}

/// `--hooks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HooksArg {
    /// All fast paths of the allocator
    Sites,
    /// The allocator's functions, where it is cheap
    Functions,
    /// The allocator's functions, at their entry
    Naive,
}

impl From<HooksArg> for How {
    fn from(arg: HooksArg) -> Self {
        match arg {
            HooksArg::Sites => Self::Sites,
            HooksArg::Functions => Self::Functions,
            HooksArg::Naive => Self::Naive,
        }
    }
}

/// A part of what a hit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkArg {
    /// The trap alone
    Trap,
    /// Registers are read and hits counted
    None,
    /// Stacks are walked
    Stacks,
    /// Sites are summed up
    Sites,
    /// Live blocks are remembered
    Blocks,
    /// Everything
    All,
}

impl WorkArg {
    /// The bits of the configuration.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Trap | Self::None => 0,
            Self::Stacks => work::STACKS,
            Self::Sites => work::SITES,
            Self::Blocks => work::BLOCKS,
            Self::All => work::ALL,
        }
    }
}

/// A domain on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainArg(pub Domain);

impl ValueEnum for DomainArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [DomainArg; 4] = [
            DomainArg(Domain::Object),
            DomainArg(Domain::Mem),
            DomainArg(Domain::Raw),
            DomainArg(Domain::Libc),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Reads a slowdown: 1 or more, or `inf`.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor >= 1.0 => Ok(factor),
        _ => Err("a number from 1 on, or inf".to_owned()),
    }
}

/// Reads a share of a core in percent: 0.01 to 100, with or without the sign.
fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a number of percent from 0.01 to 100".to_owned()),
    }
}

/// Reads the length of a window: `2`, `2ms`, `500us`.
fn window(text: &str) -> Result<Duration, String> {
    let (number, ms_per_unit) = match text.strip_suffix("us") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix("ms").unwrap_or(text), 1.0),
    };
    match number.parse::<f64>().map(|number| number * ms_per_unit) {
        Ok(ms) if (0.1..=20.0).contains(&ms) => Ok(Duration::from_secs_f64(ms / 1e3)),
        _ => Err("a window is 0.1 to 20 milliseconds long, as in 2, 0.5ms or 500us".to_owned()),
    }
}

/// Reads `10`, `1.5s`, `2m`, `1h`, `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(format!("{unit:?} is no unit of time; use ms, s, m, h or d")),
    };
    let number: f64 = number.parse().map_err(|_| "a duration begins with a number, as in 10s".to_owned())?;
    let seconds = number * seconds_per_unit;
    if !(0.001..=31_536_000.0).contains(&seconds) {
        return Err("a duration lies between 1ms and 365d".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests;
