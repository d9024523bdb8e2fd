//! Finds the file that holds the debug information of another: distributions ship it in packages of their own, installed beside the target (in its mount
//! namespace), on this host, or kept in a folder that the operator names.
//!
//! Only a file of the very same build is believed: it must carry the same build id or, for a module that has none, the checksum in its debug link.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(in crate::symbol) use self::sections::{DebugLink, Sections, contents, section_headers};
use crate::error::{Context, Result};
use crate::symbol::hex;
use crate::target::root::Root;

mod sections;
#[cfg(test)]
mod tests;

/// Where distributions put debug files, below a root directory.
const SYSTEM: &str = "usr/lib/debug";
/// Bytes of a build id that have a path; shorter ones would match by chance.
const BUILD_ID: std::ops::RangeInclusive<usize> = 8..=64;

/// The places where debug files are looked for, in their order.
#[derive(Debug, Default)]
pub struct DebugFiles {
    roots: Vec<Root>,
    folders: Vec<Root>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::symbol) struct Wanted<'a> {
    /// The module's path in the target's mount namespace.
    pub(in crate::symbol) path: &'a Path,
    /// The module's build id.
    pub(in crate::symbol) build_id: Option<&'a [u8]>,
    /// The module's debug link.
    pub(in crate::symbol) link: Option<&'a DebugLink>,
    /// The module itself, by device and inode: it is no debug file of its own.
    pub(in crate::symbol) itself: Option<(u64, u64)>,
}

/// A file of the right build.
#[derive(Debug)]
pub(in crate::symbol) struct Found {
    /// Held open.
    pub(in crate::symbol) file: File,
    /// It has debug information; else only a symbol table.
    pub(in crate::symbol) dwarf: bool,
}

impl DebugFiles {
    /// For a running process: its own mount namespace first, then ours, then the folders. The process's root directory is held open, so that files are
    /// found after it has ended, too; if it cannot be opened, it is left out.
    ///
    /// # Errors
    /// When a folder is none.
    pub fn of_process(pid: u32, folders: &[PathBuf]) -> Result<Self> {
        let roots = [Root::of_process(pid), Root::open(Path::new("/"))];
        Ok(Self { roots: roots.into_iter().flatten().collect(), folders: open_all(folders)? })
    }

    /// Only the folders: what this machine has installed says nothing about a target on another.
    ///
    /// # Errors
    /// When a folder is none.
    pub fn of_folders(folders: &[PathBuf]) -> Result<Self> {
        Ok(Self { roots: Vec::new(), folders: open_all(folders)? })
    }

    /// The first file of the right build that has debug information, else the first with a symbol table.
    pub(in crate::symbol) fn find(&self, wanted: &Wanted<'_>) -> Option<Found> {
        let by_root =
            self.roots.iter().flat_map(|root| below_root(root, wanted).map(move |path| (root, path)));
        let by_folder = self
            .folders
            .iter()
            .flat_map(|folder| below_folder(wanted).into_iter().map(move |path| (folder, path)));
        let mut second = None;
        for (root, path) in by_root.chain(by_folder) {
            let Some(found) = root.file(&path).and_then(|file| wanted.check(file)) else { continue };
            if found.dwarf {
                return Some(found);
            }
            second = second.or(Some(found));
        }
        second
    }
}

impl Wanted<'_> {
    /// The file, if it is of the same build and has names.
    fn check(&self, file: File) -> Option<Found> {
        let facts = file.metadata().ok()?;
        if self.itself == Some((facts.dev(), facts.ino())) {
            return None;
        }
        let sections = Sections::read(&file)?;
        if !sections.dwarf && !sections.symbols {
            return None;
        }
        let same = match (self.build_id, self.link) {
            (Some(build_id), _) => sections.build_id.as_deref() == Some(build_id),
            (None, Some(link)) => crc(&file) == Some(link.crc),
            (None, None) => false,
        };
        same.then_some(Found { file, dwarf: sections.dwarf })
    }

    /// `.build-id/01/23….debug`.
    fn by_build_id(&self) -> Option<PathBuf> {
        let id = self.build_id.filter(|id| BUILD_ID.contains(&id.len()))?;
        let (first, rest) = id.split_at(1);
        Some(PathBuf::from(format!(".build-id/{}/{}.debug", hex(first), hex(rest))))
    }
}

/// Where gdb looks, <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>.
fn below_root(root: &Root, wanted: &Wanted<'_>) -> impl Iterator<Item = PathBuf> + use<> {
    let system = Path::new(SYSTEM);
    let by_build_id = wanted.by_build_id().map(|path| system.join(path));
    let directory = root.inside(wanted.path).and_then(Path::parent);
    let linked = directory.zip(wanted.link).map(|(directory, link)| {
        [
            directory.join(&link.name),
            directory.join(".debug").join(&link.name),
            system.join(directory).join(&link.name),
        ]
    });
    by_build_id.into_iter().chain(linked.into_iter().flatten())
}

/// What somebody may have put into a folder for us: build id directories, an unpacked debug package or system, or single files.
fn below_folder(wanted: &Wanted<'_>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = wanted.by_build_id().into_iter().collect();
    paths.extend(wanted.by_build_id().map(|path| Path::new(SYSTEM).join(path)));
    let path = wanted.path.strip_prefix("/").unwrap_or(wanted.path);
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let Some(name) = path.file_name().filter(|_| plain) else { return paths };
    if let Some(link) = wanted.link {
        let directory = path.parent().unwrap_or(Path::new(""));
        paths.extend([Path::new(""), Path::new(".debug"), directory].map(|before| before.join(&link.name)));
    }
    let with_suffix = |path: &Path| {
        let mut longer = path.as_os_str().to_owned();
        longer.push(".debug");
        PathBuf::from(longer)
    };
    for path in [Path::new(name), path, &Path::new(SYSTEM).join(path)] {
        paths.extend([with_suffix(path), path.to_owned()]);
    }
    paths
}

fn open_all(folders: &[PathBuf]) -> Result<Vec<Root>> {
    let open = |folder: &PathBuf| {
        Root::open(folder).ok_or("no folder that can be opened").context(folder.display()).map_err(|error| {
            error.next("--debug-dir wants a folder with .build-id/…, NAME.debug or the modules themselves")
        })
    };
    folders.iter().map(open).collect()
}

/// The CRC-32 of a whole file.
fn crc(file: &File) -> Option<u32> {
    let mut crc = flate2::Crc::new();
    let mut chunk = vec![0; 1 << 18];
    let mut at = 0;
    loop {
        match file.read_at(&mut chunk, at).ok()? {
            0 => return Some(crc.sum()),
            read => {
                crc.update(&chunk[..read]);
                at += read as u64;
            }
        }
    }
}
