//! C extensions, built for the interpreter that will load them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::target::programs;
use crate::interpreters::{Interpreter, supported};

/// One build at a time: two tests may want the same one.
static BUILDING: Mutex<()> = Mutex::new(());

/// Compiles `programs/ext/SOURCE` with debug information for an interpreter and returns the folder of the shared object, which
/// keeps the source's name. A build is kept as long as neither source nor interpreter changes.
///
/// # Panics
/// When the compiler or Python's headers are missing (the message says how to get them), or the source does not compile.
#[must_use]
pub fn build_extension(interpreter: &Interpreter, source: &str) -> PathBuf {
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = programs().join("ext").join(source);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut hash = DefaultHasher::new();
    (&text, &interpreter.path, &interpreter.version).hash(&mut hash);
    let folder = std::env::temp_dir().join("unshed-tests-extensions").join(format!("{:016x}", hash.finish()));
    let module = Path::new(source).with_extension("so");
    let built = folder.join(&module);
    if !built.exists() {
        std::fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let unfinished = folder.join(format!("{}.{}", module.display(), std::process::id()));
        compile(interpreter, &path, &unfinished);
        std::fs::rename(&unfinished, &built).expect("a file can be renamed within its folder");
    }
    folder
}

fn compile(interpreter: &Interpreter, source: &Path, out: &Path) {
    let include = headers(interpreter);
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-g", "-Wall", "-shared", "-fPIC", "-I"]).arg(include).arg(source).arg("-o").arg(out);
    let output =
        gcc.output().unwrap_or_else(|error| panic!("the tests need gcc, which cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{said}", source.display());
}

/// The folder of an interpreter's `Python.h`. Debian's are a package of their own, `python3.11-dev`; without it another build's of
/// the same minor version will do, because the ABI does not change within one (PEP 387; only debug builds differ).
fn headers(interpreter: &Interpreter) -> PathBuf {
    let has_headers = |folder: &PathBuf| folder.join("Python.h").exists();
    let own = folder_of_headers(interpreter);
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let same = |other: &&Interpreter| minor(&other.version) == minor(&interpreter.version);
    let others = supported().iter().filter(same).map(folder_of_headers);
    std::iter::once(own.clone()).chain(others).find(has_headers).unwrap_or_else(|| {
        panic!("there is no {}/Python.h for {interpreter}: apt-get install python3.11-dev", own.display())
    })
}

fn folder_of_headers(interpreter: &Interpreter) -> PathBuf {
    PathBuf::from(interpreter.ask("import sysconfig; print(sysconfig.get_paths()['include'])"))
}
