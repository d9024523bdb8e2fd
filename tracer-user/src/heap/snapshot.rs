//! One moment of the kernel's books, as `drain` reads them and `session` hands them on.

use std::collections::HashMap;

use tracer_common::block::Block;
use tracer_common::loss::Loss;
use tracer_common::site::{IntTotals, IntValueKey, SiteTotals};

/// Sums per site at one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Seconds since the trace was armed.
    pub seconds: f64,
    /// Resident bytes of the target.
    pub rss_bytes: u64,
    /// Sums by site id.
    pub sites: HashMap<u64, SiteTotals>,
}

/// Everything the kernel knew when the trace was disarmed.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The sums at the end.
    pub last: Moment,
    /// Every live block, by address.
    pub blocks: Vec<(u64, Block)>,
    /// `--ints`: calls by site id.
    pub ints: HashMap<u64, IntTotals>,
    /// `--ints`: how often a site made a value.
    pub int_values: Vec<(IntValueKey, u64)>,
    /// Losses, one count per row of [`Loss::ALL`].
    pub losses: Vec<(Loss, u64)>,
    /// Probe hits while armed.
    pub hits: u64,
}
