//! Real interpreters make known objects, then use, change, free and replace them, and say of each what became of it; that is compared with what is seen from outside.

use std::path::PathBuf;

use super::*;
use crate::target::fixture::{self, Script};

fn interpreters() -> Vec<PathBuf> {
    let found: Vec<PathBuf> = fixture::shared().into_iter().chain(fixture::debian()).collect();
    assert!(found.len() == 2, "both a shared and a static CPython 3.11 are needed: {found:?}");
    found
}

/// What became of a block, as the script knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// The same object, and nobody has changed it.
    Same,
    /// The same object, changed.
    Changed,
    /// Another object in its place.
    Other,
    /// Free, or in a freelist, and nobody has taken it since.
    Dead,
    /// Free; somebody may have taken it since.
    Gone,
    /// A key table, before and after.
    Part,
}

/// One block that the script has named.
#[derive(Debug)]
struct Named {
    name: String,
    block: Block,
    owned: u64,
    truth: Truth,
}

/// Reads the script's lines: name, address, size, domain, owned bytes, what will become of it; up to a line that says "READY".
fn read(script: &mut Script) -> Vec<Named> {
    let mut all = Vec::new();
    loop {
        let line = script.line();
        if line == "READY" {
            return all;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let [name, address, size, domain, owned, truth] = words[..] else { panic!("{line:?}") };
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{line:?}"));
        let truth = match truth {
            "same" => Truth::Same,
            "changed" => Truth::Changed,
            "other" => Truth::Other,
            "dead" => Truth::Dead,
            "gone" => Truth::Gone,
            "part" => Truth::Part,
            _ => panic!("{line:?}"),
        };
        let block = (number(address), number(size), Domain::from_code(number(domain) as u8));
        all.push(Named { name: name.to_owned(), block, owned: number(owned), truth });
    }
}

/// Why a pair of looks contradicts the truth, if it does.
fn contradiction(named: &Named, first: Look, second: Look) -> Option<&'static str> {
    if named.truth == Truth::Part {
        return (first != Look::Part || second != Look::Part).then_some("is a key table");
    }
    let Look::Alive { identity: before, owned_bytes } = first else { return Some("lived at first") };
    if owned_bytes != named.owned {
        return Some("owns otherwise");
    }
    match (named.truth, second) {
        (Truth::Same, Look::Alive { identity, .. }) if identity == before => None,
        (Truth::Same, _) => Some("is the same"),
        (Truth::Changed, Look::Alive { identity: [stays, moves], .. })
            if stays == before[0] && moves != before[1] =>
        {
            None
        }
        (Truth::Changed, _) => Some("is the same, and changed"),
        (Truth::Other | Truth::Gone, Look::Alive { identity, .. }) if identity != before => None,
        (Truth::Other, _) => Some("is another"),
        (Truth::Gone | Truth::Dead, Look::Dead) => None,
        (Truth::Gone | Truth::Dead, _) => Some("is gone"),
        (Truth::Part, _) => None,
    }
}

#[test]
fn what_is_seen_is_what_the_program_knows() {
    for python in interpreters() {
        let mut script = Script::start(&python, include_str!("live.py"), &[]);
        let named = read(&mut script);
        assert!(named.len() > 60, "{} blocks", named.len());
        let process = Process::open(script.pid()).unwrap();
        let found = Python::find(&process).unwrap();
        let mut survivors = Survivors::new(&process, &found).unwrap();
        let blocks: Vec<Block> = named.iter().map(|named| named.block).collect();
        let first = survivors.look(&blocks);
        assert_eq!(survivors.look(&blocks), first, "nobody has touched anything");
        script.go_on();
        assert_eq!(script.line(), "DONE");
        let second = survivors.look(&blocks);
        let wrong: Vec<String> = named
            .iter()
            .zip(first.iter().zip(&second))
            .filter_map(|(named, (first, second))| {
                let why = contradiction(named, *first, *second)?;
                Some(format!("{} {why}: {named:?} {first:?} {second:?}", named.name))
            })
            .collect();
        assert!(wrong.is_empty(), "{}:\n{}", python.display(), wrong.join("\n"));
        drop(script);
        assert!(survivors.look(&blocks).iter().all(|look| *look == Look::Unread), "an ended process");
    }
}

/// Three objects that stay and one that dies; all in chunks of `malloc`.
const WITHOUT_POOLS: &str = "
a, t, d, b = float('1.5'), tuple([1, 2, 3]), {'a': 1}, bytes([7]) * 200
print(id(a), 24, id(t) - 16, 64, id(d) - 16, 64, id(b), 233)
input()
del b
print('DONE')
input()
";

#[test]
fn without_pools_blocks_are_chunks() {
    for python in interpreters() {
        let mut script = Script::start(&python, WITHOUT_POOLS, &[("PYTHONMALLOC", "malloc")]);
        let numbers = script.numbers();
        let blocks: Vec<Block> =
            numbers.chunks(2).map(|pair| (pair[0], pair[1], Some(Domain::Object))).collect();
        let process = Process::open(script.pid()).unwrap();
        let mut survivors = Survivors::new(&process, &Python::find(&process).unwrap()).unwrap();
        let first = survivors.look(&blocks);
        assert!(first.iter().all(|look| matches!(look, Look::Alive { .. })), "{first:?}");
        script.go_on();
        assert_eq!(script.line(), "DONE");
        let second = survivors.look(&blocks);
        assert_eq!((first.len(), &second[..3]), (4, &first[..3]));
        assert_eq!(second[3], Look::Dead, "in the cache of `malloc`");
    }
}
