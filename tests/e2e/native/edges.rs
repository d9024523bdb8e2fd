//! Stacks that are hard to walk, and stacks that cannot be walked to their end: then what was found is right, and the reason is counted and told.

use unshed_tests::harness::{Build, Output};
use unshed_tests::interpreters::on_each;
use unshed_tests::report::{Frame, Report, Site};
use unshed_tests::stacks::{Native, Row, assert_told};

use super::{CUTS, Case, usual};

/// With a function that aligns its frame in the way that needs an expression to find the caller's.
const EDGES: Build = Build::with(&["-O2", "-g", "-mforce-drap"]);

const FASTEST: Build = Build::with(&["-O3", "-g"]);

/// Without unwind tables and without debug information; names of functions stay.
const NO_ROWS: Build = Build::with(&["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]);

/// Asserts that machine code is missing for this reason only, and that the text says so.
fn assert_cut(output: &Output, report: &Report, reason: &str) {
    for code in CUTS {
        let count = report.loss(code);
        assert_eq!(count > 0, code == reason, "{count} C stacks are cut: {code}\n{}", report.worst());
    }
    let loss = report.losses.iter().find(|loss| loss.code == reason).expect("it was counted a line above");
    let text = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&loss.meaning), "the text does not say {:?}:\n{}", loss.meaning, output.stdout);
}

#[test]
fn deep_aligned_grown_cold_and_signals_frames() {
    on_each(|interpreter| {
        for (build, native) in [(EDGES, Native::Leaf), (EDGES, Native::Full), (FASTEST, Native::Leaf)] {
            drop(Case { program: "c_edges.py", build, ..usual(interpreter, native) }.assert_told_whole());
        }
    });
}

#[test]
fn a_c_stack_deeper_than_the_walk_keeps_its_innermost_frames() {
    on_each(|interpreter| {
        let case = Case { program: "c_edges.py", build: EDGES, ..usual(interpreter, Native::Leaf) };
        let (output, truth) = case.told("deep 100", &["--max-depth", "32"]);
        let report = output.report();
        let mut row = Row::all(&truth).remove(0);
        assert!(row.stack.len() > 100, "a recursion over 100 levels has as many frames");
        row.stack.drain(32..row.stack.len() - 1);
        row.cut = true;
        assert_told(&[row], &report, Native::Leaf);
        assert_cut(&output, &report, "native_depth");
    });
}

/// A coroutine's stack begins in it: what resumed it is not above.
#[test]
fn a_stack_of_its_own_is_told_to_its_beginning() {
    on_each(|interpreter| {
        let case = Case { program: "c_edges.py", build: EDGES, ..usual(interpreter, Native::Full) };
        let (output, truth) = case.told("own", &[]);
        let rows = Row::all(&truth);
        assert_told(&rows, &output.report().without_native(), Native::Off);
        let report = output.report();
        let coroutine = |frame: &Frame| frame.function == "coroutine" && frame.line == rows[0].stack[0].line;
        let site = report.sites.iter().find(|site| site.stack.iter().any(coroutine));
        let site = site.unwrap_or_else(|| panic!("the coroutine is not told\n{}", report.worst()));
        assert_eq!(site.live_blocks, rows[0].blocks, "{site:?}");
        let others = site.stack.iter().filter(|frame| frame.module.as_deref() == Some("edges.so")).count();
        assert_eq!(others, 1, "only the coroutine itself is on its stack: {site:?}");
    });
}

#[test]
fn code_without_unwind_tables_ends_the_walk_and_the_python_line_is_right() {
    on_each(|interpreter| {
        for native in [Native::Leaf, Native::Full] {
            let case = Case { build: NO_ROWS, ..usual(interpreter, native) };
            let (output, truth) = case.told("go", &[]);
            let report = output.report();
            let rows: Vec<Row> = Row::all(&truth).into_iter().map(Row::cut).collect();
            assert_told(&rows, &report, native);
            assert_cut(&output, &report, "native_no_rows");
        }
    });
}

#[test]
fn code_of_no_file_ends_the_walk_and_the_python_line_is_right() {
    on_each(|interpreter| {
        let case = Case { program: "machine_code.py", ..usual(interpreter, Native::Full) };
        let (output, truth) = case.told("go", &[]);
        let report = output.report();
        let row = Row::all(&truth).remove(0);
        let counted = |site: &&Site| (site.live_blocks, site.live_bytes) == (row.blocks, row.bytes);
        let site = report.sites.iter().find(counted);
        let site = site.unwrap_or_else(|| panic!("the leak is not one site\n{}", report.worst()));
        let python = site.python().unwrap_or_else(|| panic!("there is no Python: {site:?}"));
        let told = (&python.function, python.line);
        assert_eq!(told, (&row.stack[0].function, row.stack[0].line), "{site:?}");
        let native = site.stack.iter().take_while(|frame| frame.kind == "native").collect::<Vec<_>>();
        let [inner @ .., made] = native.as_slice() else { panic!("there is no machine code: {site:?}") };
        assert!(inner.iter().any(|frame| frame.function == "PyLong_FromLong"), "{site:?}");
        assert_eq!((&made.module, &made.file), (&None, &None), "{site:?}");
        assert!(made.function.starts_with('<') && made.unnamed.is_some(), "it is not told why: {made:?}");
        assert_cut(&output, &report, "native_no_module");
    });
}
