//! Real interpreters make known objects, then use, change, free and replace them, and say of each what became of it; that is compared with what is seen from outside.

use super::*;
use crate::target::fixture::{Script, every, free_threaded};

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
    let mut failed = Vec::new();
    for python in every().into_iter().chain([free_threaded()]) {
        let mut script = Script::on(&python, include_str!("live.py"), &[]);
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
        if !wrong.is_empty() {
            failed.push(format!("{python}:\n{}", wrong.join("\n")));
        }
        drop(script);
        assert!(survivors.look(&blocks).iter().all(|look| *look == Look::Unread), "an ended process");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
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

/// Sizes of environments, in variables: they move what the heap begins with. With a fifth of all sizes, 3.15 had objects in its first 16 KiB, where no pool can be, and they were taken for dead.
const VARIABLES: [usize; 6] = [0, 60, 120, 180, 240, 300];

#[test]
fn without_pools_blocks_are_chunks() {
    let names: Vec<String> = (0..300).map(|number| format!("VARIABLE_{number}")).collect();
    let many = names.iter().map(|name| (name.as_str(), "of an environment"));
    let environment: Vec<_> = std::iter::once(("PYTHONMALLOC", "malloc")).chain(many).collect();
    for (python, variables) in
        every().into_iter().flat_map(|python| VARIABLES.map(|variables| (python.clone(), variables)))
    {
        let mut script = Script::on(&python, WITHOUT_POOLS, &environment[..=variables]);
        let numbers = script.numbers();
        let blocks: Vec<Block> =
            numbers.chunks(2).map(|pair| (pair[0], pair[1], Some(Domain::Object))).collect();
        let process = Process::open(script.pid()).unwrap();
        let mut survivors = Survivors::new(&process, &Python::find(&process).unwrap()).unwrap();
        let first = survivors.look(&blocks);
        assert!(first.iter().all(|look| matches!(look, Look::Alive { .. })), "{python}: {first:?}");
        script.go_on();
        assert_eq!(script.line(), "DONE");
        let second = survivors.look(&blocks);
        assert_eq!((first.len(), &second[..3]), (4, &first[..3]), "{python}");
        assert_eq!(second[3], Look::Dead, "{python}: in the cache of `malloc`");
    }
}

/// Blocks of mimalloc, of many sizes, made by this thread, by one that waits and by one that has ended; every other one is freed by this thread, and by one that is no maker. Of each pair of
/// lines, the first has the blocks that will be freed.
const BLOCKS_OF_THREADS: &str = "
import ctypes, threading
malloc, free = ctypes.pythonapi.PyMem_Malloc, ctypes.pythonapi.PyMem_Free
malloc.restype, malloc.argtypes, free.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], None, [ctypes.c_void_p]
SIZES = [40, 700, 2000, 5000, 30000, 200000]
def new(size):
    block = malloc(size)
    # What lay there before could look like something.
    ctypes.memset(block, 255, 40)
    return block
made, end, ready = [], threading.Event(), threading.Barrier(2)
def make(stay):
    for size in SIZES:
        made.append((size, [new(size) for _ in range(max(3, min(1500, 2000000 // size)))]))
    if stay:
        ready.wait()
        end.wait()
def on(*call):
    thread = threading.Thread(target=call[0], args=call[1:])
    thread.start()
    return thread
make(False)
on(make, False).join()
waits = on(make, True)
ready.wait()
for size, blocks in made:
    for part in (0, 1):
        print(size, *blocks[part::2])
print('READY')
input()
def free_some(part):
    for size, blocks in made:
        for block in blocks[part::4]:
            free(block)
free_some(0)
on(free_some, 2).join()
print('DONE')
input()
end.set()
";

#[test]
fn blocks_of_threads_are_free_whoever_freed_them() {
    let python = free_threaded();
    let mut script = Script::on(&python, BLOCKS_OF_THREADS, &[]);
    let (mut blocks, mut stays) = (Vec::new(), Vec::new());
    for at in 0.. {
        let line = script.line();
        if line == "READY" {
            break;
        }
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let (size, addresses) = numbers.split_first().unwrap();
        blocks.extend(addresses.iter().map(|address| (*address, *size, Some(Domain::Mem))));
        stays.resize(blocks.len(), at % 2 == 1);
    }
    assert!(blocks.len() > 10_000, "{} blocks", blocks.len());
    let process = Process::open(script.pid()).unwrap();
    let mut survivors = Survivors::new(&process, &Python::find(&process).unwrap()).unwrap();
    let alive = |look: &Look| matches!(look, Look::Alive { .. });
    let first = survivors.look(&blocks);
    let not: Vec<_> = blocks.iter().zip(&first).filter(|(_, look)| !alive(look)).collect();
    assert!(not.is_empty(), "of {} that live: {not:?}", blocks.len());
    script.go_on();
    assert_eq!(script.line(), "DONE");
    let second = survivors.look(&blocks);
    let each = blocks.iter().zip(stays).zip(first.iter().zip(&second));
    let wrong: Vec<_> = each
        .filter(|((_, stays), (before, after))| match stays {
            true => before != after,
            // Somebody may have taken it.
            false => **after != Look::Dead && before == after,
        })
        .map(|((block, stays), (_, after))| format!("{block:?} stays: {stays}, {after:?}"))
        .collect();
    let freed = second.iter().filter(|look| **look == Look::Dead).count();
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert!(freed * 5 > blocks.len() * 2, "{freed} of {} are dead", blocks.len());
}
