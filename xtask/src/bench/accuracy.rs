//! `bench accuracy`: whether the leak is found. A server-like program with one leak of a known cause and pace is recorded as an operator would,
//! and the report is compared with the truth that the program states; beside it, on a few cases, what others find and what they cost.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::flags::Flags;
use super::interpreter::Interpreter;
use super::recording::Recorder;
use super::{machine, overhead, peers};
use crate::run::say;
use crate::{product, python, run};

pub(super) mod cases;
mod extension;
pub(super) mod judge;
pub(super) mod service;
mod table;

use cases::Case;
use judge::{Judged, judge};
use service::{Leaked, Service};

const USAGE: &str = "`bench accuracy` [--only CASE,…] [--seconds 20,60] [--rate BYTES_PER_SECOND] [--requests PER_SECOND] [--jobs N] [--unshed 'FLAGS'] [--binary FILE]
    [--python FILE] [--peers CASE,…|none]";

/// How long a service works before anything is measured: its sessions live two seconds.
const WARM: Duration = Duration::from_secs(3);
/// How long its CPU per request is measured before anything is attached.
const BASE: Duration = Duration::from_secs(4);
/// The cases on which others are tried: a line that all see, one behind a decoder, and one that only the C library knows of.
const FOR_PEERS: &str = "mutable_default,global_cache,c_malloc";

/// What was typed.
struct Options {
    cases: Vec<Case>,
    durations: Vec<f64>,
    rate: f64,
    requests: f64,
    jobs: usize,
    recorder: Recorder,
    python: Option<PathBuf>,
    peers: Vec<Case>,
}

/// What every case needs.
pub(super) struct World {
    pub(super) python: Interpreter,
    /// The folder of the C extension that leaks.
    pub(super) extension: PathBuf,
    /// Bytes that leak a second, and requests a second.
    pub(super) rate: f64,
    pub(super) requests: f64,
}

/// One case, recorded for so long.
pub(super) struct Row {
    pub(super) case: Case,
    pub(super) seconds: f64,
    pub(super) outcome: Result<Found, String>,
}

/// What was found, and what it cost.
pub(super) struct Found {
    pub(super) judged: Judged,
    /// The true growth.
    pub(super) leaked: Leaked,
    /// CPU per request, recorded over unrecorded.
    pub(super) slowdown: f64,
    /// The longest request while it was recorded, in milliseconds.
    pub(super) longest_ms: f64,
    /// As the report has it.
    pub(super) reported_cores: Option<f64>,
    /// unshed's own CPU over the whole recording, as a share of a core.
    pub(super) own_share: f64,
    pub(super) peak_rss_bytes: u64,
    pub(super) sampling: Value,
}

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = parse(args).context(USAGE)?;
    product::kernel_lets_us()?;
    let python = match &options.python {
        Some(path) => python::named(path)?,
        None => python::traceable()?,
    };
    let folder = run::target_dir().join("bench").join("accuracy-python");
    let extension = extension::build(&python, &folder.join("ext"))?;
    let world = World {
        python: Interpreter::copy(&python, &folder)?,
        extension,
        rate: options.rate,
        requests: options.requests,
    };
    let rows = recorded(&world, &options);
    let machine = machine::facts();
    println!("\n{}\n{}; {}", world.python.name, machine::line(&machine), options.recorder.args.join(" "));
    println!("{}\n{}", table::rows(&rows), table::verdict(&rows));
    let beside = peers::beside(&world, &options.peers, options.durations.first().copied().unwrap_or(20.0));
    if !beside.is_empty() {
        println!("{}", peers::table(&beside, &rows));
    }
    let results = json!({
        "schema": "unshed.bench.accuracy/1",
        "machine": machine,
        "python": world.python.name,
        "unshed": options.recorder.args,
        "leaked_bytes_per_second": options.rate,
        "requests_per_second": options.requests,
        "cases": table::json(&rows),
        "peers": peers::json(&beside),
    });
    println!("{}", machine::keep("accuracy", &results)?.display());
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    const VALUED: [&str; 9] =
        ["only", "seconds", "rate", "requests", "jobs", "unshed", "binary", "python", "peers"];
    let flags = Flags::parse(args, &VALUED, &[])?;
    let seconds = flags.text("seconds").unwrap_or("20,60").split(',');
    let durations: Option<Vec<f64>> = seconds
        .map(|text| text.parse().ok().filter(|seconds: &f64| (1.0..=3600.0).contains(seconds)))
        .collect();
    let peers = match flags.text("peers").unwrap_or(FOR_PEERS) {
        "none" => Vec::new(),
        names => names.split(',').map(cases::named).collect::<Result<Vec<Case>>>()?,
    };
    Ok(Options {
        cases: flags.chosen("only", &cases::ALL, |case| case.name)?,
        durations: durations.context("--seconds takes seconds, as 20,60")?,
        rate: flags.number("rate", 100_000.0)?,
        requests: flags.number("requests", 200.0)?,
        jobs: flags.count("jobs", 1)?,
        recorder: overhead::recorder(&flags)?,
        python: flags.text("python").map(PathBuf::from),
        peers,
    })
}

/// All cases and durations, so many at a time; a row is printed as soon as it is there.
fn recorded(world: &World, options: &Options) -> Vec<Row> {
    let jobs: Vec<(usize, Case, f64)> = options
        .durations
        .iter()
        .flat_map(|seconds| options.cases.iter().map(move |case| (*case, *seconds)))
        .enumerate()
        .map(|(at, (case, seconds))| (at, case, seconds))
        .collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    println!("{}", table::HEAD);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(&(at, case, seconds)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    say(format!("{} for {seconds} s", case.name));
                    let outcome = found(world, &options.recorder, case, seconds, at);
                    let row = Row { case, seconds, outcome: outcome.map_err(|error| format!("{error:#}")) };
                    println!("{}", table::row(&row));
                    // A thread that panicked has been told of by its own message.
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// One case: the service is started for it, so that no other case's past is in it.
fn found(world: &World, recorder: &Recorder, case: Case, seconds: f64, at: usize) -> Result<Found> {
    let mut service = Service::start(world, case, &[])?;
    let report =
        run::target_dir().join("bench").join(format!("accuracy-{}-{at}.report.json", std::process::id()));
    let base = service.base(WARM, BASE)?;
    let mut recording = recorder.start(service.pid(), seconds, case.args, &report)?;
    recording.await_watching()?;
    let begun = service.mark()?;
    let wait = Duration::from_secs_f64(seconds);
    std::thread::sleep(wait);
    let ended = service.mark()?;
    let recorded = recording.finish()?;
    let truth = service.truth()?;
    std::fs::remove_file(&report)?;
    if ended.requests <= begun.requests {
        bail!("the service did nothing while it was recorded");
    }
    let leaked = truth.leaked(&begun, &ended);
    Ok(Found {
        judged: judge(&recorded.report, &truth)?,
        leaked,
        slowdown: ended.cpu_per_request(&begun) / base,
        longest_ms: ended.longest_ms,
        reported_cores: recorded.number("/cost/target_cpu_fraction"),
        own_share: recorded.own.cpu_seconds / recorded.seconds,
        peak_rss_bytes: recorded.own.peak_rss_bytes,
        sampling: recorded.report["sampling"].clone(),
    })
}
