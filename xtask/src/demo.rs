//! `demo`: from nothing to a leak report and a flame graph, in one command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::python::{self, Python};
use crate::run::{self, Guarded, say};
use crate::{no_arguments, product, setup};

const SERVICE: &str = "tests/programs/demo_service.py";
const SECONDS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("demo", args)?;
    product::kernel_lets_us()?;
    setup::build_tools()?;
    let unshed = product::build(true)?;
    let python = python::traceable()?;
    let picture = fresh_picture()?;

    let service = start(&python)?;
    let pid = service.0.id();
    say(format!("{SERVICE} runs as process {pid}; tracing it for {SECONDS} s …"));
    let seconds = SECONDS.to_string();
    let mut record = Command::new(&unshed);
    // Exact, because five seconds must be enough here: samples need longer to tell a leak from a warm cache.
    record.args(["record", "--exact", "--max-slowdown", "inf", "-p", &pid.to_string(), "-d", &seconds]);
    record.arg("-o").arg(&picture);
    let status = record.status().with_context(|| format!("cannot start {}", unshed.display()))?;
    drop(service);
    if !status.success() {
        bail!("unshed ended with {status}; `{} doctor` tells what this machine lacks", unshed.display());
    }
    if !picture.is_file() {
        bail!("unshed wrote no flame graph to {}", picture.display());
    }
    say("the flame graph of what was still alive; open it in a browser:");
    println!("{}", picture.display());
    Ok(())
}

/// Where the flame graph goes. unshed overwrites nothing; the last demo's picture is ours to remove.
fn fresh_picture() -> Result<PathBuf> {
    let folder = run::target_dir().join("unshed-demo");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let picture = folder.join("flame.svg");
    if picture.exists() {
        std::fs::remove_file(&picture).with_context(|| format!("cannot remove {}", picture.display()))?;
    }
    Ok(picture)
}

/// Starts the leaking service and waits until it serves.
fn start(python: &Python) -> Result<Guarded> {
    let script: &Path = &run::root().join(SERVICE);
    let mut command = Command::new(&python.path);
    command.arg("-u").arg(script).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = run::dying_with_us(&mut command).spawn();
    let mut service = Guarded(
        child.with_context(|| format!("cannot start {} with {}", script.display(), python.path.display()))?,
    );
    let Some(stdout) = service.0.stdout.take() else { bail!("{SERVICE} has no stdout") };
    let lines = run::lines_of(stdout);
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if line.starts_with("READY") {
            return Ok(service);
        }
    }
    bail!("{SERVICE} did not print READY within {} s", PATIENCE.as_secs())
}
