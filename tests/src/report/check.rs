//! What must hold of every report, whatever was traced: it says all it has to, and does not contradict itself.

use super::{Process, Report, Share, Site, Totals};

const ENGINES: [&str; 3] = ["trace", "sample", "watch"];
const VERDICTS: [&str; 5] = ["leak", "cache", "plateau", "churn", "unknown"];

impl Report {
    pub(super) fn check(&self) {
        assert_eq!(self.schema, "unshed.report/1");
        assert!(self.seconds > 0.0, "a recording takes time, not {} s", self.seconds);
        let fraction = self.cost.target_cpu_fraction;
        assert!(fraction.is_finite() && fraction >= 0.0, "cost.target_cpu_fraction is {fraction}");
        for facts in [&self.target.python, &self.target.executable, &self.target.host] {
            assert!(!facts.is_empty(), "the report does not say who was traced: {:?}", self.target);
        }
        self.check_losses();
        self.check_engine();
        self.sites.iter().for_each(Site::check);
        self.check_sums();
        if !self.processes.is_empty() {
            self.check_processes();
        }
    }

    /// The parts make the whole: what processes held when they exited is freed in the whole, and is theirs in their own rows.
    fn check_processes(&self) {
        let sum = |field: fn(&Process) -> u64| self.processes.iter().map(field).sum::<u64>();
        let held = sum(|process| if process.exited { process.live_blocks } else { 0 });
        assert_eq!(sum(|process| process.allocated_blocks), self.totals.allocated_blocks);
        assert_eq!(sum(|process| process.freed_blocks) + held, self.totals.freed_blocks);
        assert_eq!(sum(|process| process.live_blocks) - held, self.totals.live_blocks);
        assert_eq!(sum(|process| process.hits), self.cost.hits);
        for process in &self.processes {
            assert_eq!(process.allocated_blocks, process.freed_blocks + process.live_blocks, "{process:?}");
            let of = |field: fn(&Share) -> u64| {
                let shares = self.sites.iter().flat_map(|site| &site.processes);
                shares
                    .filter(|share| (share.pid, share.exited) == (process.pid, process.exited))
                    .map(field)
                    .sum::<u64>()
            };
            let same = self
                .processes
                .iter()
                .filter(|other| (other.pid, other.exited) == (process.pid, process.exited));
            assert_eq!(
                of(|share| share.live_blocks),
                same.map(|other| other.live_blocks).sum::<u64>(),
                "{process:?}"
            );
        }
        for site in &self.sites {
            let live: u64 =
                site.processes.iter().filter(|share| !share.exited).map(|share| share.live_blocks).sum();
            let allocated: u64 = site.processes.iter().map(|share| share.allocated_blocks).sum();
            assert_eq!((live, allocated), (site.live_blocks, site.allocated_blocks), "{site:?}");
        }
    }

    /// Estimates say how far off they may be, and what is exact does not.
    fn check_engine(&self) {
        assert!(ENGINES.contains(&self.engine.as_str()), "{:?} is no engine", self.engine);
        let sampled = self.engine == "sample";
        assert_eq!(self.sampling.is_some(), sampled, "sampling: {:?}, engine {}", self.sampling, self.engine);
        for site in &self.sites {
            let errors = [site.live_bytes_error, site.live_blocks_error, site.growth_bytes_per_second_error];
            let sound = |error: &Option<f64>| error.is_some_and(|error| error >= 0.0 && error.is_finite());
            assert_eq!(
                errors.iter().filter(|error| error.is_some()).count(),
                if sampled { 3 } else { 0 },
                "errors: {site:?}"
            );
            assert!(!sampled || errors.iter().all(sound), "errors: {site:?}");
            assert_eq!(site.samples.is_some() && site.survivors.is_some(), sampled, "samples: {site:?}");
            assert!(site.survivors <= site.samples, "more survivors than samples: {site:?}");
        }
    }

    fn check_losses(&self) {
        assert!(!self.losses.is_empty(), "the report lists no losses; rows with count 0 are listed too");
        for loss in &self.losses {
            assert!(
                !loss.code.is_empty() && !loss.meaning.is_empty(),
                "a loss without code or meaning: {loss:?}"
            );
            let same = self.losses.iter().filter(|other| other.code == loss.code).count();
            assert_eq!(same, 1, "the loss {} is listed twice", loss.code);
        }
    }

    /// Estimates are rounded site by site, so that sums of them may be off by so much; exact counts may not.
    fn rounding(&self) -> u64 {
        if self.engine == "trace" { 0 } else { self.sites.len() as u64 + 1 }
    }

    fn check_sums(&self) {
        let Totals {
            allocated_blocks,
            freed_blocks,
            live_blocks,
            allocated_bytes,
            freed_bytes,
            live_bytes,
            ..
        } = self.totals;
        let agree = |what: &str, one: u64, other: u64| {
            let off = one.abs_diff(other);
            assert!(off <= self.rounding(), "{what}: {one} ≠ {other}\n{:?}\n{}", self.totals, self.worst());
        };
        agree("blocks allocated and freed + live", allocated_blocks, freed_blocks + live_blocks);
        agree("bytes allocated and freed + live", allocated_bytes, freed_bytes + live_bytes);
        let sum = |field: fn(&Site) -> u64| self.sites.iter().map(field).sum::<u64>();
        agree("the sites' live_blocks and their sum", sum(|site| site.live_blocks), live_blocks);
        agree("the sites' live_bytes and their sum", sum(|site| site.live_bytes), live_bytes);
        agree("the sites' freed_blocks and their sum", sum(|site| site.freed_blocks), freed_blocks);
        agree(
            "the sites' allocated_blocks and their sum",
            sum(|site| site.allocated_blocks),
            allocated_blocks,
        );
        agree("the sites' allocated_bytes and their sum", sum(|site| site.allocated_bytes), allocated_bytes);
    }
}

impl Site {
    fn check(&self) {
        assert_eq!(
            self.allocated_blocks,
            self.freed_blocks + self.live_blocks,
            "blocks allocated ≠ freed + live: {self:?}"
        );
        if let Some(freed_bytes) = self.freed_bytes {
            assert_eq!(
                self.allocated_bytes,
                freed_bytes + self.live_bytes,
                "bytes allocated ≠ freed + live: {self:?}"
            );
        }
        assert!(self.allocated_bytes >= self.live_bytes, "more bytes live than were allocated: {self:?}");
        assert!(VERDICTS.contains(&self.verdict.as_str()), "{:?} is no verdict: {self:?}", self.verdict);
        assert!(self.growth_bytes_per_second.is_finite(), "growth is no number: {self:?}");
        let typed: u64 = self.types.iter().map(|each| each.blocks).sum();
        assert!(typed <= self.live_blocks, "more survivors have a type than there are: {self:?}");
        for frame in &self.stack {
            assert!(
                ["native", "python"].contains(&frame.kind.as_str()),
                "{:?} is no kind of frame",
                frame.kind
            );
            assert!(!frame.function.is_empty(), "a frame without a name: {self:?}");
        }
    }
}
