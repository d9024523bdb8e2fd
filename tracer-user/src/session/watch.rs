//! The watch engine: traps only where the allocator takes more memory, and a look from outside at what that memory holds. It says that a heap grows and in which sizes,
//! at no cost that could be measured, and never what leaks.
//!
//! The traps run the trace engine's programs on its books, but for one thing: a new pool is entered itself, by its address, and not its first block. So a small block costs
//! nothing; what its pool holds is read from outside. Traps that turn out hot all the same are taken out again ([`guard`]).

use std::time::{Duration, Instant};

use tracer_common::config::work;
use tracer_common::domain::Domain;
use tracer_common::hook::Role;
use tracer_common::loss::Loss;

use crate::cli::plan::Plan;
use crate::drain::books::{self, Hits};
use crate::error::Result;
use crate::heap::books::SiteFacts;
use crate::heap::snapshot::{Books, Moment};
use crate::probe::attach::Links;
use crate::probe::load::Limits;
use crate::probe::sites::{self, HookPlan, How, Point, Purpose, Wish};
use crate::report::watch::{self as told, ClassGrowth};
use crate::session::follow::Shared;
use crate::session::hooked::Hooked;
use crate::session::meter::Meter;
use crate::session::subject::Subject;
use crate::target::census::class_block_bytes;
use crate::target::image::Image;

mod growth;
mod guard;
mod trigger;
mod weigh;

use growth::Grows;
use guard::{Guard, Hot};
pub(super) use trigger::{Growing, Look, Trigger};
use weigh::{Outside, Weighed};

/// The domains whose slow paths are watched.
pub(super) const DOMAINS: [Domain; 4] = [Domain::Object, Domain::Mem, Domain::Raw, Domain::Map];
/// How long traps that have just been put in are looked at closely, and how often.
const TRIALS: u32 = 10;
const TRIAL: Duration = Duration::from_millis(2);
/// Pools, large blocks and mappings that are remembered at most: as many pools hold 8 GiB of small blocks.
const BLOCKS: u32 = 1 << 19;
/// What happens to large blocks while their traps go out one after the other.
const OF_LARGE: [Loss; 4] =
    [Loss::AddressReborn, Loss::CallUnfinished, Loss::UnknownFree, Loss::UnknownRealloc];
/// What a run of the programs may take at most, in nanoseconds: a new pool's stack is walked in 3,000 to 5,000 when nothing of it is in a cache.
const RUN_NS: f64 = 6_000.0;
/// The shortest time between two weighings of what is remembered, and the part of our time that they take at most.
const LEAST: Duration = Duration::from_millis(500);
const PART: u32 = 200;

/// Traps that go in and out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Mappings, and the end of the interpreter: always in.
    Base,
    Pools,
    Large,
}

/// The group of a point; `None`: no slow path.
fn group(point: &Point) -> Option<Group> {
    let hook = &point.hook;
    match hook.role()? {
        _ if hook.domain() == Domain::Map => Some(Group::Base),
        Role::Finalize => Some(Group::Base),
        Role::NewPool | Role::NewPoolReturn => Some(Group::Pools),
        Role::Malloc
        | Role::Calloc
        | Role::Realloc
        | Role::Free
        | Role::AlignedAlloc
        | Role::PosixMemalign
        | Role::Return => Some(Group::Large),
        Role::FastAlloc | Role::FastFree | Role::IntFromLong | Role::IntReturn | Role::Birth => None,
    }
}

/// Plans the slow paths, loads the probes and puts the traps in; nothing counts yet.
pub(super) fn hook(plan: &Plan, subject: &Subject, shared: &Shared) -> Result<(Hooked, Watch)> {
    // Not the functions that serve the domains now, tracemalloc's for example: each allocation passes those.
    let wish = Wish {
        live: None,
        domains: &DOMAINS[..3],
        ints: false,
        libc: None,
        how: How::Sites,
        purpose: Purpose::Trace,
    };
    let mut hooks = sites::plan(&subject.python, &wish)?;
    // Without the fast paths the functions themselves were planned, which are no slow paths.
    let known = hooks.counts.allocs > 0;
    hooks.points.retain(|point| match group(point) {
        Some(Group::Base) => true,
        Some(Group::Pools | Group::Large) => known,
        None => false,
    });
    if let Some(library) = Image::c_library_of(&subject.process) {
        hooks.points.extend(sites::mappers(&library));
    }
    hooks.completeness.complete = false;
    hooks.completeness.reason = if known {
        format!("{}; slow paths only", hooks.completeness.build)
    } else {
        format!(
            "{}; no slow path of the allocator was found, only mappings are watched",
            hooks.completeness.build
        )
    };
    let limits = Limits { blocks: plan.limits.blocks.min(BLOCKS), ..plan.limits };
    let plan = Plan { work: plan.work | work::POOLS, limits, ..plan.clone() };
    shared.remember_places(subject, &hooks);
    let mut hooked = Hooked::load_hooks(&plan, subject, hooks, shared)?;
    let begin = Instant::now();
    hooked.links = attach(&mut hooked, subject, Group::Base)?;
    let watch = Watch {
        pools: Some(attach(&mut hooked, subject, Group::Pools)?),
        large: Some(attach(&mut hooked, subject, Group::Large)?),
        ..Watch::default()
    };
    hooked.attach_ms = begin.elapsed().as_secs_f64() * 1e3;
    subject.check()?;
    Ok((hooked, watch))
}

fn attach(hooked: &mut Hooked, subject: &Subject, wanted: Group) -> Result<Links> {
    let Hooked { method, probes, hooks, .. } = hooked;
    method.attach_some(probes, &hooks.points, subject.process.pid(), |point| group(point) == Some(wanted))
}

/// What is watched, and what is known by now.
#[derive(Default)]
pub(super) struct Watch {
    trigger: Trigger,
    guard: Guard,
    pools: Option<Links>,
    large: Option<Links>,
    /// Time since the beginning, and what all traps and those of new pools had cost by then, in seconds.
    booked: (f64, f64, f64),
    /// Seconds in which new pools were followed.
    pools_seconds: f64,
    large_stopped: Option<f64>,
    next_weighing: Duration,
    outside: Outside,
    weighed: Weighed,
    mapped_bytes: u64,
}

impl Watch {
    /// Takes the first census, and looks closely at what the traps cost at first; counting has just begun.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn begin(&mut self, subject: &Subject, hooked: &mut Hooked, meter: &mut Meter) -> Result<()> {
        self.try_out(hooked, meter)?;
        self.trigger.tick(subject, Duration::ZERO);
        Ok(())
    }

    /// Books often, for a moment.
    fn try_out(&mut self, hooked: &mut Hooked, meter: &mut Meter) -> Result<()> {
        let (before, begin) = (Duration::from_secs_f64(self.booked.0), Instant::now());
        for _ in 0..TRIALS {
            std::thread::sleep(TRIAL);
            self.book(hooked, meter, before + begin.elapsed())?;
        }
        Ok(())
    }

    /// Looks from outside where it is time to; `now` since the beginning. Gives a moment of the sums when it has weighed them.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn tick(
        &mut self,
        subject: &Subject,
        hooked: &mut Hooked,
        meter: &mut Meter,
        now: Duration,
        rss_bytes: u64,
    ) -> Result<Option<Moment>> {
        self.book(hooked, meter, now)?;
        if self.pools.is_none() && self.guard.is_full() {
            self.pools = Some(attach(hooked, subject, Group::Pools)?);
            self.try_out(hooked, meter)?;
        }
        self.trigger.tick(subject, now);
        if now < self.next_weighing {
            return Ok(None);
        }
        let begin = Instant::now();
        let moment = books::moment(&hooked.probes, now.as_secs_f64(), rss_bytes)?;
        let mut books = books::books(&mut hooked.probes, moment)?;
        self.look(subject, &books);
        weigh::weigh(&mut books, &self.outside, self.large_stopped.is_none());
        self.next_weighing = now + LEAST.max(begin.elapsed() * PART);
        Ok(Some(books.last))
    }

    /// Books what the traps have cost, and takes those out that cost too much.
    fn book(&mut self, hooked: &mut Hooked, meter: &mut Meter, now: Duration) -> Result<()> {
        meter.tick(&hooked.method, &mut hooked.probes);
        let hits = books::hits(&mut hooked.probes)?;
        // A new pool is a hit at the entry of a function and one at its return.
        let opened = Hits { entries: hits.pool_allocs, returns: hits.pool_allocs, ..Hits::default() };
        let [all_s, pools_s] = [hits, opened].map(|hits| {
            // In some runs the thread loses its CPU: that is not what they cost.
            let most_ns = (hits.entries + hits.returns) as f64 * RUN_NS;
            let traps_ns = Meter::idle().spent_ns(hits, hooked.trap);
            meter.spent_ns(hits, hooked.trap).min(traps_ns + most_ns) / 1e9
        });
        let now = now.as_secs_f64();
        let (then, all_before_s, pools_before_s) = std::mem::replace(&mut self.booked, (now, all_s, pools_s));
        let pools_now_s = pools_s - pools_before_s;
        if self.pools.is_some() {
            self.pools_seconds += now - then;
        }
        let hot = self.guard.book(now - then, pools_now_s, all_s - all_before_s - pools_now_s);
        match hot {
            Some(Hot::Large) if self.large.take().is_some() => {
                self.large_stopped = Some(now);
                self.guard.forgive();
            }
            Some(Hot::Pools) => self.pools = None,
            Some(Hot::Large) | None => {}
        }
        Ok(())
    }

    /// Reads what the remembered pools hold, and what is mapped.
    fn look(&mut self, subject: &Subject, books: &Books) {
        let addresses = weigh::pools(books);
        let Some(heap) = self.trigger.heap(subject) else { return };
        let found = heap.pools(&subject.process, &addresses);
        let Ok(mapped) = subject.process.accessible() else { return };
        let pools = addresses.into_iter().zip(found).filter_map(|(address, pool)| Some((address, pool?)));
        self.outside = Outside { pools: pools.collect(), mapped: Some(mapped) };
    }

    /// The last look, before counting ends, at a target that lives.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn end(
        &mut self,
        subject: &Subject,
        hooked: &mut Hooked,
        meter: &mut Meter,
        now: Duration,
    ) -> Result<()> {
        self.book(hooked, meter, now)?;
        self.trigger.look(subject, now.as_secs_f64());
        let books = books::books(&mut hooked.probes, Moment::default())?;
        self.look(subject, &books);
        Ok(())
    }

    /// Takes the traps out, and makes the books those of blocks, as they were at the last look.
    pub(super) fn close(&mut self, books: &mut Books) {
        self.pools = None;
        self.large = None;
        self.weighed = weigh::weigh(books, &self.outside, self.large_stopped.is_none());
        if self.large_stopped.is_some() {
            // None of the blocks that this could be about is in the figures.
            books
                .losses
                .iter_mut()
                .filter(|(loss, _)| OF_LARGE.contains(loss))
                .for_each(|(_, count)| *count = 0);
        }
        let mapped = books.blocks.iter().filter(|(_, block)| block.domain() == Some(Domain::Map));
        self.mapped_bytes = mapped.map(|(_, block)| block.size_bytes()).sum();
    }

    /// Completes the facts of the sites that were made from these books; none keeps a verdict.
    pub(super) fn complete(&self, facts: &mut [SiteFacts], books: &Books) {
        self.weighed.complete(facts, &books.blocks);
    }

    /// What the story says of the heap.
    pub(super) fn told(&self) -> told::Watch {
        let growth = |grows: Option<Grows>| {
            grows.map(|Grows { bytes_per_second, seconds }| told::Growth { bytes_per_second, seconds })
        };
        let Growing { small, resident } = self.trigger.growing();
        let (first, last) = self.trigger.ends().map(|(first, last)| (*first, *last)).unwrap_or_default();
        let rates = self.trigger.rates();
        let classes = first.classes.iter().zip(&last.classes).zip(rates).enumerate();
        let classes = classes.map(|(at, ((start, end), growth_bytes_per_second))| ClassGrowth {
            bytes: class_block_bytes(at),
            pools_start: start.pools,
            pools_end: end.pools,
            blocks_start: start.blocks,
            blocks_end: end.blocks,
            growth_bytes_per_second,
        });
        told::Watch {
            small_growth: growth(small),
            resident_growth: growth(resident),
            looks: self.trigger.looks(),
            classes: classes.filter(|class| class.blocks_start + class.blocks_end > 0).collect(),
            arenas_start: first.arenas,
            arenas_end: last.arenas,
            mapped_bytes: self.mapped_bytes,
            pools_followed: self.weighed.pools,
            pools_share: (self.pools_seconds / self.booked.0.max(1e-9)).clamp(0.0, 1.0),
            large_stopped_after_seconds: self.large_stopped,
        }
    }
}

/// The first message: whom, where, how.
pub(super) fn headline(subject: &Subject, hooks: &HookPlan) -> String {
    format!(
        "tracing slow paths of {} (python {}): {} probe points; this tells where the heap grows, not what leaks; Ctrl-C stops",
        subject.process.pid(),
        subject.python.named(),
        hooks.points.len(),
    )
}
