//! What others make of the same leaks, and at what price: each on a service of its own, on a few cases. What cannot be tried is a row with its reason.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::accuracy::cases::Case;
use super::accuracy::judge::is_true_frame;
use super::accuracy::service::Truth;
use super::accuracy::{Row, World};
use crate::run::say;

mod memleak;
mod memray;
mod tracemalloc;
pub(super) mod venv;

/// How long a service works before it is measured, and how long it is measured alone.
const WARM: Duration = Duration::from_secs(3);
const BASE: Duration = Duration::from_secs(4);

/// A tool on a case.
pub(crate) struct Peer {
    tool: &'static str,
    case: Case,
    outcome: Result<Beside, String>,
}

/// What it found, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    /// Place of the first row that is true, 1 the first; `None` where there is none.
    pub(crate) rank: Option<usize>,
    /// Rows in its report.
    pub(crate) rows: usize,
    /// CPU per request, with it over without.
    pub(crate) slowdown: f64,
    /// The longest request with it, in milliseconds.
    pub(crate) longest_ms: f64,
}

/// One row of a tool's report: bytes that were not freed, and from where.
pub(crate) struct Stack {
    pub(crate) frames: Vec<Value>,
}

/// Place of the first row that is true, in the tool's own order.
fn rank(stacks: &[Stack], truth: &Truth) -> Option<usize> {
    let is_true = |stack: &Stack| stack.frames.iter().any(|frame| is_true_frame(frame, truth));
    Some(stacks.iter().position(is_true)? + 1)
}

/// Tries a tool on a case for so many seconds.
type Try = fn(&World, Case, f64) -> Result<Beside>;

const TOOLS: [(&str, Try); 3] = [
    ("tracemalloc, 25 frames", tracemalloc::attempt),
    ("memray attach", memray::attempt),
    ("memleak-bpfcc", memleak::attempt),
];

/// All tools on all cases, one after the other.
pub(crate) fn beside(world: &World, cases: &[Case], seconds: f64) -> Vec<Peer> {
    let mut peers = Vec::new();
    for case in cases {
        for (tool, attempt) in TOOLS {
            say(format!("{tool} on {} for {seconds} s", case.name));
            let outcome = attempt(world, *case, seconds).map_err(|error| format!("{error:#}"));
            peers.push(Peer { tool, case: *case, outcome });
        }
    }
    peers
}

/// The peers beside our own rows of the same cases.
pub(crate) fn table(peers: &[Peer], ours: &[Row]) -> String {
    let mut text = format!("{:<18} {:<24} {:>5} {:>7} {:>9}\n", "case", "tool", "rank", "CPU/req", "longest");
    let place = |rank: Option<usize>| rank.map_or("-".to_owned(), |rank| rank.to_string());
    let mut last = None;
    for Peer { tool, case, outcome } in peers {
        if last != Some(case.name) {
            for row in ours.iter().filter(|row| row.case == *case) {
                let Ok(found) = &row.outcome else { continue };
                let tool = format!("unshed, {} s", row.seconds);
                let rank = place(found.judged.rank);
                let _ = writeln!(
                    text,
                    "{:<18} {tool:<24} {rank:>5} {:>7.3} {:>9.1}",
                    case.name, found.slowdown, found.longest_ms
                );
            }
            last = Some(case.name);
        }
        match outcome {
            Ok(it) => {
                let rank = place(it.rank);
                let _ = writeln!(
                    text,
                    "{:<18} {tool:<24} {rank:>5} {:>7.3} {:>9.1}",
                    case.name, it.slowdown, it.longest_ms
                );
            }
            Err(reason) => {
                let _ = writeln!(text, "{:<18} {tool:<24} not measured: {reason}", case.name);
            }
        }
    }
    text + "rank: place of the true line in the tool's own report; CPU/req: with the tool over without; longest: request, ms\n"
}

/// For the file of results.
pub(crate) fn json(peers: &[Peer]) -> Value {
    let row = |Peer { tool, case, outcome }: &Peer| match outcome {
        Ok(it) => {
            json!({"tool": tool, "case": case.name, "rank": it.rank, "rows": it.rows, "cpu_per_request_ratio": it.slowdown,
            "longest_request_ms": it.longest_ms})
        }
        Err(reason) => json!({"tool": tool, "case": case.name, "not_measured": reason}),
    };
    peers.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::accuracy::cases;
    use crate::bench::accuracy::service::Place;

    #[test]
    fn a_rank_is_the_place_of_the_first_true_row() {
        let lines = vec![Place { file: "/a.py".to_owned(), line: 7 }];
        let truth = Truth { lines, beside: Vec::new(), c_function: None, item_bytes: 1.0, item_blocks: 1.0 };
        let stack =
            |line: u64| Stack { frames: vec![json!({"function": "f", "file": "/a.py", "line": line})] };
        assert_eq!(rank(&[stack(6), stack(7), stack(7)], &truth), Some(2));
        assert_eq!(rank(&[stack(6)], &truth), None);
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let case = cases::named("c_mem").expect("a case");
        let good = Beside { rank: Some(4), rows: 9, slowdown: 1.5, longest_ms: 33.0 };
        let peers = [
            Peer { tool: "one", case, outcome: Ok(good) },
            Peer { tool: "other", case, outcome: Err("it is not here".to_owned()) },
        ];
        let text = table(&peers, &[]);
        assert!(text.contains("    4   1.500      33.0"), "{text}");
        assert!(text.contains("not measured: it is not here"), "{text}");
        assert_eq!(json(&peers)[0]["rank"], 4);
    }
}
