//! What a story of the watch engine says besides: the heap by size class at both ends, whether it grows, and what was watched.

use serde::{Deserialize, Serialize};

/// The heap as it was seen from outside, and what was watched of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// The small blocks grew steadily over the last looks; `None`: they did not, or it was too early to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_growth: Option<Growth>,
    /// Resident memory did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_growth: Option<Growth>,
    /// Looks at the heap from outside; growth is told from the 32nd on.
    pub looks: u64,
    /// Size classes of small blocks that hold any, smallest first.
    pub classes: Vec<ClassGrowth>,
    /// Arenas in use at the start, of which pools are parts.
    pub arenas_start: u64,
    /// The same at the end.
    pub arenas_end: u64,
    /// Bytes that were mapped while it was watched, and are mapped at the end.
    pub mapped_bytes: u64,
    /// Pools that were opened while it was watched, and are still in use for blocks of the same size.
    pub pools_followed: u64,
    /// The share of the time in which new pools were followed, 0 to 1: less than 1 where that would have cost too much.
    pub pools_share: f64,
    /// Seconds after which requests over 512 bytes were not followed any more, because that would have cost too much; `None`: they were, to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large_stopped_after_seconds: Option<f64>,
}

/// Steady growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// How fast.
    pub bytes_per_second: f64,
    /// Over how many seconds, up to the end.
    pub seconds: f64,
}

/// One size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassGrowth {
    /// Bytes of each block.
    pub bytes: u64,
    /// Pools in use at the start.
    pub pools_start: u64,
    /// At the end.
    pub pools_end: u64,
    /// Blocks in use at the start.
    pub blocks_start: u64,
    /// At the end.
    pub blocks_end: u64,
    /// How fast the bytes of its blocks grew, over all the time.
    pub growth_bytes_per_second: f64,
}

impl Watch {
    /// Bytes of small blocks, at the start and at the end.
    #[must_use]
    pub fn small_bytes(&self) -> (u64, u64) {
        let bytes = |blocks: fn(&ClassGrowth) -> u64| {
            self.classes
                .iter()
                .map(|class| class.bytes.saturating_mul(blocks(class)))
                .fold(0, u64::saturating_add)
        };
        (bytes(|class| class.blocks_start), bytes(|class| class.blocks_end))
    }
}
