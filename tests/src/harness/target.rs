//! A Python program of `programs/` that runs, and the protocol with it (see `programs/stage.py`).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::extension::{Build, build_extension};
use super::lines::{Lines, NoLine};
use super::traps::assert_no_traps;
use super::wait::{LONG, SHORT, is_alive, signal, wait_exit};
use crate::interpreters::Interpreter;
use crate::truth::Truth;

/// The folder of the programs.
#[must_use]
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// The path of a program.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Target {
    name: String,
    child: Child,
    /// Its process id, which is not the child's if that has made a PID namespace for it.
    pid: u32,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    inlined: bool,
}

/// How a program is to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    interpreter: &'a Interpreter,
    environment: Vec<(String, String)>,
    options: Vec<String>,
    build: Build,
}

impl Launch<'_> {
    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an option for the interpreter, before the program's name.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// With its extension built so.
    #[must_use]
    pub fn built(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// Starts a program and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn spawn(self, name: &str, args: &[&str]) -> Target {
        let Self { interpreter, environment, options, build } = self;
        interpreter.show(&programs());
        let mut command = interpreter.command();
        clean(&mut command).envs(environment).args(options).arg(program(name)).args(args);
        if let Some(folder) = extension_of(interpreter, name, build) {
            interpreter.show(&folder);
            command.env("PYTHONPATH", folder);
        }
        let mut target = Target::start(command, name);
        target.inlined = interpreter.inlined;
        target
    }
}

impl Target {
    /// A program under an interpreter, to be started.
    #[must_use]
    pub fn on(interpreter: &Interpreter) -> Launch<'_> {
        Launch { interpreter, environment: Vec::new(), options: Vec::new(), build: Build::USUAL }
    }

    /// Starts a program with an interpreter and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn spawn(interpreter: &Interpreter, name: &str, args: &[&str]) -> Self {
        Self::on(interpreter).spawn(name, args)
    }

    /// Starts anything that prints `READY PID` and waits until it does.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(command: Command, name: &str) -> Self {
        let mut target = Self::begin(command, name);
        target.ready();
        target
    }

    /// The same of a command that forks until one is the program, which may have other ids than we see.
    ///
    /// # Panics
    /// As [`Target::start`].
    #[must_use]
    pub fn start_within(command: Command, name: &str) -> Self {
        let mut target = Self::begin(command, name);
        target.ready_within();
        target.pid = innermost(target.child.id());
        target
    }

    fn begin(mut command: Command, name: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = Lines::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is a pipe"));
        let pid = child.id();
        Self { name: name.to_owned(), child, pid, stdin, stdout, stderr, inlined: false }
    }

    /// Waits for `READY PID`.
    ///
    /// # Panics
    /// When it does not come, or names another process.
    pub fn ready(&mut self) {
        let line = match self.stdout.find("READY ", SHORT) {
            Ok(line) => line,
            Err(why) => self.give_up("READY", why),
        };
        assert_eq!(line, format!("READY {}", self.pid()), "{} is not the process that we started", self.name);
    }

    /// The same on an interpreter with inlined allocators, or without.
    #[must_use]
    pub const fn with_inlined(mut self, inlined: bool) -> Self {
        self.inlined = inlined;
        self
    }

    /// Waits for `READY` with whatever id it takes itself for.
    ///
    /// # Panics
    /// When it does not come.
    pub fn ready_within(&mut self) {
        if let Err(why) = self.stdout.find("READY ", SHORT) {
            self.give_up("READY", why);
        }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one line, without waiting for the answer.
    ///
    /// # Panics
    /// When the program does not listen any more.
    pub fn send(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open until the program is told to quit");
        if let Err(error) = writeln!(stdin, "{command}") {
            let said = self.stderr.rest(Duration::from_secs(1)).to_owned();
            panic!("{} does not listen to {command:?} ({error}); it said:\n{said}", self.name);
        }
    }

    /// Sends one line and waits for the answer, one line of JSON.
    ///
    /// # Panics
    /// When no answer comes, or something else.
    pub fn ask(&mut self, command: &str) -> Value {
        self.send(command);
        self.answer(command)
    }

    /// Waits for one line of JSON.
    ///
    /// # Panics
    /// When none comes.
    pub fn answer(&mut self, command: &str) -> Value {
        match self.stdout.next(LONG) {
            Ok(line) => serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("{} answers {command:?} with {line:?}: {error}", self.name)),
            Err(why) => self.give_up(command, why),
        }
    }

    /// Sends `go` and returns the truth.
    ///
    /// # Panics
    /// When the program does not answer with its truth.
    pub fn go(&mut self) -> Truth {
        self.tell("go")
    }

    /// Sends one line and returns the truth that is the answer.
    ///
    /// # Panics
    /// When the program does not answer with its truth.
    pub fn tell(&mut self, command: &str) -> Truth {
        let answer = self.ask(command);
        Truth { inlined: self.inlined, ..Truth::parse(answer) }
    }

    /// Asserts that it lives, that no trap is left in it and that it still obeys: a target after unshed has gone.
    ///
    /// # Panics
    /// When any of that is not so.
    pub fn assert_unharmed(&mut self) {
        assert!(is_alive(self.pid()), "{} did not survive being traced", self.name);
        assert_no_traps(self.pid());
    }

    /// Tells it to quit and returns how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn quit(mut self) -> ExitStatus {
        self.send("quit");
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_exit(&self.name, &mut self.child, LONG)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        signal(self.pid(), libc::SIGKILL);
        self.wait();
    }

    fn give_up(&mut self, waited_for: &str, why: NoLine) -> ! {
        let status = self.child.try_wait();
        let said = self.stderr.rest(Duration::from_secs(1)).to_owned();
        let why = match why {
            NoLine::Ended => "its output has ended",
            NoLine::Late => "the deadline has passed",
        };
        panic!("no answer from {} to {waited_for:?}: {why} (status {status:?}); it said:\n{said}", self.name)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // How the target fared is half of every story of a failure.
            let status = self.child.try_wait();
            let said = self.stderr.rest(Duration::from_millis(100));
            eprintln!(
                "when the test failed, {} ({}) was: {status:?}; it said:\n{said}",
                self.name,
                self.child.id()
            );
        }
        drop(self.stdin.take());
        // It may have ended already; then there is nothing to kill and nothing to be told about it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The last of those who were forked one by the other.
#[must_use]
pub fn innermost(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
    child.map_or(pid, innermost)
}

/// An environment in which every run of an interpreter is alike.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    for name in
        ["PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONDEVMODE", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"]
    {
        command.env_remove(name);
    }
    command.env("PYTHONHASHSEED", "0").env("PYTHONDONTWRITEBYTECODE", "1")
}

/// Builds the extension that a program names in its `# builds: ext/….c` line, if it has one.
fn extension_of(interpreter: &Interpreter, name: &str, build: Build) -> Option<PathBuf> {
    let path = program(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let source = text.lines().find_map(|line| line.strip_prefix("# builds: ext/"))?;
    Some(build_extension(interpreter, source, build))
}
