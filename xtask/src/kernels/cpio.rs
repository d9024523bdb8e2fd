//! An initramfs: the files of this machine that a small system needs, at the same paths, as the archive that the kernel unpacks.
//!
//! The format is the "newc" of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header of hexadecimal
//! numbers, the name, the contents, each padded to four bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
/// The entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    /// A copy of a file of this machine.
    Copy(PathBuf),
    /// A file that was made for the archive.
    Made(Vec<u8>),
}

/// The entries by their path; a folder comes before what is in it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Archive {
    /// An empty folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.put(Path::new(path), Entry::Folder);
    }

    /// A file of this machine, at its own path. Links are followed: the archive has none.
    pub(crate) fn file(&mut self, path: &Path) {
        self.file_as(path, path);
    }

    /// A file of this machine, at another path.
    pub(crate) fn file_as(&mut self, path: &Path, inside: &Path) {
        self.put(inside, Entry::Copy(path.to_path_buf()));
    }

    /// A file that this machine does not have.
    pub(crate) fn text(&mut self, inside: &str, text: &str) {
        self.put(Path::new(inside), Entry::Made(text.as_bytes().to_vec()));
    }

    /// All files below a folder of this machine, but for folders and files of these names.
    pub(crate) fn tree(&mut self, folder: &Path, without: &[&str]) -> Result<()> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            if path.file_name().is_some_and(|name| without.iter().any(|unwanted| name == *unwanted)) {
                continue;
            }
            // A link that leads nowhere is neither, and of no use to anybody.
            if path.is_dir() {
                self.tree(&path, without)?;
            } else if path.is_file() {
                self.file(&path);
            }
        }
        Ok(())
    }

    /// Writes the archive and returns its size in bytes.
    pub(crate) fn write(&self, to: &Path) -> Result<u64> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut out = BufWriter::new(file);
        for (number, (path, entry)) in (1u32..).zip(&self.entries) {
            let (mode, bytes) = match entry {
                Entry::Folder => (FOLDER, Vec::new()),
                Entry::Made(bytes) => (REGULAR | 0o644, bytes.clone()),
                Entry::Copy(from) => read(from)?,
            };
            let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
            entry_to(&mut out, number, &name, mode, &bytes)?;
        }
        entry_to(&mut out, 0, TRAILER, 0, &[])?;
        out.flush()?;
        Ok(to.metadata()?.len())
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            self.entries.entry(folder.to_path_buf()).or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_path_buf(), entry);
    }
}

fn read(path: &Path) -> Result<(u32, Vec<u8>)> {
    let about = || format!("cannot read {}", path.display());
    let mode = std::fs::metadata(path).with_context(about)?.permissions().mode() & 0o777;
    Ok((REGULAR | mode, std::fs::read(path).with_context(about)?))
}

/// One entry: owned by root, one link, no time, no device.
fn entry_to(out: &mut impl Write, inode: u32, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let size = u32::try_from(bytes.len()).with_context(|| format!("{name} has more than 4 GiB"))?;
    let name_size = u32::try_from(name.len() + 1)?;
    write!(out, "070701")?;
    for number in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        write!(out, "{number:08X}")?;
    }
    out.write_all(name.as_bytes())?;
    // The header has 110 bytes, the name ends with a zero, and both together are padded.
    out.write_all(&[0; 4][..1 + padding(110 + name.len() + 1)])?;
    out.write_all(bytes)?;
    Ok(out.write_all(&[0; 4][..padding(bytes.len())])?)
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(archive: &Archive, name: &str) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("unshed-cpio-{name}-{}", std::process::id()));
        let size = archive.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(size, bytes.len() as u64);
        bytes
    }

    #[test]
    fn a_file_brings_its_folders_and_everything_is_aligned() {
        let mut archive = Archive::default();
        archive.text("/a/b/c.txt", "hello");
        let bytes = written(&archive, "text");
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<usize> =
            ["a\0", "a/b\0", "a/b/c.txt\0", "TRAILER!!!\0"].map(|name| text.find(name).unwrap()).to_vec();
        assert!(names.is_sorted(), "folders come first");
        assert!(names.iter().all(|at| (at - 110) % 4 == 0), "headers are aligned");
        assert_eq!(text.find("hello").unwrap() % 4, 0, "contents are aligned");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_header_says_how_long_name_and_contents_are() {
        let mut archive = Archive::default();
        archive.text("/f", "123");
        let bytes = written(&archive, "header");
        let header = String::from_utf8_lossy(&bytes[..110]).into_owned();
        assert_eq!(
            header,
            "070701\
             00000001000081A40000000000000000\
             00000001000000000000000300000000\
             00000000000000000000000000000002\
             00000000"
        );
        assert_eq!(&bytes[110..116], b"f\x00123\x00");
    }

    #[test]
    fn a_folder_is_kept_though_nothing_is_in_it() {
        let mut archive = Archive::default();
        archive.folder("/proc");
        assert!(String::from_utf8_lossy(&written(&archive, "folder")).contains("proc\0"));
    }
}
