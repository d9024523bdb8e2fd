//! `tidy`: the rules of the house, checked without building anything.
//!
//! Each rule is a pure function from a [`Source`] to findings; a violating snippet for every one is in `tests`.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{no_arguments, run, test};

mod doors;
mod paths;
mod readme;
mod rooms;
mod size;
mod source;
mod words;

use source::Source;

#[cfg(test)]
mod tests;

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) message: String,
    /// Shown, but not a failure.
    pub(crate) warning: bool,
}

impl Finding {
    fn error(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into(), warning: false }
    }
}

/// Where the sources are.
const CRATES: [&str; 5] = ["tracer-common", "tracer-ebpf", "tracer-user", "xtask", "tests"];

/// Every rule that looks at one Rust file.
const RULES: [fn(&Source) -> Vec<Finding>; 6] =
    [size::functions, words::module_docs, words::safety, words::banned, doors::doors, rooms::rooms];

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("tidy", args)?;
    let root = run::root();
    let mut findings = Vec::new();
    let files = files(&root)?;
    for file in &files {
        let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        findings.extend(size::file(file, &text));
        if file.ends_with(".rs") {
            let source = Source::new(file, &text);
            findings.extend(RULES.iter().flat_map(|rule| rule(&source)));
        }
    }
    findings.extend(readme_findings(&root)?);
    findings.sort();
    report(&findings, files.len())
}

fn report(findings: &[Finding], files: usize) -> Result<()> {
    for Finding { file, line, message, warning } in findings {
        let kind = if *warning { "warning" } else { "error" };
        eprintln!("{kind}: {file}:{line}: {message}");
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    if errors > 0 {
        bail!("tidy: {errors} in {files} files");
    }
    run::say(format!("tidy: {files} files in order"));
    Ok(())
}

fn readme_findings(root: &Path) -> Result<Vec<Finding>> {
    let Ok(readme) = std::fs::read_to_string(root.join("README.md")) else {
        let missing = Finding::error("README.md", 1, "there is no README.md with the table of losses");
        return Ok(if test::in_ci() { vec![missing] } else { Vec::new() });
    };
    let losses = std::fs::read_to_string(root.join("tracer-common/src/loss.rs"))?;
    let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
    Ok([readme::losses(&readme, &losses), readme::dependencies(&readme, &manifest)].concat())
}

/// The project's own source files, by their paths from the top.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders: Vec<String> = CRATES.map(str::to_owned).to_vec();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(root.join(&folder)).with_context(|| format!("cannot read {folder}"))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{folder}/{name}");
            let hidden = name.starts_with('.') || name == "target" || name == "__pycache__";
            if entry.file_type()?.is_dir() && !hidden {
                folders.push(path);
            } else if [".rs", ".py", ".c"].iter().any(|end| name.ends_with(end)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
