//! The kernel's books: sums per site at every tick, everything once the probes are disarmed.

use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::{Array, PerCpuArray};
use tracer_common::block::Block;
use tracer_common::hook::HitKind;
use tracer_common::loss::Loss;
use tracer_common::site::{IntTotals, IntValueKey, SiteTotals};

use crate::error::{Context, Error, Result};
use crate::heap::snapshot::{Books, Moment};
use crate::kernel;
use crate::probe::load::Probes;

/// The maps whose memory is reported.
const MAPS: [&str; 13] = [
    "CONFIG",
    "PROCESS",
    "GATE",
    "HOOKS",
    "SLOW_CALLS",
    "BLOCKS",
    "SITES",
    "THREADS",
    "INTS",
    "INT_VALUES",
    "LOSSES",
    "HITS",
    "AYA_LOGS",
];

/// Reads a hash map whole.
fn hash<K: Pod + Default, V: Pod + Default>(
    probes: &Probes,
    name: &str,
    each: impl FnMut(K, V),
) -> Result<()> {
    let data = probes.map_data(name).ok_or_else(|| Error::failed(format!("the object has no map {name}")))?;
    kernel::read_hash(data.fd().as_fd(), each).context(format!("reading the map {name}"))
}

/// The sums per site now.
///
/// # Errors
/// What the kernel says.
pub fn moment(probes: &Probes, seconds: f64, rss_bytes: u64) -> Result<Moment> {
    let mut moment = Moment { seconds, rss_bytes, ..Moment::default() };
    hash(probes, "SITES", |site: u64, totals: SiteTotals| {
        moment.sites.insert(site, totals);
    })?;
    Ok(moment)
}

/// Everything, after the probes were disarmed and detached.
///
/// # Errors
/// What the kernel says.
pub fn books(probes: &mut Probes, last: Moment) -> Result<Books> {
    let mut books = Books { last, ..Books::default() };
    hash(probes, "BLOCKS", |address: u64, block: Block| books.blocks.push((address, block)))?;
    hash(probes, "INTS", |site: u64, totals: IntTotals| {
        books.ints.insert(site, totals);
    })?;
    hash(probes, "INT_VALUES", |key: IntValueKey, calls: u64| books.int_values.push((key, calls)))?;
    books.losses = losses(probes)?;
    let Hits { entries, returns, .. } = hits(probes)?;
    books.hits = entries + returns;
    Ok(books)
}

/// The loss counters.
///
/// # Errors
/// What the kernel says.
pub fn losses(probes: &mut Probes) -> Result<Vec<(Loss, u64)>> {
    let map: Array<_, u64> = probes.typed("LOSSES")?;
    Loss::ALL
        .iter()
        .map(|&loss| Ok((loss, map.get(&(loss as u32), 0).context("the loss counters")?)))
        .collect()
}

/// Hits while armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// At probed instructions, those of pymalloc's fast paths included.
    pub entries: u64,
    /// At returns.
    pub returns: u64,
    /// Blocks that pymalloc handed out.
    pub pool_allocs: u64,
    /// Blocks that pymalloc took back.
    pub pool_frees: u64,
    /// While the gate of the sample engine was shut; not among the others.
    pub shut: u64,
}

/// Hits while armed, over all CPUs.
///
/// # Errors
/// What the kernel says.
pub fn hits(probes: &mut Probes) -> Result<Hits> {
    let map: PerCpuArray<_, u64> = probes.typed("HITS")?;
    let sum = |kind: HitKind| -> Result<u64> {
        Ok(map.get(&(kind as u32), 0).context("the hit counters")?.iter().sum())
    };
    Ok(Hits {
        entries: sum(HitKind::Entry)? + sum(HitKind::PoolAlloc)? + sum(HitKind::PoolFree)?,
        returns: sum(HitKind::Return)?,
        pool_allocs: sum(HitKind::PoolAlloc)? + sum(HitKind::NewPoolBlock)?,
        pool_frees: sum(HitKind::PoolFree)?,
        shut: sum(HitKind::Shut)?,
    })
}

/// Bytes of kernel memory behind the maps, as the kernel itself accounts them (`memlock` of fdinfo: what is there, not what may come).
#[must_use]
pub fn kernel_bytes(probes: &Probes) -> u64 {
    MAPS.iter()
        .filter_map(|name| {
            let fd = probes.map_data(name)?.fd().as_fd().as_raw_fd();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
        })
        .sum::<u64>()
        + u64::from(tracer_common::limits::RING_BYTES)
}
