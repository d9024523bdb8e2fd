//! Which builds and headers of CPython there are: pyenv's, this machine's, and those that were unpacked into the cache.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::target::layout::debug_offsets::{self, LENGTH};

use super::debug;

/// Names another folder than the cache, as for `cargo xtask pythons`.
const CACHE: &str = "UNSHED_PYTHONS";
/// Where a build, or what was unpacked, has interpreters, libraries and headers.
const PLACES: [&str; 6] = ["bin", "lib", "include", "usr/bin", "usr/lib/x86_64-linux-gnu", "usr/include"];

/// One source of facts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Build {
    pub(super) minor: u8,
    pub(super) free_threaded: bool,
    pub(super) source: Source,
}

/// What tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A file with debug information.
    Debug(PathBuf),
    /// A folder of header files, to be compiled.
    Headers(PathBuf),
    /// An interpreter that has `_Py_DebugOffsets`.
    Itself(PathBuf),
}

impl fmt::Display for Build {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, path) = match &self.source {
            Source::Debug(path) => ("debug information", path),
            Source::Headers(path) => ("headers", path),
            Source::Itself(path) => ("debug offsets", path),
        };
        let free = if self.free_threaded { " without the GIL" } else { "" };
        write!(out, "3.{}{free}: {what} of {}", self.minor, path.display())
    }
}

/// All that are found, by version.
pub(super) fn found() -> Result<Vec<Build>> {
    let mut builds = Vec::new();
    // In a chroot of today's Debian, `bin` is a link to `usr/bin`.
    let folders: BTreeSet<PathBuf> =
        folders().iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    for folder in folders {
        for path in entries(&folder) {
            builds.extend(of(&path)?);
        }
    }
    builds.sort();
    Ok(builds)
}

/// What a file or folder tells of.
fn of(path: &Path) -> Result<Vec<Build>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((minor, named_free)) = version_in(name) else { return Ok(Vec::new()) };
    let build = |free_threaded, source| Build { minor, free_threaded, source };
    let path = path.to_owned();
    if path.join("Python.h").is_file() {
        // A build without the GIL has the same headers, and one definition more.
        let both: &[bool] = match (minor, named_free) {
            (_, true) => &[true],
            (13.., false) => &[false, true],
            (..13, false) => &[false],
        };
        return Ok(both.iter().map(|free| build(*free, Source::Headers(path.clone()))).collect());
    }
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let told = debug::runtime(&path, LENGTH)?;
    let free = told.as_deref().and_then(debug_offsets::free_threaded).unwrap_or(named_free);
    let mut found = Vec::new();
    if super::dwarf::is_in(&path)? {
        found.push(build(free, Source::Debug(path.clone())));
    }
    if told.is_some() {
        found.push(build(free, Source::Itself(path)));
    }
    Ok(found)
}

/// 11 of `libpython3.11.so.1.0` and of `python3.11`, and whether a `t` says that it is without the GIL; none of `libpython3.so` and `python3.11-config`.
fn version_in(name: &str) -> Option<(u8, bool)> {
    let library = name.strip_prefix("lib");
    let rest = library.unwrap_or(name).strip_prefix("python3.")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let (rest, free) = rest.strip_prefix('t').map_or((rest, false), |rest| (rest, true));
    let is_whole = if library.is_some() { rest.starts_with(".so.") } else { rest.is_empty() };
    Some((digits.parse().ok().filter(|_| is_whole)?, free))
}

/// The folders in which they may be.
fn folders() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let root = std::env::var_os("PYENV_ROOT").map_or_else(|| home.join(".pyenv"), PathBuf::from);
    let mut folders = vec![PathBuf::from("/usr/bin")];
    for version in entries(&root.join("versions")) {
        folders.extend(PLACES[..3].iter().map(|folder| version.join(folder)));
    }
    let cache = std::env::var_os(CACHE).map_or_else(|| home.join(".cache/unshed/pythons"), PathBuf::from);
    for unpacked in entries(&cache) {
        folders.extend(PLACES.map(|folder| unpacked.join(folder)));
    }
    folders
}

/// What is in a folder, without links, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| !path.is_symlink()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn names_tell_versions() {
        assert_eq!(version_in("libpython3.11.so.1.0"), Some((11, false)));
        assert_eq!(version_in("python3.8"), Some((8, false)));
        assert_eq!(version_in("libpython3.14t.so.1.0"), Some((14, true)));
        for none in ["libpython3.so", "python3.11-config", "python3", "libpython3.11.a", "python3.999"] {
            assert_eq!(version_in(none), None, "{none}");
        }
    }
}
