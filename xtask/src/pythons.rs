//! `pythons`: the interpreters that the tests trace and this machine's own packages do not have, fetched or built once and kept outside
//! the tree, and a list of all.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, say};
use crate::{no_arguments, python};

mod chroot;
mod foreign;
mod free_threaded;
mod packages;

/// The versions that are unpacked from Debian's packages, each into a folder that one can chroot into.
const UNPACKED: [&str; 3] = ["3.13", "3.14", "3.15"];
/// The library that a C program of the tests embeds (Debian's `libpython3.11`, which `setup` installs).
const EMBEDDED: &str = "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0";
/// Asks an interpreter for its version.
const PROBE: &str = "import platform; print(platform.python_version())";

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("pythons", args)?;
    prepare()?;
    for (from, command) in all()? {
        let mut asked = Command::new(&command[0]);
        let version = run::output_of(asked.args(&command[1..]).args(["-I", "-c", PROBE]))?;
        println!("{:8} {from:14} {}", version.trim(), command.join(" "));
    }
    println!("{:8} {:14} {EMBEDDED}", "3.11", "embedded");
    Ok(())
}

/// Fetches and builds what is not there yet, and sees that it runs.
pub(crate) fn prepare() -> Result<()> {
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for version in UNPACKED {
        chroot::prepare(&folder, version)?;
    }
    foreign::prepare(&folder)?;
    free_threaded::prepare(&folder)?;
    packages::prepare(&folder)
}

/// Where they are kept: `$UNSHED_PYTHONS`, or `~/.cache/unshed/pythons`; the tests look there, too.
fn folder() -> Result<PathBuf> {
    let told = std::env::var_os("UNSHED_PYTHONS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/unshed/pythons"));
    told.or_else(home).context("neither UNSHED_PYTHONS nor HOME is set")
}

/// Where each interpreter is from, and how it is started.
fn all() -> Result<Vec<(&'static str, Vec<String>)>> {
    let folder = folder()?;
    let text = |path: &Path| path.display().to_string();
    let mut found: Vec<_> = python::of_pyenv().iter().map(|path| ("pyenv", vec![text(path)])).collect();
    let own = Path::new("/usr/bin/python3.11");
    found.extend(own.exists().then(|| ("Debian", vec![text(own)])));
    for version in UNPACKED {
        found.push(("Debian, chroot", chroot::command(&folder, version)));
    }
    found.push(("free-threaded", vec![text(&free_threaded::executable(&folder))]));
    Ok(found)
}

/// Makes a folder in one step: what has the name is whole, however often this was interrupted.
fn whole(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let mut unfinished = folder.as_os_str().to_owned();
    unfinished.push(format!(".part-{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    std::fs::create_dir_all(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
    let made = make(&unfinished);
    if made.is_err() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    made?;
    std::fs::rename(&unfinished, folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Runs an interpreter and says which it is.
fn check(what: &str, command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("a command has a program")?;
    let answer =
        run::output_of(Command::new(program).args(args).args(["-I", "-c", PROBE])).with_context(|| {
            format!("{what} is there and does not run; remove it and run `cargo xtask pythons` again")
        })?;
    let version = answer.trim();
    if !what.contains(version.rsplit_once('.').map_or(version, |(minor, _)| minor)) {
        bail!("{what} is CPython {version}");
    }
    say(format!("CPython {version} ({what})"));
    Ok(())
}
