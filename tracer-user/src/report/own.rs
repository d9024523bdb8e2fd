//! Whose code a frame is: CPython's and the platform's, which merely serve, or somebody's who can be asked to mend it.
//!
//! A stripped extension leaks as well as one with debug information, so this goes by the file that holds the code. In a file that is not CPython's alone (a program that has an
//! interpreter built in) it goes by the source file.

use crate::report::story::Story;
use crate::symbol::{self, Frame, FrameKind};

/// The C extensions of CPython 3.11's standard library (`Modules/`, `setup.py`), sorted, as far as their names are not in a folder that says the same.
const STANDARD: [&str; 77] = [
    "_asyncio",
    "_bisect",
    "_blake2",
    "_bz2",
    "_codecs_cn",
    "_codecs_hk",
    "_codecs_iso2022",
    "_codecs_jp",
    "_codecs_kr",
    "_codecs_tw",
    "_contextvars",
    "_crypt",
    "_csv",
    "_ctypes",
    "_ctypes_test",
    "_curses",
    "_curses_panel",
    "_datetime",
    "_dbm",
    "_decimal",
    "_elementtree",
    "_gdbm",
    "_hashlib",
    "_heapq",
    "_json",
    "_lsprof",
    "_lzma",
    "_md5",
    "_multibytecodec",
    "_multiprocessing",
    "_opcode",
    "_pickle",
    "_posixshmem",
    "_posixsubprocess",
    "_queue",
    "_random",
    "_sha1",
    "_sha256",
    "_sha3",
    "_sha512",
    "_socket",
    "_sqlite3",
    "_ssl",
    "_statistics",
    "_struct",
    "_testbuffer",
    "_testcapi",
    "_testclinic",
    "_testimportmultiple",
    "_testinternalcapi",
    "_testmultiphase",
    "_tkinter",
    "_typing",
    "_uuid",
    "_xxsubinterpreters",
    "_xxtestfuzz",
    "_zoneinfo",
    "array",
    "audioop",
    "binascii",
    "cmath",
    "fcntl",
    "grp",
    "math",
    "mmap",
    "nis",
    "ossaudiodev",
    "pyexpat",
    "readline",
    "resource",
    "select",
    "spwd",
    "syslog",
    "termios",
    "unicodedata",
    "xxlimited",
    "zlib",
];

/// The C library in its parts, the loaders, the runtimes of compilers, and libraries that replace `malloc`: names of files up to `.so` and without a version.
const PLATFORM: [&str; 39] = [
    "ld",
    "ld-linux-x86-64",
    "ld-musl-x86_64",
    "libanl",
    "libasan",
    "libatomic",
    "libc",
    "libc++",
    "libc++abi",
    "libc.musl-x86_64",
    "libclang_rt.asan",
    "libdl",
    "libduma",
    "libefence",
    "libffi",
    "libgcc_s",
    "libgomp",
    "libhoard",
    "libiomp5",
    "libjemalloc",
    "libm",
    "libmimalloc",
    "libmimalloc-debug",
    "libmimalloc-secure",
    "libmvec",
    "libnsl",
    "libomp",
    "libpthread",
    "libresolv",
    "librpmalloc",
    "librt",
    "libsnmallocshim",
    "libstdc++",
    "libtcmalloc",
    "libtcmalloc_and_profiler",
    "libtcmalloc_debug",
    "libtcmalloc_minimal",
    "libtcmalloc_minimal_debug",
    "libutil",
];

/// The folders of CPython's C source.
const SOURCES: [&str; 8] =
    ["Objects", "Python", "Modules", "Parser", "Programs", "Include", "internal", "cpython"];

/// How the source files of runtimes that are compiled into a program are found: the C++ library's headers and Rust's library.
const RUNTIME_SOURCES: [&str; 2] = ["/include/c++/", "/rustc/"];

/// How functions of such runtimes are called, where nothing tells their source file.
const RUNTIME_NAMES: [&str; 15] = [
    "operator new",
    "std::",
    "__gnu_cxx::",
    "__rust_",
    "__rdl_",
    "alloc::alloc::",
    "alloc::boxed::",
    "alloc::collections::",
    "alloc::raw_vec::",
    "alloc::rc::",
    "alloc::slice::",
    "alloc::string::",
    "alloc::sync::",
    "alloc::vec::",
    "hashbrown::",
];

/// What is known of the traced program, to tell its frames apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// The name of the file that holds CPython; `None` in captures that do not say it.
    interpreter: Option<&'a str>,
}

impl<'a> Program<'a> {
    /// What a story knows.
    pub(super) fn of(story: &'a Story) -> Self {
        Self { interpreter: story.target.interpreter.as_deref().map(file_name) }
    }

    /// Whether the frame is C code of CPython, of its standard library, the C library, a compiler's runtime or an allocator.
    pub(super) fn is_own(self, frame: &Frame) -> bool {
        if frame.kind == FrameKind::Python {
            return false;
        }
        let path = frame.place.as_ref().map(|place| &place.path);
        let Some(file) = path.or(frame.module.as_ref()) else { return false };
        if serves(file) || is_runtime(frame) {
            return true;
        }
        // A program that has CPython built in: its own functions are told by their source file, if at all.
        let holds_cpython = self.interpreter == Some(file_name(file));
        holds_cpython && frame.file.as_deref().is_none_or(is_source)
    }

    /// Which frame to point at: the innermost that is Python, or C code that is not the interpreter's own, with or without a name; else the innermost of all. C code of
    /// no file (made at run time) helps nobody who has to find it.
    pub(super) fn leaking(self, stack: &[Frame]) -> Option<usize> {
        let pointed = |frame: &Frame| match frame.kind {
            FrameKind::Python => true,
            FrameKind::Native => (frame.module.is_some() || frame.line.is_some()) && !self.is_own(frame),
        };
        stack.iter().position(pointed).or((!stack.is_empty()).then_some(0))
    }
}

/// The file is CPython's, the standard library's or the platform's. The path is asked where it is known: a package may bring its own `_sqlite3`.
fn serves(file: &str) -> bool {
    let name = file_name(file);
    if is_python(name) || name == "[vdso]" {
        return true;
    }
    let Some((stem, _)) = name.split_once(".so") else { return false };
    if [stem, unversioned(stem)].iter().any(|stem| PLATFORM.contains(stem)) {
        return true;
    }
    if file.contains('/') {
        return file.contains("/lib-dynload/");
    }
    let extension = stem.split('.').next().unwrap_or(stem);
    STANDARD.binary_search(&extension).is_ok()
}

/// `python3.11`, `python3.11-dbg`, `python`, `libpython3.11.so.1.0`; not `python_magic.so`.
fn is_python(name: &str) -> bool {
    if let Some(version) = name.strip_prefix("libpython") {
        return version.starts_with(|c: char| c.is_ascii_digit());
    }
    name.strip_prefix("python").is_some_and(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        matches!(rest, "" | "d" | "t" | "td" | "-dbg")
    })
}

/// The name without a version or a hash, as wheels add one: `libc-2.31`, `libgomp-a34b3233`.
fn unversioned(stem: &str) -> &str {
    match stem.rsplit_once('-') {
        Some((name, tail))
            if tail.starts_with(|c: char| c.is_ascii_digit())
                || tail.len() >= 8 && tail.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            name
        }
        _ => stem,
    }
}

/// A function of a C++ or Rust runtime that the compiler has put into the file.
fn is_runtime(frame: &Frame) -> bool {
    if let Some(file) = &frame.file {
        return RUNTIME_SOURCES.iter().any(|folder| file.contains(folder));
    }
    let name = qualified(&frame.function);
    let name = name.strip_prefix('<').unwrap_or(name);
    RUNTIME_NAMES.iter().any(|prefix| name.starts_with(prefix))
}

/// The name of a function without parameters and without the type that it returns, which demangled templates have before it: `std::vector<int> make<int>(int)` is
/// `make<int>`.
fn qualified(function: &str) -> &str {
    let (mut depth, mut begin) = (0_u32, 0);
    for (at, character) in function.char_indices() {
        match character {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && !function[begin..at].ends_with("operator") => begin = at + 1,
            '(' if depth == 0 && !function[at..].starts_with("(anonymous") => return &function[begin..at],
            _ => {}
        }
    }
    &function[begin..]
}

/// A source file in one of CPython's folders.
fn is_source(file: &str) -> bool {
    file.rsplit('/').nth(1).is_some_and(|folder| SOURCES.contains(&folder))
}

fn file_name(path: &str) -> &str {
    let name = symbol::file_name(path);
    name.strip_suffix(" (deleted)").unwrap_or(name)
}

#[cfg(test)]
mod tests;
