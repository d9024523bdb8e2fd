//! The heap of real interpreters, counted from outside and by themselves.

use super::*;
use crate::error::Kind;
use crate::target::fixture::{Interpreter, Script, every};

/// A script that waits, and the two ways to count its blocks: by the table of arenas, and without it.
struct Counted {
    script: Script,
    process: Process,
    table: Heap,
    scan: Heap,
}

impl Counted {
    /// Starts it and waits for its "READY".
    fn start(python: &Interpreter, text: &str) -> Self {
        let mut script = Script::on(python, text, &[]);
        assert_eq!(script.line(), "READY");
        let process = Process::open(script.pid()).unwrap();
        let table = Heap::find(&process, &Python::find(&process).unwrap()).unwrap();
        let scan = Heap { variables: Vec::new(), ..table.clone() };
        assert!(table.knows_arenas() && !scan.knows_arenas(), "{python}");
        Self { script, process, table, scan }
    }

    /// Lets it go on to its next line, which is the number of its blocks as it sees it; and counts them.
    fn next(&mut self) -> (u64, [Census; 2]) {
        self.script.go_on();
        let own = self.script.numbers()[0];
        (own, [&self.table, &self.scan].map(|heap| heap.census(&self.process).unwrap()))
    }
}

/// Keeps its floats in a list that is there from the beginning, so that nothing but them changes between its lines.
const FLOATS: &str = "
import sys
kept = [None] * 100_000
def say():
    print(sys.getallocatedblocks(), flush=True)
    input()
print('READY', flush=True)
input()
say()
say()
for i in range(100_000): kept[i] = i + 0.5
say()
for i in range(0, 100_000, 2): kept[i] = None
say()
for i in range(100_000): kept[i] = None
say()
";

/// What printing and waiting may have in hand: the script's count is taken before its line, ours after.
const IN_HAND: u64 = 16;

#[test]
fn the_difference_is_the_scripts_own() {
    for python in every() {
        let mut counted = Counted::start(&python, FLOATS);
        counted.next(); // What the first of these lines leaves behind stays.
        let (base, [table_base, scan_base]) = counted.next();
        for (step, at_least) in [("all", 99_000), ("half", 49_000), ("none", 0)] {
            let (own, [table, scan]) = counted.next();
            assert!(own - base >= at_least, "{step}: the script is not what this test takes it for");
            for (census, first) in [(table, table_base), (scan, scan_base)] {
                let grew = census.live_blocks.cast_signed() - first.live_blocks.cast_signed();
                let off = grew - (own.cast_signed() - base.cast_signed());
                assert!(off.unsigned_abs() <= IN_HAND, "{python} {step}: {off} off, {census:?}");
                assert_eq!((census.left_out(), census.swapped), (Some(0), 0));
            }
            assert!(table.live_blocks.abs_diff(scan.live_blocks) <= IN_HAND, "{python}: {table:?} {scan:?}");
            // What the interpreter counts besides are its blocks of over 512 bytes, of which it has some hundred.
            assert!(table.live_blocks < own && own - table.live_blocks < 2_000, "{python}: {own} {table:?}");
            assert!(
                table.live_bytes >= 16 * table.live_blocks && table.live_bytes <= 512 * table.live_blocks
            );
            assert!(
                table.looked_at_bytes < scan.looked_at_bytes
                    && table.pools * counted.table.layout.pool_size <= table.looked_at_bytes
            );
        }
    }
}

/// Keeps its floats in an interpreter with an allocator of its own, and ends that at last.
const OTHER_INTERPRETER: &str = "
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def say():
    print(sys.getallocatedblocks(), flush=True)
    input()
print('READY', flush=True)
input()
say()
other = interpreters.create()
interpreters.run_string(other, 'kept = [i + 0.5 for i in range(100_000)]')
say()
interpreters.destroy(other)
say()
";

/// What an interpreter of its own has besides 100 000 floats: its modules, in blocks that the census sees, and some hundred large ones, which it does not.
const OF_AN_INTERPRETER: u64 = 3_000;

#[test]
fn interpreters_with_their_own_allocator_are_counted() {
    for python in every().into_iter().filter(|python| python.minor >= 12) {
        let mut counted = Counted::start(&python, OTHER_INTERPRETER);
        let (own_base, [base, _]) = counted.next();
        let (own, [table, scan]) = counted.next();
        assert!(
            table.live_blocks.abs_diff(scan.live_blocks) <= IN_HAND,
            "{python}: the scan sees them wherever they are: {table:?} {scan:?}"
        );
        assert!(table.live_blocks > base.live_blocks + 100_000, "{python}: {table:?} {base:?}");
        let (grew, own_grew) = (table.live_blocks - base.live_blocks, own - own_base);
        assert!(grew.abs_diff(own_grew) < OF_AN_INTERPRETER, "{python}: {grew} {own_grew}");
        let without = Heap { interpreters: None, ..counted.table.clone() };
        let without = without.census(&counted.process).unwrap();
        assert!(
            without.live_blocks + 100_000 < table.live_blocks,
            "{python}: it is not its own: {without:?}"
        );
        let (_, [ended, _]) = counted.next();
        assert!(ended.live_blocks + 100_000 < table.live_blocks, "{python}: {ended:?}");
    }
}

/// Floats come and go by the thousand, and arenas with them, until it is told to stop. It keeps four counters, whose address it prints: how many floats it has begun
/// to allocate, has allocated, has begun to free, and has freed.
const TRAFFIC: &str = "
import ctypes, select, sys
counters = (ctypes.c_uint64 * 4)()
begun, done, giving, gone = range(4)
kept, values, zeros = [None] * 200, [None] * 200, bytes(100_000)
print('READY', flush=True)
input()
print(ctypes.addressof(counters), flush=True)
slot = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    zeros.find(b'1')
    if kept[slot] is None:
        counters[begun] += 1000
        kept[slot] = [i + 0.5 for i in range(1000)]
        counters[done] += 1000
    else:
        counters[giving] += 1000
        kept[slot] = None
        counters[gone] += 1000
    slot = (slot + 1) % 200
";

/// What is not counted by the script but may differ between two censuses: 100 floats and 80 lists in freelists (`Objects/floatobject.c`, `listobject.c`), a list for each of
/// 200 slots, and what the loop has in hand.
const UNCOUNTED: i64 = 500;

/// The promise of a census: it differs from the truth by blocks that came or went meanwhile, and by nothing else. So what there is besides the script's floats is the same in all of them.
#[test]
fn a_census_of_a_working_heap_is_wrong_by_its_traffic_only() {
    for python in every() {
        let mut counted = Counted::start(&python, TRAFFIC);
        counted.script.go_on();
        let counters = counted.script.numbers()[0];
        let memory = Memory::new(counted.script.pid());
        let read = || [0, 8, 16, 24].map(|at| memory.read_u64(counters + at).unwrap().cast_signed());
        let (mut highest, mut lowest) = (i64::MIN, i64::MAX);
        let (mut least_live, mut most_live) = (i64::MAX, i64::MIN);
        let (mut taken, mut sharp) = (0, 0);
        while taken < 200 || sharp < 20 {
            let heap = if taken % 2 == 0 { &counted.table } else { &counted.scan };
            let [_, allocated_before, _, freed_before] = read();
            let live = heap.census(&counted.process).unwrap().live_blocks.cast_signed();
            let [allocated_after, _, freed_after, _] = read();
            let (from, to) = (live - allocated_after + freed_before, live - allocated_before + freed_after);
            highest = highest.max(from);
            lowest = lowest.min(to);
            (least_live, most_live) = (least_live.min(live), most_live.max(live));
            taken += 1;
            sharp += u32::from(to - from <= 20_000);
            assert!(taken < 20_000, "the machine is too busy for a census: {sharp} were short");
        }
        assert!(highest - lowest <= UNCOUNTED, "{python}: {highest} {lowest}");
        assert!(most_live - least_live > 100_000, "{least_live} {most_live}: the script did not do its work");
    }
}

#[test]
fn a_heap_that_vanishes_is_an_error() {
    for python in every() {
        for by_table in [true, false] {
            let mut counted = Counted::start(&python, FLOATS);
            counted.next();
            let heap = if by_table { &counted.table } else { &counted.scan };
            let whole = heap.census(&counted.process).unwrap();
            // SAFETY: the pid is that of a child of ours that nobody has waited for.
            unsafe { libc::kill(counted.script.pid().cast_signed(), libc::SIGKILL) };
            // It ends while it is counted, at whatever point.
            let error = loop {
                match heap.census(&counted.process) {
                    Ok(census) => assert_eq!(census, whole, "a part of a heap that is being taken down"),
                    Err(error) => break error,
                }
            };
            assert_eq!(
                (error.kind(), error.to_string().contains("has ended")),
                (Kind::Target, true),
                "{error}"
            );
        }
    }
}

/// 64 MiB that nobody has touched lie in its memory, at the address that it prints.
const UNTOUCHED: &str = "
import ctypes, mmap
room = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print('READY', flush=True)
input()
print(ctypes.addressof(ctypes.c_char.from_buffer(room)), flush=True)
input()
";

#[test]
fn a_scan_touches_nothing_that_was_not_touched() {
    for python in every() {
        let mut counted = Counted::start(&python, UNTOUCHED);
        counted.script.go_on();
        let room = counted.script.numbers()[0];
        let census = counted.scan.census(&counted.process).unwrap();
        assert!(census.looked_at_bytes > 64 << 20 && census.live_blocks > 1_000, "{census:?}");
        let places = PageMap::open(&counted.process).unwrap().at(room, pages::PAGE, 16384);
        assert!(places.len() == 16384 && places.iter().all(|place| *place == Page::Absent));
    }
}

#[test]
fn without_pools_there_is_no_block() {
    for python in every() {
        let mut script =
            Script::on(&python, "print('READY', flush=True); input()", &[("PYTHONMALLOC", "malloc")]);
        assert_eq!(script.line(), "READY");
        let process = Process::open(script.pid()).unwrap();
        let heap = Heap::find(&process, &Python::find(&process).unwrap()).unwrap();
        let census = heap.census(&process).unwrap();
        assert_eq!((heap.knows_arenas(), census.pools, census.live_blocks), (false, 0, 0), "{census:?}");
    }
}

#[test]
fn the_heap_of_others_is_a_matter_of_privilege() {
    let mut counted = Counted::start(&every()[0], FLOATS);
    counted.next();
    let python = Python::find(&counted.process).unwrap();
    let kinds = std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            // SAFETY: takes three numbers. The bare system call, unlike the C library's function, changes the calling thread alone, and that ends here.
            let status = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(status, 0, "this test must run as root");
            let kind = |error: crate::error::Error| error.kind();
            let counts =
                [&counted.table, &counted.scan].map(|heap| heap.census(&counted.process).map_err(kind));
            (Heap::find(&counted.process, &python).map(|_| ()).map_err(kind), counts)
        });
        nobody.join().unwrap()
    });
    assert_eq!(kinds, (Err(Kind::Privilege), [Err(Kind::Privilege), Err(Kind::Privilege)]));
}
