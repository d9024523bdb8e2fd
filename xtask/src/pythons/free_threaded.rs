//! A CPython without the GIL. Debian has no package of one, but the source: it is built from that.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{check, chroot, whole};
use crate::run;

/// The version that is built.
const VERSION: &str = "3.13";
/// The releases whose source is tried, the newest first: a mirror may have the lists of one and not its sources.
const SUITES: [&str; 2] = ["sid", "trixie"];
/// Without pip and its own tests; all else is as `configure` has it, so that functions keep their names and are called.
const OPTIONS: [&str; 4] = ["-q", "--disable-gil", "--without-ensurepip", "--disable-test-modules"];

/// Builds it, if it is not there yet.
pub(super) fn prepare(folder: &Path) -> Result<()> {
    let home = home(folder);
    whole(&home, |unfinished| build(folder, unfinished, &home))?;
    let what = format!("free-threaded {VERSION} in {}", home.display());
    check(&what, &[executable(folder).display().to_string()])
}

/// Where it is.
pub(super) fn executable(folder: &Path) -> PathBuf {
    home(folder).join(format!("bin/python{VERSION}t"))
}

fn home(folder: &Path) -> PathBuf {
    folder.join(format!("{VERSION}t"))
}

/// Builds in `unfinished`, for a life at `home`.
fn build(folder: &Path, unfinished: &Path, home: &Path) -> Result<()> {
    let sources = unfinished.join("source");
    fetch(folder, &sources)?;
    let tree = sources.join("tree");
    let mut configure = Command::new(tree.join("configure"));
    configure.current_dir(&tree).args(OPTIONS).arg(format!("--prefix={}", home.display()));
    run::quietly("configuring a free-threaded CPython", &mut configure)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut make = Command::new("make");
    make.current_dir(&tree).args(["-s", &format!("-j{jobs}")]);
    run::quietly("building a free-threaded CPython (minutes)", &mut make)?;
    // It belongs at `home`, and is moved there as a whole.
    let stage = sources.join("stage");
    let mut install = Command::new("make");
    install.current_dir(&tree).args(["-s", "altinstall", &format!("DESTDIR={}", stage.display())]);
    run::quietly("installing a free-threaded CPython", &mut install)?;
    let made = stage.join(home.strip_prefix("/").unwrap_or(home));
    for entry in std::fs::read_dir(&made).with_context(|| format!("nothing in {}", made.display()))? {
        let entry = entry?;
        std::fs::rename(entry.path(), unfinished.join(entry.file_name()))?;
    }
    Ok(std::fs::remove_dir_all(sources)?)
}

/// Debian's source with its patches, in `sources/tree`.
fn fetch(folder: &Path, sources: &Path) -> Result<()> {
    std::fs::create_dir_all(sources).with_context(|| format!("cannot make {}", sources.display()))?;
    let apt = chroot::apt(folder);
    let of = |suite: &&str| -> Result<()> {
        let mut source = apt.command("apt-get")?;
        source.current_dir(sources).args(["source", "--download-only", &format!("python{VERSION}/{suite}")]);
        run::quietly(&format!("fetching the source of CPython {VERSION} of {suite}"), &mut source)
    };
    if !SUITES.iter().any(|suite| of(suite).is_ok()) {
        bail!("no release has the source of CPython {VERSION}; what apt said is above");
    }
    let description = std::fs::read_dir(sources)?.flatten().map(|entry| entry.path());
    let description = description.filter(|path| path.extension().is_some_and(|suffix| suffix == "dsc")).max();
    let description = description.context("apt fetched a source without a description")?;
    let mut unpack = Command::new("dpkg-source");
    unpack.current_dir(sources).arg("-x").arg(description).arg("tree");
    run::quietly("unpacking it", &mut unpack)
}
