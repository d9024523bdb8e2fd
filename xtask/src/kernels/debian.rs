//! Kernels from Debian's archive: finds the newest package of a series, whatever release of Debian it is of, and keeps its image.
//!
//! apt does the work, with a configuration of its own in the cache: this machine's package sources and lists are not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, KEYRING, MIRROR};
use crate::run::{self, works};

/// The releases that have kernels, with the archive that each is in. Newer kernels for a release are in its backports.
const SUITES: [(&str, &str); 7] = [
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
];
/// The small kernels for virtual machines: what qemu's machine needs is built in.
const FLAVOUR: &str = "-cloud-amd64";
/// Since 7.1 the image is in a package of its own, on which `linux-image-…` depends.
const PREFIXES: [&str; 2] = ["linux-binary-", "linux-image-"];

/// Where images are kept.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/unshed-kernels`, or `~/.cache/unshed-kernels`.
    pub(crate) fn open() -> Result<Self> {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let folder = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("unshed-kernels");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image of a series such as `6.1`: the cached one, else the newest that Debian has.
    pub(crate) fn image(&self, series: &str) -> Result<PathBuf> {
        let kept = self.folder.join(series);
        if let Some(image) = image_in(&kept) {
            return Ok(image);
        }
        let fresh = self.folder.join(format!("{series}.part"));
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh)?;
        }
        std::fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
        let package = self.newest(series)?;
        let mut download = self.apt("apt-get")?;
        download.current_dir(&fresh).args(["download", &package]);
        run::quietly(&format!("fetching {package}"), &mut download)?;
        unpack(&fresh)?;
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        std::fs::rename(&fresh, &kept)?;
        image_in(&kept).with_context(|| format!("{package} has no vmlinuz"))
    }

    /// The name of the newest package that has an image of this series.
    fn newest(&self, series: &str) -> Result<String> {
        for prefix in PREFIXES {
            let start = format!("{prefix}{series}.");
            let names = run::output_of(self.apt("apt-cache")?.args(["pkgnames", &start]))?;
            let names: Vec<&str> = names.lines().filter(|name| name.ends_with(FLAVOUR)).collect();
            if names.is_empty() {
                continue;
            }
            let about =
                run::output_of(self.apt("apt-cache")?.args(["show", "--no-all-versions"]).args(names))?;
            return newest_of(&about, later).with_context(|| format!("apt-cache says nothing of {start}…"));
        }
        bail!(
            "Debian has no kernel of the series {series} now; give an image of one with --image (a vmlinuz, or a \
             package that has one)"
        )
    }

    /// apt with sources and lists of our own.
    fn apt(&self, program: &str) -> Result<Command> {
        let apt = Apt::new(self.folder.join("apt"), sources_list()).command(program);
        apt.context("give images of others with --image")
    }
}

fn sources_list() -> String {
    let line = |(archive, suite): &(&str, &str)| {
        format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n")
    };
    SUITES.iter().map(line).collect()
}

/// Puts the image out of the one package in a folder, and removes the rest.
pub(crate) fn unpack(folder: &Path) -> Result<()> {
    let package = entries(folder).into_iter().find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.with_context(|| format!("no package in {}", folder.display()))?;
    let files = folder.join("files");
    run::output_of(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&files))?;
    let (image, name) =
        image_among(&files).with_context(|| format!("{} has no vmlinuz", package.display()))?;
    std::fs::rename(image, folder.join(name))?;
    std::fs::remove_dir_all(files)?;
    Ok(std::fs::remove_file(package)?)
}

/// The image among a package's files, and what it is called here: `boot/vmlinuz-RELEASE` is, `usr/lib/modules/RELEASE/vmlinuz` becomes `vmlinuz-RELEASE`.
fn image_among(files: &Path) -> Option<(PathBuf, String)> {
    if let Some(image) = image_in(&files.join("boot")) {
        let name = image.file_name()?.to_string_lossy().into_owned();
        return Some((image, name));
    }
    entries(&files.join("usr/lib/modules")).into_iter().find_map(|folder| {
        let image = folder.join("vmlinuz");
        let name = format!("vmlinuz-{}", folder.file_name()?.to_string_lossy());
        image.is_file().then_some((image, name))
    })
}

/// The image in a folder.
pub(crate) fn image_in(folder: &Path) -> Option<PathBuf> {
    entries(folder).into_iter().find(|path| is_image(path))
}

fn is_image(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The package of the latest version among the paragraphs that `apt-cache show` prints.
fn newest_of(about: &str, later: impl Fn(&str, &str) -> bool) -> Option<String> {
    let mut newest: Option<(&str, &str)> = None;
    for paragraph in about.split("\n\n") {
        let field = |name| paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(package), Some(version)) = (field("Package:"), field("Version:")) else { continue };
        if newest.is_none_or(|(_, best)| later(version, best)) {
            newest = Some((package, version));
        }
    }
    newest.map(|(package, _)| package.to_owned())
}

fn later(version: &str, than: &str) -> bool {
    works("dpkg", &["--compare-versions", version, "gt", than])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_latest_version_is_taken() {
        let about = "Package: linux-image-6.1.0-47-cloud-amd64\nVersion: 6.1.170-3\n\n\
                     Package: linux-image-6.1.0-50-cloud-amd64\nSource: linux\nVersion: 6.1.176-1\n\n\
                     Package: linux-image-6.1.0-49-cloud-amd64\nVersion: 6.1.174-1\n";
        let newest = newest_of(about, |version, than| version > than);
        assert_eq!(newest.as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest_of("", |_, _| true), None);
    }

    #[test]
    fn an_image_is_found_wherever_packages_have_it() {
        let files = std::env::temp_dir().join(format!("unshed-debian-{}", std::process::id()));
        assert_eq!(image_among(&files), None);
        let modules = files.join("usr/lib/modules/7.3.4");
        std::fs::create_dir_all(&modules).unwrap();
        assert_eq!(image_among(&files), None);
        std::fs::write(modules.join("vmlinuz"), "").unwrap();
        assert_eq!(image_among(&files), Some((modules.join("vmlinuz"), "vmlinuz-7.3.4".to_owned())));
        std::fs::create_dir_all(files.join("boot")).unwrap();
        let image = files.join("boot/vmlinuz-6.1.0");
        std::fs::write(&image, "").unwrap();
        assert_eq!(image_among(&files), Some((image, "vmlinuz-6.1.0".to_owned())));
        std::fs::remove_dir_all(files).unwrap();
    }

    #[test]
    fn every_source_names_its_key() {
        let list = sources_list();
        assert_eq!(list.lines().count(), SUITES.len());
        assert!(list.lines().all(|line| line.contains(KEYRING) && line.ends_with(" main")));
    }
}
