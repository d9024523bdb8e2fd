//! The target's machine code, kept in step: what it has mapped, and the unwind tables of that in the kernel's maps.

use std::path::Path;
use std::time::{Duration, Instant};

use tracer_common::limits::{MAX_MODULES, MAX_PAGES, MAX_RULES};

use crate::error::Result;
use crate::probe::load::Probes;
use crate::session::subject::Subject;
use crate::target::modules::{CodeFile, Modules, Place};
use crate::unwind::pack::Limits;
use crate::unwind::{Facts, Rows, Unwinder};

/// Rows for which there is room at least, 3.75 MiB: an interpreter with its libraries has some 130,000, and numpy brings 500,000. A command that has not run yet has mapped nothing.
const LEAST_ROWS: u32 = 960 << 10;

/// How old a look at what is mapped may be when a new stack is named. A look takes some 0.2 ms for 150 libraries.
const FRESH: Duration = Duration::from_millis(50);

/// Rows of all files at most: 256 MiB.
const MOST_ROWS: u32 = 64 << 20;

/// The target's code.
pub(super) struct Code {
    modules: Modules,
    unwinder: Unwinder,
    /// When it was last looked what is mapped.
    looked: Instant,
    /// Time that the tables have taken.
    spent: Duration,
    /// The generation of the tables in which the kernel's question was answered.
    answered: u32,
}

impl Code {
    /// Reads what is mapped, and makes its tables; nothing is in the kernel yet.
    pub(super) fn read(subject: &Subject, rows: &Rows) -> Result<Self> {
        let limits = Limits { modules: MAX_MODULES, pages: MAX_PAGES, rows: MOST_ROWS, rules: MAX_RULES };
        let mut this = Self {
            modules: Modules::default(),
            unwinder: Unwinder::sharing(limits, Some(&subject.python.image), Rows::clone(rows)),
            looked: Instant::now(),
            spent: Duration::ZERO,
            answered: 0,
        };
        let begin = Instant::now();
        this.modules.refresh(&subject.process)?;
        this.unwinder.take_up(&this.modules);
        if subject.is_fresh() {
            // Its libraries are mapped within a millisecond of its first instruction, and it allocates within the next.
            let interpreter = &subject.python.image.open;
            let libraries = subject.python.libraries.iter().map(|library| &library.open).chain([interpreter]);
            let files: Vec<CodeFile> = libraries.filter_map(|path| CodeFile::of_file(path).ok()).collect();
            this.unwinder.prepare(&files);
        }
        this.spent = begin.elapsed();
        Ok(this)
    }

    /// Rows that the kernel must have room for; from now on there will be no more.
    pub(super) fn room_for_rows(&mut self) -> u32 {
        let rows = u32::try_from(self.unwinder.facts().rows).unwrap_or(MOST_ROWS);
        // The more there is, the more may come.
        let room = rows.saturating_add(rows / 2).clamp(LEAST_ROWS, MOST_ROWS);
        self.unwinder.limit_rows(room)
    }

    /// Writes the tables, for the first time or again.
    pub(super) fn write(&mut self, probes: &mut Probes) -> Result<()> {
        let begin = Instant::now();
        let changes = self.unwinder.update(&self.modules);
        probes.write_unwind(self.unwinder.tables(), &changes)?;
        self.spent += begin.elapsed();
        Ok(())
    }

    /// Looks whether the target has mapped or unmapped code, if a stack went through code that the kernel does not know. Once for each generation of the tables: code that
    /// is made at run time stays unknown, however often it is asked about.
    pub(super) fn answer(&mut self, subject: &Subject, probes: &mut Probes) -> Result<()> {
        let generation = self.unwinder.tables().current().generation();
        if self.answered == generation || probes.asked_generation()? != generation {
            return Ok(());
        }
        self.answered = generation;
        self.look(subject, probes).map(drop)
    }

    /// Looks at every tick, because code can be replaced by other code at the same address, which no stack gives away.
    pub(super) fn refresh(&mut self, subject: &Subject, probes: &mut Probes) -> Result<()> {
        let changed = self.look(subject, probes)?;
        if !changed && self.answered == self.unwinder.tables().current().generation() {
            // The answer was that nothing is new. From now on the kernel may ask again.
            return self.write(probes);
        }
        Ok(())
    }

    /// The same before new stacks are named, unless it was a moment ago.
    pub(super) fn refresh_if_old(&mut self, subject: &Subject, probes: &mut Probes) -> Result<()> {
        if self.looked.elapsed() < FRESH { Ok(()) } else { self.look(subject, probes).map(drop) }
    }

    /// Tells the kernel what has changed; `false` if nothing has. A target that is gone has mapped nothing new.
    fn look(&mut self, subject: &Subject, probes: &mut Probes) -> Result<bool> {
        let changed = self.modules.refresh(&subject.process).unwrap_or(false);
        self.looked = Instant::now();
        if changed {
            self.write(probes)?;
        }
        Ok(changed)
    }

    /// From now on the code of another process: what it has mapped is read again, and its tables are written. What the one before had mapped comes back.
    pub(super) fn turn_to(
        &mut self,
        mut modules: Modules,
        subject: &Subject,
        probes: &mut Probes,
    ) -> Result<Modules> {
        modules.refresh(&subject.process)?;
        let before = std::mem::replace(&mut self.modules, modules);
        self.looked = Instant::now();
        self.write(probes).map(|()| before)
    }

    /// What a process has mapped of which nothing is known yet, with the files that are open.
    pub(super) fn modules_of_another(&self) -> Modules {
        self.modules.beside()
    }

    /// What an address is, if it is of a file.
    pub(super) fn place(&self, address: u64) -> Option<Place> {
        self.modules.place(address)
    }

    /// Files whose code is mapped, but which could not be opened or understood, and why.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.modules.failed()
    }

    /// What became of the files, and the milliseconds that it took.
    pub(super) fn facts(&self) -> (&Facts, f64) {
        (self.unwinder.facts(), self.spent.as_secs_f64() * 1e3)
    }
}
