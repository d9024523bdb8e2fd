//! How to get from a C frame to its caller in code without frame pointers: rows made from the frame descriptions of every file that a process has mapped, packed
//! into the tables that the kernel searches on a hit ([`tracer_common::unwind`]).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::target::image::Image;
use crate::target::modules::{CodeFile, Identity, Modules};

pub mod cache;
pub mod evaluator;
pub mod pack;
pub mod rows;
pub mod rule;

use cache::{Cache, Key};
use pack::{Changes, Limits, Packed};
use rows::{FileRows, Tally};
use rule::Lack;

/// Bytes of rows that are kept in case a file is mapped again.
const CACHE: usize = 64 << 20;

/// Rows that several processes share.
pub type Rows = Arc<Mutex<Cache>>;

/// Room for the rows of several processes.
#[must_use]
pub fn shared_rows() -> Rows {
    Arc::new(Mutex::new(Cache::new(CACHE)))
}

/// The unwind tables of a process.
#[derive(Debug)]
pub struct Unwinder {
    packed: Packed,
    cache: Arc<Mutex<Cache>>,
    interpreter: Option<Interpreter>,
    /// Files that are not in the tables and never will be.
    without: HashSet<Key>,
    facts: Facts,
}

/// The file that holds the interpreter, and where its evaluator is.
#[derive(Debug)]
struct Interpreter {
    build_id: Option<Vec<u8>>,
    identity: Option<Identity>,
    parts: Vec<Range<u64>>,
}

/// What became of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Files with rows.
    pub files: usize,
    /// Rows in the tables.
    pub rows: usize,
    /// Distinct rules.
    pub rules: usize,
    /// Bytes of the tables.
    pub bytes: usize,
    /// What rules lack, and how much code they are of.
    pub lacks: BTreeMap<Lack, Tally>,
    /// Files that cannot be unwound, and why.
    pub without: Vec<(PathBuf, String)>,
    /// Mapped stretches of code that found no room.
    pub refused_modules: u64,
    /// Where the evaluator is in its file; empty until that file is in the tables.
    pub evaluator: Vec<Range<u64>>,
}

impl Unwinder {
    /// Empty tables for a process whose interpreter is in this file.
    #[must_use]
    pub fn new(limits: Limits, interpreter: Option<&Image>) -> Self {
        Self::sharing(limits, interpreter, shared_rows())
    }

    /// The same, with rows that were read for other processes, and for them. Build ids are believed: a process whose file bears the id of another one can
    /// give wrong stacks to those that share with it.
    #[must_use]
    pub fn sharing(limits: Limits, interpreter: Option<&Image>, cache: Arc<Mutex<Cache>>) -> Self {
        let interpreter = interpreter.map(|image| Interpreter {
            build_id: image.elf.build_id().map(<[u8]>::to_vec),
            identity: std::fs::File::open(&image.open).and_then(|file| Identity::of(&file)).ok(),
            parts: evaluator::parts(&image.elf),
        });
        Self {
            packed: Packed::new(limits),
            cache,
            interpreter,
            without: HashSet::new(),
            facts: Facts::default(),
        }
    }

    /// Bounds the rows of all files from now on, by what the kernel has room for; whole chunks, and never less than are there.
    pub fn limit_rows(&mut self, rows: u32) -> u32 {
        self.packed.limit_rows(rows)
    }

    /// Takes up the files that are mapped now and were not before, and says what the kernel must be told.
    pub fn update(&mut self, modules: &Modules) -> Changes {
        self.take_up(modules);
        let changes = self.packed.view(modules.list());
        let (_, modules) = self.packed.refused();
        self.facts.refused_modules = modules;
        self.facts.bytes = self.packed.bytes();
        changes
    }

    /// Takes up the files that are mapped now and were not before.
    pub fn take_up(&mut self, modules: &Modules) {
        self.prepare(modules.list().iter().map(|module| &*module.file));
    }

    /// Takes up files that will be mapped.
    pub fn prepare<'f>(&mut self, files: impl IntoIterator<Item = &'f CodeFile>) {
        for file in files {
            let key = Key::of(file);
            if self.packed.has(&key) || self.without.contains(&key) {
                continue;
            }
            if let Err(why) = self.place(file, key.clone()) {
                self.facts.without.push((file.path.clone(), why.to_string()));
                self.without.insert(key);
            }
        }
        self.facts.rows = self.packed.row_count();
        self.facts.rules = self.packed.rule_count();
        self.facts.bytes = self.packed.bytes();
        let (rules, _) = self.packed.refused();
        if rules > 0 {
            self.facts.lacks.insert(Lack::Rules, Tally { rows: rules, bytes: 0 });
        }
    }

    fn place(&mut self, file: &CodeFile, key: Key) -> Result<()> {
        let rows = self.rows(file, &key)?;
        let parts = self.interpreter.as_ref().filter(|interpreter| interpreter.is(file));
        let parts = parts.map(|interpreter| interpreter.parts.clone()).unwrap_or_default();
        let placed = if parts.is_empty() {
            self.packed.place(key, &rows)
        } else {
            self.packed.place(key, &rows.with_evaluator(&parts)?)
        };
        placed.map_err(Error::failed)?;
        self.facts.files += 1;
        for (lack, tally) in rows.lacks() {
            self.facts.lacks.entry(*lack).or_default().add(*tally);
        }
        if !parts.is_empty() {
            self.facts.evaluator = parts;
        }
        Ok(())
    }

    /// The rows of a file, read or known. While they are read nobody waits for other files'.
    fn rows(&self, file: &CodeFile, key: &Key) -> Result<Arc<FileRows>> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cache().get(key);
        known.unwrap_or_else(|| {
            let read = FileRows::of(file).map(Arc::new);
            cache().put(key.clone(), read.clone());
            read
        })
    }

    /// The tables, as they are or should be in the kernel.
    #[must_use]
    pub const fn tables(&self) -> &Packed {
        &self.packed
    }

    /// What became of the files.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl Interpreter {
    /// Whether it is in this file: on overlay file systems a mapped file and the same one by its path have different numbers, so the build id comes first.
    fn is(&self, file: &CodeFile) -> bool {
        match (&self.build_id, &file.build_id) {
            (Some(one), Some(other)) => one == other,
            _ => self.identity == Some(file.identity()),
        }
    }
}

#[cfg(test)]
mod tests;
