//! Which interpreters this machine has. pyenv's are preferred: shared, with symbols, not inlined into each other.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Set to an interpreter's path, it is the only one considered.
const OVERRIDE: &str = "UNSHED_PYTHON";

/// Asks an interpreter whether its allocator is a library's (every call goes through the hooks), built without PGO.
const PROBE: &str = "import sys, sysconfig
shared = any('libpython' in line for line in open('/proc/self/maps'))
optimised = '--enable-optimizations' in (sysconfig.get_config_var('CONFIG_ARGS') or '')
print('%d.%d.%d' % sys.version_info[:3], int(shared and not optimised))";

/// One interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// Its allocator's hooks see every call, as far as its build tells.
    pub(crate) complete: bool,
}

/// Finds the 3.11 interpreters and says which.
pub(crate) fn found() -> Vec<Python> {
    let pythons: Vec<Python> = candidates().iter().filter_map(|path| ask(path)).collect();
    for python in &pythons {
        let hooks = if python.complete { "complete" } else { "incomplete" };
        run::say(format!("CPython {} at {} (hooks {hooks})", python.version, python.path.display()));
    }
    pythons
}

/// The first interpreter with complete hooks.
pub(crate) fn traceable() -> Result<Python> {
    match found().into_iter().find(|python| python.complete) {
        Some(python) => Ok(python),
        None => bail!(
            "no CPython 3.11 with complete hooks was found; \
             `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11`, or name one in {OVERRIDE}"
        ),
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return vec![path.into()];
    }
    let mut paths: Vec<PathBuf> = pyenv_versions().unwrap_or_default();
    paths.sort_by(|a, b| b.cmp(a));
    paths.extend(["/usr/local/bin/python3.11", "/usr/bin/python3.11"].map(PathBuf::from));
    paths.retain(|path| path.is_file());
    paths
}

fn pyenv_versions() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")))?;
    let versions = std::fs::read_dir(root.join("versions")).ok()?;
    let of_3_11 = |name: &str| name == "3.11" || name.starts_with("3.11.");
    let folders = versions.flatten().filter(|entry| entry.file_name().to_str().is_some_and(of_3_11));
    Some(folders.map(|entry| entry.path().join("bin/python3.11")).collect())
}

fn ask(path: &Path) -> Option<Python> {
    let answer = run::output_of(Command::new(path).args(["-I", "-c", PROBE])).ok()?;
    let (version, complete) = answer.trim().split_once(' ')?;
    Some(Python { path: path.to_path_buf(), version: version.to_owned(), complete: complete == "1" })
}
