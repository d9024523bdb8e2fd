//! The walk along C frames, held against gdb: programs are stopped at random moments, gdb says what the C stack of each thread is, and while they stand the
//! code that runs in the kernel walks the same stacks over `process_vm_readv`.
//!
//! `UNSHED_GDB_STOPS=1000` in front takes that many moments of each program and interpreter instead of a few dozen; the comparison is printed with `--nocapture`.

mod agree;
mod load;
mod walker;

use agree::Tally;
use load::Load;
use unshed_tests::interpreters::{Interpreter, on_each};

/// The moments that are taken of a program under an interpreter.
const STOPS: usize = 40;

/// Frames that have to be right, in percent.
const WANTED: f64 = 99.0;

fn stops() -> usize {
    let told = std::env::var("UNSHED_GDB_STOPS").ok();
    told.map_or(STOPS, |told| told.parse().expect("UNSHED_GDB_STOPS is a whole number"))
}

/// Compares all threads at so many moments.
fn compare(interpreter: &Interpreter, program: &str, stops: usize) -> Tally {
    let mut load = Load::start(interpreter, program);
    let mut tally = Tally::default();
    for _ in 0..stops {
        load.compare_at_a_random_moment(&mut tally);
    }
    load.end();
    tally
}

/// gdb and the walk agree, on both kinds of interpreter.
fn agrees(program: &str) {
    on_each(|interpreter| {
        let stops = stops();
        let tally = compare(interpreter, program, stops);
        eprintln!("{program} on {interpreter}, {stops} moments: {tally}");
        assert!(tally.stacks >= stops, "there are fewer stacks than moments: {tally}");
        assert!(tally.frames >= 5 * tally.stacks, "these are not the stacks of a program at work: {tally}");
        assert!(tally.percent() >= WANTED, "{program}: the walk and gdb disagree: {tally}");
    });
}

#[test]
fn as_gdb_sees_it_in_c_code_that_works_on_texts() {
    agrees("texts");
}

#[test]
fn as_gdb_sees_it_where_python_and_c_call_each_other() {
    agrees("mixed");
}

#[test]
fn as_gdb_sees_it_in_libraries_of_the_system() {
    agrees("libraries");
}

#[test]
fn as_gdb_sees_it_in_cplusplus() {
    agrees("cplusplus");
}

#[test]
fn as_gdb_sees_it_in_waits_and_signals() {
    agrees("waits");
}
