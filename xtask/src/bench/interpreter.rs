//! The interpreter that works: a private copy of one of the machine's.
//!
//! A uprobe is a breakpoint in a file, and some tools (bpftrace 0.17 with `-p`) arm it in every process that maps the file:
//! on the shared file, every Python of the machine would pay for the bench. A copy has an inode of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::python::Python;
use crate::run;

/// Prints what of itself an interpreter has mapped, and where its library is.
const PROBE: &str = "import sys
print(sys.base_prefix)
for line in open('/proc/self/maps'):
    fields = line.split(None, 5)
    if len(fields) == 6 and 'x' in fields[1]: print(fields[5].strip())";

/// An interpreter and how to start it.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// What the reader knows it by.
    pub(crate) name: String,
    /// The mapped file that holds CPython's allocator, and so its probes.
    pub(crate) object: PathBuf,
    path: PathBuf,
    env: Vec<(&'static str, PathBuf)>,
}

impl Interpreter {
    /// Copies an interpreter (and its libpython) into a folder and checks that the copy runs from there.
    pub(crate) fn copy(python: &Python, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let original = Self::as_is(python);
        let (prefix, mapped) = original.own_files()?;
        let executable = std::fs::canonicalize(&python.path)?;
        let path = copied(&executable, folder)?;
        let mut object = path.clone();
        for library in mapped.iter().filter(|file| is_libpython(file)) {
            object = copied(library, folder)?;
        }
        let env = vec![("LD_LIBRARY_PATH", folder.to_path_buf()), ("PYTHONHOME", prefix)];
        let copy = Self { object, path, env, ..original };
        copy.check(&executable, &mapped)?;
        Ok(copy)
    }

    /// The interpreter itself, for what attaches nothing.
    pub(crate) fn as_is(python: &Python) -> Self {
        let name = format!("CPython {} of {}", python.version, python.path.display());
        Self { name, object: python.path.clone(), path: python.path.clone(), env: Vec::new() }
    }

    /// A command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    fn check(&self, executable: &Path, originals: &BTreeSet<PathBuf>) -> Result<()> {
        let (_, mapped) = self.own_files().context("the private copy does not run")?;
        let shared =
            |file: &&PathBuf| *file == executable || (is_libpython(file) && originals.contains(*file));
        match mapped.iter().find(shared) {
            Some(file) => bail!("the private copy still runs from {}", file.display()),
            None => Ok(()),
        }
    }

    /// Its prefix, and the files of code that it maps.
    fn own_files(&self) -> Result<(PathBuf, BTreeSet<PathBuf>)> {
        let said = run::output_of(self.command().args(["-c", PROBE]))?;
        parse(&said).with_context(|| format!("{} says nothing of itself", self.path.display()))
    }
}

fn parse(said: &str) -> Option<(PathBuf, BTreeSet<PathBuf>)> {
    let (prefix, files) = said.split_once('\n')?;
    let files = files.lines().filter(|line| line.starts_with('/')).map(PathBuf::from).collect();
    Some((PathBuf::from(prefix), files))
}

fn is_libpython(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libpython"))
}

fn copied(file: &Path, folder: &Path) -> Result<PathBuf> {
    let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
    let copy = folder.join(name);
    // Not written over: a process of an interrupted bench may still run from the old one.
    if copy.exists() {
        std::fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    std::fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_says_its_prefix_and_its_files() {
        let said = "/usr\n/usr/bin/python3.11\n/lib/libc.so.6\n[vdso]\n/lib/libc.so.6\n";
        let (prefix, files) = parse(said).expect("a prefix and files");
        assert_eq!(prefix, Path::new("/usr"));
        assert_eq!(files.len(), 2);
        assert!(parse("").is_none());
    }

    #[test]
    fn libpython_is_known_by_its_name() {
        assert!(is_libpython(Path::new("/a/lib/libpython3.11.so.1.0")));
        assert!(!is_libpython(Path::new("/a/libpython/libc.so.6")));
    }

    #[test]
    fn a_copy_runs_from_its_own_files() {
        let folder = tempfolder();
        let pythons = crate::python::found();
        assert!(!pythons.is_empty(), "there is no CPython 3.11");
        for python in pythons {
            let copy = Interpreter::copy(&python, &folder).expect("it can be copied");
            assert!(copy.object.starts_with(&folder), "{copy:?}");
        }
        std::fs::remove_dir_all(&folder).expect("it was made");
    }

    fn tempfolder() -> PathBuf {
        std::env::temp_dir().join(format!("unshed-bench-copy-{}", std::process::id()))
    }
}
