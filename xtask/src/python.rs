//! Which interpreters this machine has. pyenv's come first: they have symbols, so that C functions have names.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{run, setup};

/// Set to an interpreter's path, it is the only one considered.
const OVERRIDE: &str = "UNSHED_PYTHON";

/// Asks an interpreter who it is.
const PROBE: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3])";

/// One interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

/// Finds the 3.11 interpreters and says which.
pub(crate) fn found() -> Vec<Python> {
    let pythons: Vec<Python> = candidates().iter().filter_map(|path| ask(path)).collect();
    for python in &pythons {
        run::say(format!("CPython {} at {}", python.version, python.path.display()));
    }
    pythons
}

/// The first interpreter; installed, if there is none and it can be.
pub(crate) fn traceable() -> Result<Python> {
    if let Some(python) = found().into_iter().next() {
        return Ok(python);
    }
    setup::interpreter()?;
    match found().into_iter().next() {
        Some(python) => Ok(python),
        None => bail!("no CPython 3.11 was found; install one, or name it in {OVERRIDE}"),
    }
}

/// The interpreter at a path.
pub(crate) fn named(path: &Path) -> Result<Python> {
    match ask(path) {
        Some(python) => Ok(python),
        None => bail!("{} is no CPython 3.11", path.display()),
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return vec![path.into()];
    }
    let mut paths = pyenv_versions();
    paths.sort_by(|a, b| b.cmp(a));
    paths.extend(["/usr/local/bin/python3.11", "/usr/bin/python3.11"].map(PathBuf::from));
    paths.retain(|path| path.is_file());
    paths
}

fn pyenv_versions() -> Vec<PathBuf> {
    of_pyenv().into_iter().filter(|path| path.ends_with("bin/python3.11")).collect()
}

/// pyenv's interpreters, each by its versioned name, in the order of their versions.
pub(crate) fn of_pyenv() -> Vec<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let Some(root) = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home) else {
        return Vec::new();
    };
    let folders = std::fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    let mut found: Vec<(u8, PathBuf)> = folders
        .filter_map(|folder| {
            let name = folder.file_name().into_string().ok()?;
            let minor = name.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
            Some((minor, folder.path().join(format!("bin/python3.{minor}"))))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn ask(path: &Path) -> Option<Python> {
    let answer = run::output_of(Command::new(path).args(["-I", "-c", PROBE])).ok()?;
    let version = answer.trim();
    let known = version.starts_with("3.11.");
    known.then(|| Python { path: path.to_path_buf(), version: version.to_owned() })
}
