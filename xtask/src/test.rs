//! `test`: installs what is missing, builds, and runs every test of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run::{self, say, works};
use crate::{product, python, pythons, setup};

/// Runs the verb; the arguments go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let unshed = prepare()?;
    if python::found().is_empty() {
        say("no CPython 3.11 was found: the tests that trace one will fail");
    }
    if works("cargo", &["nextest", "--version"]) {
        // The documentation's examples first: the last lines are to be the runner's summary. Arguments that choose
        // tests choose none of these.
        if args.is_empty() {
            let mut doc = runner(&unshed);
            run::loudly("testing the documentation", doc.args(["test", "--quiet", "--workspace", "--doc"]))?;
        }
        let mut nextest = runner(&unshed);
        run::handing_over("testing", nextest.args(["nextest", "run", "--workspace"]).args(args))
    } else {
        say("cargo-nextest is not installed: plain `cargo test`, one thread, no time limits");
        let mut test = runner(&unshed);
        test.args(["test", "--workspace", "--no-fail-fast"]).args(args);
        if !args.iter().any(|arg| arg.starts_with("--test-threads")) {
            // The end-to-end tests load BPF programs and count exactly; nextest has a group for them.
            test.env("RUST_TEST_THREADS", "1");
        }
        run::handing_over("testing", &mut test)
    }
}

/// Runs some end-to-end tests that leave what they have found in a folder, for a table.
pub(crate) fn with_rows(folder: &Path, args: &[String]) -> Result<()> {
    let unshed = prepare()?;
    let mut nextest = runner(&unshed);
    nextest.env("UNSHED_MATRIX", folder).args([
        "nextest",
        "run",
        "--package",
        "unshed-tests",
        "--test",
        "e2e",
    ]);
    run::handing_over("testing", nextest.args(args))
}

/// Everything that tests need, and the binary under test.
fn prepare() -> Result<PathBuf> {
    product::kernel_lets_us()?;
    setup::build_tools()?;
    setup::test_tools()?;
    pythons::prepare()?;
    product::build(false)
}

/// cargo with what the tests want to know: the binary under test and, in CI, that a skip is a failure.
fn runner(unshed: &Path) -> Command {
    let mut cargo = run::cargo();
    cargo.current_dir(run::root()).env("UNSHED_BIN", unshed);
    if in_ci() {
        cargo.env("UNSHED_CI", "1");
    }
    cargo
}

/// Whether this is a run that must not skip anything.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
