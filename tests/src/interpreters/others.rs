//! The CPythons that no package manager of this machine has put in its place: unpacked, embedded, built without the GIL.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Interpreter, Which};
use crate::harness::program;

/// What makes all of them.
const VERB: &str = "cargo xtask pythons";
/// The version that it builds without the GIL.
const FREE_THREADED: &str = "3.13";
/// The minor version whose library is this machine's own (Debian's `libpython3.11` and `libpython3.11-dev`).
const OWN: u8 = 11;
const HEADERS: &str = "/usr/include";

/// Where they are kept: `$UNSHED_PYTHONS`, or `~/.cache/unshed/pythons`.
fn folder() -> PathBuf {
    let told = std::env::var_os("UNSHED_PYTHONS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/unshed/pythons"));
    told.or_else(home).expect("neither UNSHED_PYTHONS nor HOME is set")
}

/// The folder of a package that was installed for an interpreter of pyenv; `None` for any other.
pub(super) fn package(interpreter: &Interpreter, name: &str) -> Option<PathBuf> {
    let Which::Pyenv(minor) = interpreter.which else { return None };
    let path = folder().join(format!("packages/{name}-3.{minor}"));
    assert!(
        path.is_dir(),
        "the tests need {name} for {interpreter}, and there is no {}: {VERB}",
        path.display()
    );
    Some(path)
}

/// Debian's, in its folder.
pub(super) fn chroot(minor: u8) -> Interpreter {
    let (root, path) = (folder().join(format!("3.{minor}")), format!("/usr/bin/python3.{minor}"));
    let found = Interpreter::within(Which::Chroot(minor), Path::new(&path), Some(&root));
    found.unwrap_or_else(|| {
        panic!(
            "the tests need Debian's CPython 3.{minor}, and there is no {path} in {}: {VERB}",
            root.display()
        )
    })
}

/// The one without the GIL.
pub(super) fn free_threaded() -> Interpreter {
    let path = folder().join(format!("{FREE_THREADED}t/bin/python{FREE_THREADED}t"));
    let found = Interpreter::at(Which::FreeThreaded, &path);
    found.unwrap_or_else(|| {
        panic!("the tests need a free-threaded CPython, and there is no {}: {VERB}", path.display())
    })
}

/// Compiles `programs/embed.c`, once for each text of it and each library.
pub(super) fn embedded(minor: u8) -> Interpreter {
    let which = Which::Embedded(minor);
    let root = (minor != OWN).then(|| folder().join(format!("3.{minor}")));
    let outside = |path: &Path| match &root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    let library = which.library().expect("it is embedded");
    let source = program("embed.c");
    let text = std::fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let mut hash = DefaultHasher::new();
    (text, &library).hash(&mut hash);
    let path = Path::new("/tmp").join(format!("unshed-tests-embed-{:016x}", hash.finish()));
    let host = outside(&path);
    if !host.exists() {
        let unfinished = host.with_extension(std::process::id().to_string());
        let headers = outside(Path::new(HEADERS));
        let mut compiler = Command::new("cc");
        // The library's own C library may be a newer one than this machine's.
        compiler.args(["-O2", "-g", "-Wall", "-Wl,--allow-shlib-undefined"]);
        compiler.arg("-I").arg(headers.join(format!("python3.{minor}"))).arg("-idirafter").arg(headers);
        compiler.arg(&source).arg(outside(&library));
        compiler.args([OsStr::new("-o"), unfinished.as_os_str()]);
        let output = compiler.output().unwrap_or_else(|error| panic!("cannot run {compiler:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{compiler:?} fails (apt-get install libpython3.11-dev, {VERB}):\n{said}"
        );
        std::fs::rename(&unfinished, &host).expect("a file can be renamed in its folder");
    }
    Interpreter::within(which, &path, root.as_deref()).expect("it was just compiled")
}
