//! Packages from the package index in a virtual environment under `target/`, made when the first of them is wanted.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{python, run};

/// The environment's own Python, after a package has been installed in it.
pub(crate) fn python(package: &str) -> Result<PathBuf> {
    let folder = run::target_dir().join("bench").join("peers-venv");
    let python = folder.join("bin/python");
    if !python.exists() {
        let base = python::traceable()?;
        let mut make = Command::new(&base.path);
        make.args(["-m", "venv"]).arg(&folder);
        run::quietly("making an environment for the peers", &mut make)?;
    }
    if run::output_of(Command::new(&python).args(["-c", &format!("import {package}")])).is_err() {
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", package]);
        run::quietly(&format!("pip install {package}"), &mut install)?;
    }
    Ok(python)
}

/// The folder of its packages, with that one in it.
pub(crate) fn packages(package: &str) -> Result<PathBuf> {
    let python = python(package)?;
    let said = run::output_of(
        Command::new(&python).args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]),
    );
    Ok(PathBuf::from(said.context("the environment says nothing of itself")?.trim()))
}
