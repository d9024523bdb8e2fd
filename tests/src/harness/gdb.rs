//! gdb, attached to a process: it stops it at any moment and says where each thread is and how it came there. While the process stands, a test may look at
//! the same moment in its own way.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::lines::{Lines, NoLine};
use super::wait::{LONG, SHORT, signal, wait_until};

/// The longest that a process runs between two stops, in microseconds, beside what gdb takes.
const LONGEST_RUN: u64 = 4000;

/// What gdb says of a stopped thread.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the registers have their own names")]
pub struct StoppedThread {
    pub tid: u32,
    pub rip: u64,
    pub rsp: u64,
    pub rbp: u64,
    /// Its frames, innermost first.
    pub frames: Vec<GdbFrame>,
    /// Why there are no more.
    pub end: String,
}

/// One of gdb's frames.
#[derive(Clone, Debug, Deserialize)]
pub struct GdbFrame {
    /// Where the frame goes on.
    pub pc: u64,
    /// What it is.
    pub kind: FrameKind,
    /// Its function, if gdb has a symbol.
    pub name: Option<String>,
}

/// What a frame of gdb's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// A call's.
    Normal,
    /// Made by the kernel, around a signal's handler; what it interrupted is about to run the instruction at its `pc`.
    Signal,
    /// Of a function that was inlined: not on the stack.
    Inline,
    /// Of a function that was left by a jump: not on the stack.
    Jumped,
    /// Something else that gdb makes up.
    Other,
}

impl FrameKind {
    /// Whether it is on the stack.
    #[must_use]
    pub fn is_real(self) -> bool {
        matches!(self, Self::Normal | Self::Signal)
    }
}

impl StoppedThread {
    /// The frames that are on the stack, with the address behind the call; of what runs, or was interrupted, the instruction's own and 1.
    #[must_use]
    pub fn addresses(&self) -> Vec<(u64, &GdbFrame)> {
        let mut interrupted = true;
        let mut found = Vec::new();
        for frame in self.frames.iter().filter(|frame| frame.kind.is_real()) {
            found.push((frame.pc.wrapping_add(u64::from(interrupted)), frame));
            interrupted = frame.kind == FrameKind::Signal;
        }
        found
    }
}

#[derive(Deserialize)]
struct Stopped {
    threads: Vec<StoppedThread>,
}

/// gdb, attached to a process that stands still. When dropped, gdb is killed, and the process with it or not: that is its owner's.
#[derive(Debug)]
pub struct Gdb {
    pid: u32,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines,
    stderr: Lines,
    random: RandomState,
    runs: u64,
    threads: Vec<StoppedThread>,
}

impl Gdb {
    /// Attaches gdb to a process, which stands still from then on.
    ///
    /// # Panics
    /// When there is no gdb, or it cannot attach.
    #[must_use]
    pub fn attach(pid: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/harness/gdb.py");
        let mut command = Command::new("gdb");
        command
            .args(["-q", "-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
            .args(["-p", &pid.to_string(), "-x"])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot run gdb ({error}): apt-get install gdb"));
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = Lines::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is a pipe"));
        let (random, runs, threads) = (RandomState::new(), 0, Vec::new());
        let mut gdb = Self { pid, child, stdin, stdout, stderr, random, runs, threads };
        gdb.take_threads();
        gdb
    }

    /// The threads of the process, which stands still.
    #[must_use]
    pub fn threads(&self) -> &[StoppedThread] {
        &self.threads
    }

    /// Lets the process run for a moment of random length.
    ///
    /// # Panics
    /// When the process has ended, or gdb has.
    pub fn run_a_moment(&mut self) {
        self.resume();
        self.runs += 1;
        let micros = self.random.hash_one(self.runs) % LONGEST_RUN;
        std::thread::park_timeout(Duration::from_micros(micros));
        self.stop();
    }

    /// Lets the process run.
    ///
    /// # Panics
    /// When the process has ended, or gdb has.
    pub fn resume(&mut self) {
        self.run("go");
    }

    /// Lets the process run until it enters a function and a condition of gdb's holds; [`Gdb::stopped`] waits for it.
    ///
    /// # Panics
    /// When the process has ended, or gdb has.
    pub fn resume_until(&mut self, function: &str, condition: &str) {
        self.run(&format!("until {function} {condition}"));
    }

    fn run(&mut self, command: &str) {
        self.send(command);
        let stat = format!("/proc/{}/stat", self.pid);
        wait_until("gdb lets the process run", SHORT, || {
            let text = std::fs::read_to_string(&stat).unwrap_or_default();
            text.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('t'))
        });
    }

    /// Stops the process.
    ///
    /// # Panics
    /// When it has ended, or gdb has.
    pub fn stop(&mut self) {
        signal(self.pid, libc::SIGINT);
        self.take_threads();
    }

    /// Waits until the process stands still by itself.
    ///
    /// # Panics
    /// When it has ended, or gdb has.
    pub fn stopped(&mut self) {
        self.take_threads();
    }

    /// Lets the process go for good.
    ///
    /// # Panics
    /// When gdb does not end well.
    pub fn detach(mut self) {
        self.send("quit");
        let status = super::wait::wait_exit("gdb", &mut self.child, LONG);
        assert!(status.success(), "gdb ended with {status}: {}", self.stderr.rest(SHORT));
    }

    fn send(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap_or_else(|error| panic!("gdb does not listen: {error}"));
    }

    fn take_threads(&mut self) {
        let line = self.stdout.find("STOPPED ", LONG).unwrap_or_else(|why| {
            let why = if why == NoLine::Ended { "has ended" } else { "is late" };
            let said = self.stderr.rest(Duration::from_secs(1));
            panic!("gdb {why}; it said:\n{}{said}", self.stdout.seen())
        });
        let stopped: Stopped = serde_json::from_str(&line["STOPPED ".len()..])
            .unwrap_or_else(|error| panic!("gdb.py says something else ({error}): {line}"));
        self.threads = stopped.threads;
    }
}

impl Drop for Gdb {
    fn drop(&mut self) {
        // Nothing to say when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
