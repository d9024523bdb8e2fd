//! C and C++ extensions, built for the interpreter that will load them, as they are on people's machines: optimised or not, stripped or
//! not, their debug information in them, beside them or nowhere.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::target::programs;
use crate::interpreters::{Interpreter, supported};

/// One build at a time: two tests may want the same one.
static BUILDING: Mutex<()> = Mutex::new(());

/// Where `.build-id` folders are looked for (<https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>).
const BUILD_IDS: &str = "/usr/lib/debug/.build-id";

/// How an extension is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// What the compiler is told, besides what every extension needs.
    pub flags: &'static [&'static str],
    /// Where its debug information is.
    pub debug: DebugInfo,
}

/// Where the debug information of an extension is. Wherever it is not in the file itself, the file is stripped of everything that the
/// dynamic linker does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DebugInfo {
    /// In the file.
    Within,
    /// In a file of its own in the same folder, named by a debug link.
    Beside,
    /// The same in the folder `.debug` beside it.
    InFolder,
    /// In [`debug_file`], which no debug link names; a test can [`install`] it.
    Elsewhere,
    /// Lost.
    Nowhere,
}

impl Build {
    /// As extensions usually are: optimised, without frame pointers, and with debug information so that there is something to know.
    pub const USUAL: Self = Self::with(&["-O2", "-g"]);

    /// The usual one with debug information there.
    #[must_use]
    pub const fn stripped(debug: DebugInfo) -> Self {
        Self { debug, ..Self::USUAL }
    }

    /// With these flags.
    #[must_use]
    pub const fn with(flags: &'static [&'static str]) -> Self {
        Self { flags, debug: DebugInfo::Within }
    }
}

/// Compiles `programs/ext/SOURCE` for an interpreter and returns the folder of the shared object, which keeps the source's name. A build is
/// kept as long as neither source nor interpreter changes.
///
/// # Panics
/// When the compiler or Python's headers are missing (the message says how to get them), or the source does not compile.
#[must_use]
pub fn build_extension(interpreter: &Interpreter, source: &str, build: Build) -> PathBuf {
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = programs().join("ext").join(source);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut hash = DefaultHasher::new();
    // The path too: debug information tells it.
    (&path, &text, interpreter.outside(&interpreter.path), &interpreter.version, build).hash(&mut hash);
    let id = format!("{:016x}", hash.finish());
    let folder = std::env::temp_dir().join("unshed-tests-extensions").join(&id);
    if !folder.exists() {
        let unfinished = folder.with_extension(std::process::id().to_string());
        make_folder(&unfinished.join("whole"));
        compile(interpreter, &path, build.flags, &id, &whole(&unfinished, source));
        split(&unfinished, source, build.debug);
        // Another process may have made the same in the meantime: then its files are as good.
        let renamed = fs::rename(&unfinished, &folder);
        assert!(renamed.is_ok() || folder.exists(), "cannot make {}: {renamed:?}", folder.display());
    }
    folder
}

/// The extension as the compiler made it, all that it knows still in it, for the one in a folder that [`build_extension`] returned.
#[must_use]
pub fn whole(folder: &Path, source: &str) -> PathBuf {
    folder.join("whole").join(module_name(source))
}

/// The debug information of an extension that was built with [`DebugInfo::Elsewhere`].
#[must_use]
pub fn debug_file(folder: &Path, source: &str) -> PathBuf {
    folder.join("whole").join(debug_name(source))
}

/// `leaks.so` of `leaks.c`.
#[must_use]
pub fn module_name(source: &str) -> String {
    Path::new(source).with_extension("so").display().to_string()
}

fn debug_name(source: &str) -> String {
    module_name(source) + ".debug"
}

/// A file of debug information in the system's own folder for them, until this is dropped.
#[derive(Debug)]
pub struct Installed {
    file: PathBuf,
}

/// Puts a file of debug information where a package of the system would put it, by the build id of the extension in a folder that
/// [`build_extension`] returned.
///
/// # Panics
/// When that is not allowed.
#[must_use]
pub fn install(folder: &Path, source: &str) -> Installed {
    let id = build_id(&whole(folder, source));
    let (first, rest) = id.split_at(2);
    let file = Path::new(BUILD_IDS).join(first).join(rest).with_extension("debug");
    make_folder(file.parent().expect("it was joined a line above"));
    let copied = fs::copy(debug_file(folder, source), &file);
    assert!(copied.is_ok(), "cannot install {}: {copied:?}", file.display());
    Installed { file }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // If it stays, it does no harm: no other file has this build id. The folder stays if others use it.
        drop(fs::remove_file(&self.file));
        drop(self.file.parent().map(fs::remove_dir));
    }
}

/// The build id of an ELF file, in hexadecimal.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn build_id(file: &Path) -> String {
    use object::Object as _;
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    let elf = object::File::parse(bytes.as_slice()).expect("the linker writes ELF files");
    let id = elf.build_id().ok().flatten().expect("the linker was told to write a build id");
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles; the build id is `id`, because builds that differ only in where their debug information is must not find each other's.
fn compile(interpreter: &Interpreter, source: &Path, flags: &[&str], id: &str, out: &Path) {
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut compiler = Command::new(if cpp { "g++" } else { "gcc" });
    compiler.args(["-Wall", "-shared", "-fPIC", "-pthread"]).arg(format!("-Wl,--build-id=0x{id}{id}"));
    compiler.args(flags).arg("-I").arg(headers(interpreter)).arg(source).arg("-o").arg(out);
    // Debian's headers include some by a path under /usr/include, where this machine's own come first.
    compiler.arg("-idirafter").arg(interpreter.outside(Path::new("/usr/include")));
    run(&mut compiler);
}

/// Makes the extension that is loaded out of the whole one, and puts its debug information where it is wanted.
fn split(folder: &Path, source: &str, debug: DebugInfo) {
    let (whole, module) = (whole(folder, source), folder.join(module_name(source)));
    if debug == DebugInfo::Within {
        fs::copy(&whole, &module).expect("a file can be copied within its folder");
        return;
    }
    let apart = match debug {
        DebugInfo::Within | DebugInfo::Nowhere => None,
        DebugInfo::Beside => Some(folder.join(debug_name(source))),
        DebugInfo::InFolder => Some(folder.join(".debug").join(debug_name(source))),
        DebugInfo::Elsewhere => Some(debug_file(folder, source)),
    };
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-all");
    if let Some(apart) = &apart {
        make_folder(apart.parent().expect("it was joined a line above"));
        run(Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(apart));
    }
    if let (Some(apart), DebugInfo::Beside | DebugInfo::InFolder) = (&apart, debug) {
        strip.arg(format!("--add-gnu-debuglink={}", apart.display()));
    }
    run(strip.arg(&whole).arg(&module));
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?} ({error}): apt-get install build-essential"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} fails:\n{said}");
}

fn make_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
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
    let folder = interpreter.ask("import sysconfig; print(sysconfig.get_paths()['include'])");
    interpreter.outside(Path::new(&folder))
}
