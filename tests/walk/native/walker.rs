//! Our walk on a process that stands still: tables, memory and code are those of a trace, only that this runs in user space.

use std::collections::HashMap;

use tracer_common::limits::{CHUNK_ROWS, MAX_DEPTH, MAX_MODULES, MAX_PAGES, MAX_RULES, NATIVE_TURNS};
use tracer_common::native::{Begin, EVALUATOR, Native, NativeEnd, Wish};
use tracer_common::window::Window;
use tracer_user::target::memory::Memory;
use tracer_user::target::modules::Modules;
use tracer_user::target::process::Process;
use tracer_user::target::python::Python;
use tracer_user::unwind::Unwinder;
use tracer_user::unwind::pack::Limits;
use unshed_tests::harness::StoppedThread;

/// Rows, more than any process of the tests has.
const ROWS: u32 = 4096 * CHUNK_ROWS as u32;

/// What a walk found.
pub(super) struct Walked {
    /// Addresses behind the calls, innermost first; of what was interrupted, the instruction's own and 1.
    pub(super) frames: Vec<u64>,
    /// How it ended.
    pub(super) end: NativeEnd,
}

/// The walk and all that it needs.
pub(super) struct Walker {
    process: Process,
    modules: Modules,
    unwinder: Unwinder,
    /// What a thread remembers from walk to walk, as its map entry does in the kernel.
    threads: HashMap<u32, Box<(Native, Window)>>,
}

impl Walker {
    pub(super) fn new(process: Process) -> Self {
        let python = Python::find(&process).expect("it is a CPython that is supported");
        let limits = Limits { modules: MAX_MODULES, pages: MAX_PAGES, rows: ROWS, rules: MAX_RULES };
        let unwinder = Unwinder::new(limits, Some(&python.image));
        let mut walker = Self { process, modules: Modules::default(), unwinder, threads: HashMap::new() };
        walker.look_around();
        walker
    }

    /// Takes up code that was mapped since.
    pub(super) fn look_around(&mut self) {
        if self.modules.refresh(&self.process).expect("the process is there") {
            self.unwinder.update(&self.modules);
        }
    }

    /// Walks a thread from gdb's registers on.
    pub(super) fn walk(&mut self, thread: &StoppedThread) -> Walked {
        let (native, window) = &mut **self.threads.entry(thread.tid).or_default();
        let tables = self.unwinder.tables();
        let memory = Memory::new(self.process.pid());
        let max_depth = MAX_DEPTH as u32;
        let wish = Wish { view: tables.current(), full: true, max_depth, replaced: (0, 0) };
        let caller = thread.rip.wrapping_add(1);
        native.begin(Begin { ip: thread.rip, sp: thread.rsp, rbp: thread.rbp, caller, ..Begin::default() });
        window.forget();
        let mut programs = 0;
        while native.walk(&memory, tables, wish, window, NATIVE_TURNS) {
            programs += 1;
            assert!(programs <= MAX_DEPTH / NATIVE_TURNS, "the walk of a stack goes on and on: {thread:?}");
        }
        let frames = native.recorded().iter().map(|address| address & !EVALUATOR).collect();
        Walked { frames, end: NativeEnd::from_code(native.end) }
    }

    /// `libfoo.so+0x1234`, by the offset in the file.
    pub(super) fn describe(&self, address: u64) -> String {
        self.modules.place(address).map_or_else(
            || format!("{address:#x} in no file"),
            |place| format!("{}+{:#x}", place.file.name(), place.offset),
        )
    }
}
