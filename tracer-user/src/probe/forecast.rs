//! What a trace would cost its target, from counted hits and prices per hit. Pure arithmetic.

use std::collections::HashSet;

use tracer_common::hook::{CallerFrom, Role};

use crate::probe::sites::Point;

/// What the probe's own work takes at a hit, in nanoseconds, on top of the trap: [`WORK_BORN`] where a block is born and its stack is
/// walked, [`WORK_BEGUN`] where a call is only remembered, [`WORK_FREED`] where a block is looked up and taken out of the books.
///
/// Measured as the CPU time per round of a loop, traced against untraced, per hit (KVM guest, 2 CPUs, kernel 6.18, Debian's 3.11.2 and pyenv's
/// 3.11.7, stacks of three to six frames, interleaved runs): 1.3 to 1.5 µs where blocks are born and freed in turns, 1.1 to 1.4 µs with large
/// blocks, 1.5 µs in `bench_realistic`. Less the trap, that is these. They are too little for stacks that are deep and ever new. To be measured
/// again when the probes change.
const WORK_BORN: f64 = 850.0;
/// See [`WORK_BORN`].
const WORK_BEGUN: f64 = 300.0;
/// See [`WORK_BORN`].
const WORK_FREED: f64 = 450.0;

/// What a trap takes more in a program that has something in its caches than on ourselves, in nanoseconds: 60 to 120 in the same runs.
const COLD_NS: f64 = 90.0;

/// Counting slows the target down too. If less than this part of the time that it used was its own, that part cannot be told from the error
/// of the prices, and the slowdown is at least what this part gives.
const OWN_LEAST: f64 = 0.05;

/// The slowdown over which an exact trace is refused, unless it is told otherwise.
pub const DEFAULT_LIMIT: f64 = 2.0;

/// Prices of this machine, in nanoseconds of the target's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// A trap on an instruction that the kernel emulates.
    pub entry_ns: f64,
    /// What a return trap adds to the trap at the entry.
    pub return_ns: f64,
    /// A trap on an instruction that the kernel single-steps.
    pub stepped_ns: f64,
    /// The work of the program that counts.
    pub count_ns: f64,
}

/// What a point takes at each hit, in nanoseconds of the target's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// While it is counted.
    pub counted_ns: f64,
    /// While it is traced.
    pub traced_ns: f64,
}

impl Prices {
    /// For where nothing can be measured: those of a KVM guest (facts/ebpf.md §2.1).
    pub const GUESSED: Self = Self { entry_ns: 700.0, return_ns: 430.0, stepped_ns: 9_200.0, count_ns: 0.0 };

    /// The price of each point of a plan, in its order. A return whose entry has a trap of its own pays only what it adds.
    #[must_use]
    pub fn of(&self, points: &[Point]) -> Vec<Price> {
        let entries: HashSet<_> = points
            .iter()
            .filter(|point| !point.returns)
            .map(|point| (&point.file, point.file_offset))
            .collect();
        let trap_ns = |point: &Point| {
            let entry_ns = if point.emulated { self.entry_ns } else { self.stepped_ns } + COLD_NS;
            match (point.returns, entries.contains(&(&point.file, point.file_offset))) {
                (false, _) => entry_ns,
                (true, true) => self.return_ns,
                (true, false) => entry_ns + self.return_ns,
            }
        };
        points
            .iter()
            .map(|point| {
                let trap_ns = trap_ns(point);
                Price { counted_ns: trap_ns + self.count_ns, traced_ns: trap_ns + work_ns(point) }
            })
            .collect()
    }
}

fn work_ns(point: &Point) -> f64 {
    match point.hook.role() {
        Some(Role::FastAlloc | Role::Return | Role::IntReturn | Role::NewPoolReturn) => WORK_BORN,
        Some(Role::FastFree | Role::Free) => WORK_FREED,
        Some(Role::Finalize) | None => 0.0,
        Some(_) => WORK_BEGUN,
    }
}

/// Nanoseconds that hits take together.
#[must_use]
pub fn total_ns(hits: &[u64], prices: &[Price], price: impl Fn(&Price) -> f64) -> f64 {
    hits.iter().zip(prices).map(|(&hits, each)| hits as f64 * price(each)).sum()
}

/// How much slower a target would be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// CPU time for the same work, traced against untraced: 1 or more.
    pub factor: f64,
    /// It may be much more: hardly any of the time that the target used was its own.
    pub at_least: bool,
}

impl Slowdown {
    /// From the CPU time that the target used while it was counted, what counting took of it, and what tracing the same hits would take; all in
    /// the same unit.
    #[must_use]
    pub fn of(cpu: f64, counting: f64, tracing: f64) -> Self {
        // A CPU time that is less than what the hits took was read too early: the kernel brings a running thread's up to date at its ticks.
        let cpu = cpu.max(counting);
        let (own, least) = (cpu - counting, cpu * OWN_LEAST);
        if tracing <= 0.0 || cpu <= 0.0 {
            return Self { factor: 1.0, at_least: false };
        }
        Self { factor: 1.0 + tracing / own.max(least), at_least: own < least }
    }
}

/// What the points of a plan are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointKind {
    /// pymalloc's fast path hands out a block.
    AllocPath,
    /// pymalloc's fast path takes a block back.
    FreePath,
    /// A new pool is taken, and the return from that.
    SlowPath,
    /// The C library's allocator is called.
    LibraryCall,
    /// Behind such a call.
    LibraryOutcome,
    /// A function begins.
    Function,
    /// A function returns.
    FunctionReturn,
    /// The interpreter ends.
    End,
}

impl PointKind {
    /// All kinds, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::AllocPath,
        Self::FreePath,
        Self::SlowPath,
        Self::LibraryCall,
        Self::LibraryOutcome,
        Self::Function,
        Self::FunctionReturn,
        Self::End,
    ];

    /// The kind of a point.
    #[must_use]
    pub fn of(point: &Point) -> Self {
        match point.hook.role() {
            Some(Role::NewPool | Role::NewPoolReturn) => Self::SlowPath,
            Some(Role::FastAlloc) => Self::AllocPath,
            Some(Role::FastFree) => Self::FreePath,
            Some(Role::Finalize) => Self::End,
            Some(Role::Return | Role::IntReturn) if point.returns => Self::FunctionReturn,
            Some(Role::Return | Role::IntReturn) => Self::LibraryOutcome,
            Some(Role::Free) if point.hook.caller_from == CallerFrom::Here as u8 => Self::LibraryCall,
            _ if point.hook.entry_words < 0 => Self::LibraryCall,
            _ => Self::Function,
        }
    }

    /// As reports name it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::AllocPath => "allocation fast path",
            Self::FreePath => "free fast path",
            Self::SlowPath => "slow path (new pool)",
            Self::LibraryCall => "call of the C library",
            Self::LibraryOutcome => "behind such a call",
            Self::Function => "function",
            Self::FunctionReturn => "function return",
            Self::End => "interpreter's end",
        }
    }
}

#[cfg(test)]
mod tests;
