//! The tool itself, run as an operator runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::lines::{Lines, NoLine};
use super::scratch::Scratch;
use super::traps::assert_no_traps;
use super::wait::{LONG, signal, wait_until};
use crate::report::Report;

/// After the end of the tool, its pipes are closed at once unless its target has inherited them.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What chooses the trace engine at any price: each allocation and each free is seen, and counts can be compared with the truth.
pub const EXACT: [&str; 3] = ["--exact", "--max-slowdown", "inf"];

/// The tool.
#[derive(Debug)]
pub struct Unshed;

impl Unshed {
    /// The binary: `UNSHED_BIN`, or what cargo has built beside these tests, or in the workspace's own target folder.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn binary() -> PathBuf {
        if let Some(told) = std::env::var_os("UNSHED_BIN") {
            let told = PathBuf::from(told);
            assert!(told.exists(), "UNSHED_BIN names {}, which does not exist", told.display());
            return told;
        }
        let tests = std::env::current_exe().expect("a process knows its executable");
        let beside = tests.parent().and_then(Path::parent).map(|folder| folder.join("unshed"));
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let candidates =
            [beside, Some(workspace.join("debug/unshed")), Some(workspace.join("release/unshed"))];
        let found = candidates.into_iter().flatten().find(|path| path.exists());
        found.expect("there is no unshed binary: cargo build --package tracer-user, or set UNSHED_BIN")
    }

    /// A command line, ready to run, without colours and without a terminal.
    #[must_use]
    pub fn command(args: &[&str]) -> Command {
        let mut command = Command::new(Self::binary());
        command
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command line to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn run(args: &[&str]) -> Output {
        Recording::start(Self::command(args), Scratch::default()).wait()
    }

    /// `unshed record --exact --max-slowdown inf -p PID -o FILE.json ARGS`, armed: what the target does from now on is counted.
    ///
    /// # Panics
    /// When it does not get so far.
    #[must_use]
    pub fn record(pid: u32, args: &[&str]) -> Recording {
        Self::record_as_typed(pid, &[&EXACT, args].concat())
    }

    /// The same with the engine that the arguments choose: samples, if they choose none.
    ///
    /// # Panics
    /// When it does not get so far.
    #[must_use]
    pub fn record_as_typed(pid: u32, args: &[&str]) -> Recording {
        let mut recording = Self::start_record(pid, args);
        recording.armed();
        recording
    }

    /// The same, as soon as a signal ends a recording and not the program: nothing is hooked yet.
    ///
    /// # Panics
    /// When it does not get so far.
    #[must_use]
    pub fn record_not_armed(pid: u32, args: &[&str]) -> Recording {
        let recording = Self::start_record(pid, args);
        wait_until("it handles SIGINT", LONG, || handles(recording.pid(), libc::SIGINT));
        recording
    }

    /// [`Unshed::record`] where a refusal is an answer too.
    ///
    /// # Errors
    /// When it refuses: what it left behind.
    ///
    /// # Panics
    /// When it does neither.
    pub fn try_record(pid: u32, args: &[&str]) -> Result<Recording, Output> {
        let mut recording = Self::start_record(pid, &[&EXACT, args].concat());
        match recording.stderr.find("tracing ", LONG) {
            Ok(_) => Ok(recording),
            Err(NoLine::Ended) => Err(recording.wait()),
            Err(NoLine::Late) => panic!("{} neither traces nor refuses", recording.line),
        }
    }

    fn start_record(pid: u32, args: &[&str]) -> Recording {
        // SAFETY: `geteuid` has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        assert_eq!(user, 0, "the end-to-end tests attach probes to processes: run them as root");
        let scratch = Scratch::default();
        let (pid, file) = (pid.to_string(), scratch.arg("report.json"));
        let mut all = vec!["record", "-p", &pid, "-o", &file];
        all.extend(args);
        Recording::start(Self::command(&all), scratch)
    }
}

/// Whether a process has a handler for a signal (proc_pid_status(5), `SigCgt`).
fn handles(pid: u32, number: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught >> (number - 1) & 1 == 1
}

/// The tool at work; killed when dropped.
#[derive(Debug)]
pub struct Recording {
    line: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    scratch: Option<Scratch>,
}

impl Recording {
    /// Starts a command line; the scratch folder lives as long as its output.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, scratch: Scratch) -> Self {
        let line = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is a pipe"));
        Self { line, child, stdout, stderr, scratch: Some(scratch) }
    }

    /// Waits for the line of stderr that says that from now on everything is counted: `tracing PID (python 3.11.7) …`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn armed(&mut self) -> String {
        match self.stderr.find("tracing ", LONG) {
            Ok(line) => line,
            Err(why) => {
                let ended = if why == NoLine::Ended { self.child.wait().ok() } else { None };
                let said = self.stderr.seen();
                panic!(
                    "{} did not say \"tracing …\" on stderr ({why:?}, ended: {ended:?}); it said:\n{said}",
                    self.line
                )
            }
        }
    }

    /// Waits for the line of stderr that says that a child is traced as well: `following PID (…`; the process's id.
    ///
    /// # Panics
    /// When it does not come.
    pub fn following(&mut self) -> u32 {
        let line = self.stderr.find("following ", LONG);
        let line = line.unwrap_or_else(|why| {
            panic!("{} follows nobody ({why:?}); it said:\n{}", self.line, self.stderr.seen())
        });
        let pid = line.split(' ').nth(1).and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("{line:?} names no process"))
    }

    /// Waits until the tool has named all stacks that it was sent: its threads for names sleep. A process may end then, whatever a busy machine does meanwhile.
    ///
    /// # Panics
    /// When they do not come to rest.
    pub fn names_are_read(&self) {
        let tasks = format!("/proc/{}/task", self.pid());
        let reads = |task: &std::fs::DirEntry| {
            // proc_pid_stat(5): the name in brackets, and the state.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.contains("(names)") && !stat.contains("(names) S")
        };
        wait_until("the names are read", LONG, || {
            let tasks = std::fs::read_dir(&tasks).expect("the tool runs");
            !tasks.flatten().any(|task| reads(&task))
        });
    }

    /// The tool's own process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        signal(self.pid(), number);
    }

    /// Ctrl-C, and wait for the end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn stop(self) -> Output {
        self.signal(libc::SIGINT);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn wait(mut self) -> Output {
        let (mut status, end) = (None, Instant::now() + LONG);
        wait_until("the tool has ended or is late", LONG * 2, || {
            status = self.child.try_wait().expect("a child of ours can be waited for");
            status.is_some() || Instant::now() > end
        });
        let Some(status) = status else {
            let said = self.stderr.rest(Duration::ZERO);
            panic!("{} still runs after {} s; it said:\n{said}", self.line, LONG.as_secs())
        };
        let scratch = self.scratch.take().unwrap_or_default();
        Output {
            line: self.line.clone(),
            status,
            stdout: self.stdout.rest(AFTERMATH).to_owned(),
            stderr: self.stderr.rest(AFTERMATH).to_owned(),
            scratch,
        }
    }

    /// Kills it, so that it cannot clean up, and asserts that the kernel takes the traps out of its target at once.
    ///
    /// The process itself may stay a while: its last act is to wait in the kernel for everybody's return probes
    /// (`synchronize_srcu` in `bpf_uprobe_multi_link_release`), over 30 s when another storm is traced at the same time.
    ///
    /// # Panics
    /// When a trap is left or the process does not go.
    pub fn kill(mut self, target: u32) {
        self.signal(libc::SIGKILL);
        assert_no_traps(target);
        let end = Instant::now() + LONG;
        wait_until("the killed tool is gone or is late", LONG * 2, || {
            self.child.try_wait().expect("a child of ours can be waited for").is_some()
                || Instant::now() > end
        });
        let gone = self.child.try_wait().expect("a child of ours can be waited for").is_some();
        assert!(
            gone,
            "{} s after SIGKILL, {} is not gone: {}",
            LONG.as_secs(),
            self.line,
            kernel_side(self.pid())
        );
    }
}

/// Where the threads of a process are in the kernel, for one that does not die.
fn kernel_side(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let tell = |task: PathBuf| {
        let status = read(task.join("status"));
        let state =
            status.lines().find(|line| line.starts_with("State:")).unwrap_or("State: unknown").to_owned();
        format!(
            "\nthread {}: {state}, {}\n{}",
            task.display(),
            read(task.join("wchan")),
            read(task.join("stack"))
        )
    };
    tasks.map(|task| tell(task.path())).collect()
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Nothing to say when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the tool left behind.
#[derive(Debug)]
pub struct Output {
    /// The command line.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Data.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
    /// The folder of its files.
    pub scratch: Scratch,
}

impl Output {
    /// Asserts an exit code.
    ///
    /// # Panics
    /// When it is another; the message has all that was said.
    pub fn assert_code(&self, expected: i32) -> &Self {
        let Self { line, status, stdout, stderr, .. } = self;
        assert_eq!(
            status.code(),
            Some(expected),
            "{line}\nended with {status}\nstderr:\n{stderr}\nstdout:\n{stdout}"
        );
        self
    }

    /// The report of [`Unshed::record`], read, with all that must hold of any report checked. Asserts exit code 0.
    ///
    /// # Panics
    /// When there is none or it contradicts itself.
    #[must_use]
    pub fn report(&self) -> Report {
        self.assert_code(0);
        let path = self.scratch.path("report.json");
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| {
            panic!("{}\nwrote no report ({error}); it said:\n{}", self.line, self.stderr)
        });
        Report::parse(&text)
    }
}
