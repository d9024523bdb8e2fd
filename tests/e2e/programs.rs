//! The programs themselves: a truth that is wrong would prove nothing, so CPython's own tracemalloc is asked too. Without the tool.

use std::process::Command;

use unshed_tests::harness::{Target, program};
use unshed_tests::interpreters::{any_supported, supported};
use unshed_tests::truth::{Truth, assert_within_percent};

/// All programs that state a truth about lines or bytes which tracemalloc can see.
const TRUTHFUL: [&str; 13] = [
    "leak_new_reference.py",
    "mutable_default.py",
    "dict_cache.py",
    "callback_registry.py",
    "stored_exceptions.py",
    "class_list.py",
    "four_threads.py",
    "honest.py",
    "preexisting.py",
    "many_blocks.py",
    "deep_recursion.py",
    "execs.py",
    "threads_come_and_go.py",
];

#[test]
fn tracemalloc_agrees_with_every_truth() {
    for interpreter in supported() {
        for name in TRUTHFUL {
            let mut target = Target::spawn_with(interpreter, &["-X", "tracemalloc=1"], name, &[]);
            let truth = target.go();
            let traced = Truth::parse(target.ask("tracemalloc"));
            for (leak, seen) in truth.leaks.iter().zip(&traced.leaks) {
                assert_within_percent(
                    seen.blocks,
                    leak.blocks,
                    &format!("blocks that tracemalloc sees at {}", leak.place()),
                );
                if let (Some(seen), Some(bytes)) = (seen.bytes, leak.bytes) {
                    assert_within_percent(
                        seen,
                        bytes,
                        &format!("bytes that tracemalloc sees at {}", leak.place()),
                    );
                }
            }
            assert!(target.quit().success(), "{name} does not end well");
        }
    }
}

#[test]
fn tracemalloc_agrees_with_the_bytes_of_the_grown_and_shrunk() {
    let mut target = Target::spawn_with(any_supported(), &["-X", "tracemalloc=1"], "realloc_heavy.py", &[]);
    let truth = target.go();
    let traced =
        target.ask("tracemalloc")["live_bytes"].as_u64().expect("tracemalloc's sum is a whole number");
    assert_within_percent(
        traced,
        truth.fact("live_bytes"),
        "bytes that tracemalloc sees in realloc_heavy.py",
    );
}

#[test]
fn the_benchmarks_keep_their_protocol() {
    for name in ["bench_alloc.py", "bench_realistic.py"] {
        let mut command = Command::new(&any_supported().path);
        command.arg(program(name));
        let mut target = Target::start(command, name);
        let answer = target.ask("run 0.2");
        let (work, used) = (answer["work"].as_u64(), answer["cpu_seconds"].as_f64());
        assert!(work.is_some_and(|work| work > 10), "{name} did no work: {answer}");
        assert!(
            used.is_some_and(|used| (0.2..0.4).contains(&used)),
            "{name} did not work for 0.2 s: {answer}"
        );
        assert!(target.quit().success(), "{name} does not end well");
    }
}

#[test]
fn the_demo_service_gets_ready() {
    let mut command = Command::new(&any_supported().path);
    command.arg(program("demo_service.py"));
    let target = Target::start(command, "demo_service.py");
    assert!(unshed_tests::harness::is_alive(target.pid()));
}
