//! One known leak under every CPython that the tests know, each as a test of its own. With `UNSHED_MATRIX=FOLDER` each leaves there what it has found, one
//! row of the README's table (`cargo xtask matrix`).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use serde_json::{Map, Value};
use unshed_tests::interpreters::{Interpreter, Which};
use unshed_tests::report::Report;
use unshed_tests::truth::{Leak, Truth};

use crate::{native, record, sample, truth};

/// What a test has found, in the words of the table.
struct Row {
    name: String,
    cells: Map<String, Value>,
    failed: Option<Box<dyn Any + Send>>,
}

impl Row {
    /// A row in which nothing holds yet.
    fn new(name: &str, interpreter: &Interpreter, columns: &[&str]) -> Self {
        eprintln!("{name} is {interpreter}");
        let inlined = if interpreter.inlined { ", allocators inlined" } else { "" };
        let mut row = Self { name: format!("{name}-{}", columns[0]), cells: Map::new(), failed: None };
        row.set("version", &interpreter.version);
        row.set("from", interpreter.which.words());
        row.set("linked", &format!("{}{inlined}", interpreter.kind()));
        columns.iter().for_each(|column| row.set(column, "no"));
        row
    }

    fn set(&mut self, column: &str, cell: &str) {
        self.cells.insert(column.to_owned(), cell.into());
        let Some(folder) = std::env::var_os("UNSHED_MATRIX") else { return };
        let file = Path::new(&folder).join(format!("{}.json", self.name));
        let text = serde_json::to_string(&self.cells).expect("plain data can be written");
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Whether something holds; the others are tried, too.
    fn holds(&mut self, column: &str, test: impl FnOnce()) {
        match catch_unwind(AssertUnwindSafe(test)) {
            Ok(()) => self.set(column, "yes"),
            Err(why) => self.failed = Some(why),
        }
    }

    /// Fails if anything has.
    fn end(self) {
        if let Some(why) = self.failed {
            resume_unwind(why);
        }
    }
}

fn exact(name: &str, which: Which) {
    let interpreter = &which.find()[0];
    let mut row = Row::new(name, interpreter, &["hooks", "frames", "exact"]);
    // What is wrong with the hooks must not hide what is right with the frames.
    let (report, truth) = record(interpreter, "matrix.py", &["--incomplete"]);
    let leak = &truth.leaks[0];
    row.holds("hooks", || {
        let hooks = report.hooks.as_ref().expect("the exact trace tells of its hooks");
        assert!(hooks.complete, "{}", hooks.reason);
        // A plan that calls itself complete and sees nothing is worth nothing.
        let (seen, leaked) = (report.totals.allocated_blocks, leak.blocks);
        assert!(seen > leaked, "{seen} allocations seen, {leaked} of one line alone: {}", hooks.reason);
    });
    row.holds("frames", || assert_frames(&report, &truth, leak));
    row.holds("exact", || {
        leak.assert_exactly_told_by(&report, truth.inlined);
        assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
    });
    row.end();
}

/// Every Python frame of the leak is the one that CPython itself tells, outermost ones included.
fn assert_frames(report: &Report, truth: &Truth, leak: &Leak) {
    let sites = leak.sites(report);
    assert!(!sites.is_empty(), "no site is at {}\n{}", leak.place(), report.worst());
    let told = truth.facts["frames"].as_array().expect("matrix.py tells its frames");
    let told: Vec<String> = told.iter().map(place).collect();
    for site in sites {
        let seen = site.stack.iter().filter(|frame| frame.kind == "python");
        assert_eq!(seen.map(unshed_tests::report::Frame::place).collect::<Vec<_>>(), told);
    }
}

fn place(frame: &Value) -> String {
    let text = |name: &str| frame[name].as_str().expect("a frame has a function and a file");
    format!("{} ({}:{})", text("function"), text("file"), frame["line"])
}

fn truth_table(name: &str, which: Which) {
    let interpreter = &which.find()[0];
    let mut row = Row::new(name, interpreter, &["truth"]);
    row.holds("truth", || truth::every::every_row(interpreter));
    row.end();
}

fn c_lines(name: &str, which: Which) {
    let interpreter = &which.find()[0];
    let mut row = Row::new(name, interpreter, &["c_lines"]);
    row.holds("c_lines", || native::every_leak_is_told(interpreter));
    row.end();
}

fn sampling(name: &str, which: Which) {
    let interpreter = &which.find()[0];
    let mut row = Row::new(name, interpreter, &["sampling"]);
    row.holds("sampling", || sample::the_line_is_found(interpreter));
    row.end();
}

macro_rules! every {
    ($($name:ident: $which:expr,)*) => {
        mod exact {
            use unshed_tests::interpreters::Which;
            $(#[test] fn $name() { super::exact(stringify!($name), $which); })*
        }
        mod truth_table {
            use unshed_tests::interpreters::Which;
            $(#[test] fn $name() { super::truth_table(stringify!($name), $which); })*
        }
        mod c_lines {
            use unshed_tests::interpreters::Which;
            $(#[test] fn $name() { super::c_lines(stringify!($name), $which); })*
        }
        mod sampling {
            use unshed_tests::interpreters::Which;
            $(#[test] fn $name() { super::sampling(stringify!($name), $which); })*
        }
        #[test]
        fn none_is_forgotten() {
            assert_eq!([$($which),*], Which::ALL);
        }
    };
}

every! {
    pyenv_3_8: Which::Pyenv(8),
    pyenv_3_9: Which::Pyenv(9),
    pyenv_3_10: Which::Pyenv(10),
    pyenv_3_11: Which::Pyenv(11),
    pyenv_3_12: Which::Pyenv(12),
    pyenv_3_13: Which::Pyenv(13),
    debian_3_11: Which::Debian,
    chroot_3_13: Which::Chroot(13),
    chroot_3_14: Which::Chroot(14),
    chroot_3_15: Which::Chroot(15),
    embedded_3_11: Which::Embedded(11),
    free_threaded_3_13: Which::FreeThreaded,
}
