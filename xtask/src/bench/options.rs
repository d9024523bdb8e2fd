//! What was typed after `bench`.

use anyhow::{Context, Result, bail};

use super::workload::{self, Workload};

/// What `--only` calls the table of the price of a hit.
const HIT: &str = "hit";

/// What is to be measured, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Rounds of everything, at least 1.
    pub(crate) rounds: usize,
    /// The workloads of the contest, in the order of their table.
    pub(crate) workloads: Vec<&'static Workload>,
    /// Whether the price of a hit is measured.
    pub(crate) price: bool,
    /// CPU-seconds of one traced run.
    pub(crate) traced: f64,
    /// CPU-seconds of one untraced run.
    pub(crate) untraced: f64,
}

/// Reads the arguments of the verb.
pub(crate) fn parse(args: &[String]) -> Result<Options> {
    let (mut rounds, mut only, mut quick) = (None, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => rounds = Some(count(args.next())?),
            "--only" => only = Some(args.next().context("--only takes names, as `json,http`")?.as_str()),
            "--quick" => quick = true,
            _ => bail!("`bench` takes --runs N, --only WORKLOAD,… and --quick, not {arg:?}"),
        }
    }
    let (workloads, price) = chosen(only)?;
    let (default, traced, untraced) = if quick { (1, 0.3, 0.2) } else { (3, 0.5, 0.3) };
    Ok(Options { rounds: rounds.unwrap_or(default), workloads, price, traced, untraced })
}

fn count(arg: Option<&String>) -> Result<usize> {
    arg.and_then(|n| n.parse().ok()).filter(|n| *n > 0).context("--runs takes a count")
}

fn chosen(only: Option<&str>) -> Result<(Vec<&'static Workload>, bool)> {
    let Some(only) = only else { return Ok((workload::ALL.iter().collect(), true)) };
    let names: Vec<&str> = only.split(',').collect();
    let known = |name: &str| name == HIT || workload::ALL.iter().any(|workload| workload.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = workload::ALL.iter().map(|workload| workload.name).collect();
        bail!(
            "there is no workload {unknown:?}; there are {} and {HIT} (the price of a hit)",
            all.join(", ")
        );
    }
    let workloads = workload::ALL.iter().filter(|workload| names.contains(&workload.name));
    Ok((workloads.collect(), names.contains(&HIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn everything_is_the_default() {
        let options = of("").expect("no arguments are needed");
        assert_eq!((options.rounds, options.workloads.len(), options.price), (3, workload::ALL.len(), true));
    }

    #[test]
    fn a_choice_keeps_the_order_of_the_table() {
        let options = of("--only http,json --runs 2 --quick").expect("known names");
        let names: Vec<&str> = options.workloads.iter().map(|workload| workload.name).collect();
        assert_eq!((names, options.price, options.rounds), (vec!["json", "http"], false, 2));
        let options = of("--quick --only hit").expect("a known name");
        assert_eq!((options.workloads.len(), options.price, options.rounds), (0, true, 1));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--runs", "--runs 0", "--runs many", "--only", "--only nonsense", "--only json,", "json"]
        {
            assert!(of(line).is_err(), "{line} was taken");
        }
    }
}
