//! Where figures were measured: without it a table of them is worth little.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run;

/// What the machine is and what is built on it, as it stands in each file of results.
pub(crate) fn facts() -> Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let git = |args: &[&str]| run::output_of(Command::new("git").current_dir(run::root()).args(args));
    json!({
        "cpu": cpu,
        "cores": cores,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_1m": load(&read("/proc/loadavg")),
        "commit": git(&["rev-parse", "--short=12", "HEAD"]).map(|id| id.trim().to_owned()).ok(),
        "changed_since": git(&["status", "--porcelain"]).map(|changes| !changes.trim().is_empty()).ok(),
        "unix_seconds": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
    })
}

/// The same in a line.
pub(crate) fn line(facts: &Value) -> String {
    let text = |name: &str| facts[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{}, {} cores, Linux {}, load {}, commit {}{}",
        text("cpu"),
        facts["cores"],
        text("kernel"),
        facts["load_1m"],
        text("commit"),
        if facts["changed_since"] == json!(true) { " and changes" } else { "" },
    )
}

/// Writes results beside those of other times, by a name that does not collide, and returns where.
pub(crate) fn keep(verb: &str, results: &Value) -> Result<PathBuf> {
    let folder = run::target_dir().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = free_name(&folder, verb);
    let text = serde_json::to_string_pretty(results).context("results that are no JSON")?;
    std::fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn free_name(folder: &Path, verb: &str) -> PathBuf {
    let numbered = |number: u32| folder.join(format!("{verb}-{number:03}.json"));
    let taken = (1..10_000).take_while(|number| numbered(*number).exists()).last();
    numbered(taken.unwrap_or(0) + 1)
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load(loadavg: &str) -> Option<f64> {
    loadavg.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_load_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(field(cpuinfo, "model nick"), None);
        assert_eq!(load("8.80 5.20 2.75 3/150 42\n"), Some(8.8));
    }

    #[test]
    fn a_line_names_the_commit() {
        let facts = json!({"cpu": "X", "cores": 2, "kernel": "6.18", "load_1m": 0.5, "commit": "abc", "changed_since": true});
        assert_eq!(line(&facts), "X, 2 cores, Linux 6.18, load 0.5, commit abc and changes");
    }
}
