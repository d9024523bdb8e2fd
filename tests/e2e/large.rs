//! Blocks over 512 bytes: followed to whatever `malloc` the target has, counted once, and told with the size that was asked.

use std::path::Path;

use unshed_tests::harness::Target;
use unshed_tests::interpreters::{Interpreter, every, on_each};
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

use crate::{record, record_launched};

/// All domains at once: a block that is counted twice would be counted twice here.
const ALL_DOMAINS: [&str; 2] = ["--domains", "object,mem,raw,libc"];

const JEMALLOC: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc2"];
const TCMALLOC: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"];

/// Asserts that every line has exactly its blocks and bytes, in whatever domain.
fn assert_exact(report: &Report, truth: &Truth) {
    assert_eq!(truth.leaks.len(), 7, "large.py has seven ways to make a large block");
    for leak in &truth.leaks {
        leak.assert_exactly_told_by(report, truth.inlined);
        leak.assert_type_told_by(report);
    }
    assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
}

/// Records a program of which another library serves `malloc`.
fn record_preloaded(
    [library, package]: [&str; 2],
    interpreter: &Interpreter,
    program: &str,
    args: &[&str],
) -> (Report, Truth) {
    assert!(Path::new(library).exists(), "there is no {library}: apt-get install {package}");
    let launch = || Target::on(interpreter).env("LD_PRELOAD", library);
    // The dynamic linker only warns of a library that it cannot preload.
    assert_maps(&launch().spawn(program, &[]), library);
    record_launched(launch(), interpreter, program, args)
}

/// Asserts that a process has mapped a file, whatever symbolic link leads to it.
fn assert_maps(target: &Target, library: &str) {
    let file = std::fs::canonicalize(library).expect("it was there a moment ago").display().to_string();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("the target lives");
    assert!(maps.lines().any(|line| line.ends_with(&file)), "{file} was not preloaded:\n{maps}");
}

#[test]
fn large_blocks_are_counted_once_with_the_size_that_was_asked() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "large.py", &[]);
        assert_exact(&report, &truth);
    });
}

#[test]
fn large_blocks_are_counted_once_in_all_domains_together() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "large.py", &ALL_DOMAINS);
        assert_exact(&report, &truth);
    });
}

#[test]
fn large_blocks_are_followed_through_realloc_when_raw_is_not_wanted() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "large.py", &["--domains", "object,mem"]);
        assert_exact(&report, &truth);
    });
}

#[test]
fn large_blocks_from_jemalloc() {
    on_each(|interpreter| {
        let (report, truth) = record_preloaded(JEMALLOC, interpreter, "large.py", &[]);
        assert_exact(&report, &truth);
    });
}

/// The library is this machine's: those below a root of their own do not see it.
#[test]
fn jemalloc_below_every_version() {
    for interpreter in every().iter().filter(|python| python.root.is_none()) {
        eprintln!("{interpreter}");
        let (report, truth) = record_preloaded(JEMALLOC, interpreter, "malloc_leak.py", &ALL_DOMAINS);
        truth.leaks[0].assert_exactly_told_by(&report, truth.inlined);
    }
}

#[test]
fn large_blocks_from_tcmalloc() {
    on_each(|interpreter| {
        let (report, truth) = record_preloaded(TCMALLOC, interpreter, "large.py", &ALL_DOMAINS);
        assert_exact(&report, &truth);
    });
}

#[test]
fn an_extensions_malloc_is_the_one_that_the_target_resolved() {
    on_each(|interpreter| {
        let (report, truth) = record_preloaded(JEMALLOC, interpreter, "malloc_leak.py", &ALL_DOMAINS);
        truth.leaks[0].assert_exactly_told_by(&report, truth.inlined);
    });
}
