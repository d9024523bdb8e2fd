//! Interpreters that say of themselves what is not so: copies of pyenv's, with other versions and other offsets written into them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tracer_common::frame::PyFrame;
use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::{Scratch, WalkEnd, Wish, walk};

use super::*;
use crate::error::{Error, Kind};
use crate::symbol::code::CodeNames;
use crate::target::fixture::{self, Script};
use crate::target::image::Image;
use crate::target::memory::Memory;
use crate::target::python::Python;

/// It says its own frames, and stays in them.
const FRAMES: &str = "
import sys
class Shop:
    def sell(self, n):
        return list(map(lambda _: self.serve(n), 'x'))
    def serve(self, n):
        if n: return self.serve(n - 1)
        said(sys._getframe()), input()
def said(f):
    while f: print(f.f_code.co_qualname, f.f_lineno, f.f_code.co_filename, flush=True); f = f.f_back
    print('.', flush=True)
Shop().sell(3)
";

/// The library of a version of pyenv's.
fn library(minor: u8) -> PathBuf {
    let name = format!("libpython3.{minor}.so.1.0");
    let mut found = fixture::libraries().into_iter();
    found.find(|path| path.ends_with(&name)).unwrap_or_else(|| panic!("pyenv has no {name}"))
}

/// The interpreter that uses a library, in pyenv's folders.
fn interpreter(library: &Path, minor: u8) -> PathBuf {
    library.parent().and_then(Path::parent).unwrap().join(format!("bin/python3.{minor}"))
}

/// A version with a library of its own, in a folder that is gone afterwards.
struct MadeUp {
    folder: PathBuf,
    minor: u8,
    library: PathBuf,
}

impl MadeUp {
    /// The library of 3.`minor`, which says that it is of `version`, with other words in `_PyRuntime` where `patches` say so.
    fn new(minor: u8, version: u32, patches: &[(u64, u64)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("unshed-made-up-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = library(minor);
        let image = Image::of_file(&library).unwrap();
        let mut bytes = std::fs::read(&library).unwrap();
        let mut put = |vaddr: u64, value: &[u8]| {
            let at = usize::try_from(image.elf.file_offset(vaddr).unwrap()).unwrap();
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(image.elf.symbol("Py_Version").unwrap().address, &version.to_le_bytes());
        let runtime = image.elf.symbol("_PyRuntime").unwrap().address;
        for (at, value) in patches {
            put(runtime + at, &value.to_le_bytes());
        }
        std::fs::write(folder.join(library.file_name().unwrap()), bytes).unwrap();
        Self { folder, minor, library }
    }

    fn start(&self, text: &str) -> Script {
        let path = interpreter(&self.library, self.minor);
        Script::start(&path, text, &[("LD_LIBRARY_PATH", self.folder.to_str().unwrap())])
    }

    /// What is found of it while it runs.
    fn found(&self) -> Result<Python, Error> {
        let mut script = self.start("print('ready'); input()");
        assert_eq!(script.line(), "ready");
        Python::find(&Process::open(script.pid()).unwrap())
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `PY_VERSION_HEX` of a final release.
const fn hex(minor: u32, micro: u32) -> u32 {
    3 << 24 | minor << 16 | micro << 8 | 0xf0
}

/// The bytes of pyenv's 3.13 that tell its offsets.
fn bytes() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let read = || {
        let image = Image::of_file(&library(13)).unwrap();
        let runtime = image.elf.symbol("_PyRuntime").unwrap().address;
        image.elf.at(runtime, debug_offsets::LENGTH).unwrap().to_vec()
    };
    BYTES.get_or_init(read).clone()
}

/// The frames of the first thread, as the walk and the names tell them.
fn walked(script: &Script, python: &Python) -> Vec<String> {
    let (memory, layout) = (Memory::new(script.pid()), python.layout().unwrap());
    let states = verified::thread_states(&memory, python.runtime().unwrap(), layout, 1);
    let innermost = verified::innermost(&memory, states[0], &layout.walk).unwrap();
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let wish = Wish { innermost, max_depth: MAX_DEPTH as u32, seed: 0, epoch: 0 };
    let walked = walk(&memory, &layout.walk, wish, &mut Scratch::default(), &mut frames);
    assert_eq!(walked.end, WalkEnd::Complete);
    let mut names = CodeNames::new(memory, layout);
    let named = frames[..walked.depth as usize].iter().map(|frame| names.name(frame).frame);
    named
        .map(|frame| {
            format!("{} {} {}", frame.function, frame.line.unwrap_or(0), frame.file.unwrap_or_default())
        })
        .collect()
}

/// What it says of its frames itself.
fn told(script: &mut Script) -> Vec<String> {
    std::iter::repeat_with(|| script.line()).take_while(|line| line != ".").collect()
}

#[test]
fn an_unknown_version_is_read_by_what_it_says_of_itself() {
    let made = MadeUp::new(13, hex(16, 2), &[]);
    let mut script = made.start(FRAMES);
    let truth = told(&mut script);
    let python = Python::find(&Process::open(script.pid()).unwrap()).unwrap();
    assert_eq!(python.version.to_string(), "3.16.2");
    let why = python.unproven().unwrap();
    assert!(why.contains("3.16.2 is unproven") && why.contains("like 3.13"), "{why}");
    assert_eq!(python.named(), "3.16.2, unproven");
    assert_eq!(walked(&script, &python), truth);
    assert_eq!((truth.len(), truth[0].contains("Shop.serve 8")), (7, true), "{truth:?}");
    // The same file again is the same layout.
    let again = Python::find(&Process::open(script.pid()).unwrap()).unwrap();
    assert!(std::ptr::eq(again.layout().unwrap(), python.layout().unwrap()));
}

#[test]
fn an_unknown_micro_version_is_tried_first() {
    for (minor, version) in [(13, "3.13.99"), (11, "3.11.99")] {
        let made = MadeUp::new(minor, hex(minor.into(), 99), &[]);
        let mut script = made.start(FRAMES);
        let truth = told(&mut script);
        let python = Python::find(&Process::open(script.pid()).unwrap()).unwrap();
        assert!(python.unproven().is_some_and(|why| why.contains(version)), "{:?}", python.unproven());
        assert_eq!(walked(&script, &python), truth);
        assert_eq!(python.layout(), layout::of(3, minor));
    }
}

#[test]
fn what_is_known_needs_no_trial() {
    for (minor, version) in [(11, 0), (13, 0)] {
        let path = interpreter(&library(minor), minor);
        let mut script = Script::start(&path, FRAMES, &[]);
        let truth = told(&mut script);
        let python = Python::find(&Process::open(script.pid()).unwrap()).unwrap();
        assert_eq!((python.unproven(), python.version.minor), (None, minor), "{version}");
        assert!(std::ptr::eq(python.layout().unwrap(), layout::of(3, minor).unwrap()));
        assert_eq!(walked(&script, &python), truth);
    }
}

/// Each fact of 3.13 that leads to a frame or to its names, and a wrong one.
const WRONG: [(&str, u64, u64); 17] = [
    ("interpreters_head", 40, 648),
    ("threads_head", 72, 7336),
    ("thread_state.current_frame", 184, 80),
    ("thread_state.thread_id", 192, 160),
    ("thread_state.native_thread_id", 200, 152),
    ("interpreter_frame.previous", 232, 16),
    ("interpreter_frame.executable", 240, 16),
    ("interpreter_frame.instr_ptr", 248, 48),
    ("interpreter_frame.owner", 264, 64),
    ("code_object.filename", 280, 104),
    ("code_object.qualname", 296, 136),
    ("code_object.linetable", 304, 144),
    ("code_object.co_code_adaptive", 344, 192),
    ("pyobject.ob_type", 360, 0),
    ("type_object.tp_name", 376, 32),
    ("unicode_object.length", 552, 24),
    ("unicode_object.asciiobject_size", 560, 64),
];

#[test]
fn wrong_offsets_are_refused() {
    // A version that is unknown, and one that is known but says otherwise. `native_thread_id` is in no layout: it only helps to try what is not known.
    let unknown = WRONG.map(|wrong| (hex(16, 0), wrong));
    let known = WRONG.map(|wrong| (hex(13, 0), wrong));
    let known = known.into_iter().filter(|(_, (name, ..))| *name != "thread_state.native_thread_id");
    for (version, (name, at, value)) in unknown.into_iter().chain(known) {
        let made = MadeUp::new(13, version, &[(at, value)]);
        match made.found() {
            Err(error) => assert_eq!(error.kind(), Kind::Target, "{name}: {error}"),
            Ok(python) => panic!("{name} at {value} is believed: {:?}", python.unproven()),
        }
    }
}

#[test]
fn nothing_is_known_of_an_unknown_version_that_says_nothing() {
    let made = MadeUp::new(13, hex(16, 0), &[(0, 0)]);
    let error = made.found().unwrap_err();
    assert_eq!(error.kind(), Kind::Target);
    assert!(
        error.to_string().contains("CPython 3.16.0, which is not supported\nsupported: CPython 3.8"),
        "{error}"
    );
}

#[test]
fn old_versions_are_named() {
    let root = library(13).ancestors().nth(3).unwrap().to_owned();
    let old = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let is_old = ["2.7.", "3.6.", "3.7."].iter().any(|prefix| name.starts_with(prefix));
        is_old.then(|| (entry.path().join("bin/python"), name))
    };
    let versions: Vec<_> = std::fs::read_dir(root).unwrap().filter_map(|entry| old(entry.unwrap())).collect();
    assert!(!versions.is_empty(), "pyenv has no CPython before 3.8");
    for (path, name) in versions {
        let mut script =
            Script::start(&path, "import sys; sys.stdout.write('ready\\n'); sys.stdin.readline()", &[]);
        assert_eq!(script.line(), "ready");
        let error = Python::find(&Process::open(script.pid()).unwrap()).unwrap_err();
        let minor: Vec<&str> = name.split('.').take(2).collect();
        let said = error.to_string();
        assert!(
            said.contains(&format!("CPython {}", minor.join("."))) && said.contains("not supported"),
            "{said}"
        );
        assert_eq!(error.kind(), Kind::Target);
    }
}

#[test]
fn a_program_that_has_not_begun_is_believed_only_where_it_agrees() {
    let version = |minor, micro| Version { major: 3, minor, micro: Some(micro) };
    let bytes = bytes();
    assert_eq!(of(version(13, 0), Some(&bytes), None), Offsets::Known(layout::of(3, 13).unwrap()));
    assert!(matches!(of(version(13, 99), Some(&bytes), None), Offsets::Unproven(..)));
    assert!(matches!(of(version(11, 99), None, None), Offsets::Unproven(..)));
    let Offsets::Unknown(Some(why)) = of(version(16, 0), Some(&bytes), None) else { panic!() };
    assert!(why.contains("-p"), "{why}");
    assert_eq!(of(version(16, 0), None, None), Offsets::Unknown(None));
    assert_eq!(of(version(7, 16), None, None), Offsets::Unknown(None));
}

#[test]
fn what_a_distributor_has_moved_wins() {
    let mut bytes = bytes();
    // PyThreadState.thread_id, from 152 to 168.
    bytes[192..200].copy_from_slice(&168_u64.to_le_bytes());
    let claim = claim(Version { major: 3, minor: 13, micro: Some(0) }, Some(&bytes));
    let Claim::Tried(guesses) = claim else { panic!("{claim:?}") };
    let known = layout::of(3, 13).unwrap();
    let mut walk = known.walk;
    walk.tstate_thread_id = 168;
    assert_eq!(guesses.len(), 1);
    assert_eq!(guesses[0].layout, Layout { walk, ..*known });
    assert!(
        guesses[0].why.contains("thread_state.thread_id is 168 and not 152, and 0 more"),
        "{}",
        guesses[0].why
    );
}

proptest! {
    #[test]
    fn whatever_is_told_is_possible_or_refused(
        changes in prop::collection::vec((3_usize..80, prop_oneof![0_u64..300, any::<u64>()]), 0..8),
        minor in 12_u8..17,
        cut in 0_usize..1024,
    ) {
        let mut bytes = bytes();
        for (word, value) in changes {
            bytes[word * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        if cut % 4 == 0 {
            bytes.truncate(cut);
        }
        if let Claim::Tried(guesses) = claim(Version { major: 3, minor, micro: Some(99) }, Some(&bytes)) {
            prop_assert!(!guesses.is_empty());
            for guess in guesses {
                prop_assert!(layout::is_sound(&guess.layout));
            }
        }
    }
}
