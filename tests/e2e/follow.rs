//! `--follow`: a process and all that it forks, one report over all; and without it, children that are left in peace.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use unshed_tests::harness::{
    Recording, Scratch, Target, Unshed, assert_no_traps, is_alive, signal, traps_of, wait_until,
};
use unshed_tests::interpreters::{Interpreter, any_supported, debian, every, on_each};
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

use crate::workers::{pid, pids, start};

/// Live blocks and bytes of the leaking line by process, as reported. What the list itself takes, one block for each process, is left out.
fn shares(report: &Report, truth: &Truth) -> BTreeMap<u32, (u64, u64, bool)> {
    let mut found = BTreeMap::new();
    for site in truth.leaks[0].sites(report).into_iter().filter(|site| is_of_strings(site, truth)) {
        for share in &site.processes {
            let sum = found.entry(share.pid).or_insert((0, 0, share.exited));
            *sum = (sum.0 + share.live_blocks, sum.1 + share.live_bytes, share.exited);
        }
    }
    found.retain(|_, (blocks, ..)| *blocks > 0);
    found
}

/// Bytes of an empty string, as the program says.
fn empty_bytes(truth: &Truth) -> u64 {
    truth.facts["empty_bytes"].as_u64().expect("the truth says what an empty string takes")
}

/// The class of the longest string that is kept, eight characters: 64 bytes, without the GIL 80. The list takes more.
fn class_bytes(truth: &Truth) -> u64 {
    (empty_bytes(truth) + 8).next_multiple_of(16)
}

/// Whether a site of the leaking line is that of the strings.
fn is_of_strings(site: &unshed_tests::report::Site, truth: &Truth) -> bool {
    site.allocated_bytes <= class_bytes(truth) * site.allocated_blocks
}

/// Asserts that each process has exactly the blocks that it says it keeps, and bytes of their sizes.
fn assert_split(report: &Report, truth: &Truth, exited: bool) {
    let (empty_bytes, class_bytes) = (empty_bytes(truth), class_bytes(truth));
    let kept = truth.facts["kept"].as_object().expect("the truth says who keeps how many");
    let found = shares(report, truth);
    for (pid, blocks) in kept {
        let blocks = blocks.as_u64().expect("a number");
        let pid: u32 = pid.parse().expect("a pid");
        let (seen, bytes, gone) =
            *found.get(&pid).unwrap_or_else(|| panic!("{pid} has nothing: {found:?}\n{}", report.worst()));
        assert_eq!(seen, blocks, "blocks of {pid}: {found:?}");
        let sizes: u64 = (0..blocks)
            .map(|number| empty_bytes + "kept ".len() as u64 + number.to_string().len() as u64)
            .sum();
        assert!(
            bytes == sizes || truth.inlined && (sizes..=class_bytes * blocks).contains(&bytes),
            "{bytes} bytes of {pid}, not {sizes}"
        );
        assert_eq!(gone, exited && pid != report.target.pid, "{pid} exited");
        assert!(report.processes.iter().any(|process| process.pid == pid), "{pid} has no row");
    }
    assert_eq!(found.len(), kept.len(), "others have a share: {found:?}");
}

/// Workers are forked while their parent is traced.
fn forks_of(interpreter: &Interpreter) {
    let mut target = Target::spawn(interpreter, "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    let workers = start(&mut target, &mut recording, "fork 3");
    let truth = target.tell("work 1000");
    let report = recording.stop().report();
    assert_split(&report, &truth, false);
    let forked: Vec<_> = report.processes.iter().filter(|process| process.joined == "fork").collect();
    assert_eq!(forked.len(), 3, "{:?}", report.processes);
    for process in forked {
        assert_eq!(process.parent, Some(target.pid()));
        assert!(process.unseen_ms.is_some_and(|ms| ms > 0.0), "{process:?}");
        // What it has inherited, and frees, is known to be its parent's.
        assert_eq!(process.freed_blocks + process.live_blocks, process.allocated_blocks);
    }
    workers.iter().for_each(|worker| assert_no_traps(*worker));
    target.assert_unharmed();
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn forked_workers_have_their_own_books() {
    on_each(forks_of);
}

#[test]
fn what_workers_held_when_they_exited_is_told_and_is_no_leak_of_the_living() {
    let mut target = Target::spawn(debian(), "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    start(&mut target, &mut recording, "fork 2");
    let truth = target.tell("work 1000");
    recording.names_are_read();
    target.ask("end");
    let report = recording.stop().report();
    assert_split(&report, &truth, true);
    let own = truth.facts["kept"][target.pid().to_string()].as_u64().expect("the parent keeps some");
    assert_eq!(
        truth.leaks[0]
            .sites(&report)
            .iter()
            .filter(|site| is_of_strings(site, &truth))
            .map(|site| site.live_blocks)
            .sum::<u64>(),
        own
    );
    assert!(target.quit().success());
}

#[test]
fn workers_that_were_there_before_are_traced_too() {
    let mut target = Target::spawn(any_supported(), "follow_forks.py", &[]);
    let workers = pids(&target.ask("fork 2")["workers"]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    let mut found = vec![recording.following(), recording.following()];
    found.sort_unstable();
    assert_eq!(found, workers);
    let truth = target.tell("work 500");
    let report = recording.stop().report();
    assert_split(&report, &truth, false);
    assert_eq!(report.processes.iter().filter(|process| process.joined == "before").count(), 2);
    target.ask("end");
    assert!(target.quit().success());
}

/// Workers of a library, by the way that it starts them.
fn pool(how: &str) {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "follow_pools.py", &[how]);
        let mut recording = Unshed::record(target.pid(), &["--follow"]);
        start(&mut target, &mut recording, "start 2");
        let truth = target.tell("work 500");
        recording.names_are_read();
        target.ask("stop");
        let report = recording.stop().report();
        assert_split(&report, &truth, true);
        target.assert_unharmed();
        assert!(target.quit().success());
    });
}

#[test]
fn multiprocessing_by_fork() {
    pool("fork");
}

#[test]
fn multiprocessing_by_spawn() {
    pool("spawn");
}

#[test]
fn multiprocessing_by_forkserver() {
    pool("forkserver");
}

#[test]
fn a_pool_of_concurrent_futures() {
    pool("executor");
}

#[test]
fn thirty_children() {
    let mut target = Target::spawn(debian(), "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    start(&mut target, &mut recording, "fork 30");
    let truth = target.tell("work 100");
    let report = recording.stop().report();
    assert_split(&report, &truth, false);
    assert_eq!(report.processes.len(), 31);
    target.ask("end");
    assert!(target.quit().success());
}

/// Children that were there before join when the first one is armed: if it is over by then, nobody would tell them.
#[test]
fn ctrl_c_before_it_counts_ends_it_with_children_too() {
    let mut target = Target::spawn(any_supported(), "follow_forks.py", &[]);
    let workers = pids(&target.ask("fork 4")["workers"]);
    let exact: &[&str] = &["--follow", "--exact", "--max-slowdown", "inf"];
    for args in [exact, &["--follow"]] {
        let report = Unshed::record_not_armed(target.pid(), args).stop().report();
        assert!(report.processes.iter().any(|process| process.pid == target.pid()), "{:?}", report.processes);
        workers.iter().for_each(|worker| assert_no_traps(*worker));
    }
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn a_worker_that_is_killed_has_told_what_it_held() {
    let mut target = Target::spawn(any_supported(), "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    let workers = start(&mut target, &mut recording, "fork 2");
    let truth = target.tell("work 700");
    recording.names_are_read();
    signal(workers[0], libc::SIGKILL);
    wait_until("the worker has ended", Duration::from_secs(30), || !is_alive(workers[0]));
    let report = recording.stop().report();
    let found = shares(&report, &truth);
    assert_eq!((found[&workers[0]].0, found[&workers[0]].2), (700, true), "{found:?}");
    assert_eq!((found[&workers[1]].0, found[&workers[1]].2), (700, false), "{found:?}");
}

#[test]
fn a_killed_tracer_leaves_no_trap_in_any_of_them() {
    let mut target = Target::spawn(debian(), "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    let workers = start(&mut target, &mut recording, "fork 2");
    for worker in &workers {
        assert!(
            !traps_of(*worker).expect("the worker lives").is_empty(),
            "{worker} is said to be traced, but has no trap"
        );
    }
    recording.kill(target.pid());
    workers.iter().for_each(|worker| assert_no_traps(*worker));
    let truth = target.tell("work 100");
    assert_eq!(truth.facts["kept"].as_object().map(serde_json::Map::len), Some(3), "all work on");
    target.ask("end");
    assert!(target.quit().success());
}

/// A copy of Debian's interpreter: whoever else traces that one at the same time would take the traps out of our children too.
fn own_copy(scratch: &Scratch) -> Interpreter {
    let path = PathBuf::from(scratch.arg("python3.11"));
    std::fs::copy(&debian().path, &path).expect("an interpreter can be copied");
    Interpreter { path, ..debian().clone() }
}

#[test]
fn without_it_children_are_left_in_peace() {
    let scratch = Scratch::default();
    for interpreter in [any_supported(), &own_copy(&scratch)] {
        let mut target = Target::spawn(interpreter, "follow_forks.py", &[]);
        let recording = Unshed::record(target.pid(), &[]);
        let workers = pids(&target.ask("fork 3")["workers"]);
        // While their parent is traced.
        workers.iter().for_each(|worker| assert_no_traps(*worker));
        assert!(
            !traps_of(target.pid()).expect("the target lives").is_empty(),
            "the target is not traced any more"
        );
        let truth = target.tell("work 500");
        let report = recording.stop().report();
        let own = truth.facts["kept"][target.pid().to_string()].as_u64().expect("the parent keeps some");
        let seen = truth.leaks[0]
            .sites(&report)
            .into_iter()
            .filter(|site| is_of_strings(site, &truth))
            .map(|site| site.live_blocks);
        assert_eq!(seen.sum::<u64>(), own, "what children allocate is not the target's");
        assert!(report.processes.is_empty());
        target.ask("end");
        assert!(target.quit().success());
    }
}

#[test]
fn a_target_that_becomes_another_python_is_followed() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "execs.py", &[]);
        let mut recording = Unshed::record(target.pid(), &["--follow"]);
        let first = target.go();
        target.send("exec");
        target.ready();
        assert_eq!(recording.following(), target.pid());
        let second = target.go();
        let report = recording.stop().report();
        let of = |exited: bool| {
            let shares = second.leaks[0].sites(&report).into_iter().flat_map(|site| &site.processes);
            shares.filter(|share| share.exited == exited).map(|share| share.live_blocks).sum::<u64>()
        };
        assert_eq!(
            (of(true), of(false)),
            (first.leaks[0].blocks, second.leaks[0].blocks),
            "{}",
            report.worst()
        );
        let rows: Vec<_> =
            report.processes.iter().map(|row| (row.pid, row.joined.as_str(), row.exited)).collect();
        assert_eq!(rows, [(target.pid(), "target", true), (target.pid(), "exec", false)]);
        target.assert_unharmed();
    });
}

#[test]
fn a_worker_that_becomes_something_else_has_closed_its_books() {
    let mut target = Target::spawn(debian(), "follow_forks.py", &[]);
    let mut recording = Unshed::record(target.pid(), &["--follow"]);
    start(&mut target, &mut recording, "fork 2");
    let truth = target.tell("work 300");
    recording.names_are_read();
    let became = pid(&target.ask("become")["became"]);
    let report = recording.stop().report();
    let found = shares(&report, &truth);
    assert_eq!((found[&became].0, found[&became].2), (300, true), "{found:?}");
    let row = report.processes.iter().find(|row| row.pid == became).expect("it has a row");
    assert!(row.ended.contains("exec"), "{row:?}");
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn children_that_exit_at_once_do_no_harm() {
    let mut target = Target::spawn(debian(), "follow_forks.py", &[]);
    let recording = Unshed::record(target.pid(), &["--follow"]);
    target.ask("brief 20");
    let truth = target.tell("work 1000");
    let report = recording.stop().report();
    assert_split(&report, &truth, true);
    let untold = report.notes.iter().any(|note| note.contains("ended before"));
    assert!(untold || report.processes.len() == 21, "20 children are not told of: {:?}", report.notes);
    target.assert_unharmed();
    assert!(target.quit().success());
}

#[test]
fn a_command_is_followed_from_its_start() {
    let interpreter = debian();
    let scratch = Scratch::default();
    let file = scratch.arg("report.json");
    let program = unshed_tests::harness::program("follow_forks.py");
    let python = interpreter.path.to_string_lossy();
    let command = ["record", "--exact", "--follow", "-o", &file, "--", &python, &program.to_string_lossy()];
    // The end of its input ends the program.
    let output = Recording::start(Unshed::command(&command), scratch).wait();
    let report = output.report();
    assert_eq!((report.processes.len(), report.processes[0].joined.as_str()), (1, "target"));
    assert!(!report.processes[0].exited, "what it held when it ended is what the report is about");
}

#[test]
fn what_cannot_follow_says_so() {
    for (args, word) in
        [(["--follow", "--watch", "-q"], "--watch"), (["--follow", "--when", "growing"], "--when")]
    {
        let output = Unshed::run(&[&["record", "-p", "1"][..], &args].concat());
        output.assert_code(2);
        assert!(output.stderr.contains(word), "{}", output.stderr);
    }
}

/// Not only the two builds that the other tests of this file run on: `--exact --follow` on every version.
#[test]
fn forked_workers_are_traced_under_every_interpreter() {
    every().iter().for_each(forks_of);
}
