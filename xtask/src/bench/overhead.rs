//! `bench overhead`: whether the cost contract holds. One process that works, in short phases by turns untraced and traced, so that what the
//! machine does besides falls out; the moments of attaching and detaching are phases of their own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::flags::Flags;
use super::interpreter::Interpreter;
use super::machine;
use super::peers::venv;
use super::recording::Recorder;
use crate::run::say;
use crate::{product, python, run, setup};

mod estimate;
mod load;
mod phase;
mod round;
mod table;

use estimate::Summary;
use load::{Beside, Load, Worker, Workload};
use round::{Plan, Rounds};

const USAGE: &str = "`bench overhead` [--only WORKLOAD,…] [--rounds N] [--seconds S] [--unshed 'FLAGS'] [--binary FILE] [--python FILE] [--quick] [--nothing] [--beside]";

/// What was typed.
struct Options {
    workloads: Vec<Workload>,
    plan: Plan,
    /// `None` with `--nothing`: phases that should be traced are not, which shows how exact the method is.
    recorder: Option<Recorder>,
    python: Option<PathBuf>,
    /// Another process of the same interpreter is traced, not the one that works.
    beside: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = parse(args).context(USAGE)?;
    product::kernel_lets_us()?;
    let python = match &options.python {
        Some(path) => python::named(path)?,
        None => python::traceable()?,
    };
    let folder = run::target_dir().join("bench").join("overhead-python");
    let interpreter = Interpreter::copy(&python, &folder)?;
    let mut measured = Vec::new();
    for workload in &options.workloads {
        say(format!("{}: {}", interpreter.name, workload.name));
        match measure(workload, &interpreter, &options) {
            Ok(rounds) => {
                println!("{}", table::progress(workload.name, &rounds));
                measured.push((workload.name, rounds));
            }
            Err(error) => println!("{}: not measured: {error:#}", workload.name),
        }
    }
    let machine = machine::facts();
    let flags = options.recorder.as_ref().map_or("nothing attached".to_owned(), |it| it.args.join(" "));
    println!("\n{}\n{}; {flags}", interpreter.name, machine::line(&machine));
    println!("{}\n{}", table::losses(&measured), table::latencies(&measured));
    println!("{}\n{}", table::own(&measured), table::verdict(&measured));
    let results = results(&machine, &interpreter.name, &flags, options.plan, &measured);
    println!("{}", machine::keep("overhead", &results)?.display());
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    const VALUED: [&str; 7] = ["only", "rounds", "seconds", "unshed", "binary", "python", "edge"];
    let flags = Flags::parse(args, &VALUED, &["nothing", "quick", "beside"])?;
    let workloads = flags.chosen("only", &load::ALL, |workload| workload.name)?;
    let quick = flags.has("quick");
    let (rounds, seconds) = if quick { (2, 3.0) } else { (6, 8.0) };
    let plan = Plan {
        rounds: flags.count("rounds", rounds)?,
        seconds: flags.number("seconds", seconds)?,
        edge: flags.number("edge", 1.0)?,
    };
    let recorder = if flags.has("nothing") { None } else { Some(recorder(&flags)?) };
    Ok(Options {
        workloads,
        plan,
        recorder,
        python: flags.text("python").map(PathBuf::from),
        beside: flags.has("beside"),
    })
}

/// The binary and its flags: what was named, or what is built now, with the budget that is the default.
pub(super) fn recorder(flags: &Flags) -> Result<Recorder> {
    let binary = match flags.text("binary") {
        Some(path) => PathBuf::from(path),
        None => {
            setup::build_tools()?;
            product::build(true)?
        }
    };
    let args = flags.text("unshed").unwrap_or("--budget 1").split_whitespace().map(str::to_owned).collect();
    Ok(Recorder { binary, args })
}

fn measure(workload: &Workload, interpreter: &Interpreter, options: &Options) -> Result<Rounds> {
    let packages = if workload.is_of_pyperformance { Some(venv::packages("pyperformance")?) } else { None };
    let start = || Load::start(workload, interpreter, packages.as_deref());
    let mut worker: Box<dyn Worker> = if options.beside {
        Box::new(Beside { works: start()?, traced: start()? })
    } else {
        Box::new(start()?)
    };
    round::contest(worker.as_mut(), options.recorder.as_ref(), options.plan)
}

/// Everything that was measured, for other programs.
fn results(machine: &Value, python: &str, flags: &str, plan: Plan, measured: &[(&str, Rounds)]) -> Value {
    let workloads: Vec<Value> = measured
        .iter()
        .map(|(name, rounds)| {
            let summary = Summary::of(rounds);
            json!({"name": name, "summary": summary.json(), "rounds": rounds.json()})
        })
        .collect();
    json!({
        "schema": "unshed.bench.overhead/1",
        "machine": machine,
        "python": python,
        "unshed": flags,
        "phase_seconds": plan.seconds,
        "rounds": plan.rounds,
        "workloads": workloads,
        "verdict": table::verdict_json(measured),
    })
}

/// How long a tool may need to begin or to end, in phases of [`Plan::edge`] seconds.
const EDGES: usize = 90;
/// A glance at whether it watches.
const GLANCE: Duration = Duration::from_millis(1);
