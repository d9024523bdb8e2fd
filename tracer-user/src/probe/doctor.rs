//! What this kernel and a target on it allow, as a list of findings with their evidence, and what a trace would cost the target; and the
//! verifier's own figures.

use std::fmt::Write as _;

use tracer_common::domain::Domain;

use crate::error::{Kind, Result};
use crate::kernel::{Loaded, TRACE_UPROBE_MULTI};
use crate::probe::attach::Method;
use crate::probe::calibrate;
use crate::probe::load::{Limits, ProbeLog, Probes};
use crate::probe::multi;
use crate::probe::rate::{self, Rate};
use crate::probe::sites::{self, HookPlan, How, Purpose, Wish};
use crate::target::census::Heap;
use crate::target::process::Process;
use crate::target::python::Python;

/// Maps as small as they go: the doctor only wants to know whether they can be made.
const SMALL: Limits = Limits { blocks: 1, sites: 1, rows: 0 };

/// The capabilities that tracing needs, by their bit (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "to load the probes"),
    (38, "CAP_PERFMON", "to attach them"),
    (19, "CAP_SYS_PTRACE", "to read the target's memory"),
    (21, "CAP_SYS_ADMIN", "to open the target's files through /proc/PID/map_files"),
];

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// It is as it should be.
    pub good: bool,
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub seen: String,
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examination {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
    /// What a trace of the process would be, if one was named and traps can be placed in it.
    pub outlook: Option<Outlook>,
}

/// A trace that could be.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Process id.
    pub pid: u32,
    /// The interpreter's version.
    pub python: String,
    /// The traps of a trace with the default domains.
    pub plan: HookPlan,
    /// How often they are hit now, or why that cannot be counted.
    pub rate: Result<Rate>,
}

impl Examination {
    fn note(&mut self, good: bool, what: &str, seen: impl Into<String>) {
        self.findings.push(Finding { good, what: what.to_owned(), seen: seen.into() });
    }

    /// A finding that is good if the result is.
    fn result<T>(&mut self, what: &str, result: Result<T>, seen: impl FnOnce(&T) -> String) -> Option<T> {
        match result {
            Ok(value) => {
                self.note(true, what, seen(&value));
                Some(value)
            }
            Err(error) => {
                self.note(false, what, error.to_string().replace('\n', "; "));
                None
            }
        }
    }
}

/// Looks at the kernel, and at a process if one is named; its probe points are counted for a moment ([`rate::WINDOW`]).
///
/// # Errors
/// When there is no such process, or it is no Python.
pub fn examine(pid: Option<u32>) -> Result<Examination> {
    let mut all = Examination::default();
    privileges(&mut all);
    kernel(&mut all);
    if let Some(pid) = pid {
        target(&mut all, &Process::open(pid)?)?;
    }
    Ok(all)
}

/// The kernel's release, as `uname -r` prints it; empty if it cannot be read.
#[must_use]
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The effective capabilities of this process.
fn capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn privileges(all: &mut Examination) {
    let held = capabilities();
    for (bit, name, why) in CAPABILITIES {
        let good = held >> bit & 1 == 1;
        all.note(
            good,
            name,
            if good { format!("held, {why}") } else { format!("missing, needed {why}; run as root") },
        );
    }
}

fn kernel(all: &mut Examination) {
    let release = kernel_release();
    let multi = multi::supported(&release);
    let how = if multi {
        "uprobe_multi, one link per file"
    } else {
        "one perf event per probe point: attaching and detaching are slow"
    };
    all.note(true, "kernel", format!("{release}: {how}"));
    let Some(mut probes) =
        all.result("maps", Probes::load(SMALL, ProbeLog::Off), |_| "can be made".to_owned())
    else {
        return;
    };
    if let Some(method) =
        all.result("probes", Method::load(&mut probes, multi), |_| "pass the verifier".to_owned())
    {
        all.result("traps", calibrate::trap_cost(&method, &mut probes), |cost| {
            format!(
                "{:.0} ns at an entry, {:.0} ns more with the return, measured on ourselves",
                cost.entry_ns, cost.return_ns
            )
        });
    }
}

fn target(all: &mut Examination, process: &Process) -> Result<()> {
    let who = format!("process {}", process.pid());
    match process.tracer_pid() {
        None => all.note(true, &who, process.command().join(" ")),
        Some(tracer) => all.note(
            false,
            &who,
            format!("is under a debugger, process {tracer}: its breakpoints and ours may share bytes"),
        ),
    }
    let python = Python::find(process)?;
    all.note(
        true,
        "python",
        format!("{}, {}, {}", python.named(), python.flavour, python.image.path.display()),
    );
    let domains = [Domain::Object, Domain::Mem, Domain::Raw];
    let wish = Wish {
        live: Some(process),
        domains: &domains,
        ints: false,
        libc: None,
        how: How::Sites,
        purpose: Purpose::Trace,
    };
    let plan = sites::plan(&python, &wish);
    if let Some(plan) = all.result("probe points", plan, plan_words) {
        let heap = plan.counts_all_pools().then(|| Heap::find(process, &python).ok()).flatten();
        let rate = rate::measure(process, &plan.points, rate::WINDOW, heap.as_ref());
        if let Err(error) = &rate
            && error.kind() == Kind::Target
        {
            return Err(error.clone());
        }
        all.outlook = Some(Outlook { pid: process.pid(), python: python.version.to_string(), plan, rate });
    }
    Ok(())
}

fn plan_words(plan: &HookPlan) -> String {
    let emulated = plan.points.iter().filter(|point| point.emulated).count();
    format!("{}, {emulated} of them on instructions that the kernel emulates", plan.points.len())
}

/// What the verifier says of each program, one JSON object a line: `{"program":"on_entry","insns":1234,"stack":"48+0","max_frame":48,"tail_call":true}`,
/// or `{"program":"on_entry","refused":"…"}`. Programs for probe points are loaded as this kernel's traces load them.
///
/// # Errors
/// When the maps cannot be made, or the object cannot be read.
pub fn verifier_lines() -> Result<String> {
    let probes = Probes::load(SMALL, ProbeLog::Off)?;
    let attach_type = if multi::supported(&kernel_release()) { TRACE_UPROBE_MULTI } else { 0 };
    let mut lines = String::new();
    for program in multi::program_names()? {
        let on_points = !["on_exec", "on_thread_exit"].contains(&program.as_str());
        let _ = match multi::load(&probes, &program, if on_points { attach_type } else { 0 }) {
            Err(error) => writeln!(
                lines,
                "{{\"program\":\"{program}\",\"refused\":\"{}\"}}",
                in_json(&error.to_string())
            ),
            Ok(loaded) => {
                let (insns, stack) = figures(&loaded);
                let frames = stack.split('+').filter_map(|frame| frame.parse::<u32>().ok());
                let (max_frame, tail_call) = (frames.max().unwrap_or(0), loaded.tail_call);
                writeln!(
                    lines,
                    "{{\"program\":\"{program}\",\"insns\":{insns},\"stack\":\"{stack}\",\"max_frame\":{max_frame},\"tail_call\":{tail_call}}}"
                )
            }
        };
    }
    Ok(lines)
}

/// Text as the inside of a JSON string.
fn in_json(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted
}

/// Instructions that the verifier followed, and the frames of the program and its functions in bytes.
fn figures(loaded: &Loaded) -> (u64, String) {
    let after = |words: &str| loaded.log.lines().find_map(|line| line.strip_prefix(words));
    let insns = after("processed ").and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
    // Newer kernels tell only the largest (7.3: `stack depth max 256`).
    (insns, after("stack depth ").unwrap_or("").trim().trim_start_matches("max ").to_owned())
}
