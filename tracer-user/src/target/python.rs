//! Which of the files of a process is CPython, which version it is, and where in memory its runtime lies.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::target::image::Image;
use crate::target::layout::{self, Layout};
use crate::target::process::{LIST, Process};
use crate::target::program;

/// The symbol that makes a file CPython: exported by every build since 3.7 (`Include/internal/pycore_runtime.h`).
const RUNTIME: &str = "_PyRuntime";

/// A CPython version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3.
    pub major: u8,
    /// 11 of 3.11.
    pub minor: u8,
    /// 7 of 3.11.7; `None` where the file does not say (before 3.11).
    pub micro: Option<u8>,
}

/// How the interpreter was linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// In a library of its own.
    Shared,
    /// Into the executable.
    Static,
}

/// A CPython: in a running process, or in a program that has not started.
#[derive(Debug)]
pub struct Python {
    /// Its version.
    pub version: Version,
    /// How it was linked.
    pub flavour: Flavour,
    /// The file that holds the interpreter.
    pub image: Image,
    /// Address of `_PyRuntime` in the file's own address space.
    pub runtime_vaddr: u64,
    /// The libraries that the program will load; known only for a program that has not started.
    pub libraries: Vec<PathBuf>,
}

impl Python {
    /// The CPython of a process, of a version that unshed supports.
    ///
    /// # Errors
    /// [`Kind::Target`] when the process runs no CPython or one of an unsupported version; [`Kind::Privilege`] when it may not be looked into.
    pub fn find(process: &Process) -> Result<Self> {
        let python = Self::locate(process)?;
        python.layout_or(&format!("process {} ({})", process.pid(), process.comm()))?;
        Ok(python)
    }

    /// The CPython of a process, of any version.
    ///
    /// # Errors
    /// As [`Python::find`], except for the version.
    pub fn locate(process: &Process) -> Result<Self> {
        let mut mappings = process.mappings()?;
        let exe = process.exe_inode();
        // An executable that has the runtime comes before any libpython: its symbols are the ones that all the others are bound to.
        mappings.retain(|mapping| Some(mapping.inode) == exe || mapping.file_name().starts_with("libpython"));
        mappings.sort_by_key(|mapping| Some(mapping.inode) != exe);
        mappings.dedup_by_key(|mapping| (mapping.device, mapping.inode));
        for mapping in &mappings {
            let image = match Image::of_mapping(process, mapping) {
                Ok(image) => image,
                Err(_) if !process.still_same() => break,
                Err(error) => return Err(error),
            };
            let flavour = if Some(mapping.inode) == exe { Flavour::Static } else { Flavour::Shared };
            if let Some(python) = Self::of_image(image, flavour) {
                return Ok(python);
            }
        }
        let (pid, comm) = (process.pid(), process.comm());
        Err(if process.still_same() {
            Error::new(Kind::Target, format!("process {pid} ({comm}) is no CPython")).next(LIST)
        } else {
            Error::new(Kind::Target, format!("process {pid} ({comm}) has ended")).next(LIST)
        })
    }

    /// The CPython that a program will be, from its file (or its name, to be found in `PATH`) and its environment: the file itself, a library that its dynamic loader finds, or
    /// the interpreter of a script.
    ///
    /// # Errors
    /// [`Kind::Target`] when the program is no CPython or one of an unsupported version; [`Kind::Failed`] when it cannot be read.
    pub fn of_file(path: &Path, environment: &[(OsString, OsString)]) -> Result<Self> {
        let asked = path.display();
        let path = program::interpreter_of(&program::resolve(path, environment)?, environment)?;
        let image = Image::of_file(&path)?;
        let libraries = program::libraries(&path, &image.elf, environment)?;
        let named = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libpython"))
        };
        let mut python = Self::of_image(image, Flavour::Static);
        for library in libraries.iter().filter(named) {
            if python.is_none() {
                python = Self::of_image(Image::of_file(library)?, Flavour::Shared);
            }
        }
        let mut python = python.ok_or_else(|| {
            Error::new(Kind::Target, format!("{asked} is run by {}, which is no CPython", path.display()))
                .next("name the Python interpreter itself (pyenv: `pyenv which python`)")
        })?;
        python.libraries = libraries;
        python.layout_or(&asked.to_string())?;
        Ok(python)
    }

    fn of_image(image: Image, flavour: Flavour) -> Option<Self> {
        let runtime_vaddr = image.elf.symbol(RUNTIME)?.address;
        let version = version_of(&image)?;
        Some(Self { version, flavour, image, runtime_vaddr, libraries: Vec::new() })
    }

    /// Where this version keeps things; `None` for a version that unshed does not know.
    #[must_use]
    pub fn layout(&self) -> Option<&'static Layout> {
        layout::of(self.version.major, self.version.minor)
    }

    /// [`Python::layout`], or an error about the process or program `who`.
    ///
    /// # Errors
    /// [`Kind::Target`] for a version that is not supported.
    pub fn layout_or(&self, who: &str) -> Result<&'static Layout> {
        self.layout().ok_or_else(|| {
            Error::new(Kind::Target, format!("{who} runs CPython {}, which is not supported", self.version))
                .next(format!("supported: CPython {} on x86-64", layout::SUPPORTED))
        })
    }

    /// Address of `_PyRuntime` in the running process.
    #[must_use]
    pub fn runtime(&self) -> Option<u64> {
        Some(self.image.bias?.wrapping_add(self.runtime_vaddr))
    }

    /// Address, in the file's own address space, of the word that names the GIL's holder.
    #[must_use]
    pub fn tstate_slot_vaddr(&self) -> Option<u64> {
        self.runtime_vaddr.checked_add(self.layout()?.threads.runtime_tstate_current)
    }

    /// The same, in the running process.
    #[must_use]
    pub fn tstate_slot(&self) -> Option<u64> {
        Some(self.image.bias?.wrapping_add(self.tstate_slot_vaddr()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(out, ".{micro}"))
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Shared => "shared",
            Self::Static => "static",
        })
    }
}

/// `Py_Version` (3.11 and later, `Include/pylifecycle.h`) is `PY_VERSION_HEX` in the file's read-only data; older files tell by their name.
fn version_of(image: &Image) -> Option<Version> {
    let stated = image.elf.symbol("Py_Version").and_then(|symbol| image.elf.at(symbol.address, 4));
    if let Some(&[_, micro, minor, major]) = stated
        && major == 3
    {
        return Some(Version { major, minor, micro: Some(micro) });
    }
    let file_name = image.path.file_name().and_then(|name| name.to_str());
    [image.elf.soname(), file_name].into_iter().flatten().find_map(version_in_name)
}

/// `libpython3.10.so.1.0`, `python3.8`.
fn version_in_name(name: &str) -> Option<Version> {
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python3.")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    Some(Version { major: 3, minor: rest[..end].parse().ok()?, micro: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_old_versions() {
        let minor = |name| version_in_name(name).map(|version| version.minor);
        assert_eq!(minor("libpython3.10.so.1.0"), Some(10));
        assert_eq!(minor("python3.8"), Some(8));
        assert_eq!(minor("libpython3.7m.so.1.0"), Some(7));
        assert_eq!((minor("libpython3.so"), minor("bash"), minor("python3.999")), (None, None, None));
    }
}
