//! A file that the target runs, or will run: what it is called, how to open it, what it says, and where it is loaded.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Context, Error, Kind, Result};
use crate::target::elf::Elf;
use crate::target::maps::Mapping;
use crate::target::modules::Identity;
use crate::target::process::{Process, proc_path};
use crate::target::program::{Library, held_path};

/// An ELF file of a target.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// A path by which we can open it.
    pub open: PathBuf,
    /// What it says; processes that run the same file share it.
    pub elf: Arc<Elf>,
    /// What is added to its addresses in the running target; `None` for a program that has not started.
    pub bias: Option<u64>,
    /// What `open` leads through, where it is a descriptor of ours.
    _held: Option<Arc<File>>,
}

impl Image {
    /// The file behind a mapping of a process.
    ///
    /// # Errors
    /// When the file cannot be read or is no ELF file, or the mapping lies outside what the file says.
    pub fn of_mapping(process: &Process, mapping: &Mapping) -> Result<Self> {
        let open = mapping.open_path(process);
        let elf = shared(&open)?;
        let vaddr = elf.executable_vaddr(mapping.offset).ok_or_else(|| {
            Error::new(
                Kind::Target,
                format!("{} is not the file that process {} runs", open.display(), process.pid()),
            )
        })?;
        Ok(Self {
            path: mapping.path.clone(),
            open,
            elf,
            bias: Some(mapping.start.wrapping_sub(vaddr)),
            _held: None,
        })
    }

    /// A file on disk.
    ///
    /// # Errors
    /// When it cannot be read or is no ELF file.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::opened(path.to_owned(), path.to_owned())
    }

    /// A library that a program will load. It can be opened as long as the library's value lives.
    ///
    /// # Errors
    /// As [`Image::of_file`].
    pub fn of_library(library: &Library) -> Result<Self> {
        Self::opened(library.path.clone(), library.open.clone())
    }

    /// The executable of a process, whatever its path leads to where we are.
    ///
    /// # Errors
    /// As [`Image::of_file`], or when the process is gone.
    pub(super) fn of_executable(pid: u32) -> Result<Self> {
        let exe = proc_path(pid, "exe");
        let what = format!("cannot open {}", exe.display());
        let path = exe.read_link().context(&what)?;
        let file = File::open(&exe).context(&what)?;
        let opened = Self::opened(path, held_path(&file))?;
        Ok(Self { _held: Some(Arc::new(file)), ..opened })
    }

    fn opened(path: PathBuf, open: PathBuf) -> Result<Self> {
        let elf = Arc::new(Elf::open(&open)?);
        Ok(Self { path, open, elf, bias: None, _held: None })
    }

    /// The C library's allocator in a process: a mapped file that is not the C library but exports `malloc` and `free` (jemalloc, tcmalloc)
    /// comes before the C library, as it does for the dynamic loader.
    ///
    /// # Errors
    /// [`Kind::Target`] when no mapped library exports an allocator.
    pub fn allocator_of(process: &Process) -> Result<Self> {
        let mut mappings = process.mappings()?;
        mappings.retain(|mapping| may_allocate(mapping.file_name()));
        mappings.sort_by_key(|mapping| is_c_library(mapping.file_name()));
        mappings.dedup_by_key(|mapping| (mapping.device, mapping.inode));
        let images = mappings.iter().filter_map(|mapping| Self::of_mapping(process, mapping).ok());
        pick_allocator(images).ok_or_else(|| {
            Error::new(
                Kind::Target,
                format!("process {} maps no library with malloc and free", process.pid()),
            )
            .next("leave libc out of --domains")
        })
    }

    /// Whether it is glibc (`gnu_get_libc_version`, `csu/version.c`), so that its `malloc` is that one.
    pub(super) fn is_glibc(&self) -> bool {
        self.elf.symbol("gnu_get_libc_version").is_some()
    }

    /// The C library of a process: where it asks the kernel for memory.
    #[must_use]
    pub fn c_library_of(process: &Process) -> Option<Self> {
        let mappings = process.mappings().ok()?;
        let library = mappings.iter().find(|mapping| is_c_library(mapping.file_name()))?;
        Self::of_mapping(process, library).ok()
    }

    /// The allocator among the libraries of a program that has not started.
    ///
    /// # Errors
    /// [`Kind::Target`] when none of them exports an allocator.
    pub fn allocator_among(libraries: &[Library]) -> Result<Self> {
        let mut libraries: Vec<&Library> =
            libraries.iter().filter(|library| may_allocate(library.file_name())).collect();
        libraries.sort_by_key(|library| is_c_library(library.file_name()));
        let images = libraries.into_iter().filter_map(|library| Self::of_library(library).ok());
        pick_allocator(images).ok_or_else(|| {
            Error::new(Kind::Target, "the program loads no library with malloc and free")
                .next("leave libc out of --domains")
        })
    }
}

/// The file behind a path, taken apart; not again while somebody holds the same file.
fn shared(path: &Path) -> Result<Arc<Elf>> {
    static OPEN: Mutex<Vec<(Identity, Weak<Elf>)>> = Mutex::new(Vec::new());
    let known = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = Identity::at(path).ok();
    let same =
        |(of, elf): &(Identity, Weak<Elf>)| identity.filter(|identity| identity == of).and(elf.upgrade());
    if let Some(elf) = known().iter().find_map(same) {
        return Ok(elf);
    }
    let elf = Arc::new(Elf::open(path)?);
    if let Some(identity) = identity.filter(|identity| Identity::at(path).is_ok_and(|now| now == *identity)) {
        let mut known = known();
        known.retain(|(_, elf)| elf.strong_count() > 0);
        known.push((identity, Arc::downgrade(&elf)));
    }
    Ok(elf)
}

fn pick_allocator(mut images: impl Iterator<Item = Image>) -> Option<Image> {
    images.find(|image| ["malloc", "free"].iter().all(|name| image.elf.symbol(name).is_some()))
}

fn is_c_library(name: &str) -> bool {
    name.starts_with("libc.so") || name.starts_with("libc-2") || name.starts_with("ld-musl")
}

/// The dynamic loader of old glibcs exports a `malloc` that is only its own; libpython and extension modules export none.
fn may_allocate(name: &str) -> bool {
    is_c_library(name) || name.contains("malloc") || name.contains("snmalloc") || name.contains("hoard")
}
