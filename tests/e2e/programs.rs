//! The programs themselves: a truth that is wrong would prove nothing, so CPython's own tracemalloc is asked too. Without the tool.

use std::process::Command;

use unshed_tests::harness::{Target, program};
use unshed_tests::interpreters::{any_supported, supported};
use unshed_tests::truth::assert_within_percent;

/// All programs that state a truth about lines or bytes which tracemalloc can see. The first leaks less than it does otherwise:
/// tracemalloc takes half a minute to tell of a million blocks.
const TRUTHFUL: [(&str, &str); 18] = [
    ("leak_new_reference.py", "go 1000 50000"),
    ("mutable_default.py", "go"),
    ("dict_cache.py", "go"),
    ("callback_registry.py", "go"),
    ("stored_exceptions.py", "go"),
    ("class_list.py", "go"),
    ("four_threads.py", "go"),
    ("honest.py", "go"),
    ("all_kinds.py", "go"),
    ("large.py", "go"),
    ("preexisting.py", "go"),
    ("many_blocks.py", "go"),
    ("deep_recursion.py", "go"),
    ("execs.py", "go"),
    ("threads_come_and_go.py", "go"),
    ("c_leaks.py", "go"),
    ("cpp_leaks.py", "go"),
    ("every_row.py", "go"),
];

#[test]
fn tracemalloc_agrees_with_every_truth() {
    // The two builds are of one source, so that it is enough to ask the one of half of the programs, the other of the rest.
    for (number, (name, go)) in TRUTHFUL.into_iter().enumerate() {
        let interpreter = &supported()[number % supported().len()];
        let mut target = Target::on(interpreter).option("-Xtracemalloc=1").spawn(name, &[]);
        let truth = target.tell(go);
        let traced = target.ask("tracemalloc");
        for (number, leak) in truth.leaks.iter().enumerate() {
            let seen = |what| traced["leaks"][number][what].as_u64().expect("tracemalloc counts");
            let place = leak.place();
            let told = |what| format!("{what} that tracemalloc sees at {place}");
            assert_within_percent(seen("blocks"), leak.blocks, &told("blocks"));
            if !leak.sizes.is_empty() {
                let asked = leak.sizes.iter().map(|(bytes, blocks)| bytes * blocks).sum();
                assert_within_percent(seen("bytes"), asked, &told("bytes"));
            }
        }
        assert!(target.quit().success(), "{name} does not end well on {interpreter}");
    }
}

#[test]
fn tracemalloc_agrees_with_the_bytes_of_the_grown_and_shrunk() {
    let mut target = Target::on(any_supported()).option("-Xtracemalloc=1").spawn("realloc_heavy.py", &[]);
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
