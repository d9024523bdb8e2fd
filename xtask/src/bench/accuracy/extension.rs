//! Builds the C extension that leaks, against the headers of an interpreter.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::python::Python;
use crate::run;

const SOURCE: &str = "tests/programs/ext/leaks.c";
const MODULE: &str = "leaks.so";
/// Prints where an interpreter's headers are.
const PROBE: &str = "import sysconfig; print(sysconfig.get_paths()['include'])";

/// Compiles it into a folder, which is returned; an interpreter that is started with it on its path can import it.
pub(crate) fn build(python: &Python, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let headers = run::output_of(Command::new(&python.path).args(["-I", "-c", PROBE]))?;
    let headers = PathBuf::from(headers.trim());
    if !headers.join("Python.h").exists() {
        bail!("there is no {}/Python.h: install python3.11-dev", headers.display());
    }
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-g", "-shared", "-fPIC", "-pthread", "-I"]).arg(headers);
    compiler.arg(run::root().join(SOURCE)).arg("-o").arg(folder.join(MODULE));
    run::output_of(&mut compiler)?;
    Ok(folder.to_path_buf())
}
