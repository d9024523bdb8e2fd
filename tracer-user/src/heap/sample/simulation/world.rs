//! A simulated program with an allocator, and the sampling of it: its own time, known truth.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use tracer_common::domain::Domain;
use tracer_common::sample::Gate;

use crate::heap::sample::random::Random;
use crate::heap::sample::{Bounds, Happened, Look, Sampler, Window};

/// How long the blocks of a site live.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// Exponentially distributed, mean in nanoseconds.
    Churn(f64),
    /// To the end of the request.
    Request,
    /// Two seconds.
    Session,
    /// Until so many others of its site have been born.
    Bounded(usize),
    /// For ever.
    Leak,
    /// For ever, and none is born after this moment (ns).
    Startup(u64),
}

/// A site: how often in a hundred allocations of a request it is the next, how long what it makes lives, and of what size it is.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) share: f64,
    pub(super) life: Life,
    pub(super) size_bytes: u64,
}

/// How the program runs and is sampled. Nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) sites: Vec<Site>,
    /// Own time of the whole run.
    pub(super) run_ns: u64,
    /// Mean time between two requests.
    pub(super) idle_ns: f64,
    /// Mean allocations of a request.
    pub(super) request: f64,
    /// Mean own time between two allocations of a request.
    pub(super) pause_ns: f64,
    /// What a hit costs.
    pub(super) hit_ns: u64,
    /// Mean time from the end of a window to the start of the next.
    pub(super) gap_ns: f64,
    /// Time between the end of a window and the first looks.
    pub(super) look_ns: u64,
    pub(super) bounds: Bounds,
}

pub(super) const LENGTH_NS: u64 = 2_000_000;
const DEAD_NS: f64 = 1_000_000.0;
const EARLY_NS: u64 = 5_000;
const POLL_NS: u64 = 50_000_000;

/// What really happened at a site.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Truth {
    pub(super) allocated_bytes: f64,
    pub(super) live_bytes: f64,
    pub(super) growth: f64,
}

#[derive(Clone, Copy)]
struct Block {
    site: usize,
    serial: u64,
    born_ns: u64,
}

pub(super) struct World {
    setting: Setting,
    random: Random,
    pub(super) sampler: Sampler,
    own_ns: u64,
    cost_ns: u64,
    serial: u64,
    /// By address; addresses of one size are used again, the last freed first.
    heap: Vec<Option<Block>>,
    free: BTreeMap<u64, Vec<usize>>,
    deaths: BinaryHeap<Reverse<(u64, usize, u64)>>,
    bounded: Vec<VecDeque<(usize, u64)>>,
    request: Vec<(usize, u64)>,
    left: u64,
    next_birth_ns: u64,
    next_open_ns: u64,
    next_poll_ns: u64,
    gate: Gate,
    log: Vec<Happened>,
    births: Vec<u64>,
}

impl World {
    pub(super) fn new(seed: u64, setting: Setting) -> Self {
        let sampler = Sampler::new(seed, setting.bounds);
        let births = vec![0; setting.sites.len()];
        let mut world = Self {
            bounded: vec![VecDeque::new(); setting.sites.len()],
            setting,
            random: Random::new(seed),
            sampler,
            own_ns: 0,
            cost_ns: 0,
            serial: 0,
            heap: Vec::new(),
            free: BTreeMap::new(),
            deaths: BinaryHeap::new(),
            request: Vec::new(),
            left: 0,
            next_birth_ns: 0,
            next_open_ns: 0,
            next_poll_ns: POLL_NS,
            gate: Gate::default(),
            log: Vec::new(),
            births,
        };
        world.next_birth_ns = world.after(world.setting.idle_ns);
        world.next_open_ns = world.after(world.setting.gap_ns);
        world
    }

    fn after(&mut self, mean_ns: f64) -> u64 {
        self.own_ns + (-(1.0 - self.random.unit()).ln() * mean_ns) as u64
    }

    fn wall_ns(&self) -> u64 {
        self.own_ns + self.cost_ns
    }

    fn wall_s(&self) -> f64 {
        self.wall_ns() as f64 * 1e-9
    }

    /// Lets the program run to its end, and looks at everything once more.
    pub(super) fn run(&mut self) {
        loop {
            let death_ns = self.deaths.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
            let gate_ns = if self.gate.open == 1 { self.shut_ns() } else { self.next_open_ns };
            let at_ns = death_ns.min(gate_ns).min(self.next_birth_ns).min(self.next_poll_ns);
            if at_ns > self.setting.run_ns {
                break;
            }
            self.own_ns = self.own_ns.max(at_ns);
            if at_ns == gate_ns {
                if self.gate.open == 1 { self.shut() } else { self.open() }
            } else if at_ns == death_ns {
                if let Some(Reverse((_, address, serial))) = self.deaths.pop() {
                    self.free(address, serial);
                }
            } else if at_ns == self.next_birth_ns {
                self.birth();
            } else {
                self.look(false);
                self.next_poll_ns = self.own_ns + POLL_NS;
            }
        }
        self.own_ns = self.setting.run_ns;
        self.look(true);
    }

    fn birth(&mut self) {
        if self.left == 0 {
            self.left = 1 + (self.random.unit() * 2.0 * self.setting.request) as u64;
        }
        let site = self.choose();
        self.allocate(site);
        self.left -= 1;
        if self.left > 0 {
            self.next_birth_ns = self.after(self.setting.pause_ns);
            return;
        }
        for (address, serial) in std::mem::take(&mut self.request) {
            self.free(address, serial);
        }
        self.next_birth_ns = self.after(self.setting.idle_ns);
    }

    /// A site by its share; one whose time is over gives way to the first.
    fn choose(&mut self) -> usize {
        let all: f64 = self.setting.sites.iter().map(|site| site.share).sum();
        let mut at = self.random.unit() * all;
        for (index, site) in self.setting.sites.iter().enumerate() {
            at -= site.share;
            if at < 0.0 {
                let over = matches!(site.life, Life::Startup(until_ns) if self.own_ns > until_ns);
                return if over { 0 } else { index };
            }
        }
        0
    }

    fn allocate(&mut self, site: usize) {
        let size_bytes = self.setting.sites[site].size_bytes;
        let address = self.free.entry(size_bytes).or_default().pop().unwrap_or_else(|| {
            self.heap.push(None);
            self.heap.len() - 1
        });
        self.serial += 1;
        let (serial, born_ns) = (self.serial, self.wall_ns());
        self.hit(|at_s| Happened::Born {
            site: site as u64 + 1,
            address: address as u64,
            size_bytes,
            domain: Some(Domain::Object),
            reused: false,
            at_s,
        });
        self.heap[address] = Some(Block { site, serial, born_ns });
        self.births[site] += 1;
        match self.setting.sites[site].life {
            Life::Churn(mean_ns) => {
                let at_ns = self.after(mean_ns);
                self.deaths.push(Reverse((at_ns, address, serial)));
            }
            Life::Session => self.deaths.push(Reverse((self.own_ns + 2_000_000_000, address, serial))),
            Life::Request => self.request.push((address, serial)),
            Life::Bounded(most) => {
                self.bounded[site].push_back((address, serial));
                if self.bounded[site].len() > most
                    && let Some((address, serial)) = self.bounded[site].pop_front()
                {
                    self.free(address, serial);
                }
            }
            Life::Leak | Life::Startup(_) => {}
        }
    }

    fn free(&mut self, address: usize, serial: u64) {
        let Some(block) = self.heap[address].filter(|block| block.serial == serial) else { return };
        self.hit(|at_s| Happened::Died { address: address as u64, at_s });
        self.heap[address] = None;
        self.free.entry(self.setting.sites[block.site].size_bytes).or_default().push(address);
    }

    /// As the probes do it.
    fn hit(&mut self, happened: impl FnOnce(f64) -> Happened) {
        if self.gate.open == 0 {
            return;
        }
        let elapsed_ns = self.wall_ns() - self.gate.opened_ns;
        if self.gate.is_used_up(elapsed_ns) {
            return self.shut();
        }
        if self.gate.early_cost_ns == 0 && self.gate.own_ns(elapsed_ns) >= self.gate.early_ns {
            self.gate.early_cost_ns = self.gate.cost_ns.max(1);
        }
        self.log.push(happened(self.wall_s()));
        self.gate.cost_ns += self.setting.hit_ns;
        self.cost_ns += self.setting.hit_ns;
    }

    fn open(&mut self) {
        self.gate = Gate {
            open: 1,
            opened_ns: self.wall_ns(),
            length_ns: LENGTH_NS,
            share_ns: LENGTH_NS,
            early_ns: EARLY_NS,
            ..Gate::default()
        };
        self.log.clear();
    }

    /// Own time at which the window is used up if nothing more is hit.
    fn shut_ns(&self) -> u64 {
        let own_ns = LENGTH_NS.saturating_sub(self.gate.cost_ns);
        let opened_own_ns = self.gate.opened_ns - (self.cost_ns - self.gate.cost_ns);
        opened_own_ns + own_ns
    }

    fn shut(&mut self) {
        self.gate.open = 0;
        let seconds = |ns: u64| ns as f64 * 1e-9;
        let elapsed_ns = self.wall_ns() - self.gate.opened_ns;
        let window = Window {
            opened_s: seconds(self.gate.opened_ns),
            interval_s: (self.setting.gap_ns + DEAD_NS + LENGTH_NS as f64) * 1e-9,
            length_s: seconds(LENGTH_NS),
            share_s: seconds(LENGTH_NS),
            own_s: seconds(self.gate.own_ns(elapsed_ns)),
            cost_s: seconds(self.gate.cost_ns),
            early_s: seconds(self.gate.early_ns),
            early_cost_s: seconds(self.gate.early_cost_ns),
            refused: 0,
            thin: 1.0,
        };
        self.sampler.window(&window, &self.log);
        // From the start of this window, so that the starts do not depend on what the program did in it.
        let opened_own_ns = self.gate.opened_ns - (self.cost_ns - self.gate.cost_ns);
        let ready_ns = opened_own_ns + LENGTH_NS + DEAD_NS as u64;
        self.next_open_ns = ready_ns + self.after(self.setting.gap_ns) - self.own_ns;
        if self.setting.look_ns == 0 {
            self.look(false);
        } else {
            self.next_poll_ns = self.next_poll_ns.min(self.own_ns + self.setting.look_ns);
        }
    }

    /// Looks at what is due, with the truth.
    fn look(&mut self, at_end: bool) {
        let now_s = self.wall_s();
        let due = if at_end { self.sampler.due_at_end() } else { self.sampler.due(now_s, usize::MAX) };
        for due in due {
            let look = match self.heap[due.address as usize] {
                None => Look::Dead,
                Some(block) => Look::Alive { identity: [block.serial, 0], owned_bytes: 0 },
            };
            self.sampler.seen(due.id, now_s, look);
        }
    }

    pub(super) fn now_s(&self) -> f64 {
        self.wall_s()
    }

    /// The truth of each site, in the order of the setting; old is what was born in the first three quarters.
    pub(super) fn truth(&self) -> Vec<Truth> {
        let bar_s = self.now_s() * 0.75;
        let size = |site: usize| self.setting.sites[site].size_bytes as f64;
        let mut truth: Vec<Truth> = self
            .births
            .iter()
            .enumerate()
            .map(|(site, births)| Truth { allocated_bytes: *births as f64 * size(site), ..Truth::default() })
            .collect();
        for block in self.heap.iter().flatten() {
            let site = &mut truth[block.site];
            site.live_bytes += size(block.site);
            if block.born_ns as f64 * 1e-9 <= bar_s {
                site.growth += size(block.site) / bar_s;
            }
        }
        truth
    }
}
