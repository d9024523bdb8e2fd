//! CPythons of Debian's for aarch64. They do not run here: the planner reads their code, and the tests hold it to what it finds.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::whole;
use crate::apt::{Apt, KEYRING, MIRROR};
use crate::run::{self, say};

/// rustc's name for the processor, and Debian's.
const PROCESSOR: (&str, &str) = ("aarch64", "arm64");
/// The releases that have them, and which packages of each are read.
const PACKAGES: [(&str, &[&str]); 3] = [
    ("bookworm", &["python3.11-minimal", "libpython3.11"]),
    ("sid", &["python3.13-minimal", "libpython3.13", "python3.14-minimal"]),
    ("sid experimental", &["python3.15-minimal"]),
];

/// Unpacks them, if they are not there yet.
pub(super) fn prepare(folder: &Path) -> Result<()> {
    let (name, _) = PROCESSOR;
    let root = folder.join(name);
    whole(&root, |unfinished| unpack(&apt(folder), unfinished))?;
    for program in ["usr/bin/python3.11", "usr/bin/python3.15"] {
        if !root.join(program).is_file() {
            bail!("{} has no {program}; remove it and run `cargo xtask pythons` again", root.display());
        }
    }
    say(format!("CPythons for {name}, to be read ({})", root.display()));
    Ok(())
}

fn apt(folder: &Path) -> Apt {
    let (name, debian) = PROCESSOR;
    let suites = ["bookworm", "sid", "experimental"];
    let line =
        |suite: &str| format!("deb [arch={debian} signed-by={KEYRING}] {MIRROR}/debian {suite} main\n");
    Apt::new(folder.join(format!("apt-{name}")), suites.into_iter().map(line).collect()).of_processor(debian)
}

fn unpack(apt: &Apt, root: &Path) -> Result<()> {
    let fetched = root.join("fetched");
    std::fs::create_dir_all(&fetched)?;
    for (suites, packages) in PACKAGES {
        for package in packages {
            let from = |suite: &str| -> Result<()> {
                let mut download = apt.command("apt-get")?;
                download.current_dir(&fetched).args(["download", &format!("{package}/{suite}")]);
                run::quietly(&format!("fetching {package} of {suite} for {}", PROCESSOR.0), &mut download)
            };
            if !suites.split(' ').any(|suite| from(suite).is_ok()) {
                bail!("Debian has no {package} for {}; what apt said is above", PROCESSOR.0);
            }
        }
    }
    for package in std::fs::read_dir(&fetched)?.flatten().map(|entry| entry.path()) {
        run::output_of(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))
            .with_context(|| format!("cannot unpack {}", package.display()))?;
    }
    Ok(std::fs::remove_dir_all(fetched)?)
}
