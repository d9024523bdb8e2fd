//! `verifier`: what the kernel says of each BPF program, against the committed budget.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{self, say};
use crate::{product, setup};

const BUDGET: &str = "xtask/verifier-budget.json";
/// From this frame size on, x86 kernels since 6.13 may give a program a private stack, which a second thread on the same
/// CPU would share; a tail call keeps the ordinary stack.
const MAX_FRAME: u64 = 64;

/// One program as the verifier saw it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: String,
    insns: u64,
    stack: String,
    max_frame: u64,
    tail_call: bool,
}

type Budget = BTreeMap<String, u64>;

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let bless = match args {
        [] => false,
        [flag] if flag == "--bless" => true,
        _ => bail!("`verifier` takes only --bless; see `cargo xtask help`"),
    };
    product::kernel_lets_us()?;
    setup::build_tools()?;
    let unshed = product::build(false)?;
    say("loading every program …");
    let printed = run::output_of(Command::new(unshed).args(["verifier"]))?;
    let programs = parse(&printed)?;
    if bless {
        write_budget(&programs)?;
    }
    let budget = read_budget()?;
    print(&programs, &budget);
    let faults = faults(&programs, &budget);
    for fault in &faults {
        eprintln!("verifier: {fault}");
    }
    if faults.is_empty() { Ok(()) } else { bail!("{} past the budget in {BUDGET}", count(faults.len())) }
}

fn count(faults: usize) -> String {
    if faults == 1 { "1 program is".to_owned() } else { format!("{faults} programs are") }
}

fn parse(printed: &str) -> Result<Vec<Program>> {
    let programs: Vec<Program> =
        printed.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect::<Result<_>>()?;
    if programs.is_empty() { bail!("`unshed verifier` named no program") } else { Ok(programs) }
}

fn parse_line(line: &str) -> Result<Program> {
    let value: Value =
        serde_json::from_str(line).with_context(|| format!("`unshed verifier` printed no JSON: {line}"))?;
    let field = |name: &str| value.get(name).with_context(|| format!("no `{name}` in {line}"));
    let text = |name| Ok::<_, anyhow::Error>(field(name)?.as_str().context(line.to_owned())?.to_owned());
    if let Ok(why) = text("refused") {
        bail!("the kernel refuses {}: {why}", text("program")?);
    }
    let number = |name| field(name)?.as_u64().with_context(|| format!("`{name}` is no count in {line}"));
    Ok(Program {
        name: text("program")?,
        insns: number("insns")?,
        stack: text("stack")?,
        max_frame: number("max_frame")?,
        tail_call: field("tail_call")?
            .as_bool()
            .with_context(|| format!("`tail_call` is no bool in {line}"))?,
    })
}

fn path() -> PathBuf {
    run::root().join(BUDGET)
}

fn read_budget() -> Result<Budget> {
    let text = std::fs::read_to_string(path())
        .with_context(|| format!("cannot read {BUDGET}; make it with `cargo xtask verifier --bless`"))?;
    serde_json::from_str(&text).with_context(|| format!("{BUDGET} is not an object of counts"))
}

/// A budget a quarter above today's counts, rounded up to hundreds: growth is a decision, noise between kernels is not.
fn write_budget(programs: &[Program]) -> Result<()> {
    let budget: Budget = programs
        .iter()
        .map(|program| (program.name.clone(), (program.insns * 5 / 4).div_ceil(100) * 100))
        .collect();
    let text = serde_json::to_string_pretty(&budget)? + "\n";
    std::fs::write(path(), text).with_context(|| format!("cannot write {BUDGET}"))?;
    say(format!("{BUDGET} written: a quarter above what was seen"));
    Ok(())
}

fn print(programs: &[Program], budget: &Budget) {
    let width = programs.iter().map(|program| program.name.len()).max().unwrap_or_default().max(7);
    println!(
        "{:width$}  {:>9}  {:>9}  {:>9}  stack bytes by frame",
        "program", "insns", "budget", "tail call"
    );
    for Program { name, insns, stack, tail_call, .. } in programs {
        let budget = budget.get(name).map_or_else(|| "none".to_owned(), u64::to_string);
        let tail_call = if *tail_call { "yes" } else { "no" };
        println!("{name:width$}  {insns:>9}  {budget:>9}  {tail_call:>9}  {stack}");
    }
}

fn faults(programs: &[Program], budget: &Budget) -> Vec<String> {
    let mut faults = Vec::new();
    for Program { name, insns, stack, max_frame, tail_call } in programs {
        match budget.get(name) {
            None => faults.push(format!("{name} has no line in {BUDGET}")),
            Some(most) if insns > most => faults.push(format!("{name}: {insns} instructions, budget {most}")),
            Some(_) => {}
        }
        if *max_frame >= MAX_FRAME && !tail_call {
            faults.push(format!(
                "{name}: a frame of {max_frame} bytes ({stack}) and no tail call; stay under {MAX_FRAME}"
            ));
        }
    }
    let gone = budget.keys().filter(|name| programs.iter().all(|program| program.name != **name));
    faults.extend(gone.map(|name| format!("{name} is in {BUDGET} but not in the object")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOC: &str =
        r#"{"program":"alloc","insns":900,"stack":"48+0+16","max_frame":48,"tail_call":false}"#;

    fn budget(most: u64) -> Budget {
        Budget::from([("alloc".to_owned(), most)])
    }

    #[test]
    fn a_program_within_its_budget_passes() {
        assert_eq!(faults(&parse(ALLOC).unwrap(), &budget(900)), Vec::<String>::new());
    }

    #[test]
    fn growth_a_missing_line_and_a_stale_line_are_faults() {
        let programs = parse(ALLOC).unwrap();
        assert_eq!(faults(&programs, &budget(899)).len(), 1);
        assert_eq!(faults(&programs, &Budget::new()).len(), 1);
        assert_eq!(faults(&[], &budget(900)).len(), 1);
    }

    #[test]
    fn a_large_frame_needs_a_tail_call() {
        let large = ALLOC.replace(r#""max_frame":48"#, r#""max_frame":64"#);
        assert_eq!(faults(&parse(&large).unwrap(), &budget(900)).len(), 1);
        let tail = large.replace("false", "true");
        assert_eq!(faults(&parse(&tail).unwrap(), &budget(900)).len(), 0);
    }

    #[test]
    fn a_refused_program_is_an_error_that_says_why() {
        let error = parse(r#"{"program":"alloc","refused":"R1 !read_ok"}"#).unwrap_err();
        assert!(format!("{error:#}").contains("refuses alloc: R1 !read_ok"));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("hello").is_err());
        assert!(parse(r#"{"program":"alloc"}"#).is_err());
    }
}
