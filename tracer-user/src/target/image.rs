//! A file that the target runs, or will run: what it is called, how to open it, what it says, and where it is loaded.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::target::elf::Elf;
use crate::target::maps::Mapping;
use crate::target::process::Process;

/// An ELF file of a target.
#[derive(Debug)]
pub struct Image {
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// A path by which we can open it.
    pub open: PathBuf,
    /// What it says.
    pub elf: Elf,
    /// What is added to its addresses in the running target; `None` for a program that has not started.
    pub bias: Option<u64>,
}

impl Image {
    /// The file behind a mapping of a process.
    ///
    /// # Errors
    /// When the file cannot be read or is no ELF file, or the mapping lies outside what the file says.
    pub fn of_mapping(process: &Process, mapping: &Mapping) -> Result<Self> {
        let open = mapping.open_path(process);
        let elf = Elf::open(&open)?;
        let vaddr = elf.executable_vaddr(mapping.offset).ok_or_else(|| {
            Error::new(
                Kind::Target,
                format!("{} is not the file that process {} runs", open.display(), process.pid()),
            )
        })?;
        Ok(Self { path: mapping.path.clone(), open, elf, bias: Some(mapping.start.wrapping_sub(vaddr)) })
    }

    /// A file on disk.
    ///
    /// # Errors
    /// When it cannot be read or is no ELF file.
    pub fn of_file(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), open: path.to_owned(), elf: Elf::open(path)?, bias: None })
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
    pub fn allocator_among(libraries: &[PathBuf]) -> Result<Self> {
        let name =
            |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let mut libraries: Vec<&PathBuf> =
            libraries.iter().filter(|path| may_allocate(&name(path))).collect();
        libraries.sort_by_key(|path| is_c_library(&name(path)));
        pick_allocator(libraries.into_iter().filter_map(|path| Self::of_file(path).ok())).ok_or_else(|| {
            Error::new(Kind::Target, "the program loads no library with malloc and free")
                .next("leave libc out of --domains")
        })
    }
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
