//! CPythons of Debian's newer releases: each package with all that it needs, down to the C library, unpacked into a folder of its own. Run by
//! chroot they are what a container's process is to an observer: other files, under the same names as this machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{check, whole};
use crate::apt::{Apt, KEYRING, MIRROR};
use crate::run;

/// The releases that have them: the newest version of any is taken.
const SUITES: [&str; 3] = ["trixie", "sid", "experimental"];
/// Where `/usr` is one with `/` (Debian since 12), packages have these links made before them.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Unpacks a version, if it is not there yet.
pub(super) fn prepare(folder: &Path, version: &str) -> Result<()> {
    if !run::is_root() {
        bail!("Debian's CPython {version} is run by chroot, which needs root");
    }
    let root = root(folder, version);
    whole(&root, |unfinished| unpack(&apt(folder), version, unfinished))?;
    check(&format!("Debian's {version} in {}", root.display()), &command(folder, version))
}

/// How it is started.
pub(super) fn command(folder: &Path, version: &str) -> Vec<String> {
    let root = root(folder, version).display().to_string();
    vec!["chroot".to_owned(), root, format!("/usr/bin/python{version}")]
}

/// apt for Debian's newer releases, with their sources.
pub(super) fn apt(folder: &Path) -> Apt {
    let line = |kind: &str, suite: &str| {
        format!("{kind} [arch=amd64 signed-by={KEYRING}] {MIRROR}/debian {suite} main\n")
    };
    let lines = SUITES.iter().map(|suite| line("deb", suite) + &line("deb-src", suite));
    Apt::new(folder.join("apt"), lines.collect())
}

fn root(folder: &Path, version: &str) -> PathBuf {
    folder.join(version)
}

fn unpack(apt: &Apt, version: &str, root: &Path) -> Result<()> {
    let install = |how: &str| -> Result<Command> {
        let mut install = apt.command("apt-get")?;
        install.args(["install", "-y", "--no-install-recommends", how]);
        install.args([format!("python{version}"), format!("libpython{version}")]);
        Ok(install)
    };
    run::quietly(&format!("fetching Debian's CPython {version}"), &mut install("--download-only")?)?;
    // What it would fetch if nothing were there, which is what the two packages need.
    let mut plan = install("--print-uris")?;
    plan.args(["-o", "Dir::Cache::archives=none/"]);
    let plan = run::output_of(&mut plan)?;
    for name in MERGED {
        std::fs::create_dir_all(root.join("usr").join(name))?;
        std::os::unix::fs::symlink(Path::new("usr").join(name), root.join(name))?;
    }
    for package in plan.lines().filter_map(package_of) {
        let package = apt.archives().join(package);
        run::output_of(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))
            .with_context(|| format!("cannot unpack {}", package.display()))?;
    }
    // Its headers alone, and not the C library's that they would bring along: this machine's compiler has its own.
    let headers = root.join("tmp");
    std::fs::create_dir_all(&headers)?;
    let mut download = apt.command("apt-get")?;
    download.current_dir(&headers).args(["download", &format!("libpython{version}-dev")]);
    run::quietly(&format!("fetching the headers of CPython {version}"), &mut download)?;
    for package in std::fs::read_dir(&headers)?.flatten().map(|entry| entry.path()) {
        run::output_of(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
        std::fs::remove_file(package)?;
    }
    for name in ["dev", "proc"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    let null = root.join("dev/null");
    run::output_of(Command::new("mknod").args(["-m", "666"]).arg(null).args(["c", "1", "3"]))?;
    Ok(())
}

/// The file's name in a line such as `'http://…/zlib1g_1.3_amd64.deb' zlib1g_1%3a1.3_amd64.deb 9000 SHA256:…`.
fn package_of(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    words.next().filter(|uri| uri.starts_with('\''))?;
    words.next().filter(|name| name.ends_with(".deb") && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_among_what_apt_says() {
        let line = "'http://deb.debian.org/z/zlib1g_1.3_amd64.deb' zlib1g_1%3a1.3_amd64.deb 9000 SHA256:00";
        assert_eq!(package_of(line), Some("zlib1g_1%3a1.3_amd64.deb"));
        assert_eq!(package_of("Reading package lists..."), None);
        assert_eq!(package_of("'http://x' ../x.deb 1"), None);
    }
}
