//! What is kept, and what goes first.

use std::path::Path;

use tracer_common::unwind::{Cfa, Rbp, Rule};

use super::*;
use crate::target::fixture::Made;

fn key(number: u8) -> Key {
    Key::Build(vec![number], Vec::new())
}

/// Rows that take some hundred bytes.
fn rows() -> Arc<FileRows> {
    let rules = (0..50).map(|at| (at * 4..at * 4 + 4, Rule::new(Cfa::Rsp, at as i16, Rbp::Same, 0)));
    Arc::new(FileRows::of_stretches(rules).unwrap())
}

#[test]
fn what_was_asked_for_longest_ago_goes_first() {
    let one = rows();
    let mut cache = Cache::new(3 * one.bytes());
    for number in 0..3 {
        cache.put(key(number), Ok(Arc::clone(&one)));
    }
    assert!(Arc::ptr_eq(&cache.get(&key(0)).unwrap().unwrap(), &one));
    cache.put(key(3), Ok(rows()));
    assert!(cache.get(&key(1)).is_none());
    assert!([0, 2, 3].iter().all(|number| cache.get(&key(*number)).is_some()));
    assert_eq!(cache.bytes(), 3 * one.bytes());
    // The same file again takes its own place.
    cache.put(key(0), Ok(rows()));
    assert_eq!(cache.bytes(), 3 * one.bytes());
    let mut small = Cache::new(1);
    small.put(key(0), Ok(one));
    assert!(small.get(&key(0)).is_some(), "the rows that are in use are kept");
}

#[test]
fn a_failure_is_remembered() {
    let mut cache = Cache::new(0);
    cache.put(key(0), Err(Error::failed("why")));
    assert_eq!(cache.get(&key(0)).unwrap().unwrap_err().to_string(), "why");
    assert!(cache.get(&key(1)).is_none());
}

#[test]
fn a_file_is_known_by_its_build_id_or_by_its_place() {
    let made =
        |flag: &str| Made::by("gcc", &["-x", "assembler", "-shared", "-nostdlib", flag], "nop\n").unwrap();
    let key = |path: &Path| Key::of(&CodeFile::of_file(path).unwrap());
    let (named, same, nameless) =
        (made("-Wl,--build-id=0x17"), made("-Wl,--build-id=0x17"), made("-Wl,--build-id=none"));
    assert_eq!(key(&named.path), key(&same.path));
    assert!(matches!(key(&named.path), Key::Build(id, segments) if id == [0x17] && !segments.is_empty()));
    let before = key(&nameless.path);
    assert_eq!(before, key(&nameless.path));
    let file = std::fs::OpenOptions::new().append(true).open(&nameless.path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(before, key(&nameless.path), "it was written to");
}
