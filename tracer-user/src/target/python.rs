//! Which of the files of a process is CPython, which version it is, and where in memory its runtime lies.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::target::image::Image;
use crate::target::layout::debug_offsets;
use crate::target::layout::{self, Layout};
use crate::target::memory::{Bytes, Memory};
use crate::target::offsets::{self, Offsets};
use crate::target::process::{LIST, Process};
use crate::target::program::Library;
use crate::target::root::Root;
use crate::target::{program, version};

/// The symbol that makes a file CPython: exported by every build since 3.7 (`Include/internal/pycore_runtime.h`).
const RUNTIME: &str = "_PyRuntime";

/// A CPython version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3.
    pub major: u8,
    /// 11 of 3.11.
    pub minor: u8,
    /// 7 of 3.11.7; `None` where neither the file says it (before 3.11) nor a process.
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
#[derive(Clone, Debug)]
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
    pub libraries: Vec<Library>,
    /// It was built without the GIL (PEP 703).
    pub free_threaded: bool,
    /// Where it keeps things.
    pub offsets: Offsets,
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

    /// The CPython of a process, of any version that exports its runtime (from 3.7 on).
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
        let mut older = None;
        for mapping in &mappings {
            let image = match Image::of_mapping(process, mapping) {
                Ok(image) => image,
                Err(_) if !process.still_same() => break,
                Err(error) => return Err(error),
            };
            let flavour = if Some(mapping.inode) == exe { Flavour::Static } else { Flavour::Shared };
            older = older.or_else(|| without_runtime(&image));
            if let Some(mut python) = Self::of_image(image, flavour) {
                if python.version.micro.is_none() {
                    python.version.micro = version::micro_of(process, &python.image, python.version);
                }
                python.settle(Some(process));
                return Ok(python);
            }
        }
        let (pid, comm) = (process.pid(), process.comm());
        Err(if !process.still_same() {
            Error::new(Kind::Target, format!("process {pid} ({comm}) has ended")).next(LIST)
        } else if let Some(version) = older {
            unsupported(&format!("process {pid} ({comm})"), version, None)
        } else {
            Error::new(Kind::Target, format!("process {pid} ({comm}) is no CPython")).next(LIST)
        })
    }

    /// The CPython that a program will be, from its file (or its name, to be found in `PATH`) and its environment: the file itself, a library that its dynamic loader finds, or
    /// the interpreter of a script.
    ///
    /// # Errors
    /// [`Kind::Target`] when the program is no CPython or one of an unsupported version; [`Kind::Failed`] when it cannot be read.
    pub fn of_file(path: &Path, environment: &[(OsString, OsString)]) -> Result<Self> {
        let asked = path.display().to_string();
        let path = program::interpreter_of(&program::resolve(path, environment)?, environment)?;
        Self::of_program(&asked, Image::of_file(&path)?, environment, None)
    }

    /// The CPython that a process will be which stands before its image's first instruction. It may have another root directory than we have, or a mount namespace of its
    /// own: its files are those that it sees.
    ///
    /// # Errors
    /// As [`Python::of_file`], or when the process is gone.
    pub fn of_started(pid: u32, environment: &[(OsString, OsString)]) -> Result<Self> {
        let image = Image::of_executable(pid)?;
        let root = Root::of_process(pid).filter(|root| !root.is_ours());
        Self::of_program(&image.path.display().to_string(), image, environment, root.as_ref())
    }

    fn of_program(
        asked: &str,
        image: Image,
        environment: &[(OsString, OsString)],
        root: Option<&Root>,
    ) -> Result<Self> {
        let path = image.path.clone();
        let libraries = program::libraries(&path, &image.elf, environment, root)?;
        let mut python = Self::of_image(image, Flavour::Static);
        for library in libraries.iter().filter(|library| library.file_name().starts_with("libpython")) {
            if python.is_none() {
                python = Self::of_image(Image::of_library(library)?, Flavour::Shared);
            }
        }
        let mut python = python.ok_or_else(|| {
            Error::new(Kind::Target, format!("{asked} is run by {}, which is no CPython", path.display()))
                .next("name the Python interpreter itself (pyenv: `pyenv which python`)")
        })?;
        python.libraries = libraries;
        python.settle(None);
        python.layout_or(asked)?;
        Ok(python)
    }

    fn of_image(image: Image, flavour: Flavour) -> Option<Self> {
        let runtime_vaddr = image.elf.symbol(RUNTIME)?.address;
        let version = version_of(&image)?;
        let offsets = Offsets::Unknown(None);
        let mut this = Self {
            version,
            flavour,
            image,
            runtime_vaddr,
            libraries: Vec::new(),
            free_threaded: false,
            offsets,
        };
        this.free_threaded = this.told().and_then(debug_offsets::free_threaded).unwrap_or(false);
        Some(this)
    }

    /// What it says itself of its structures, if it does.
    fn told(&self) -> Option<&[u8]> {
        let tail = self.image.elf.tail(self.runtime_vaddr)?;
        Some(&tail[..tail.len().min(debug_offsets::LENGTH as usize)])
    }

    /// Finds out where it keeps things; of a process, by trying what is not proven.
    fn settle(&mut self, process: Option<&Process>) {
        let running = process.zip(self.runtime());
        self.offsets = offsets::of(self.version, self.told(), running);
    }

    /// Where this version keeps things; `None` for a version that unshed does not know.
    #[must_use]
    pub const fn layout(&self) -> Option<&'static Layout> {
        match self.offsets {
            Offsets::Known(layout) | Offsets::Unproven(layout, _) => Some(layout),
            Offsets::Unknown(_) => None,
        }
    }

    /// [`Python::layout`], or an error about the process or program `who`.
    ///
    /// # Errors
    /// [`Kind::Target`] for a version that is not supported.
    pub fn layout_or(&self, who: &str) -> Result<&'static Layout> {
        match &self.offsets {
            Offsets::Known(layout) | Offsets::Unproven(layout, _) => Ok(layout),
            Offsets::Unknown(why) => Err(unsupported(who, self.version, why.as_deref())),
        }
    }

    /// Why what is read of it may be wrong, as a sentence; `None` for a version that was proven on real builds.
    #[must_use]
    pub fn unproven(&self) -> Option<&str> {
        match &self.offsets {
            Offsets::Unproven(_, why) => Some(why),
            Offsets::Known(_) | Offsets::Unknown(_) => None,
        }
    }

    /// Its version, and whether that is proven, for people.
    #[must_use]
    pub fn named(&self) -> String {
        let free = if self.free_threaded { ", free-threaded" } else { "" };
        let unproven = if self.unproven().is_some() { ", unproven" } else { "" };
        format!("{}{free}{unproven}", self.version)
    }

    /// Whether it has got so far that an interpreter has a thread (`Python/pylifecycle.c`, `pycore_create_interpreter`): before, it cannot be told which thread runs Python.
    #[must_use]
    pub fn has_begun(&self, process: &Process) -> bool {
        let Some((threads, runtime)) = self.layout().map(|layout| &layout.threads).zip(self.runtime()) else {
            return false;
        };
        let memory = Memory::new(process.pid());
        let word = |address: u64, offset: u64| {
            memory.read_u64(address.wrapping_add(offset)).ok().filter(|word| *word != 0)
        };
        let interpreter = word(runtime, threads.runtime_interpreters_head);
        interpreter.and_then(|at| word(at, threads.interpreter_threads_head)).is_some()
    }

    /// Address of `_PyRuntime` in the running process.
    #[must_use]
    pub fn runtime(&self) -> Option<u64> {
        Some(self.image.bias?.wrapping_add(self.runtime_vaddr))
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

fn unsupported(who: &str, version: Version, why: Option<&str>) -> Error {
    let because = why.map(|why| format!(": {why}")).unwrap_or_default();
    Error::new(Kind::Target, format!("{who} runs CPython {version}, which is not supported{because}"))
        .next(format!("supported: CPython {} on x86-64", layout::SUPPORTED))
}

/// The version of a CPython from before 3.7, which has no [`RUNTIME`].
fn without_runtime(image: &Image) -> Option<Version> {
    let is_python = image.elf.symbol("Py_GetVersion").is_some() && image.elf.symbol(RUNTIME).is_none();
    let file_name = image.path.file_name().and_then(|name| name.to_str());
    [image.elf.soname(), file_name].into_iter().flatten().find_map(version_in_name).filter(|_| is_python)
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
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python")?;
    let (major, rest) = rest.split_once('.')?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let major = major.parse().ok().filter(|major| matches!(major, 2 | 3))?;
    Some(Version { major, minor: rest[..end].parse().ok()?, micro: None })
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
        assert_eq!(version_in_name("libpython2.7.so.1.0"), Some(Version { major: 2, minor: 7, micro: None }));
        assert_eq!((minor("libpython3.so"), minor("bash"), minor("python3.999")), (None, None, None));
    }
}
