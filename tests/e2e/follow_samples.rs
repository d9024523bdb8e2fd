//! `--follow` with samples: a process and all that it forks share one budget and have one report.

use std::time::Duration;

use unshed_tests::harness::{
    Output, Recording, Scratch, Target, Unshed, assert_no_traps, is_alive, traps_of, wait_until,
};
use unshed_tests::interpreters::{Interpreter, any_supported, debian, every};
use unshed_tests::report::{Report, Site};
use unshed_tests::truth::Truth;

use crate::workers::{pid, pids, start};

/// A build for debugging takes several times the CPU time for each window.
const GENEROUS: [&str; 3] = ["--follow", "--budget", "10"];
/// The same as a part of one CPU, and what may be beyond it: the first windows are not yet planned with what windows cost here.
const MOST: f64 = 0.10 * 1.25;

/// Requests of all workers together in which their leak is surely seen.
const ENOUGH: &str = "go 8000";
const SOME: &str = "go 600";

/// Asserts that it was sampled, what must hold of all sums, and that all together have kept to the budget.
fn assert_sampled(report: &Report) {
    assert_eq!(report.engine, "sample");
    let sampling = report.sampling.as_ref().expect("a sampled report says how it was sampled");
    assert!(sampling.windows > 0 && sampling.births > 0, "nothing was seen: {sampling:?}");
    assert!(report.cost.target_cpu_fraction <= MOST, "{:?}", report.cost);
    let windows: u64 = report.processes.iter().filter_map(|row| row.windows).sum();
    assert_eq!(windows, sampling.windows, "each window is one process's: {:?}", report.processes);
    for site in &report.sites {
        let live: u64 =
            site.processes.iter().filter(|share| !share.exited).map(|share| share.live_blocks).sum();
        assert_eq!(live, site.live_blocks, "{site:?}");
    }
}

/// Asserts that the line is the first that is called a leak, and that the blocks that it has kept since `before` are no more than is told with its error, and no more than four times what is told.
fn assert_found(report: &Report, before: &Truth, after: &Truth) {
    let leak = &after.leaks[0];
    let first = report.sites.iter().find(|site| site.verdict == "leak").or(report.sites.first());
    assert!(
        first.is_some_and(|site| leak.is_passed_by(site)),
        "the first is not {}\n{}",
        leak.place(),
        report.worst()
    );
    let sites: Vec<&Site> = report.sites.iter().filter(|site| leak.is_passed_by(site)).collect();
    let live: u64 = sites.iter().map(|site| site.live_blocks).sum();
    let error: f64 = sites.iter().filter_map(|site| site.live_blocks_error).sum();
    let truth = leak.blocks - before.leaks[0].blocks;
    assert!(
        live as f64 + error >= truth as f64 && live >= truth / 4,
        "{live} ± {error} blocks are told, {truth} were kept\n{}",
        report.worst()
    );
    let false_growth = report.sites.iter().filter(|site| site.verdict == "leak" && !leak.is_passed_by(site));
    let growth: f64 = sites.iter().map(|site| site.growth_bytes_per_second).sum();
    assert!(
        false_growth.map(|site| site.growth_bytes_per_second).sum::<f64>() <= growth,
        "{}",
        report.worst()
    );
}

/// Three workers that all leak at one line; each way of coming to them.
fn the_line_of_all_workers(interpreter: &Interpreter, how: &str) {
    let mut target = Target::spawn(interpreter, "prefork.py", &[how]);
    let mut recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    let workers = start(&mut target, &mut recording, "start 3");
    let before = target.tell("go 1");
    let after = target.tell(ENOUGH);
    let report = recording.stop().report();
    assert_sampled(&report);
    assert_found(&report, &before, &after);
    for worker in &workers {
        let row = report.processes.iter().find(|row| row.pid == *worker);
        let row = row.unwrap_or_else(|| panic!("{worker} has no row: {:?}", report.processes));
        assert!(row.windows.is_some_and(|windows| windows > 0) && !row.exited, "{row:?}");
        assert_no_traps(*worker);
    }
    target.assert_unharmed();
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn what_all_workers_leak_is_one_leak() {
    every().iter().for_each(|python| the_line_of_all_workers(python, "fork"));
}

#[test]
fn workers_of_multiprocessing_by_fork() {
    the_line_of_all_workers(any_supported(), "mp-fork");
}

#[test]
fn workers_of_multiprocessing_by_spawn_are_programs_of_their_own() {
    for python in [any_supported(), debian()] {
        the_line_of_all_workers(python, "mp-spawn");
    }
}

#[test]
fn workers_of_multiprocessing_by_forkserver() {
    the_line_of_all_workers(any_supported(), "mp-forkserver");
}

#[test]
fn workers_that_were_there_before_are_sampled_too() {
    let mut target = Target::spawn(debian(), "prefork.py", &["fork"]);
    let workers = pids(&target.ask("start 2")["workers"]);
    let mut recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    let mut found = vec![recording.following(), recording.following()];
    found.sort_unstable();
    assert_eq!(found, workers);
    let before = target.tell("go 1");
    let after = target.tell(ENOUGH);
    let report = recording.stop().report();
    assert_sampled(&report);
    assert_found(&report, &before, &after);
    assert_eq!(report.processes.iter().filter(|row| row.joined == "before").count(), 2);
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn workers_that_go_and_come_and_become_something_else_have_rows() {
    // One becomes the same program under the other interpreter, which needs probes of its own.
    let other = debian().path.display().to_string();
    let mut target = Target::spawn(any_supported(), "prefork.py", &["fork", &other]);
    let mut recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    start(&mut target, &mut recording, "start 3");
    let renewed = target.ask("renew");
    let (gone, new) = (pid(&renewed["gone"]), pid(&renewed["new"]));
    assert_eq!(recording.following(), new);
    let became = pid(&target.ask("exec")["became"]);
    assert_eq!(recording.following(), became);
    let after = target.tell(ENOUGH);
    let report = recording.stop().report();
    assert_sampled(&report);
    let leak = &after.leaks[0];
    let first = report.sites.iter().find(|site| site.verdict == "leak");
    assert!(first.is_some_and(|site| leak.is_passed_by(site)), "{}", report.worst());
    let row = |pid: u32, joined: &str| {
        let row = report.processes.iter().find(|row| row.pid == pid && row.joined == joined);
        row.unwrap_or_else(|| panic!("{pid} has no row as {joined}: {:?}", report.processes))
    };
    assert!(row(gone, "fork").exited && !row(new, "fork").exited);
    assert!(row(became, "fork").exited && row(became, "fork").ended.contains("exec"));
    let anew = row(became, "exec");
    assert!(!anew.exited && anew.windows.is_some_and(|windows| windows > 0), "{anew:?}");
    assert_eq!(anew.python, debian().version);
    // What the one that is gone held is told, and is no leak of the living.
    let held = |pid: u32| {
        let shares =
            report.sites.iter().filter(|site| leak.is_passed_by(site)).flat_map(|site| &site.processes);
        shares.filter(|share| share.pid == pid && share.exited).map(|share| share.live_blocks).sum::<u64>()
    };
    assert!(row(gone, "fork").live_blocks >= held(gone));
    target.ask("end");
    assert!(target.quit().success());
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn children_that_exit_at_once_take_nothing() {
    let mut target = Target::spawn(debian(), "prefork.py", &["fork"]);
    let mut recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    start(&mut target, &mut recording, "start 1");
    target.ask(SOME);
    let before = descriptors(recording.pid());
    target.ask("brief 300");
    target.ask(SOME);
    let after = descriptors(recording.pid());
    assert!(after <= before + 8, "{before} descriptors before 300 children, {after} afterwards");
    let report = recording.stop().report();
    assert_sampled(&report);
    assert!(
        (64..200).contains(&report.processes.len()),
        "{} rows: {:?}",
        report.processes.len(),
        report.notes
    );
    assert_eq!(report.processes.iter().filter(|row| !row.exited).count(), 2, "those that live have rows");
    let told = report.processes.last().expect("there are rows");
    assert!(told.exited && told.command.contains("more processes"), "{told:?}");
    target.assert_unharmed();
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn a_killed_tool_leaves_no_trap_in_any_of_them() {
    let mut target = Target::spawn(debian(), "prefork.py", &["fork"]);
    let workers = pids(&target.ask("start 3")["workers"]);
    for _ in 0..3 {
        let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
        let is_open = || workers.iter().any(|worker| traps_of(*worker).is_ok_and(|traps| !traps.is_empty()));
        wait_until("a window is open in a worker", Duration::from_secs(60), is_open);
        recording.kill(target.pid());
        for worker in &workers {
            assert!(is_alive(*worker), "worker {worker} died when the tool was killed");
            assert_no_traps(*worker);
        }
    }
    target.ask(SOME);
    target.ask("end");
    assert!(target.quit().success());
}

#[test]
fn a_command_is_followed_from_its_start() {
    let interpreter = debian();
    let scratch = Scratch::default();
    let file = scratch.arg("report.json");
    let program = unshed_tests::harness::program("prefork.py").display().to_string();
    let python = interpreter.path.display().to_string();
    let command =
        [&["record", "-o", &file][..], &GENEROUS, &["--", &python, "-S", &program, "fork"]].concat();
    // The end of its input ends the program.
    let report = Recording::start(Unshed::command(&command), scratch).wait().report();
    assert_eq!((report.processes.len(), report.processes[0].joined.as_str()), (1, "target"));
    assert!(!report.processes[0].exited, "what it held when it ended is what the report is about");
}

#[test]
fn a_capture_of_a_family_can_be_told_in_all_forms() {
    let mut target = Target::spawn(any_supported(), "prefork.py", &["fork"]);
    let scratch = Scratch::default();
    let (of, file) = (target.pid().to_string(), scratch.arg("capture.unshed"));
    let command = Unshed::command(&[&["record", "-p", &of, "-o", &file][..], &GENEROUS].concat());
    let mut recording = Recording::start(command, scratch);
    recording.armed();
    start(&mut target, &mut recording, "start 2");
    target.ask(ENOUGH);
    let recorded: Output = recording.stop();
    recorded.assert_code(0);
    let told = ["text", "json", "folded", "svg"].map(|form| {
        let output = Unshed::run(&["report", &file, "-f", form]);
        output.assert_code(0);
        output.stdout
    });
    assert_eq!(told[0].trim(), recorded.stdout.trim(), "`report` says something else than `record`");
    let report = Report::parse(&told[1]);
    assert_sampled(&report);
    assert_eq!(report.processes.len(), 3);
    assert!(told[2].lines().count() > 0 && told[3].contains("<svg"));
    target.ask("end");
    assert!(target.quit().success());
}
