//! Packages from the package index that the tests load into what they trace.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::whole;
use crate::{python, run};

/// A memory profiler that hooks allocators, C's or CPython's.
const PACKAGE: &str = "memray";

/// Installs it for each interpreter of pyenv that unshed knows, each in a folder by its version: `packages/memray-3.11`.
pub(super) fn prepare(base: &Path) -> Result<()> {
    let known = python::of_pyenv().into_iter().filter_map(|path| {
        let version = path.file_name()?.to_str()?.strip_prefix("python")?.to_owned();
        let minor: u8 = version.strip_prefix("3.")?.parse().ok()?;
        (minor >= 8).then_some((path, version))
    });
    for (python, version) in known {
        whole(&base.join("packages").join(format!("{PACKAGE}-{version}")), |target| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(target).arg(PACKAGE);
            run::quietly(&format!("pip install {PACKAGE} for CPython {version}"), &mut pip)
        })?;
    }
    Ok(())
}
