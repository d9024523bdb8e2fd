//! Which site comes first.

use std::cmp::Ordering;
use std::str::FromStr;

use super::books::SiteFacts;
use super::verdict::rank;

/// What `--sort` puts first. Ties are broken by growth, then live blocks, then the site's id, so that an order is always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Live bytes, discounted by the verdict; where samples stand for the whole, first the growth that is sure.
    #[default]
    Worst,
    /// Live bytes.
    Bytes,
    /// Live blocks.
    Blocks,
    /// Growth in bytes per second.
    Growth,
}

impl Sort {
    /// All orders.
    pub const ALL: [Self; 4] = [Self::Worst, Self::Bytes, Self::Blocks, Self::Growth];

    /// The name as typed after `--sort`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Bytes => "bytes",
            Self::Blocks => "blocks",
            Self::Growth => "growth",
        }
    }

    /// Puts sites in order, first things first.
    pub fn sort(self, sites: &mut [SiteFacts]) {
        sites.sort_by(|one, other| self.compare(other, one).then(one.id.cmp(&other.id)));
    }

    fn compare(self, one: &SiteFacts, other: &SiteFacts) -> Ordering {
        let growth = one.growth_bytes_per_second.total_cmp(&other.growth_bytes_per_second);
        let blocks = one.live_blocks.cmp(&other.live_blocks);
        let first = match self {
            Self::Worst => {
                let score =
                    |site: &SiteFacts| rank(site.live_bytes, site.verdict, site.growth_bytes_per_second);
                grown(one).total_cmp(&grown(other)).then(score(one).total_cmp(&score(other)))
            }
            Self::Bytes => one.live_bytes.cmp(&other.live_bytes),
            Self::Blocks => blocks,
            Self::Growth => growth,
        };
        first.then(growth).then(blocks)
    }
}

/// Of a sampled site, the growth of old survivors that is sure, discounted by the verdict; so sites of which none is sure stand behind, in the order of what lives.
fn grown(site: &SiteFacts) -> f64 {
    site.sampled.map_or(0.0, |sampled| sampled.growth_at_least * site.verdict.weight(true))
}

impl FromStr for Sort {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|sort| sort.name() == name);
        found.ok_or_else(|| {
            format!("no order is called \"{name}\"; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::sample::Sampled;
    use crate::heap::verdict::Verdict;

    fn site(id: u64, live_bytes: u64, live_blocks: u64, growth: f64, verdict: Verdict) -> SiteFacts {
        SiteFacts {
            id,
            live_bytes,
            live_blocks,
            growth_bytes_per_second: growth,
            verdict,
            ..SiteFacts::default()
        }
    }

    fn order(sort: Sort) -> Vec<u64> {
        let mut sites = [
            site(1, 1000, 10, 0.0, Verdict::Cache),
            site(2, 800, 30, 5.0, Verdict::Leak),
            site(3, 2000, 20, -1.0, Verdict::Churn),
            site(5, 800, 30, 5.0, Verdict::Leak),
            site(4, 800, 30, 5.0, Verdict::Leak),
        ];
        sort.sort(&mut sites);
        sites.map(|site| site.id).to_vec()
    }

    #[test]
    fn each_order_puts_its_own_first() {
        assert_eq!(order(Sort::Worst), [2, 4, 5, 1, 3], "1 and 3 tie at 10, 1 grows more");
        assert_eq!(order(Sort::Bytes), [3, 1, 2, 4, 5]);
        assert_eq!(order(Sort::Blocks), [2, 4, 5, 3, 1]);
        assert_eq!(order(Sort::Growth), [2, 4, 5, 1, 3]);
    }

    #[test]
    fn sampled_sites_stand_in_the_order_of_the_growth_that_is_sure() {
        let sampled = |id: u64, live_bytes: u64, growth_at_least: f64, verdict: Verdict| SiteFacts {
            sampled: Some(Sampled { growth_at_least, ..Sampled::default() }),
            ..site(id, live_bytes, 10, 100.0, verdict)
        };
        let mut sites = [
            sampled(1, 1 << 30, 0.0, Verdict::Unknown),
            sampled(2, 1000, 20.0, Verdict::Leak),
            sampled(3, 5000, 1000.0, Verdict::Cache),
            sampled(4, 1000, 50.0, Verdict::Leak),
            sampled(5, 1 << 20, 0.0, Verdict::Unknown),
        ];
        Sort::Worst.sort(&mut sites);
        assert_eq!(sites.map(|site| site.id), [4, 2, 3, 1, 5]);
    }

    #[test]
    fn names_are_read_back() {
        for sort in Sort::ALL {
            assert_eq!(sort.name().parse(), Ok(sort));
        }
        let error = "size".parse::<Sort>().unwrap_err();
        assert_eq!(error, "no order is called \"size\"; there are worst, bytes, blocks, growth");
    }
}
