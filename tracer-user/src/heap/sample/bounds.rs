//! How much the sampler remembers, alone or as one of several that share the room.

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Candidates in all; about 300 bytes each.
    pub candidates: usize,
    /// Candidates of a site.
    pub per_site: usize,
    /// Sites; some 800 bytes each. What is born at further ones is counted together, as [`OTHER_SITES`](tracer_common::site::OTHER_SITES).
    pub sites: usize,
}

impl Default for Bounds {
    /// Together at most some 20 MiB.
    fn default() -> Self {
        Self { candidates: 20_000, per_site: 256, sites: 16_384 }
    }
}

impl Bounds {
    /// The room of one of so many that share it. Windows are shared too, so that each has fewer candidates; sites are mostly the same in all.
    #[must_use]
    pub const fn part(self, of: usize) -> Self {
        const fn share(all: usize, of: usize, least: usize) -> usize {
            let part = all / if of == 0 { 1 } else { of };
            if part > least { part } else { least }
        }
        Self {
            candidates: share(self.candidates, of, 1024),
            per_site: share(self.per_site, of, 64),
            sites: share(self.sites, of, 1024),
        }
    }
}
