//! A C library that leaks in a static function and in one that the compiler inlines, and what packagers do to it.

use std::path::PathBuf;
use std::process::Command;

use unshed_tests::harness::Scratch;

/// No instruction of `hidden` is of an exported function, and `grow` has none of its own.
const SOURCE: &str = r#"#include <stdlib.h>
static void *volatile last;
static inline __attribute__((always_inline)) void grow(size_t size)
{
    last = malloc(size); /* INLINED */
}
static __attribute__((noinline)) void hidden(size_t size)
{
    last = malloc(size); /* HIDDEN */
}
void leak_hidden(long size, long count)
{
    for (long i = 0; i < count; i++) {
        hidden((size_t)size);
    }
}
void leak_inlined(long size, long count)
{
    for (long i = 0; i < count; i++) {
        grow((size_t)size);
    }
}
"#;

/// `libnames.so` in a folder of its own, compiled with `-O2 -g`.
pub(crate) struct Library {
    pub(crate) scratch: Scratch,
}

impl Library {
    /// Compiles it, with more options.
    pub(crate) fn build(options: &[&str]) -> Self {
        let library = Self { scratch: Scratch::default() };
        std::fs::write(library.path("names.c"), SOURCE).expect("/tmp takes a file");
        let args = ["-O2", "-g", "-shared", "-fPIC", "-Wl,--build-id=sha1", "names.c", "-o", "libnames.so"];
        library.run("gcc", &[&args, options].concat());
        library
    }

    /// Moves the debug information into a file beside it, and strips the library of all that strip takes.
    pub(crate) fn detach(self, debug: &str) -> Self {
        self.run("objcopy", &["--only-keep-debug", "--compress-debug-sections=zlib", "libnames.so", debug]);
        self.strip()
    }

    /// Strips the library of all that strip takes.
    pub(crate) fn strip(self) -> Self {
        self.run("strip", &["--strip-all", "libnames.so"]);
        self
    }

    /// Writes the name and the checksum of a debug file into it.
    pub(crate) fn link(self, debug: &str) -> Self {
        self.run("objcopy", &[&format!("--add-gnu-debuglink={debug}"), "libnames.so"]);
        self
    }

    /// Moves a file to where its build id says, below a folder; returns that folder.
    pub(crate) fn by_build_id(&self, debug: &str, folder: &str) -> PathBuf {
        let id = self.build_id();
        let place = self.path(folder).join(".build-id").join(&id[..2]);
        std::fs::create_dir_all(&place).expect("/tmp takes a folder");
        let name = format!("{}.debug", &id[2..]);
        std::fs::rename(self.path(debug), place.join(name)).expect("a file can be moved in /tmp");
        self.path(folder)
    }

    /// Its build id, as readelf says it.
    pub(crate) fn build_id(&self) -> String {
        let output = Command::new("readelf").args(["-n", &self.arg()]).output().expect("readelf is with gcc");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
        id.unwrap_or_else(|| panic!("readelf tells no build id:\n{text}")).to_owned()
    }

    /// A path beside it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Its own path.
    pub(crate) fn arg(&self) -> String {
        self.scratch.arg("libnames.so")
    }

    /// The line of the source with a mark.
    pub(crate) fn line(mark: &str) -> u32 {
        let at = SOURCE.lines().position(|line| line.contains(mark)).expect("the source has the mark");
        at as u32 + 1
    }

    fn run(&self, program: &str, args: &[&str]) {
        let ran = Command::new(program).args(args).current_dir(self.path("")).output();
        let ran = ran.unwrap_or_else(|error| panic!("the tests need {program}: {error}"));
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{program} {args:?} fails:\n{said}");
    }
}
