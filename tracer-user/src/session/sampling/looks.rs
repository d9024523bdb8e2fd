//! Looks at survivors from outside, in bounded batches.

use crate::heap::sample;
use crate::session::sampling::Sampling;
use crate::session::subject::Subject;
use crate::target::python::Python;
use crate::target::survivors::{Look, Survivors};

/// Blocks of one batch: some milliseconds at most.
const BATCH: usize = 512;

impl Sampling<'_> {
    /// Looks at those whose time it is.
    pub(super) fn look(&mut self, subject: &Subject, now_s: f64) {
        loop {
            let due = self.sampler.due(now_s, BATCH);
            self.look_at(subject, now_s, &due);
            if due.len() < BATCH {
                return;
            }
        }
    }

    /// Looks at all that live, for the last time.
    pub(super) fn look_at_all(&mut self, subject: &Subject, now_s: f64) {
        for due in self.sampler.due_at_end().chunks(BATCH) {
            self.look_at(subject, now_s, due);
        }
    }

    fn look_at(&mut self, subject: &Subject, now_s: f64, due: &[sample::Due]) {
        if self.survivors.is_none() {
            self.survivors = eyes(subject);
        }
        let Some(survivors) = &mut self.survivors else { return };
        let blocks: Vec<_> = due.iter().map(|due| (due.address, due.size_bytes, due.domain)).collect();
        self.expenses.looks += blocks.len() as u64;
        for (due, look) in due.iter().zip(survivors.look(&blocks)) {
            let look = match look {
                Look::Dead => sample::Look::Dead,
                Look::Part => sample::Look::Part,
                Look::Alive { identity, owned_bytes } => sample::Look::Alive { identity, owned_bytes },
                Look::Unread => sample::Look::Unread,
            };
            self.sampler.seen(due.id, now_s, look);
        }
    }
}

/// What looks at the target, once its interpreter is mapped.
fn eyes(subject: &Subject) -> Option<Survivors> {
    if !subject.is_fresh() && subject.python.image.bias.is_some() {
        return Survivors::new(&subject.process, &subject.python).ok();
    }
    let python = Python::find(&subject.process).ok()?;
    Survivors::new(&subject.process, &python).ok()
}
