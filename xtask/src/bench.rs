//! `bench`: what a trace costs its target, against what people use today, and what a hit costs step by step.
//!
//! One process, runs interleaved: each traced run is compared with the untraced runs right before and after it, so that
//! a drift of the machine falls out. CPU time, not wall time: other load on the machine does not count. Nothing here
//! decides a pass; what could not be measured is a printed line with its reason.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::python::Python;
use crate::run::{self, say, works};
use crate::{product, python, setup};

mod accuracy;
mod contest;
mod figures;
mod flags;
mod headers;
mod interpreter;
mod machine;
mod options;
mod overhead;
mod own;
mod peers;
mod price;
mod process;
mod recording;
mod table;
mod tools;
mod workload;

use contest::{Plan, Target, Tool};
use interpreter::Interpreter;
use options::Options;
use table::Row;
use tools::{Bpftrace, Memleak, Unshed};
use workload::Working;

/// Function entries and returns, as everybody puts them; where that is incomplete, so it is.
const NAIVE: &str = "--hooks naive --incomplete";

/// Heads of the two tables of the price of a hit.
const PYTHON_FRAMES: &str = "price of a hit: ns of the target's CPU, `--work` at a depth of Python frames";
const C_FRAMES: &str = "price of a hit: ns of the target's CPU, `--native` at a depth of C frames";

/// Runs the verb: `overhead` and `accuracy` ask whether the promises hold, anything else what the trace engine costs.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.split_first() {
        Some((verb, rest)) if verb == "overhead" => overhead::run(rest),
        Some((verb, rest)) if verb == "accuracy" => accuracy::run(rest),
        _ => trace(args),
    }
}

fn trace(args: &[String]) -> Result<()> {
    let options = options::parse(args)?;
    product::kernel_lets_us()?;
    setup::build_tools()?;
    let unshed = product::build(true)?;
    let started = Instant::now();
    let pythons = python::found();
    if pythons.is_empty() {
        println!("not measured: there is no CPython 3.11 on this machine");
    }
    for (at, python) in pythons.iter().enumerate() {
        let folder = run::target_dir().join("bench").join(format!("python-{at}"));
        if let Err(error) = measured(python, &folder, &unshed, &options) {
            println!("CPython {} of {}: not measured: {error:#}", python.version, python.path.display());
        }
        println!();
    }
    println!("measured in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Measures one interpreter and prints its tables; an error is the reason why it was not measured.
fn measured(python: &Python, folder: &Path, unshed: &Path, options: &Options) -> Result<()> {
    let python = Interpreter::copy(python, folder)?;
    let plan = Plan { rounds: options.rounds, traced: options.traced, untraced: options.untraced };
    let ours = Unshed::new("unshed", unshed, "");
    // A refusal ends it here, before the other tools have had their time.
    tried(&ours, &python)?;
    println!("{}: median (least .. most) of {} interleaved runs", python.name, plan.rounds);
    if !options.workloads.is_empty() {
        against_others(&python, ours, unshed, options, plan)?;
    }
    if options.price {
        price_of_a_hit(&python, unshed, plan)?;
    }
    Ok(())
}

fn price_of_a_hit(python: &Interpreter, unshed: &Path, plan: Plan) -> Result<()> {
    if let Err(error) = tried(&price::step(unshed, price::TRAP), python) {
        println!("the price of a hit: not measured: {error:#}");
        return Ok(());
    }
    let steps = price::measure(python, unshed, plan)?;
    println!("\n{}{}", table::price(PYTHON_FRAMES, &steps), table::price_goal(price::bare(&steps)));
    let steps = price::measure_native(python, unshed, plan)?;
    println!("\n{}", table::price(C_FRAMES, &steps));
    Ok(())
}

fn against_others(
    python: &Interpreter,
    ours: Unshed,
    unshed: &Path,
    options: &Options,
    plan: Plan,
) -> Result<()> {
    let mut tools: Vec<Box<dyn Tool>> = vec![Box::new(ours)];
    let mut goals = Vec::new();
    for Rival { tool, installed, goal } in rivals(python, unshed) {
        match installed.and_then(|()| tried(tool.as_ref(), python).map_err(|error| format!("{error:#}"))) {
            Ok(()) => {
                goals.extend(goal.then_some(tools.len()));
                tools.push(tool);
            }
            Err(reason) => println!("{}: not measured: {reason}", tool.name()),
        }
    }
    let mut rows = Vec::new();
    for workload in &options.workloads {
        say(format!("{}: {}", python.name, workload.name));
        let mut target = Working::start(workload, python)?;
        let outcomes = contest::contest(&mut target, &tools, plan)?;
        rows.push(Row { workload: workload.name, outcomes });
    }
    let names: Vec<String> = tools.iter().map(|tool| tool.name().to_owned()).collect();
    println!("\n{}\n{}", table::contest(&names, &rows), table::rivals(&names, &rows));
    println!("{}\n{}", table::rivals_per_allocation(&names, &rows), table::engine(&rows));
    for rival in goals {
        println!("{}", table::rival_goal(&names, &rows, rival));
    }
    Ok(())
}

/// A tool that is measured beside ours.
struct Rival {
    tool: Box<dyn Tool>,
    /// Or why it cannot be tried.
    installed: Result<(), String>,
    /// Whether it watches the same allocators, so that there is a goal to beat it.
    goal: bool,
}

fn rivals(python: &Interpreter, unshed: &Path) -> [Rival; 3] {
    let installed = |program: &str, hint: &str| {
        if works(program, &["--help"]) { Ok(()) } else { Err(format!("there is no {program} here; {hint}")) }
    };
    let memleak_hint = format!("`apt-get install bpfcc-tools`, and {}", headers::HINT);
    [
        Rival {
            tool: Box::new(Unshed::new("naive entry probes", unshed, NAIVE)),
            installed: Ok(()),
            goal: true,
        },
        Rival {
            tool: Box::new(Bpftrace { object: python.object.clone() }),
            installed: installed(Bpftrace::PROGRAM, "`apt-get install bpftrace`"),
            goal: true,
        },
        Rival { tool: Box::new(Memleak), installed: installed(Memleak::PROGRAM, &memleak_hint), goal: false },
    ]
}

/// Attaches and detaches once, to hear now what it refuses.
fn tried(tool: &dyn Tool, python: &Interpreter) -> Result<()> {
    let target = Working::start(&workload::ALL[0], python)?;
    tool.attach(target.pid())?.detach()?;
    Ok(())
}
