//! `memray attach`: gdb has the target import memray, which then hooks its allocators. The target must be able to import it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{BASE, Beside, Case, Stack, WARM, World, rank, venv};
use crate::bench::accuracy::service::{Service, Way};
use crate::run;

/// Prints what was never freed; by a Python that has memray.
const READER: &str = "tests/programs/read_memray.py";
/// It takes this long beyond its duration, so that the figures are taken while it tracks.
const MARGIN: Duration = Duration::from_secs(2);

/// Attaches with the tracking of CPython's own allocators, without which it sees no object; with C frames where the leak is in C.
pub(crate) fn attempt(world: &World, case: Case, seconds: f64) -> Result<Beside> {
    let python = venv::python("memray")?;
    let file = run::target_dir().join("bench").join(format!("memray-{}.bin", std::process::id()));
    let mut service = Service::start(world, case, &[Way::Packages(venv::packages("memray")?)])?;
    let base = service.base(WARM, BASE)?;
    let duration = Duration::from_secs_f64(seconds);
    let mut attach = Command::new(&python);
    attach.args(["-m", "memray", "attach", "--trace-python-allocators", "-f", "-o"]).arg(&file);
    if case.name.starts_with("c_") {
        attach.arg("--native");
    }
    attach.args(["--duration", &(duration + MARGIN).as_secs().to_string(), &service.pid().to_string()]);
    run::output_of(attach.stdin(Stdio::null()))?;
    // Attaching stops the target; that belongs to the price.
    let attached = service.mark()?;
    std::thread::sleep(duration);
    let ended = service.mark()?;
    std::thread::sleep(MARGIN + MARGIN);
    let truth = service.truth()?;
    drop(service);
    let stacks = read(&python, &file)?;
    std::fs::remove_file(&file)?;
    Ok(Beside {
        rank: rank(&stacks, &truth),
        rows: stacks.len(),
        slowdown: ended.cpu_per_request(&attached) / base,
        longest_ms: attached.longest_ms.max(ended.longest_ms),
    })
}

fn read(python: &Path, file: &Path) -> Result<Vec<Stack>> {
    let said = run::output_of(Command::new(python).arg(run::root().join(READER)).arg(file))?;
    let rows: Vec<Value> = serde_json::from_str(&said).context("memray's rows are no JSON")?;
    Ok(stacks(&rows))
}

fn stacks(rows: &[Value]) -> Vec<Stack> {
    let frames = |row: &Value| row["frames"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| Stack { frames: frames(row) }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_keep_their_order() {
        let rows = [json!({"bytes": 9, "frames": [{"line": 3}]}), json!({"bytes": 1})];
        let stacks = stacks(&rows);
        assert_eq!((stacks[0].frames.len(), stacks[1].frames.len()), (1, 0));
    }
}
