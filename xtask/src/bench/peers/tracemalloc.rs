//! tracemalloc with 25 frames: the program has to be started with it, and compares two snapshots of itself.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{BASE, Beside, Case, WARM, World};
use crate::bench::accuracy::service::{Service, Way};

/// Two services: one as it is, one under tracemalloc.
pub(crate) fn attempt(world: &World, case: Case, seconds: f64) -> Result<Beside> {
    let base = Service::start(world, case, &[])?.base(WARM, BASE)?;
    let mut service = Service::start(world, case, &[Way::Option("-Xtracemalloc=25")])?;
    std::thread::sleep(WARM);
    service.ask("snapshot")?;
    let begun = service.mark()?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let ended = service.mark()?;
    let answer = service.ask("compare")?;
    let rows = answer["rows"].as_array().context("tracemalloc compared nothing")?;
    Ok(Beside {
        rank: first_true(rows),
        rows: rows.len(),
        slowdown: ended.cpu_per_request(&begun) / base,
        longest_ms: ended.longest_ms,
    })
}

/// The service itself has told the true rows from the others.
fn first_true(rows: &[Value]) -> Option<usize> {
    Some(rows.iter().position(|row| row["true"] == true)? + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_true_row_counts() {
        let rows = [json!({"true": false}), json!({"true": true}), json!({"true": true})];
        assert_eq!(first_true(&rows), Some(2));
        assert_eq!(first_true(&rows[..1]), None);
    }
}
