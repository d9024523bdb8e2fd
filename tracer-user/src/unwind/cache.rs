//! Rows that were read before: a file is read once, however often it is mapped and in however many processes.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::FileRows;
use crate::error::Error;
use crate::target::elf::Segment;
use crate::target::modules::{CodeFile, Identity};

/// Files that cannot be unwound and are remembered, at most.
const FAILURES: usize = 4096;

/// Which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// By its build id, and where its segments lie: a stripped file and its original have the same rows.
    Build(Vec<u8>, Vec<Segment>),
    /// By what the file system says of it, where it has no build id.
    File(Identity),
}

impl Key {
    /// The key of a file.
    #[must_use]
    pub fn of(file: &CodeFile) -> Self {
        match &file.build_id {
            Some(id) => Self::Build(id.clone(), file.segments().to_vec()),
            None => Self::File(file.identity()),
        }
    }
}

/// Rows by file, up to so many bytes; those that were asked for longest ago go first.
#[derive(Debug)]
pub struct Cache {
    most: usize,
    bytes: usize,
    turn: u64,
    files: HashMap<Key, Entry>,
    failures: HashMap<Key, Error>,
}

#[derive(Debug)]
struct Entry {
    rows: Arc<FileRows>,
    asked: u64,
}

impl Cache {
    /// An empty cache for so many bytes of rows. The rows of one file are kept although they are more.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, bytes: 0, turn: 0, files: HashMap::new(), failures: HashMap::new() }
    }

    /// The rows of a file, if they are known, or why it has none.
    pub fn get(&mut self, key: &Key) -> Option<Result<Arc<FileRows>, Error>> {
        self.turn += 1;
        if let Some(entry) = self.files.get_mut(key) {
            entry.asked = self.turn;
            return Some(Ok(Arc::clone(&entry.rows)));
        }
        self.failures.get(key).cloned().map(Err)
    }

    /// Remembers what was read of a file.
    pub fn put(&mut self, key: Key, read: Result<Arc<FileRows>, Error>) {
        self.turn += 1;
        match read {
            Err(error) => {
                if self.failures.len() < FAILURES {
                    self.failures.insert(key, error);
                }
            }
            Ok(rows) => {
                self.bytes += rows.bytes();
                if let Some(before) = self.files.insert(key, Entry { rows, asked: self.turn }) {
                    self.bytes -= before.rows.bytes();
                }
                self.shrink();
            }
        }
    }

    /// Bytes of the rows that are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) {
        while self.bytes > self.most && self.files.len() > 1 {
            let oldest = self.files.iter().min_by_key(|(_, entry)| entry.asked).map(|(key, _)| key.clone());
            let Some(entry) = oldest.and_then(|key| self.files.remove(&key)) else { return };
            self.bytes -= entry.rows.bytes();
        }
    }
}

#[cfg(test)]
mod tests;
