//! The CPythons of this machine. Users have others than we: they are found, not assumed, and every test says which it used.
//! A missing one is a failure with a sentence, never a skipped test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One CPython.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The executable.
    pub path: PathBuf,
    /// `3.11.7`.
    pub version: String,
    /// Whether it was built with `--enable-shared`.
    pub shared: bool,
}

impl Interpreter {
    /// Looks at an executable.
    fn at(path: &Path) -> Option<Self> {
        let mut interpreter = Self { path: path.to_owned(), version: String::new(), shared: false };
        if !path.exists() {
            return None;
        }
        let facts = interpreter.ask(
            "import platform, sysconfig; print(platform.python_version(), sysconfig.get_config_var('Py_ENABLE_SHARED'))",
        );
        let (version, shared) = facts.split_once(' ')?;
        version.clone_into(&mut interpreter.version);
        interpreter.shared = shared == "1";
        Some(interpreter)
    }

    /// Runs a line of Python and returns what it prints.
    ///
    /// # Panics
    /// When the interpreter cannot be run.
    #[must_use]
    pub fn ask(&self, code: &str) -> String {
        let output = Command::new(&self.path)
            .args(["-I", "-c", code])
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.path.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} -c {code:?} fails:\n{said}", self.path.display());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// All CPython 3.11 that are shared builds of pyenv: the builds that this version of unshed knows completely.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn supported() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = of_pyenv("3.11.");
        found.retain(|interpreter| interpreter.shared);
        assert!(
            !found.is_empty(),
            "the tests need a shared CPython 3.11 of pyenv, and there is none in {:?}: \
             PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11",
            pyenv_roots()
        );
        say_used(&found);
        found
    })
}

/// The first of [`supported`], for tests in which the build does not matter.
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
        let found: Vec<_> = ["3.8.", "3.9.", "3.10.", "3.12.", "3.13."]
            .iter()
            .flat_map(|version| of_pyenv(version))
            .collect();
        assert!(
            !found.is_empty(),
            "the tests need any CPython 3 of pyenv that is not 3.11, and there is none in {:?}",
            pyenv_roots()
        );
        say_used(&found);
        found
    })
}

/// Debian's own CPython 3.11, whose allocators are inlined into their callers.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn debian() -> Interpreter {
    let path = Path::new("/usr/bin/python3.11");
    let found = Interpreter::at(path)
        .expect("the tests need Debian's /usr/bin/python3.11: apt-get install python3.11");
    say_used(std::slice::from_ref(&found));
    found
}

fn say_used(found: &[Interpreter]) {
    for interpreter in found {
        let kind = if interpreter.shared { "shared" } else { "static" };
        eprintln!("using CPython {} ({kind}) at {}", interpreter.version, interpreter.path.display());
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
    paths.iter().filter_map(|path| Interpreter::at(path)).collect()
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
