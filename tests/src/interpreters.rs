//! The CPythons of this machine. Users have others than we: they are found, not assumed, and every test says which it used.
//! A missing one is a failure with a sentence, never a skipped test.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::function_in_file;

mod others;
mod root;
mod which;

pub use which::Which;

/// The most bytes that `PyObject_Malloc` has where it only passes on (27 in pyenv's build, 35 at most in any that was looked at);
/// with the allocator inlined into it, it has 271 and more.
const PURE_WRAPPER_BYTES: u64 = 64;

/// Prints the version, and the mapped file that has the allocators in it: a libpython's path, or nothing. In a root folder of its own there is
/// no /proc; what lives there is known.
const FACTS: &str = "import os, platform; print(platform.python_version()); maps = '/proc/self/maps'; \
    lines = open(maps) if os.path.exists(maps) else (); \
    print(next((line.split()[-1] for line in lines if '/libpython3' in line), ''))";

/// One CPython.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The executable.
    pub path: PathBuf,
    /// `3.11.7`.
    pub version: String,
    /// The libpython that it loads, if its allocators are not in the executable itself. Debian's `sysconfig` describes the build of
    /// its libpython and not that of its static executable, so the mappings are asked.
    pub library: Option<PathBuf>,
    /// Whether the allocators were inlined into their callers (PGO and LTO).
    pub inlined: bool,
    /// What it is.
    pub which: Which,
    /// The folder that is its root, if it has one of its own; the other paths are as seen from there.
    pub root: Option<PathBuf>,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        let inlined = if self.inlined { ", allocators inlined" } else { "" };
        let path = self.outside(&self.path);
        write!(to, "CPython {} ({kind}{inlined}) at {}", self.version, path.display())
    }
}

impl Interpreter {
    /// Looks at an executable.
    fn at(which: Which, path: &Path) -> Option<Self> {
        Self::within(which, path, None)
    }

    /// The same in a folder that is its root.
    fn within(which: Which, path: &Path, root: Option<&Path>) -> Option<Self> {
        let mut interpreter = Self {
            path: path.to_owned(),
            version: String::new(),
            library: None,
            inlined: false,
            which,
            root: root.map(Path::to_owned),
        };
        if !interpreter.outside(path).exists() {
            return None;
        }
        let facts = interpreter.ask(FACTS);
        let mut lines = facts.lines();
        lines.next()?.clone_into(&mut interpreter.version);
        interpreter.library = lines.next().map(PathBuf::from).or_else(|| which.library());
        let code = interpreter.outside(interpreter.library.as_deref().unwrap_or(path));
        let (from, to) = function_in_file(&code, "PyObject_Malloc");
        interpreter.inlined = to - from > PURE_WRAPPER_BYTES;
        Some(interpreter)
    }

    /// 11 of 3.11.7.
    ///
    /// # Panics
    /// When the version is none.
    #[must_use]
    pub fn minor(&self) -> u8 {
        let minor = self.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("{self} has no version"))
    }

    /// `shared` or `static`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.library.is_some() { "shared" } else { "static" }
    }

    /// The folder of a package from the package index, for interpreters of pyenv; `None` for others.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<PathBuf> {
        others::package(self, name)
    }

    /// Where we find a file that it calls so.
    #[must_use]
    pub fn outside(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// A command line that begins with it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.root {
            root::enter(&mut command, root);
        }
        command
    }

    /// Makes a folder of ours visible to it, under the same path.
    ///
    /// # Panics
    /// When it cannot be copied into its root.
    pub fn show(&self, folder: &Path) {
        if self.root.is_some() {
            root::copy(folder, &self.outside(folder));
        }
    }

    /// Runs a line of Python and returns what it prints.
    ///
    /// # Panics
    /// When the interpreter cannot be run.
    #[must_use]
    pub fn ask(&self, code: &str) -> String {
        let output = self
            .command()
            .args(["-I", "-c", code])
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.path.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} -c {code:?} fails:\n{said}", self.path.display());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// All CPython 3.11 whose allocators unshed knows completely: the shared builds of pyenv, and Debian's own, whose allocators are
/// inlined. Both kinds are there.
///
/// # Panics
/// When one of the kinds is missing; the message says how to get it.
#[must_use]
pub fn supported() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = of_pyenv("3.11.");
        found.retain(|interpreter| interpreter.library.is_some() && !interpreter.inlined);
        assert!(
            !found.is_empty(),
            "the tests need a shared CPython 3.11 of pyenv, and there is none in {:?}: \
             PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11",
            pyenv_roots()
        );
        let debian = Interpreter::at(Which::Debian, Path::new("/usr/bin/python3.11"));
        let debian = debian.expect(
            "the tests need Debian's own CPython 3.11, and there is no /usr/bin/python3.11: \
             apt-get install python3.11 python3.11-dev",
        );
        assert!(debian.inlined, "{debian} does not have its allocators inlined, so it is not Debian's build");
        found.push(debian);
        say_used(&found);
        found
    })
}

/// Every CPython whose frames unshed knows: all of [`Which::ALL`].
///
/// # Panics
/// When one of them is missing; the message says how to get it.
#[must_use]
pub fn every() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found: Vec<_> = Which::ALL.into_iter().flat_map(Which::find).collect();
        say_used(&found);
        found
    })
}

/// Debian's `libpython3.11` in a C program that embeds it.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn embedded() -> &'static Interpreter {
    static FOUND: OnceLock<Interpreter> = OnceLock::new();
    FOUND.get_or_init(|| others::embedded(11))
}

/// A CPython without the GIL.
///
/// # Panics
/// When there is none; the message says how to get it.
#[must_use]
pub fn free_threaded() -> &'static Interpreter {
    static FOUND: OnceLock<Interpreter> = OnceLock::new();
    FOUND.get_or_init(others::free_threaded)
}

/// Runs a test on each of [`supported`]; a failure on one does not keep it from the others, and says on which it was.
///
/// # Panics
/// When the test does, on any of them.
pub fn on_each(test: impl Fn(&'static Interpreter)) {
    let mut failed = Vec::new();
    for interpreter in supported() {
        if let Err(why) = catch_unwind(AssertUnwindSafe(|| test(interpreter))) {
            eprintln!("^^^ that failed on {interpreter}");
            failed.push((interpreter, why));
        }
    }
    let names: Vec<String> = failed.iter().map(|(interpreter, _)| interpreter.to_string()).collect();
    if let Some((_, why)) = failed.pop() {
        eprintln!("failed on: {}", names.join("; "));
        resume_unwind(why);
    }
}

/// A build with whole allocator functions, for tests in which the build does not matter, or has to be of this kind.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn any_supported() -> &'static Interpreter {
    &supported()[0]
}

/// CPythons of versions that this version of unshed refuses.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn unsupported() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        // 3.6 has no `_PyRuntime` by which it would be known for a CPython; newer ones than any table are not to be had.
        let found = of_pyenv("3.7.");
        assert!(
            !found.is_empty(),
            "the tests need a CPython 3.7 of pyenv, which unshed refuses, and there is none in {:?}: pyenv install 3.7",
            pyenv_roots()
        );
        say_used(&found);
        found
    })
}

/// A build whose allocators are inlined into their callers, Debian's own: for tests in which the build does not matter, so that
/// both kinds are used, or has to be of this kind.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn debian() -> &'static Interpreter {
    supported().iter().find(|interpreter| interpreter.inlined).expect("`supported` has both kinds")
}

fn say_used(found: &[Interpreter]) {
    for interpreter in found {
        eprintln!("using {interpreter}");
    }
}

/// The interpreters of pyenv whose version starts like this, in the order of their names.
fn of_pyenv(version_prefix: &str) -> Vec<Interpreter> {
    let mut paths: Vec<PathBuf> = pyenv_roots()
        .iter()
        .filter_map(|root| std::fs::read_dir(root.join("versions")).ok())
        .flat_map(|folder| folder.filter_map(Result::ok))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(version_prefix))
        .map(|entry| entry.path().join("bin").join(format!("python{}", version_prefix.trim_end_matches('.'))))
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    paths.sort();
    paths.dedup();
    let minor = version_prefix.split('.').nth(1).and_then(|minor| minor.parse().ok());
    let which = Which::Pyenv(minor.expect("the tests ask for versions such as `3.11.`"));
    paths.iter().filter_map(|path| Interpreter::at(which, path)).collect()
}

/// Where pyenv keeps its versions: as it says itself, as the environment says, and where it is by default.
fn pyenv_roots() -> Vec<PathBuf> {
    let said = Command::new("pyenv").arg("root").output().ok().filter(|output| output.status.success());
    let said = said.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let told = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    let mut roots: Vec<PathBuf> =
        [said, told, home].into_iter().flatten().filter(|root| root.is_dir()).collect();
    roots.sort();
    roots.dedup();
    roots
}
