//! Looks at survivors from outside, in bounded batches.

use crate::heap::sample;
use crate::session::sampling::Sampling;
use crate::session::subject::Subject;
use crate::target::survivors::{Look, Survivors};

/// Blocks of one batch: some milliseconds at most.
const BATCH: usize = 512;

impl Sampling<'_> {
    /// Looks at those whose time it is; how many they were.
    pub(super) fn look(&mut self, subject: &Subject, now_s: f64) -> u64 {
        let mut looks = 0;
        loop {
            let due = self.sampler.due(now_s, BATCH);
            looks += self.look_at(subject, now_s, &due);
            if due.len() < BATCH {
                return looks;
            }
        }
    }

    /// Looks at all that live, for the last time.
    pub(super) fn look_at_all(&mut self, subject: &Subject, now_s: f64) -> u64 {
        self.sampler.due_at_end().chunks(BATCH).map(|due| self.look_at(subject, now_s, due)).sum()
    }

    fn look_at(&mut self, subject: &Subject, now_s: f64, due: &[sample::Due]) -> u64 {
        if self.survivors.is_none() {
            let python = subject.running();
            self.survivors = python.and_then(|python| Survivors::new(&subject.process, &python).ok());
        }
        let Some(survivors) = &mut self.survivors else { return 0 };
        let blocks: Vec<_> = due.iter().map(|due| (due.address, due.size_bytes, due.domain)).collect();
        for (due, look) in due.iter().zip(survivors.look(&blocks)) {
            let look = match look {
                Look::Dead => sample::Look::Dead,
                Look::Part => sample::Look::Part,
                Look::Alive { identity, owned_bytes } => sample::Look::Alive { identity, owned_bytes },
                Look::Unread => sample::Look::Unread,
            };
            self.sampler.seen(due.id, now_s, look);
        }
        blocks.len() as u64
    }
}
