//! What the small system under an old kernel holds: this verb as its first process, the tool, the end-to-end tests, and the
//! interpreters that those trace, all at the paths that they have here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cpio::Archive;
use super::guest;
use crate::python::Python;
use crate::run;

/// Says where an interpreter keeps its library.
const STDLIB: &str = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
/// The parts of it that no program of ours imports, some of them large.
const UNWANTED: [&str; 9] = [
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "lib2to3",
    "tkinter",
    "ensurepip",
    "config-3.11-x86_64-linux-gnu",
];

/// What is to run there.
#[derive(Debug)]
pub(crate) struct World<'a> {
    /// The tool.
    pub(crate) unshed: &'a Path,
    /// The program that has the end-to-end tests, if they are to run.
    pub(crate) tests: Option<&'a Path>,
    /// Which of them; none: those that fit the kernel.
    pub(crate) names: &'a [String],
    /// What they trace.
    pub(crate) pythons: &'a [Python],
}

impl World<'_> {
    /// Packs it.
    pub(crate) fn archive(&self) -> Result<Archive> {
        let mut archive = Archive::default();
        for folder in guest::MOUNTS.iter().map(|(_, folder)| *folder).chain(["/tmp"]) {
            archive.folder(folder);
        }
        let ourselves = std::env::current_exe().context("our own executable")?;
        archive.file_as(&ourselves, Path::new(guest::INIT));
        archive.text(guest::PLAN, &self.plan().to_string());
        let mut programs = vec![ourselves, self.unshed.to_path_buf()];
        if let Some(tests) = self.tests {
            programs.push(tests.to_path_buf());
            archive.tree(&run::root().join("tests/programs"), &["__pycache__"])?;
            if extensions().is_dir() {
                archive.tree(&extensions(), &[])?;
                programs.extend(shared_objects(&extensions()));
            }
        }
        for python in self.pythons {
            let stdlib = run::output_of(Command::new(&python.path).args(["-I", "-c", STDLIB]))?;
            let stdlib = Path::new(stdlib.trim());
            archive.tree(stdlib, &UNWANTED)?;
            programs.push(python.path.clone());
            programs.extend(shared_objects(&stdlib.join("lib-dynload")));
        }
        let mut libraries = BTreeSet::new();
        for program in &programs {
            libraries.extend(libraries_of(program)?);
        }
        for file in programs.iter().skip(1).chain(&libraries) {
            archive.file(file);
        }
        Ok(archive)
    }

    /// What the first process reads to know what to do.
    fn plan(&self) -> Value {
        let home = std::env::var("HOME").unwrap_or_default();
        json!({
            "unshed": self.unshed,
            "tests": self.tests,
            "names": self.names,
            "environment": {
                "HOME": home,
                "PATH": "/usr/bin:/bin",
                "TMPDIR": std::env::temp_dir(),
                "UNSHED_BIN": self.unshed,
            },
        })
    }
}

/// Where the tests keep the extensions that they have compiled (tests/src/harness/extension.rs); there is no compiler in there.
fn extensions() -> PathBuf {
    std::env::temp_dir().join("unshed-tests-extensions")
}

fn shared_objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(shared_objects(&path));
        } else if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    found
}

/// The libraries that the dynamic loader would map for a program, and the loader itself.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let said = run::output_of(Command::new("ldd").arg(program))
        .with_context(|| format!("what {} needs", program.display()))?;
    if let Some(absent) = said.lines().find(|line| line.contains("not found")) {
        bail!("{} does not run here: {}", program.display(), absent.trim());
    }
    Ok(said.lines().filter_map(library).collect())
}

/// The path in a line of `ldd`: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.rsplit("=> ").next()?.trim().split(" (").next()?;
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_read() {
        let of = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(of("\tlinux-vdso.so.1 (0x00007f64bb303000)"), None);
        assert_eq!(of("\tstatically linked"), None);
        assert_eq!(
            of("\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f64bb1f1000)").as_deref(),
            Some("/lib/x86_64-linux-gnu/libm.so.6")
        );
        assert_eq!(
            of("\t/lib64/ld-linux-x86-64.so.2 (0x00007f64bb305000)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
    }
}
