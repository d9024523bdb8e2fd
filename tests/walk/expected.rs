//! What a walk must find, and the pairs of files that keep it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracer_user::symbol::Frame;
use tracer_user::target::layout::{self, Layout};

/// A frame as CPython tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

impl Told {
    /// Whether a name that was read is this one.
    pub(crate) fn is(&self, frame: &Frame) -> bool {
        self.names(frame) && frame.line == Some(self.line)
    }

    /// The same, but for the line.
    pub(crate) fn names(&self, frame: &Frame) -> bool {
        self.function == frame.function && frame.file.as_ref() == Some(&self.file)
    }
}

/// What a program prints before it blocks.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    /// The blocked thread, as the kernel calls it.
    pub(crate) tid: u32,
    /// The same, as `pthread_self` does.
    pub(crate) ident: u64,
    /// Its frames, innermost first.
    pub(crate) frames: Vec<Told>,
}

/// One recording's other half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// `3.11.7`.
    pub(crate) python: String,
    /// It was built without the GIL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) free_threaded: bool,
    /// Address of `_PyRuntime`.
    pub(crate) runtime: u64,
    /// The thread whose frames are meant, as `pthread_self` calls it.
    pub(crate) ident: u64,
    /// Whether there were more frames than a stack can hold.
    pub(crate) truncated: bool,
    /// Its frames, innermost first.
    pub(crate) frames: Vec<Told>,
}

/// A recording, as it lies in `tests/memory/`.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) memory: Vec<u8>,
    pub(crate) expected: Expected,
}

impl Pair {
    /// Where its CPython keeps things.
    pub(crate) fn layout(&self) -> &'static Layout {
        let mut numbers = self.expected.python.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            panic!("{}: {:?} is no version", self.name, self.expected.python)
        };
        let of = if self.expected.free_threaded { layout::of_free_threaded } else { layout::of };
        of(major, minor).unwrap_or_else(|| panic!("{}: an unknown version", self.name))
    }

    /// Writes both files.
    pub(crate) fn save(&self) {
        let path = |suffix: &str| folder().join(format!("{}.{suffix}", self.name));
        let json = serde_json::to_string_pretty(&self.expected).expect("plain data can be written");
        std::fs::write(path("mem"), &self.memory).expect("tests/memory can be written");
        std::fs::write(path("json"), json + "\n").expect("tests/memory can be written");
    }

    fn load(memory: &Path) -> Self {
        let name = memory.file_stem().expect("a .mem has a name").to_string_lossy().into_owned();
        let json = std::fs::read_to_string(memory.with_extension("json"))
            .unwrap_or_else(|error| panic!("{name}.mem has no readable {name}.json beside it: {error}"));
        let expected = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}.json: {error}"));
        let memory = std::fs::read(memory).expect("a file that is listed can be read");
        Self { name, memory, expected }
    }
}

/// Every recording, by name.
pub(crate) fn all() -> Vec<Pair> {
    let entries = std::fs::read_dir(folder()).expect("tests/memory can be listed");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "mem"));
    paths.sort();
    assert!(paths.len() >= 4, "there are only {} recordings in {}", paths.len(), folder().display());
    paths.iter().map(|path| Pair::load(path)).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("memory")
}
