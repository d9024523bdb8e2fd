//! What a story of several processes says besides: who they were, and what part of a site each of them has.

use serde::{Deserialize, Serialize};

use super::story::{Site, Totals};
use crate::heap::verdict::Verdict;

/// How a process came to be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Joined {
    /// It is the one that was asked for.
    #[default]
    Target,
    /// It is a child that was there before.
    Before,
    /// It was forked while its parent was recorded.
    Fork,
    /// It became another program: nothing of the old one is left.
    Exec,
}

/// One recorded process, or one program that it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Process id as unshed sees it; 0 in the row that sums up those for which there was no row.
    pub pid: u32,
    /// Who forked it.
    pub parent: Option<u32>,
    /// How it came.
    pub joined: Joined,
    /// Arguments, joined by spaces.
    pub command: String,
    /// Path of the executable, in the process's own mount namespace.
    pub executable: String,
    /// `3.11.7`.
    pub python: String,
    /// Seconds into the recording when its counting began.
    pub joined_seconds: f64,
    /// Milliseconds of its life before, in which it allocated unseen; `None` for one that was there before.
    pub unseen_ms: Option<f64>,
    /// Seconds for which it was recorded.
    pub seconds: f64,
    /// Why its recording ended, as a clause.
    pub ended: String,
    /// The process had ended, or was another program, before the recording was over: what it held is nobody's any more, and in no other sum of live blocks.
    pub exited: bool,
    /// Probe hits.
    pub hits: u64,
    /// Windows that were opened in it, of samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<u64>,
    /// Frees of blocks that it had inherited, or allocated unseen.
    pub unknown_frees: u64,
    /// Its own sums; what lives is of its end, if it has exited.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What part of a site a process has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    /// Its id; 0: those for which there was no room.
    pub pid: u32,
    /// As of the process.
    pub exited: bool,
    /// Bytes that still live, or that it held when it exited.
    pub live_bytes: u64,
    /// The same in blocks.
    pub live_blocks: u64,
    /// Bytes asked for.
    pub allocated_bytes: u64,
    /// Blocks allocated.
    pub allocated_blocks: u64,
    /// Blocks that it freed.
    pub freed_blocks: u64,
    /// What its part of the site looks like.
    pub verdict: Verdict,
}

impl Share {
    /// That of a process whose site this is.
    pub(super) fn of(site: &Site, process: &Process) -> Self {
        Self {
            pid: process.pid,
            exited: process.exited,
            live_bytes: site.live_bytes,
            live_blocks: site.live_blocks,
            allocated_bytes: site.allocated_bytes,
            allocated_blocks: site.allocated_blocks,
            freed_blocks: site.freed_blocks,
            verdict: site.verdict,
        }
    }

    /// Takes up another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.live_bytes = self.live_bytes.saturating_add(other.live_bytes);
        self.live_blocks = self.live_blocks.saturating_add(other.live_blocks);
        self.allocated_bytes = self.allocated_bytes.saturating_add(other.allocated_bytes);
        self.allocated_blocks = self.allocated_blocks.saturating_add(other.allocated_blocks);
        self.freed_blocks = self.freed_blocks.saturating_add(other.freed_blocks);
    }
}

impl Site {
    /// Bytes and blocks that processes held here when they exited.
    #[must_use]
    pub fn held_at_exit(&self) -> (u64, u64) {
        let exited = self.processes.iter().filter(|share| share.exited);
        exited.fold((0, 0), |(bytes, blocks), share| {
            (bytes.saturating_add(share.live_bytes), blocks.saturating_add(share.live_blocks))
        })
    }
}
