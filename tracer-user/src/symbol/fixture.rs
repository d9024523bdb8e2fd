//! A small library that the compiler of this machine makes, and what packagers do to it: for the tests of names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::symbol::native::namer::Namer;
use crate::symbol::{Frame, FrameKind};
use crate::target::elf::Elf;
use crate::target::modules::{CodeFile, Place};

/// `behind_*` are addresses behind calls; the lines are those of the file.
const C: &str = r#"
#include <stdlib.h>
#define HERE(name) __asm__ volatile(".globl " #name "\n.hidden " #name "\n" #name ":")
void *volatile last;
static inline __attribute__((always_inline)) void grow(size_t size)
{
    last = malloc(size); HERE(behind_inlined);
}
static __attribute__((noinline)) int hidden(size_t size)
{
    last = malloc(size); HERE(behind_hidden);
    return last != 0;
}
int exported(size_t size)
{
    grow(size + 1);
    return hidden(size) + 1;
}
"#;
const CPP: &str = r#"
#include <cstdlib>
#define HERE(name) __asm__ volatile(".globl " #name "\n.hidden " #name "\n" #name ":")
void *volatile last;
namespace pool { template <typename T> struct Box { __attribute__((noinline)) static int keep(T count) {
    last = malloc(count); HERE(behind_template);
    return last != nullptr; } }; }
extern "C" int exported(long size) { return pool::Box<long>::keep(size) + 1; }
"#;

/// A folder that is removed when dropped.
pub(in crate::symbol) struct Folder(pub(in crate::symbol) PathBuf);

impl Folder {
    pub(in crate::symbol) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("unshed-names-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in crate::symbol) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program in a folder.
pub(in crate::symbol) fn run(folder: &Path, program: &str, args: &[&str]) {
    let ran = Command::new(program).args(args).current_dir(folder).output();
    let ran = ran.unwrap_or_else(|error| panic!("these tests need {program}: {error}"));
    assert!(ran.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// `libfoo.so`, with debug information, in a folder of its own; options such as `-Wl,--build-id=none` come last.
pub(in crate::symbol) fn library(options: &[&str]) -> Folder {
    built("gcc", "foo.c", C, options)
}

/// The same in C++.
pub(in crate::symbol) fn library_of_cpp(options: &[&str]) -> Folder {
    built("g++", "foo.cpp", CPP, options)
}

fn built(compiler: &str, name: &str, text: &str, options: &[&str]) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.path(name), text).unwrap();
    let args = ["-O2", "-g", "-shared", "-fPIC", "-Wl,--build-id=sha1", "-o", "libfoo.so", name];
    run(&folder.0, compiler, &[&args, options].concat());
    std::fs::copy(folder.path("libfoo.so"), folder.path("whole")).unwrap();
    folder
}

/// Takes the debug information out of `libfoo.so` into a file, and the symbols away.
pub(in crate::symbol) fn detach(folder: &Folder, debug: &str, compress: &str) {
    std::fs::create_dir_all(folder.path(debug).parent().unwrap()).unwrap();
    run(
        &folder.0,
        "objcopy",
        &["--only-keep-debug", &format!("--compress-debug-sections={compress}"), "libfoo.so", debug],
    );
    run(&folder.0, "strip", &["--strip-all", "libfoo.so"]);
}

/// Where a detached file goes by its build id.
pub(in crate::symbol) fn by_build_id(folder: &Folder) -> String {
    let elf = Elf::open(&folder.path("whole")).unwrap();
    let id = super::hex(elf.build_id().unwrap());
    format!(".build-id/{}/{}.debug", &id[..2], &id[2..])
}

/// The file, as if it were mapped.
pub(in crate::symbol) fn code_file(path: &Path) -> Arc<CodeFile> {
    Arc::new(CodeFile::of_file(path).unwrap())
}

/// A label of the library before it was stripped, as a place in `libfoo.so`.
pub(in crate::symbol) fn place(folder: &Folder, label: &str) -> Place {
    place_in(folder, "libfoo.so", label)
}

pub(in crate::symbol) fn place_in(folder: &Folder, file: &str, label: &str) -> Place {
    let whole = Elf::open(&folder.path("whole")).unwrap();
    let vaddr = whole.symbol(label).unwrap().address;
    Place { file: code_file(&folder.path(file)), offset: whole.file_offset(vaddr).unwrap(), vaddr }
}

/// A name in few words: `function file:line`, `(inlined)` behind inlined ones.
pub(in crate::symbol) fn told(frames: &[Frame]) -> Vec<String> {
    let told = |frame: &Frame| {
        assert_eq!(frame.kind, FrameKind::Native);
        let file =
            frame.file.as_deref().map(|file| format!(" {}", super::file_name(file))).unwrap_or_default();
        let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        format!("{}{file}{line}{inlined}", frame.function)
    };
    frames.iter().map(told).collect()
}

/// The name of a label of the library.
pub(in crate::symbol) fn named(namer: &mut Namer, folder: &Folder, label: &str) -> Vec<String> {
    told(&namer.name(&place(folder, label)))
}
