//! The code that a process has mapped: which addresses are of which file, with the files held open, so that they can be read and named after the process has
//! unmapped them, replaced them on disk, or ended.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, Error, Kind, Result};
use crate::target::elf::outline::Outline;
use crate::target::elf::{Segment, executable_vaddr};
use crate::target::frame_table::bytes::FrameBytes;
use crate::target::maps::Mapping;
use crate::target::process::Process;

/// Files that are held open, at most: one each for what a large program maps.
const FILES: usize = 4096;

/// What tells two files apart, or one file before and after it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified: i128,
}

impl Identity {
    /// The identity of an open file.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(file: &File) -> std::io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// The identity of the file that a path leads to.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn at(path: &Path) -> std::io::Result<Self> {
        Ok(Self::from(&path.metadata()?))
    }
}

impl From<&Metadata> for Identity {
    fn from(facts: &Metadata) -> Self {
        let modified = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
        Self { device: facts.dev(), inode: facts.ino(), modified }
    }
}

/// A file with code, held open.
#[derive(Debug)]
pub struct CodeFile {
    /// Its path in the process's mount namespace.
    pub path: PathBuf,
    /// Its build id, if it has one.
    pub build_id: Option<Vec<u8>>,
    identity: Identity,
    outline: Outline,
    handle: File,
}

impl CodeFile {
    /// Opens the file behind a mapping. Only its headers are read.
    ///
    /// # Errors
    /// When it cannot be opened or is no x86-64 ELF file.
    pub fn of_mapping(process: &Process, mapping: &Mapping) -> Result<Self> {
        Self::open(&mapping.open_path(process), mapping.path.clone())
    }

    /// Opens a file on disk.
    ///
    /// # Errors
    /// As [`CodeFile::of_mapping`].
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::open(path, path.to_owned())
    }

    fn open(open: &Path, path: PathBuf) -> Result<Self> {
        let what = format!("cannot open {}", open.display());
        // A name may have become a pipe's meanwhile, and opening one waits for its other end.
        let handle =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(open).context(&what)?;
        if !handle.metadata().context(&what)?.is_file() {
            return Err(Error::new(Kind::Target, format!("{} is not a file", open.display())));
        }
        let outline = Outline::read(&handle).map_err(|error| error.about(open.display()))?;
        Ok(Self {
            path,
            build_id: outline.build_id.clone(),
            identity: Identity::of(&handle).context(&what)?,
            outline,
            handle,
        })
    }

    /// A path by which this process, and nobody else, can open the file again, whatever became of its name.
    #[must_use]
    pub fn open_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// The `PT_LOAD` segments, in the file's order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.outline.segments
    }

    /// Which file it is, for files without a build id.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Reads the frame descriptions that the process itself uses (`.eh_frame`), if there are any.
    #[must_use]
    pub fn frames(&self) -> Option<FrameBytes> {
        FrameBytes::read(&self.handle, &self.outline)
    }

    /// Reads the frame descriptions that are for debuggers (`.debug_frame`), if there are any.
    #[must_use]
    pub fn debug_frames(&self) -> Option<FrameBytes> {
        FrameBytes::read_debug(&self.handle, &self.outline)
    }

    /// The last part of its path.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A mapped stretch of a file's code.
#[derive(Clone, Debug)]
pub struct Module {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset in the file, in bytes, of `start`.
    pub offset: u64,
    /// The file's own address of `start`.
    pub vaddr: u64,
    /// The file.
    pub file: Arc<CodeFile>,
}

/// An address of a process in terms of the file that it is of.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub file: Arc<CodeFile>,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The file's own address, as its symbols and debug information have it.
    pub vaddr: u64,
}

/// What a process has mapped, by address.
#[derive(Debug, Default)]
pub struct Modules {
    list: Vec<Module>,
    /// The mappings that the list was made of.
    mappings: Vec<Mapping>,
    files: HashMap<(u64, u64), Arc<CodeFile>>,
    /// Files that could not be opened or understood, and why.
    failed: BTreeMap<PathBuf, String>,
}

impl Modules {
    /// Reads what is mapped now. `true` if it differs from what was known. Files that cannot be read, or are no ELF files, are left out. Where nothing is left of what was
    /// known, the process has replaced its image, and what was known is kept: addresses that it left behind are of the old image.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn refresh(&mut self, process: &Process) -> Result<bool> {
        let mappings = process.mappings()?;
        if mappings == self.mappings {
            return Ok(false);
        }
        let mut list = Vec::new();
        for mapping in &mappings {
            let Some(file) = self.file(process, mapping) else { continue };
            let Some(vaddr) = executable_vaddr(file.segments(), mapping.offset) else { continue };
            list.push(Module { start: mapping.start, end: mapping.end, offset: mapping.offset, vaddr, file });
        }
        list.sort_by_key(|module| module.start);
        let is_same = |one: &Module, other: &Module| {
            (one.start, one.end, one.offset) == (other.start, other.end, other.offset)
                && Arc::ptr_eq(&one.file, &other.file)
        };
        let same = list.len() == self.list.len()
            && list.iter().zip(&self.list).all(|(one, other)| is_same(one, other));
        let known = |one: &Module| self.list.iter().any(|other| is_same(one, other));
        if !self.list.is_empty() && !list.iter().any(known) {
            return Ok(false);
        }
        self.mappings = mappings;
        if same {
            return Ok(false);
        }
        self.list = list;
        Ok(true)
    }

    /// Nothing yet, but with the files that are open here: for another process that runs some of them.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { files: self.files.clone(), ..Self::default() }
    }

    /// The mapped stretches, by address.
    #[must_use]
    pub fn list(&self) -> &[Module] {
        &self.list
    }

    /// Files whose code is mapped, but which could not be opened or understood, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.failed.iter().map(|(path, why)| (path.as_path(), why.as_str()))
    }

    /// What an address is, if it is of a file.
    #[must_use]
    pub fn place(&self, address: u64) -> Option<Place> {
        let after = self.list.partition_point(|module| module.start <= address);
        let module = self.list[..after].last().filter(|module| address < module.end)?;
        let inside = address - module.start;
        Some(Place {
            file: Arc::clone(&module.file),
            offset: module.offset.wrapping_add(inside),
            vaddr: module.vaddr.wrapping_add(inside),
        })
    }

    fn file(&mut self, process: &Process, mapping: &Mapping) -> Option<Arc<CodeFile>> {
        let identity = (mapping.device, mapping.inode);
        if let Some(known) = self.files.get(&identity) {
            // A file that was written to while nobody had it mapped is another one; one that is mapped still is the same, as far as anybody can tell.
            let is_mapped = self.mappings.contains(mapping);
            if is_mapped || Identity::at(&mapping.open_path(process)).is_ok_and(|now| now == known.identity) {
                return Some(Arc::clone(known));
            }
        }
        let opened = if self.files.len() < FILES {
            CodeFile::of_mapping(process, mapping)
        } else {
            Err(Error::failed(format!("{FILES} files are open already")))
        };
        match opened {
            Ok(file) => {
                let file = Arc::new(file);
                self.files.insert(identity, Arc::clone(&file));
                self.failed.remove(&mapping.path);
                Some(file)
            }
            Err(error) => {
                if self.failed.len() < FILES {
                    self.failed.insert(mapping.path.clone(), error.to_string().replace('\n', "; "));
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_our_own_code_is_of_our_own_file() {
        let own = Process::open(std::process::id()).unwrap();
        let mut modules = Modules::default();
        assert!(modules.refresh(&own).unwrap());
        assert!(!modules.refresh(&own).unwrap());
        let here = an_address_of_our_own_code_is_of_our_own_file as fn() as usize as u64;
        let place = modules.place(here).unwrap();
        assert_eq!(place.file.path, own.exe());
        let elf = crate::target::elf::Elf::open(&place.file.open_path()).unwrap();
        assert_eq!(elf.file_offset(place.vaddr), Some(place.offset));
        assert!(modules.place(8).is_none());
    }

    #[test]
    fn a_replaced_image_leaves_the_old_one_known() {
        let own = Process::open(std::process::id()).unwrap();
        let mut modules = Modules::default();
        modules.refresh(&own).unwrap();
        for module in &mut modules.list {
            module.start += 1;
        }
        modules.mappings.clear();
        let first = modules.list[0].start;
        assert!(!modules.refresh(&own).unwrap());
        assert_eq!(modules.list[0].start, first);
    }
}
