//! What the processes of one family need not find out each for itself: a child of `fork` runs the very files of its parent, and while their code is read it allocates unseen.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::spares::{Spare, Spares};
use crate::cli::plan::Plan;
use crate::error::Result;
use crate::probe::calibrate::TrapCost;
use crate::probe::load::{Limits, ProbeLog};
use crate::probe::sites::HookPlan;
use crate::probe::sites::allocators::Table;
use crate::session::subject::Subject;
use crate::symbol::code::CodeCache;
use crate::target::memory::Memory;
use crate::target::modules::{CodeFile, Identity};
use crate::unwind::{Rows, shared_rows};

/// Interpreters that are remembered, at most.
const INTERPRETERS: usize = 16;

/// What is known already. A clone shares it.
#[derive(Clone)]
pub(in crate::session) struct Shared {
    known: Arc<Mutex<Known>>,
    /// Unwind rows by file.
    pub(in crate::session) rows: Rows,
    /// Code objects that were read in any of them.
    pub(in crate::session) codes: CodeCache,
    pub(super) spares: Spares,
}

#[derive(Default)]
struct Known {
    plans: Vec<Planned>,
    trap: Option<TrapCost>,
}

/// A plan, and the files that it is for, held open: the process whose they were may be gone.
struct Planned {
    interpreter: Identity,
    /// It may be another process's too.
    reusable: bool,
    hooks: HookPlan,
    files: Vec<(PathBuf, CodeFile)>,
}

/// Where traps are: a path of a file, and offsets in it.
pub(in crate::session) type Places = Vec<(PathBuf, Vec<u64>)>;

impl Default for Shared {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            rows: shared_rows(),
            codes: CodeCache::default(),
            spares: Spares::default(),
        }
    }
}

impl Shared {
    /// The plan for a process: made now, or that of another one that runs the same files in the same way.
    pub(in crate::session) fn plan(
        &self,
        subject: &Subject,
        make: impl FnOnce() -> Result<HookPlan>,
    ) -> Result<HookPlan> {
        let Ok(interpreter) = Identity::at(&subject.python.image.open) else { return make() };
        if let Some(hooks) = self.known(subject, interpreter) {
            return Ok(hooks);
        }
        let hooks = make()?;
        self.remember(interpreter, &hooks, true);
        Ok(hooks)
    }

    /// Where the traps are of a plan that is no other process's.
    pub(in crate::session) fn remember_places(&self, subject: &Subject, hooks: &HookPlan) {
        if let Ok(interpreter) = Identity::at(&subject.python.image.open) {
            self.remember(interpreter, hooks, false);
        }
    }

    fn remember(&self, interpreter: Identity, hooks: &HookPlan, reusable: bool) {
        let mut names: Vec<&PathBuf> = hooks.points.iter().map(|point| &point.file).collect();
        names.sort_unstable();
        names.dedup();
        let files = names.into_iter().filter_map(|path| Some((path.clone(), CodeFile::of_file(path).ok()?)));
        let planned = Planned { interpreter, reusable, files: files.collect(), hooks: hooks.clone() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.plans.len() < INTERPRETERS {
            known.plans.push(planned);
        }
    }

    /// A plan for the same interpreter with the same functions behind its domains, with the names that its files have in this process.
    fn known(&self, subject: &Subject, interpreter: Identity) -> Option<HookPlan> {
        if subject.is_fresh() {
            return None;
        }
        let table = Table::read(&subject.python, Some(&Memory::new(subject.process.pid())));
        let mappings = subject.process.mappings().ok()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |planned: &&Planned| {
            planned.reusable
                && planned.interpreter == interpreter
                && planned.hooks.table.same_functions(&table)
        };
        let planned = known.plans.iter().find(fits)?;
        let mut hooks = planned.hooks.clone();
        for (name, file) in &planned.files {
            let here = mappings.iter().filter(|mapping| mapping.inode == file.identity().inode);
            let mut here = here.map(|mapping| mapping.open_path(&subject.process));
            let path = here.find(|path| Identity::at(path).is_ok_and(|found| found == file.identity()))?;
            hooks
                .points
                .iter_mut()
                .filter(|point| point.file == *name)
                .for_each(|point| point.file.clone_from(&path));
        }
        Some(hooks)
    }

    /// Where traps of any of the processes are.
    pub(in crate::session) fn places(&self) -> Places {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_file = |planned: &Planned, (name, file): &(PathBuf, CodeFile)| {
            let points = planned.hooks.points.iter().filter(|point| point.file == *name);
            (file.open_path(), points.map(|point| point.file_offset).collect())
        };
        known
            .plans
            .iter()
            .flat_map(|planned| planned.files.iter().map(|file| of_file(planned, file)))
            .collect()
    }

    /// Probes that are loaded already.
    pub(in crate::session) fn spare(&self, plan: &Plan, limits: Limits) -> Option<Spare> {
        (plan.probe_log == ProbeLog::Off && !plan.perf_events).then(|| self.spares.take(limits)).flatten()
    }

    /// What a trap costs, measured once.
    pub(in crate::session) fn trap(&self, measure: impl FnOnce() -> Result<TrapCost>) -> Result<TrapCost> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trap) = known().trap {
            return Ok(trap);
        }
        let trap = measure()?;
        known().trap = Some(trap);
        Ok(trap)
    }
}
