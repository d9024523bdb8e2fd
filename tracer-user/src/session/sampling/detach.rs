//! Takes traps out beside the loop: the breakpoints go at once, but the kernel makes who closes a link wait until no program can be running any more, some 30 to 90 ms.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::error::{Context, Result};
use crate::probe::attach::Links;

/// A thread that drops links.
pub(super) struct Detacher {
    links: Sender<Links>,
    thread: JoinHandle<f64>,
}

impl Detacher {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self> {
        let (links, taken) = channel::<Links>();
        let thread = thread::Builder::new()
            .name("detach".to_owned())
            .spawn(move || {
                let mut longest_ms = 0.0_f64;
                for links in taken {
                    let begin = Instant::now();
                    drop(links);
                    longest_ms = longest_ms.max(begin.elapsed().as_secs_f64() * 1e3);
                }
                longest_ms
            })
            .context("a thread")?;
        Ok(Self { links, thread })
    }

    /// Takes traps out.
    pub(super) fn take(&self, links: Links) {
        // If the thread is gone, the links are dropped here.
        let _ = self.links.send(links);
    }

    /// Waits until all are out; the milliseconds that the longest took.
    pub(super) fn finish(self) -> f64 {
        drop(self.links);
        self.thread.join().unwrap_or(0.0)
    }
}
