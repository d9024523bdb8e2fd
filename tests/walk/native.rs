//! The walk along C frames, held against gdb: programs are stopped at random moments, gdb says what the C stack of each thread is, and while they stand the
//! code that runs in the kernel walks the same stacks over `process_vm_readv`.
//!
//! `UNSHED_GDB_MOMENTS=1000` in front takes that many of each program and interpreter instead of some dozens; the comparison is printed with `--nocapture`.

mod agree;
mod load;
mod walker;

use agree::{Tally, percent};
use load::Load;
use unshed_tests::interpreters::{Interpreter, any_supported, debian};

/// Whether a program has shown the stacks that it is for.
type HasShown = fn(&Tally) -> bool;

/// The programs of `programs/load/`.
const PROGRAMS: [(&str, HasShown); 5] = [
    ("texts", |tally| tally.cut > 0),
    ("mixed", |tally| tally.frames > 20 * tally.stacks),
    ("libraries", |tally| tally.frames > 10 * tally.stacks),
    ("cplusplus", |tally| tally.frames > 10 * tally.stacks),
    ("waits", |tally| tally.interrupted > 0),
];

/// The moments that are taken of a program under an interpreter.
const MOMENTS: usize = 120;

/// Frames that have to agree, in percent: of all programs, and of each. What is known to disagree is code without descriptions, or with some that need more
/// registers than the walk follows; a moment in such code costs its stack, and one program may have had several of them.
const WANTED: f64 = 99.0;
const WANTED_OF_EACH: f64 = 97.0;

fn moments() -> usize {
    let told = std::env::var("UNSHED_GDB_MOMENTS").ok();
    told.map_or(MOMENTS, |told| told.parse().expect("UNSHED_GDB_MOMENTS is a whole number"))
}

/// Compares all threads of a program at so many moments.
fn compare(interpreter: &Interpreter, program: &str, moments: usize) -> Tally {
    let mut load = Load::start(interpreter, program);
    let mut tally = Tally::default();
    for _ in 0..moments {
        load.compare_at_a_random_moment(&mut tally);
    }
    load.end();
    tally
}

/// gdb and the walk agree on the stacks of all programs.
fn agrees_on(interpreter: &Interpreter) {
    let moments = moments();
    let (mut frames, mut agreeing) = (0, 0);
    for (program, has_shown) in PROGRAMS {
        let tally = compare(interpreter, program, moments);
        eprintln!("{program} on {interpreter}, {moments} moments: {tally}");
        assert!(tally.stacks >= moments, "{program}: there are fewer stacks than moments: {tally}");
        assert!(has_shown(&tally), "{program} has not shown the stacks that it is for: {tally}");
        assert!(tally.percent() >= WANTED_OF_EACH, "{program}: the walk and gdb disagree: {tally}");
        frames += tally.frames;
        agreeing += tally.agreeing;
    }
    let percent = percent(agreeing, frames);
    eprintln!("all on {interpreter}: {frames} frames, {percent:.3} % agree");
    assert!(percent >= WANTED, "the walk and gdb disagree on {interpreter}: {percent:.3} %");
}

#[test]
fn as_gdb_sees_it_on_a_shared_build() {
    agrees_on(any_supported());
}

#[test]
fn as_gdb_sees_it_on_debian() {
    agrees_on(debian());
}
