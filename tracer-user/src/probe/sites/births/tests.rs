//! The plan for samples on live interpreters, against what their programs know of themselves. Needs root, as whoever puts in probes does.

use std::os::fd::AsFd;

use tracer_common::block::Block;
use tracer_common::config::{ProcessState, TraceConfig, work};
use tracer_common::domain::Domain;
use tracer_common::hook::{Hook, Role};
use tracer_common::native::Mode;

use crate::kernel;
use crate::probe::attach::{Exits, Links, Method};
use crate::probe::code::unpacked;
use crate::probe::load::{Limits, ProbeLog, Probes};
use crate::probe::multi::Programs;
use crate::probe::sites::{self, HookPlan, How, Purpose, Wish};
use crate::target::fixture::{self, Script};
use crate::target::process::Process;
use crate::target::python::Python;

/// How often each loop of the programs makes an object.
const TIMES: u64 = 20_000;

/// What the interpreter does besides, between two of its lines.
const BESIDES: u64 = 400;

/// A program with the plan for samples in it.
struct Hooked {
    script: Script,
    plan: HookPlan,
    probes: Probes,
    method: Method,
    links: Option<Links>,
}

impl Hooked {
    /// Starts a program, which says READY, and hooks it: to count hits, or to trace blocks.
    fn start(python: &std::path::Path, text: &str, counts: bool) -> Self {
        let mut script = Script::start(python, text, &[]);
        assert_eq!(script.line(), "READY");
        let process = Process::open(script.pid()).unwrap();
        let python = Python::find(&process).unwrap();
        let domains = [Domain::Object, Domain::Mem, Domain::Raw];
        let wish = Wish {
            live: Some(&process),
            domains: &domains,
            ints: false,
            libc: None,
            how: How::Sites,
            purpose: Purpose::Sample,
        };
        let plan = sites::plan(&python, &wish).unwrap();
        let limits = Limits { blocks: 100_000, sites: 10_000, rows: 0 };
        let mut probes = match counts {
            true => Probes::load_for_counting(plan.points.len()).unwrap(),
            false => Probes::load(limits, ProbeLog::Off).unwrap(),
        };
        let (ns_dev, ns_ino) = process.pid_namespace();
        let config = TraceConfig {
            ns_dev,
            ns_ino,
            ns_tgid: process.namespace_pid(),
            pool_bytes: python.layout().unwrap().pools.pool_size as u32,
            work: work::BLOCKS | work::SITES,
            native: Mode::Off as u32,
            ..TraceConfig::default()
        };
        let runtime = python.runtime().unwrap_or(0);
        probes.configure(config, ProcessState { runtime, ..ProcessState::default() }).unwrap();
        let hooks: Vec<Hook> = plan.points.iter().map(|point| point.hook).collect();
        probes.set_hooks(&hooks, &plan.slow_calls).unwrap();
        let method = match counts {
            true => Method::Multi(Programs::load_counting(&probes).unwrap()),
            false => Method::load(&mut probes, true).unwrap(),
        };
        let links = method.attach(&mut probes, &plan.points, process.pid()).unwrap();
        probes.arm(true).unwrap();
        Self { script, plan, probes, method, links: Some(links) }
    }

    /// Takes the traps out, and puts them in again.
    fn hook_again(&mut self) {
        let leaving = self.links.take().unwrap().take_out(&mut Exits::default());
        let links = self.method.attach(&mut self.probes, &self.plan.points, self.script.pid()).unwrap();
        self.links = Some(links);
        leaving.wait();
    }

    /// Hits of a role since counting began.
    fn hits(&mut self, role: Role) -> u64 {
        let hits = self.probes.counted(self.plan.points.len()).unwrap();
        let of_role = self.plan.points.iter().zip(hits).filter(|(point, _)| point.hook.role == role as u8);
        of_role.map(|(_, hits)| hits).sum()
    }

    /// The live blocks: size and domain.
    fn blocks(&self) -> Vec<(u64, Domain)> {
        let mut blocks = Vec::new();
        let map = self.probes.map_data("BLOCKS").unwrap().fd().as_fd();
        kernel::read_hash(map, |_: u64, block: Block| {
            blocks.push((block.size_bytes(), block.domain().unwrap()));
        })
        .unwrap();
        blocks
    }
}

/// Every interpreter of this machine whose births can be told, with the minor version of each: from 3.9 on there is `_Py_NewReference`.
fn interpreters() -> Vec<(std::path::PathBuf, u32)> {
    let minor = |path: &std::path::Path| {
        let text = path.to_string_lossy();
        let from = text.rfind("python3.")? + "python3.".len();
        text.get(from..)?.split('.').next()?.parse::<u32>().ok()
    };
    let of_pyenv = fixture::libraries().into_iter().filter_map(|library| {
        let minor = minor(&library)?;
        Some((library.parent()?.parent()?.join(format!("bin/python3.{minor}")), minor))
    });
    let debian = fixture::debian().into_iter().chain(unpacked());
    let debian = debian.filter_map(|path| Some((path.clone(), minor(&path)?)));
    let found: Vec<_> = of_pyenv.chain(debian).filter(|(_, minor)| *minor >= 9).collect();
    assert!(found.len() >= 9, "these tests need pyenv's and Debian's CPythons: {found:?}");
    found
}

#[test]
fn an_object_out_of_a_freelist_is_born_once() {
    let text = format!(
        "
from itertools import repeat
from contextvars import copy_context
a, b, s, i, j, k = 1.5, 2.5, 'abcdef', 0, 6, 10**6
def floats(n):
    for _ in repeat(None, n): a + b
def tuples(n):
    for _ in repeat(None, n): (a, b)
def lists(n):
    for _ in repeat(None, n): [a]
def dicts(n):
    for _ in repeat(None, n): {{}}
def slices(n):
    for _ in repeat(None, n): s[i:j]
def contexts(n):
    for _ in repeat(None, n): copy_context()
def objects(n):
    for _ in repeat(None, n): object()
def ints(n):
    for _ in repeat(None, n): k + j
for make in floats, tuples, lists, dicts, slices, contexts, objects, ints:
    make(100)
    print('READY'); input()
    make({TIMES})
    print('DONE'); input()
print('READY'); input()
"
    );
    for (python, minor) in interpreters() {
        let mut hooked = Hooked::start(&python, &text, true);
        println!("{}: {:?}, {} points", python.display(), hooked.plan.births, hooked.plan.points.len());
        for kind in ["floats", "tuples", "lists", "dicts", "slices", "contexts", "objects", "ints"] {
            let before = (hooked.hits(Role::Birth), hooked.hits(Role::FastAlloc));
            hooked.script.go_on();
            assert_eq!(hooked.script.line(), "DONE");
            let births = hooked.hits(Role::Birth) - before.0;
            let allocs = hooked.hits(Role::FastAlloc) - before.1;
            println!("{}: {kind}: {births} births, {allocs} allocations", python.display());
            let (born, allocated) = match kind {
                // Their births are their allocations.
                "objects" => (0, TIMES),
                "ints" if minor < 14 => (0, TIMES),
                // A part of a string is taken without a slice.
                "slices" if minor >= 15 => (0, 0),
                // An item array besides.
                "lists" => (TIMES, TIMES),
                _ => (TIMES, 0),
            };
            let place = format!("{kind} on {}", python.display());
            assert!((born..born + BESIDES).contains(&births), "{place}: {births} births");
            assert!((allocated..allocated + BESIDES).contains(&allocs), "{place}: {allocs} allocations");
            hooked.script.go_on();
            assert_eq!(hooked.script.line(), "READY");
        }
    }
}

#[test]
fn large_blocks_are_known_by_who_asked_the_c_library() {
    let text = "
print('READY'); input()
keep = []
for _ in range(50):
    keep.append(bytearray(100_000))
    bytearray(200_000)
    keep.append([None] * 30_000)
grown = []
for _ in range(60_000): grown.append(None)
# Another library's blocks: none of ours.
import ctypes
libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p
for _ in range(50): libc.malloc(ctypes.c_size_t(300_000))
print('DONE'); input()
";
    for (python, _) in interpreters() {
        let mut hooked = Hooked::start(&python, text, false);
        hooked.script.go_on();
        assert_eq!(hooked.script.line(), "DONE");
        let blocks = hooked.blocks();
        // What pymalloc passes on; where one function serves both domains, it counts as the outer one's.
        let passed_on = [Domain::Object, Domain::Mem];
        let of = |size: std::ops::Range<u64>| -> usize {
            let of_size = blocks.iter().filter(|(bytes, _)| size.contains(bytes));
            of_size.inspect(|(_, domain)| assert!(passed_on.contains(domain), "{domain:?}")).count()
        };
        let found = [100_000..100_100, 240_000..240_100, 480_000..600_000, 300_000..300_100].map(of);
        assert_eq!(found, [50, 50, 1, 0], "{}", python.display());
        assert!(of(200_000..200_100) <= 1, "{}", python.display());
        let library = |point: &&sites::Point| point.file != hooked.plan.points[0].file;
        println!(
            "{}: {} points, {} of them in the C library",
            python.display(),
            hooked.plan.points.len(),
            hooked.plan.points.iter().filter(library).count()
        );
    }
}

#[test]
fn traps_go_and_come_back_without_a_trace() {
    let text = "
from itertools import repeat
a, b = 1.5, 2.5
def floats():
    for _ in repeat(None, 5000): a + b
print('READY')
while True:
    input(); floats(); print('DONE')
";
    for (python, _) in interpreters() {
        let mut hooked = Hooked::start(&python, text, true);
        for _ in 0..4 {
            hooked.hook_again();
            let births = hooked.hits(Role::Birth);
            hooked.script.go_on();
            assert_eq!(hooked.script.line(), "DONE");
            assert!(hooked.hits(Role::Birth) - births >= 5000);
        }
        hooked.links.take().unwrap().take_out(&mut Exits::default()).wait();
        let births = hooked.hits(Role::Birth);
        hooked.script.go_on();
        assert_eq!((hooked.script.line(), hooked.hits(Role::Birth)), ("DONE".to_owned(), births));
    }
}
