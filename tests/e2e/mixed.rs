//! C and Python frames in one stack, in the order in which the program called them: what faulthandler says of the Python frames and gdb of the C frames is put
//! together by what the program itself says of who calls whom, and the report must tell the same stack, frame by frame.

mod expected;

use serde::Deserialize;

use expected::{Expected, Told, above_evaluator, expected};
use unshed_tests::harness::{Gdb, Target, Unshed};
use unshed_tests::interpreters::{Interpreter, on_each};
use unshed_tests::report::{Frame, Report, Site};

/// The program's answer to `facts`.
#[derive(Deserialize)]
struct Facts {
    ways: Vec<Way>,
    /// Blocks that a way leaks.
    blocks: u64,
    leaf: Told,
}

/// One way to the leaf.
#[derive(Deserialize)]
struct Way {
    name: String,
    /// Bytes of each block that it leaks, unlike all others'.
    bytes: u64,
}

/// The program, and what stack each of its ways must have.
struct Scene {
    target: Target,
    facts: Facts,
    stacks: Vec<Vec<Expected>>,
    /// The C frames that ask for a block, from the C library's function to the evaluator.
    asking: Vec<Expected>,
}

impl Scene {
    /// Takes each way once, stops in the leaf, and asks.
    fn look(interpreter: &Interpreter) -> Self {
        let mut target = Target::spawn(interpreter, "ways.py", &[]);
        let facts: Facts = serde_json::from_value(target.ask("facts")).expect("ways.py tells its facts");
        let mut gdb = Gdb::attach(target.pid());
        gdb.resume_until("calloc", &format!("$rdi * $rsi == {}", facts.ways[0].bytes));
        target.send("run 0 0");
        gdb.stopped();
        let asking = above_evaluator(target.pid(), gdb.threads());
        gdb.resume();
        target.answer("run 0 0");
        gdb.stop();
        let mut stacks = Vec::new();
        for number in 0..facts.ways.len() {
            gdb.resume();
            let told = target.ask(&format!("run {number} 1"));
            gdb.stop();
            stacks.push(expected(&told, &facts.leaf, target.pid(), gdb.threads()));
            gdb.resume();
            target.ask("go on");
            gdb.stop();
        }
        gdb.detach();
        Self { target, facts, stacks, asking }
    }

    /// Takes each way again, traced.
    fn record(&mut self) -> Report {
        let recording = Unshed::record(self.target.pid(), &["--native", "full", "--max-depth", "128"]);
        for number in 0..self.facts.ways.len() {
            self.target.ask(&format!("run {number} 0"));
        }
        let report = recording.stop().report();
        self.target.assert_unharmed();
        report
    }
}

/// The site at which a way has leaked.
fn site_of<'a>(report: &'a Report, facts: &Facts, way: &Way) -> Result<&'a Site, String> {
    let is_its =
        |site: &&Site| site.live_bytes == way.bytes * facts.blocks && site.live_blocks == facts.blocks;
    report.sites.iter().find(is_its).ok_or_else(|| {
        format!("no site has {} blocks of {} bytes\n{}", facts.blocks, way.bytes, report.worst())
    })
}

/// What is wrong with a reported stack: its frames above the leaf's must be the last of `asking`, without those of allocators, and the rest as expected.
fn wrong(site: &Site, asking: &[Expected], expected: &[Expected]) -> Option<String> {
    let own: Vec<&Frame> = site.stack.iter().filter(|frame| !frame.inlined).collect();
    let above = own.iter().take_while(|frame| frame.kind == "native").count();
    let passed = asking.len().checked_sub(above).filter(|_| above > 0);
    let Some((allocators, asking)) = passed.map(|passed| asking.split_at(passed)) else {
        return Some(format!("{above} C frames ask for the memory, and gdb sees {}", asking.len()));
    };
    let whole: Vec<&Expected> = asking.iter().chain(expected).collect();
    let same = own.iter().zip(&whole).take_while(|(frame, expected)| expected.is(frame)).count();
    if same == whole.len() && same == own.len() {
        let other = allocators.iter().find(|frame| !frame.is_allocator());
        return other.map(|frame| format!("{frame} asked for the memory and is missing"));
    }
    let mut text = format!("the frames part at number {same}:\n");
    for at in 0..own.len().max(whole.len()) {
        let reported = own.get(at).map_or_else(String::new, |frame| told(frame));
        let expected = whole.get(at).map_or_else(String::new, ToString::to_string);
        let mark = if at == same { ">" } else { " " };
        text += &format!("  {mark} {expected:<70} {reported}\n");
    }
    Some(text)
}

fn told(frame: &Frame) -> String {
    match frame.module_offset {
        Some(offset) => {
            format!("{} [{}+{offset:#x}]", frame.function, frame.module.as_deref().unwrap_or("?"))
        }
        None => frame.place(),
    }
}

#[test]
fn mixed_stacks_are_as_faulthandler_and_gdb_see_them() {
    on_each(|interpreter| {
        let mut scene = Scene::look(interpreter);
        let report = scene.record();
        let (mut frames, mut failures) = (0, String::new());
        for (way, expected) in scene.facts.ways.iter().zip(&scene.stacks) {
            frames += expected.len();
            let why = match site_of(&report, &scene.facts, way) {
                Ok(site) => wrong(site, &scene.asking, expected),
                Err(why) => Some(why),
            };
            if let Some(why) = why {
                failures += &format!("{}: {why}\n", way.name);
            }
        }
        eprintln!("{} ways on {interpreter}: {frames} frames", scene.facts.ways.len());
        assert!(failures.is_empty(), "{failures}");
    });
}
