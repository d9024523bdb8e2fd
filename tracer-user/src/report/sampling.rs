//! What a sampled story says besides: how it was sampled, and how far off its estimates may be.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// How the windows lay, and what it all cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Percent of one core that the target was allowed to lose, and unshed to take.
    pub budget_percent: f64,
    /// Windows that were opened.
    pub windows: u64,
    /// Seconds that windows were open, all together.
    pub open_seconds: f64,
    /// The same as a share of the recorded time, 0 to 1.
    pub open_share: f64,
    /// The longest window, milliseconds; most of it is time in which the target did nothing.
    pub longest_window_ms: f64,
    /// Mean time from the start of a window to that of the next, seconds.
    pub mean_interval_seconds: f64,
    /// Births that were seen.
    pub births: u64,
    /// Blocks that outlived the window in which they were born.
    pub candidates: u64,
    /// How often such blocks were looked at from outside.
    pub looks: u64,
    /// Births and deaths that the ring had no room for, or that were not asked for any more when their window was used up.
    pub refused_records: u64,
    /// Milliseconds of our time to put the traps in, median of the windows.
    pub attach_ms_p50: f64,
    /// The same, the longest.
    pub attach_ms_max: f64,
    /// The longest time from the last trap that went in to the first that came out, milliseconds.
    pub traps_in_ms_max: f64,
    /// CPU time that unshed took while it recorded, user and system, seconds.
    pub own_cpu_seconds: f64,
    /// CPU time that it took before, to read the target's code and to load the probes, seconds.
    pub setup_cpu_seconds: f64,
    /// `own_cpu_seconds` as a share of one core, 0 to 1.
    pub own_cpu_fraction: f64,
    /// The most memory that unshed itself had resident, bytes.
    pub rss_bytes_max: u64,
    /// Why no windows were opened, as a clause: "the heap did not grow".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
}

/// Half widths of the 95 % intervals around estimated sums: the truth is within so much of the estimate 19 times of 20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the sums, and of the JSON contract with `_error` behind"
)]
pub struct SumErrors {
    #[serde(rename = "allocated_bytes_error")]
    pub allocated_bytes: f64,
    #[serde(rename = "allocated_blocks_error")]
    pub allocated_blocks: f64,
    #[serde(rename = "freed_bytes_error")]
    pub freed_bytes: f64,
    #[serde(rename = "freed_blocks_error")]
    pub freed_blocks: f64,
    #[serde(rename = "live_bytes_error")]
    pub live_bytes: f64,
    #[serde(rename = "live_blocks_error")]
    pub live_blocks: f64,
}

/// Half widths of the 95 % intervals around the estimates of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteErrors {
    /// Of its sums.
    #[serde(flatten)]
    pub sums: SumErrors,
    /// Of its growth, bytes per second.
    #[serde(rename = "growth_bytes_per_second_error")]
    pub growth_bytes_per_second: f64,
}

/// How far up a site or a line belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Growth that is sure, in bytes per second, discounted by the verdict; 0 where nothing was sampled.
    pub grown: f64,
    /// Live bytes, discounted likewise.
    pub live: f64,
}

impl Score {
    /// The one with more of growth is the greater; of two with the same, the one with more alive.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.grown.total_cmp(&other.grown).then(self.live.total_cmp(&other.live))
    }
}
