//! Kernel headers for bcc, which compiles its tools against them at every start.
//!
//! A kernel without headers of its own (no package, no `CONFIG_IKHEADERS`) can borrow another's: memleak on one process uses
//! only uprobes and maps, and reads no structure of the kernel. Debian splits a version in two folders, bcc wants one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{self, say};

/// bcc takes its headers from the folder that this names.
pub(crate) const VARIABLE: &str = "BCC_KERNEL_SOURCE";
/// Where packages put headers.
const PACKAGED: &str = "/usr/src";
/// What to install where bcc finds none.
pub(crate) const HINT: &str =
    "`apt-get install linux-headers-cloud-amd64` (of any version), or set BCC_KERNEL_SOURCE";

/// Borrowed headers, merged into one folder; `None` when bcc finds its own, or when there is nothing to borrow.
pub(crate) fn found() -> Result<Option<PathBuf>> {
    let own = std::env::var_os(VARIABLE).is_some()
        || Path::new("/sys/kernel/kheaders.tar.xz").exists()
        || Path::new("/lib/modules").join(release()?).join("build").exists();
    if own {
        return Ok(None);
    }
    let Some((common, flavour)) = pair(&names(Path::new(PACKAGED))) else { return Ok(None) };
    let merged = run::target_dir().join("bench").join(&flavour);
    if !merged.exists() {
        say(format!("memleak: this kernel has no headers; it borrows {flavour}"));
        merge(&[&common, &flavour], &merged)?;
    }
    Ok(Some(merged))
}

fn release() -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel has no name")?;
    Ok(release.trim().to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The newest version's common folder and one of its flavours, by name.
fn pair(names: &[String]) -> Option<(String, String)> {
    let mut pairs: Vec<(String, String)> = names
        .iter()
        .filter_map(|common| {
            let version = common.strip_suffix("common").filter(|name| name.starts_with("linux-headers-"))?;
            let of_version = |name: &&String| name.starts_with(version) && name.ends_with("-amd64");
            Some((common.clone(), names.iter().find(of_version)?.clone()))
        })
        .collect();
    pairs.sort();
    pairs.pop()
}

/// Symbolic links to the files of all folders; the later one's win.
fn merge(folders: &[&String], into: &Path) -> Result<()> {
    // Under another name first: a half-made folder must not be taken for a whole one.
    let partial = into.with_extension("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for folder in folders {
        let from = Path::new(PACKAGED).join(folder).join(".");
        run::output_of(Command::new("cp").args(["-rsf"]).arg(from).arg(&partial))?;
    }
    std::fs::rename(&partial, into).with_context(|| format!("cannot make {}", into.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_a_pair_of_the_newest_version() {
        let names = [
            "python3.11",
            "linux-headers-6.1.0-53-common",
            "linux-headers-6.1.0-53-amd64",
            "linux-headers-6.1.0-56-common",
            "linux-headers-6.1.0-56-cloud-amd64",
            "linux-headers-6.9.0-1-common",
        ]
        .map(str::to_owned);
        let (common, flavour) = pair(&names).expect("there are two pairs");
        assert_eq!(common, "linux-headers-6.1.0-56-common");
        assert_eq!(flavour, "linux-headers-6.1.0-56-cloud-amd64");
        assert_eq!(pair(&names[..2]), None);
    }
}
