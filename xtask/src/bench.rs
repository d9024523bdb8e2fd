//! `bench`: what a trace costs its target, as work per CPU-second traced against untraced.
//!
//! One process, runs interleaved: each traced run is compared with the untraced runs right before and after it, so that
//! a drift of the machine falls out. CPU time, not wall time: other load on the machine does not count.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{self, Guarded, say};
use crate::{product, python, setup};

const WORKLOADS: [&str; 2] = ["bench_alloc", "bench_realistic"];
const DEFAULT_RUNS: usize = 5;
/// CPU-seconds of one run.
const RUN_SECONDS: f64 = 2.0;
/// How long to wait for anything: traced, the same CPU-seconds can last much longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one run of a workload did.
#[derive(Clone, Copy, Debug)]
struct Run {
    work: f64,
    cpu_seconds: f64,
}

impl Run {
    fn rate(self) -> f64 {
        self.work / self.cpu_seconds
    }
}

/// A traced run, with the speed of its untraced neighbours.
#[derive(Clone, Copy, Debug)]
struct Pair {
    traced: Run,
    hits: f64,
    untraced_rate: f64,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.traced.rate() / self.untraced_rate
    }

    /// The CPU that the work cost beyond what it costs untraced, shared among the hits.
    fn ns_per_hit(&self) -> f64 {
        (self.traced.cpu_seconds - self.traced.work / self.untraced_rate) * 1e9 / self.hits
    }
}

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let runs = match args {
        [] => DEFAULT_RUNS,
        [flag, n] if flag == "--runs" => n.parse().ok().filter(|n| *n > 0).context("--runs takes a count")?,
        _ => bail!("`bench` takes only --runs N; see `cargo xtask help`"),
    };
    product::kernel_lets_us()?;
    setup::build_tools()?;
    let unshed = product::build(true)?;
    let python = python::traceable()?;
    let mut table = Vec::new();
    for workload in WORKLOADS {
        table.push((workload, measure(workload, &python.path, &unshed, runs)?));
    }
    println!(
        "work per CPU-second traced / untraced, median of {runs} interleaved runs; CPython {}",
        python.version
    );
    println!(
        "{:16} {:>7}  {:>16}  {:>12}  {:>10}",
        "workload", "ratio", "min .. max", "hits per CPU-s", "ns per hit"
    );
    for (workload, pairs) in table {
        println!("{}", row(workload, &pairs));
    }
    Ok(())
}

fn row(workload: &str, pairs: &[Pair]) -> String {
    let ratios = sorted(pairs.iter().map(Pair::ratio));
    let hits = sorted(pairs.iter().map(|pair| pair.hits / pair.traced.cpu_seconds));
    let cost = sorted(pairs.iter().map(Pair::ns_per_hit));
    let (least, most) =
        (ratios.first().copied().unwrap_or(f64::NAN), ratios.last().copied().unwrap_or(f64::NAN));
    let range = format!("{least:.3} .. {most:.3}");
    format!(
        "{workload:16} {:>7.3}  {range:>16}  {:>14.0}  {:>10.0}",
        median(&ratios),
        median(&hits),
        median(&cost)
    )
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn measure(workload: &str, python: &Path, unshed: &Path, runs: usize) -> Result<Vec<Pair>> {
    let mut target = Workload::start(workload, python)?;
    target.run(RUN_SECONDS / 4.0)?; // Caches, freelists and arenas as they will be.
    let mut pairs = Vec::new();
    let mut before = target.run(RUN_SECONDS)?;
    for n in 1..=runs {
        let trace = Trace::start(unshed, target.child.0.id())?;
        let traced = target.run(RUN_SECONDS)?;
        let hits = trace.stop()?;
        let after = target.run(RUN_SECONDS)?;
        let pair = Pair { traced, hits, untraced_rate: f64::midpoint(before.rate(), after.rate()) };
        say(format!("{workload} {n}/{runs}: ratio {:.3}, {hits:.0} hits", pair.ratio()));
        pairs.push(pair);
        before = after;
    }
    Ok(pairs)
}

/// A running workload: told `run SECONDS`, it works that long and answers with one line of JSON.
struct Workload {
    child: Guarded,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Workload {
    fn start(name: &str, python: &Path) -> Result<Self> {
        let script = run::root().join("tests/programs").join(format!("{name}.py"));
        if !script.is_file() {
            bail!("there is no {}", script.display());
        }
        let mut command = Command::new(python);
        command.arg("-u").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            Guarded(run::dying_with_us(&mut command).spawn().context("cannot start the workload")?);
        let pipes = child.0.stdin.take().zip(child.0.stdout.take());
        let (orders, stdout) = pipes.context("the workload has no pipes")?;
        Ok(Self { child, orders, answers: run::lines_of(stdout) })
    }

    fn run(&mut self, seconds: f64) -> Result<Run> {
        writeln!(self.orders, "run {seconds}").context("the workload has ended")?;
        loop {
            let line = self.answers.recv_timeout(PATIENCE).context("the workload does not answer")?;
            // A greeting is not an answer.
            if let Some(run) = parse_run(&line) {
                return Ok(run);
            }
        }
    }
}

fn parse_run(line: &str) -> Option<Run> {
    let value: Value = serde_json::from_str(line).ok()?;
    let field = |name| value.get(name).and_then(Value::as_f64).filter(|n| *n > 0.0);
    Some(Run { work: field("work")?, cpu_seconds: field("cpu_seconds")? })
}

/// A recording that has begun.
struct Trace {
    child: Guarded,
    report: PathBuf,
}

impl Trace {
    fn start(unshed: &Path, pid: u32) -> Result<Self> {
        let report = run::target_dir().join(format!("bench-{}.json", std::process::id()));
        if report.exists() {
            std::fs::remove_file(&report)?;
        }
        let mut command = Command::new(unshed);
        command.args(["record", "-p", &pid.to_string(), "-d", "3600", "-o"]).arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Guarded(run::dying_with_us(&mut command).spawn().context("cannot start unshed")?);
        let lines = run::lines_of(child.0.stderr.take().context("unshed has no stderr")?);
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.trim_start().starts_with("tracing") {
                return Ok(Self { child, report });
            }
            said.push(line);
        }
        bail!("unshed did not say that it is tracing; it said: {}", said.join(" / "))
    }

    /// Ends the recording as Ctrl-C does and returns its hits.
    fn stop(mut self) -> Result<f64> {
        run::interrupt(&self.child.0)?;
        let started = Instant::now();
        let status = loop {
            match self.child.0.try_wait()? {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => bail!("unshed does not end on SIGINT"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        if !status.success() {
            bail!("unshed ended with {status}");
        }
        let text = std::fs::read_to_string(&self.report).context("unshed wrote no report")?;
        std::fs::remove_file(&self.report)?;
        let report: Value = serde_json::from_str(&text).context("the report is no JSON")?;
        report.pointer("/cost/hits").and_then(Value::as_f64).context("the report has no cost.hits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_costs_the_extra_cpu_of_the_same_work() {
        // 100 units took 2 s, untraced they take 1 s; a million hits share the second between them.
        let traced = Run { work: 100.0, cpu_seconds: 2.0 };
        let pair = Pair { traced, hits: 1e6, untraced_rate: 100.0 };
        assert!((pair.ratio() - 0.5).abs() < 1e-9);
        assert!((pair.ns_per_hit() - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&sorted([3.0, 1.0, 2.0].into_iter())) - 2.0).abs() < 1e-9);
        assert!((median(&sorted([4.0, 1.0, 2.0, 3.0].into_iter())) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn only_a_line_with_both_numbers_is_an_answer() {
        assert!(parse_run(r#"{"work":5,"cpu_seconds":1.5,"allocations_hint":3}"#).is_some());
        assert!(parse_run(r#"{"work":5,"cpu_seconds":0}"#).is_none());
        assert!(parse_run("READY").is_none());
    }
}
