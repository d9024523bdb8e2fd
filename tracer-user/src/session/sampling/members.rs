//! The processes of a family that is sampled: what is known of each, and what it takes to open a window in one.
//!
//! A forked child costs nothing but its entry until its first turn comes: it runs what its parent runs, so the parent's probes serve it too. A new program is looked into as soon as it is a CPython; if it runs
//! the same interpreter, the same probes serve it as well.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracer_common::config::{ProcessState, TraceConfig};

use crate::cli::plan::Plan;
use crate::error::Result;
use crate::probe::sites::allocators::Table;
use crate::report::kin::Joined;
use crate::session::Armed;
use crate::session::hooked::{Hooked, settings};
use crate::session::sampling::Sampling;
use crate::session::sampling::expenses::Ran;
use crate::session::sampling::kit::Kit;
use crate::session::subject::Subject;
use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::target::modules::{CodeFile, Identity, Modules};
use crate::target::process::Process;
use crate::target::python::Python;

/// How long a program that was just started is given to become a CPython that has begun to run.
const BECOMING: Duration = Duration::from_secs(5);
/// How often it is looked at, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(400));

/// One of them.
pub(super) struct Member<'p> {
    pub(super) pid: u32,
    pub(super) joined: Joined,
    pub(super) parent: Option<u32>,
    /// Milliseconds of its life before it was counted with.
    pub(super) unseen_ms: Option<f64>,
    /// Since when windows may come.
    pub(super) armed: Armed,
    pub(super) state: State<'p>,
    /// The part of the time in which it runs; `None` as long as that is not known.
    pub(super) busy: Option<f64>,
    pub(super) ran: Ran,
    /// When it is asked next how busy it is.
    pub(super) next_ask: Instant,
}

/// How far it is known.
pub(super) enum State<'p> {
    /// A program that may become a CPython.
    Becoming(Becoming),
    /// A child of `fork` that nobody has looked into yet.
    Closed(Rc<Lineage>),
    /// One that windows are opened in.
    Open(Box<Open<'p>>),
}

/// Waiting for a program to become a CPython.
pub(super) struct Becoming {
    begin: Instant,
    pub(super) next: Instant,
    pause: Duration,
}

impl Becoming {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        Self { begin: now, next: now + LOOKS.0, pause: LOOKS.0 }
    }

    /// It is none yet; `false` if that has lasted too long.
    pub(super) fn wait(&mut self) -> bool {
        self.pause = (self.pause * 2).min(LOOKS.1);
        self.next = Instant::now() + self.pause;
        self.begin.elapsed() <= BECOMING
    }
}

/// What all have in common that were forked from one program: it lies at the same addresses in all of them.
pub(super) struct Lineage {
    pub(super) python: Python,
    layout: &'static Layout,
    /// Whose files its paths name.
    pid: u32,
    pub(super) kit: usize,
    config: TraceConfig,
    state: ProcessState,
}

/// One that windows are opened in.
pub(super) struct Open<'p> {
    pub(super) subject: Subject,
    pub(super) lineage: Rc<Lineage>,
    pub(super) sampling: Sampling<'p>,
    /// What it has mapped; `None` while it is its turn.
    pub(super) modules: Option<Modules>,
}

impl Lineage {
    /// That of a program, which is served by this kit.
    pub(super) fn of(plan: &Plan, subject: &Subject, hooked: &Hooked, kit: usize) -> Self {
        let (config, state) = settings(plan, subject, &hooked.hooks);
        Self {
            python: subject.python.clone(),
            layout: subject.layout,
            pid: subject.process.pid(),
            kit,
            config,
            state,
        }
    }

    /// Whether it was made before its program ran, so that no child could use it.
    pub(super) const fn is_of_file(&self) -> bool {
        self.python.image.bias.is_none()
    }

    /// A child of it.
    pub(super) fn child(&self, pid: u32) -> Result<Subject> {
        let process = Process::open(pid)?;
        let mut python = self.python.clone();
        // The files that it has mapped lie at its parent's addresses, under its own id.
        let (parents, own) = (format!("/proc/{}/", self.pid), format!("/proc/{pid}/"));
        if let Some(rest) = python.image.open.to_str().and_then(|path| path.strip_prefix(&parents)) {
            python.image.open = PathBuf::from(own + rest);
        }
        Ok(Subject::known(process, python, self.layout))
    }

    /// What the probes must know of a process of it.
    pub(super) fn settings(&self, process: &Process) -> (TraceConfig, ProcessState) {
        let (ns_dev, ns_ino) = process.pid_namespace();
        (TraceConfig { ns_dev, ns_ino, ns_tgid: process.namespace_pid(), ..self.config }, self.state)
    }
}

/// Which processes a kit serves: those that run these files in the same way.
pub(super) struct Serves {
    interpreter: Option<Identity>,
    /// Held open, so that the traps of others go where those of the first one went when that is long gone.
    files: Vec<CodeFile>,
}

impl Serves {
    /// Those like this one. From now on the plan names its files by what is held open here.
    pub(super) fn those_like(subject: &Subject, hooked: &mut Hooked) -> Result<Self> {
        let mut files: Vec<(PathBuf, CodeFile)> = Vec::new();
        for point in &mut hooked.hooks.points {
            let known = files.iter().find(|(path, _)| *path == point.file);
            let open = match known {
                Some((_, file)) => file.open_path(),
                None => {
                    let file = CodeFile::of_file(&point.file)?;
                    let open = file.open_path();
                    files.push((point.file.clone(), file));
                    open
                }
            };
            point.file = open;
        }
        let files = files.into_iter().map(|(_, file)| file).collect();
        Ok(Self { interpreter: Identity::at(&subject.python.image.open).ok(), files })
    }

    /// Whether it serves this one: the same interpreter, with the same functions behind its domains, and all files with traps are mapped.
    pub(super) fn fits(&self, subject: &Subject, kit: &Kit) -> bool {
        let same =
            self.interpreter.is_some() && Identity::at(&subject.python.image.open).ok() == self.interpreter;
        if !same {
            return false;
        }
        let table = Table::read(&subject.python, Some(&Memory::new(subject.process.pid())));
        let mappings = subject.process.mappings().unwrap_or_default();
        let is_mapped = |file: &CodeFile| {
            let mut here = mappings.iter().filter(|mapping| mapping.inode == file.identity().inode);
            let at = |path: &Path| Identity::at(path).is_ok_and(|found| found == file.identity());
            here.any(|mapping| at(&mapping.open_path(&subject.process)))
        };
        kit.hooked.hooks.table.same_functions(&table) && self.files.iter().all(is_mapped)
    }
}
