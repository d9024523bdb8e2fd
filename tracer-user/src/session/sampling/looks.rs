//! Looks at survivors from outside, in bounded batches.

use crate::heap::sample;
use crate::session::sampling::Sampling;
use crate::target::survivors::Look;

/// Blocks of one batch: some milliseconds at most.
const BATCH: usize = 512;

impl Sampling<'_> {
    /// Looks at those whose time it is.
    pub(super) fn look(&mut self, now_s: f64) {
        loop {
            let due = self.sampler.due(now_s, BATCH);
            self.look_at(now_s, &due);
            if due.len() < BATCH {
                return;
            }
        }
    }

    /// Looks at all that live, for the last time.
    pub(super) fn look_at_all(&mut self, now_s: f64) {
        for due in self.sampler.due_at_end().chunks(BATCH) {
            self.look_at(now_s, due);
        }
    }

    fn look_at(&mut self, now_s: f64, due: &[sample::Due]) {
        let blocks: Vec<_> = due.iter().map(|due| (due.address, due.size_bytes, due.domain)).collect();
        self.expenses.looks += blocks.len() as u64;
        for (due, look) in due.iter().zip(self.survivors.look(&blocks)) {
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
