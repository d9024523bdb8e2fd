//! Probes that are loaded before anybody needs them: the verifier takes half a second for them, in which a child that was just forked would allocate unseen.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use crate::error::{Context, Result};
use crate::probe::attach::Method;
use crate::probe::load::{Limits, Probes};

/// How many are kept. Each takes some 25 MiB of kernel memory; of a burst of forks the others wait for their own.
const SPARES: usize = 2;

/// Probes with their programs, of so much room, on nothing.
pub(in crate::session) struct Spare {
    pub(in crate::session) probes: Probes,
    pub(in crate::session) method: Method,
    limits: Limits,
}

/// Those that are ready. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Spares(Arc<Shelf>);

#[derive(Default)]
struct Shelf {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<Spare>,
    over: bool,
}

impl Spares {
    /// Keeps some from now on, made on a thread of their own, until one cannot be made. Whoever finds none makes its own.
    pub(super) fn keep(
        &self,
        limits: Limits,
        make: impl Fn(Limits) -> Result<(Probes, Method)> + Send + 'static,
    ) -> Result<()> {
        let shelf = Arc::clone(&self.0);
        let work = move || {
            while shelf.wait_for_room() {
                let Ok((probes, method)) = make(limits) else { return };
                shelf.lock().ready.push(Spare { probes, method, limits });
            }
        };
        Builder::new().name("spares".to_owned()).spawn(work).map(drop).context("a thread for spare probes")
    }

    /// One with as much room for blocks and sites, and at least as much for rows.
    pub(super) fn take(&self, wanted: Limits) -> Option<Spare> {
        let mut state = self.0.lock();
        let fits = |spare: &Spare| {
            let has = spare.limits;
            (has.blocks, has.sites) == (wanted.blocks, wanted.sites) && has.rows >= wanted.rows
        };
        let at = state.ready.iter().position(fits)?;
        let spare = state.ready.swap_remove(at);
        drop(state);
        self.0.changed.notify_all();
        Some(spare)
    }

    /// No more are needed.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.over = true;
        state.ready.clear();
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` when no more are needed.
    fn wait_for_room(&self) -> bool {
        let full = |state: &mut State| !state.over && state.ready.len() >= SPARES;
        let state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        !state.over
    }
}
