//! Whether the hooks see what they promise, asked while they run: their hits against the heap's own counters, and the allocator table against what it was
//! when the hooks were planned.

use std::time::Duration;

use crate::drain::books;
use crate::error::{Error, Kind, Result};
use crate::heap::balance::{self, Hits, Moment, Verdict};
use crate::probe::load::Probes;
use crate::probe::sites::HookPlan;
use crate::probe::sites::allocators::Table;
use crate::report::units;
use crate::session::subject::Subject;
use crate::target::census::Heap;
use crate::target::memory::Memory;
use crate::target::python::Python;

/// When the heap is counted for the second time; from then on at each doubling of the time, until that is enough.
const FIRST: Duration = Duration::from_secs(1);

/// Censuses at most: their pairs are all compared.
const MOMENTS: usize = 16;

/// What is found out while the trace runs.
#[derive(Default)]
pub(super) struct Check {
    /// The probes count every small block.
    wanted: bool,
    /// The interpreter as it runs; of a program that was started by us it is not known before it is mapped.
    found: Option<Found>,
    moments: Vec<Moment>,
    next_census: Duration,
    /// Changes of the allocator table, in words.
    changes: Vec<String>,
}

struct Found {
    /// Set for a program that was started by us: its interpreter, now that it is mapped.
    python: Option<Python>,
    heap: Option<Heap>,
    table: Table,
}

impl Check {
    /// Takes the first census, right after counting has begun.
    pub(super) fn begin(subject: &Subject, hooks: &HookPlan, probes: &mut Probes) -> Result<Self> {
        let mut this = Self {
            wanted: hooks.counts_all_pools(),
            found: None,
            moments: Vec::new(),
            next_census: FIRST,
            changes: Vec::new(),
        };
        if subject.is_fresh() {
            // It has not run: no block, no hit.
            this.moments.push(Moment::default());
        } else {
            let heap = this.heap(subject, &subject.python);
            this.found = Some(Found { python: None, heap, table: hooks.table.clone() });
            this.census(subject, probes)?;
        }
        Ok(this)
    }

    /// Looks again; `passed` since counting began.
    ///
    /// # Errors
    /// [`Kind::Target`] when the hooks are proved incomplete.
    pub(super) fn tick(&mut self, subject: &Subject, probes: &mut Probes, passed: Duration) -> Result<()> {
        self.find(subject);
        self.look(subject, passed);
        if passed >= self.next_census && self.moments.len() < MOMENTS && self.is_open() {
            self.next_census *= 2;
            self.census(subject, probes)?;
            return self.refuse();
        }
        Ok(())
    }

    /// The last census, before counting ends.
    ///
    /// # Errors
    /// [`Kind::Target`] when the hooks are proved incomplete.
    pub(super) fn end(&mut self, subject: &Subject, probes: &mut Probes, passed: Duration) -> Result<()> {
        self.find(subject);
        self.look(subject, passed);
        if self.is_open() {
            self.census(subject, probes)?;
        }
        self.refuse()
    }

    /// What was found of the hooks; `None` if it cannot be found out for this plan.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.wanted.then(|| balance::judge(&self.moments))
    }

    /// What became of the allocator table while the trace ran.
    pub(super) fn changes(&self) -> &[String] {
        &self.changes
    }

    fn is_open(&self) -> bool {
        matches!(self.verdict(), Some(Verdict::TooLittle(_)))
    }

    fn refuse(&self) -> Result<()> {
        match self.verdict() {
            Some(verdict @ Verdict::Disagrees(_)) => Err(Error::new(
                Kind::Target,
                format!("the hooks are not complete: {}", verdict.sentence(units::count)),
            )
            .next("frees that pass unseen invent leaks; trace what can be seen with --incomplete")),
            _ => Ok(()),
        }
    }

    fn heap(&self, subject: &Subject, python: &Python) -> Option<Heap> {
        self.wanted.then(|| Heap::find(&subject.process, python).ok()).flatten()
    }

    /// Finds the interpreter of a program that was started by us, once it is mapped.
    fn find(&mut self, subject: &Subject) {
        if self.found.is_none()
            && let Ok(python) = Python::find(&subject.process)
        {
            let heap = self.heap(subject, &python);
            let table = Table::read(&python, Some(&Memory::new(subject.process.pid())));
            self.changes.extend(table.notes(&python).into_iter().map(str::to_owned));
            self.found = Some(Found { python: Some(python), heap, table });
        }
    }

    /// Counts the heap between two readings of the hits. A target that ends meanwhile has no moment.
    fn census(&mut self, subject: &Subject, probes: &mut Probes) -> Result<()> {
        let Some(heap) = self.found.as_ref().and_then(|found| found.heap.as_ref()) else { return Ok(()) };
        let before = hits(probes)?;
        let Ok(census) = heap.census(&subject.process) else { return Ok(()) };
        let after = hits(probes)?;
        // The kernel stops counting when the interpreter begins to end or is replaced; what the heap loses from then on is nobody's miss.
        if !probes.armed()? {
            return Ok(());
        }
        self.moments.push(Moment {
            before,
            live_blocks: census.live_blocks,
            left_out: census.left_out(),
            after,
        });
        Ok(())
    }

    /// Compares the allocator table with what it was.
    fn look(&mut self, subject: &Subject, passed: Duration) {
        let Some(found) = &mut self.found else { return };
        let python = found.python.as_ref().unwrap_or(&subject.python);
        let now = Table::read(python, Some(&Memory::new(subject.process.pid())));
        // An entry that cannot be read any more is a target that ends.
        if now.entries.len() != found.table.entries.len() || now == found.table {
            return;
        }
        let seconds = passed.as_secs_f64();
        let notes = now.notes(python).join("; ");
        let now_on = if notes.is_empty() { "CPython's own allocator serves again".to_owned() } else { notes };
        self.changes.push(format!(
            "the allocator functions were replaced {seconds:.1} s into the trace: {now_on}; blocks are followed as far as they reach CPython's own allocator"
        ));
        found.table = now;
    }
}

fn hits(probes: &mut Probes) -> Result<Hits> {
    let hits = books::hits(probes)?;
    Ok(Hits { allocated: hits.pool_allocs, freed: hits.pool_frees })
}
