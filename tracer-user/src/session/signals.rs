//! What ends a recording from outside: signals, or for one of several processes the word of who leads.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Context, Result};

/// SIGINT and SIGTERM, or the word.
pub(super) enum Signals {
    Own {
        interrupt: Signal,
        terminate: Signal,
    },
    /// Ends when this becomes `true`, or nobody is left to say so.
    Told(watch::Receiver<bool>),
}

impl Signals {
    /// From now on they end a recording and not the program.
    pub(super) fn new() -> Result<Self> {
        let open = |kind| signal(kind).context("signals");
        Ok(Self::Own { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    /// Comes with the next of them.
    pub(super) async fn any(&mut self) {
        match self {
            Self::Own { interrupt, terminate } => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            // Who leads is gone: that ends it as well.
            Self::Told(word) => drop(word.wait_for(|said| *said).await),
        }
    }

    /// From now on a signal does what it does to any program: the traps are in file descriptors and end with us.
    pub(super) fn next_one_aborts(&self) {
        if matches!(self, Self::Told(_)) {
            return;
        }
        for number in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}
