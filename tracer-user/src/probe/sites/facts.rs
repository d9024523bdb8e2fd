//! What the code of a file says of its allocator: the fast paths, the slow path, the calls of the C library, and whether that can be everything.

use std::ops::Range;

use tracer_common::domain::Domain;
use tracer_common::hook::{CallerFrom, Hook};

use super::Place;
use super::allocators::Table;
use super::table::FUNCTIONS;
use crate::probe::code::calls::{Callee, Calls};
use crate::probe::code::pymalloc::{FastPaths, SlowPath};
use crate::probe::code::{Code, guards};
use crate::target::frame_table::FrameTable;
use crate::target::python::Python;

/// What the code of a file says of its allocator.
pub struct Facts<'a> {
    pub(super) code: Code<'a>,
    pub(super) frames: FrameTable<'a>,
    pub(super) fast: FastPaths,
    pub(super) slow: Option<SlowPath>,
    pub(super) calls: Calls,
    pub(super) table: &'a Table,
    /// The allocator's own functions, each with its domain: who calls them asks for memory, not they. A function that serves two domains counts for the outer.
    bodies: Vec<(Range<u64>, Domain)>,
}

/// Fast paths that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Places that hand out a block of pymalloc's.
    pub allocs: u32,
    /// Places that take one back.
    pub frees: u32,
    /// Calls of the slow path.
    pub slow_calls: u32,
}

impl<'a> Facts<'a> {
    /// Reads the code.
    #[must_use]
    pub fn of(python: &'a Python, table: &'a Table) -> Self {
        let elf = &python.image.elf;
        let code = Code::of(elf);
        let fast = FastPaths::of(&code);
        let slow = SlowPath::of(&code, &fast.allocs);
        let symbols: Vec<(u64, Callee)> = FUNCTIONS
            .iter()
            .filter_map(|function| {
                Some((elf.symbol(function.symbol)?.address, Callee::named(function.symbol)?))
            })
            .collect();
        let own = |vaddr| symbols.iter().find(|(address, _)| *address == vaddr).map(|(_, callee)| *callee);
        let callee = |vaddr| elf.plt_target(vaddr).and_then(Callee::named).or_else(|| own(vaddr));
        // What pymalloc passes on may also be asked of the raw domain's entry in the table, without a wrapper between.
        let raw = |pointer| table.of(Domain::Raw)?.role_of_slot(pointer).map(Callee::Raw);
        let through = |pointer| elf.import_at(pointer).and_then(Callee::named).or_else(|| raw(pointer));
        let calls = Calls::of(&code, callee, through);
        let frames = FrameTable::new(elf);
        let symbols = FUNCTIONS.iter().filter(|function| function.slot_index().is_some());
        let symbols = symbols.filter_map(|function| {
            let symbol = elf.symbol(function.symbol)?;
            Some((symbol.address..symbol.address.saturating_add(symbol.size), function.domain))
        });
        let behind =
            table.entries.iter().flat_map(|entry| entry.functions.map(|function| (function, entry.domain)));
        let behind = behind.filter_map(|(address, domain)| Some((frames.function_at(address)?, domain)));
        let bodies = symbols.chain(behind).collect();
        Self { code, frames, fast, slow, calls, table, bodies }
    }

    /// How much was found.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            allocs: self.fast.allocs.len() as u32,
            frees: self.fast.frees.len() as u32,
            slow_calls: self.slow.as_ref().map_or(0, |slow| slow.calls.len()) as u32,
        }
    }

    /// Why what was found cannot be everything; `None` if nothing says so.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        let Counts { allocs, frees, slow_calls, .. } = self.counts();
        if allocs == 0 {
            return Some("no fast path of pymalloc was found in the code".to_owned());
        }
        if let Some(store) = self.fast.lost.first() {
            return Some(format!(
                "at {} fast paths no register tells the block, the first at {store:#x}",
                self.fast.lost.len()
            ));
        }
        if !self.slow.as_ref().is_some_and(|slow| slow.matches(&self.fast.allocs)) {
            return Some(format!(
                "{allocs} allocation sites do not match {slow_calls} calls of the slow path"
            ));
        }
        if let Some(ip) = self.calls.lost.first() {
            return Some(format!(
                "{} calls of the C library's allocator cannot be followed, the first at {ip:#x}",
                self.calls.lost.len()
            ));
        }
        let downs =
            self.code.tallies().iter().filter(|tally| !tally.up && Some(tally.word) == self.calls.counter);
        let downs = downs.count() as u32;
        (downs > frees)
            .then(|| format!("{frees} free sites, but {downs} places where a large block is freed"))
    }

    /// The words of the report: "171 + 47 sites, a slow path for each".
    pub(super) fn words(&self) -> String {
        let Counts { allocs, frees, .. } = self.counts();
        format!("{allocs} + {frees} sites for allocations and frees, a slow path for each")
    }

    /// The function that an instruction is in, as it is reported, with the distance from its beginning.
    pub(super) fn name(&self, place: &Place<'_>, ip: u64) -> String {
        let start = self.frames.function_at(ip).map_or(ip, |function| function.start);
        let name = place.image.elf.name_at(start).map_or_else(|| format!("{start:#x}"), str::to_owned);
        format!("{name}+{}", ip.wrapping_sub(start))
    }

    /// The domain of the allocator's function that a piece of code belongs to.
    pub(super) fn body(&self, ip: u64) -> Option<Domain> {
        self.bodies.iter().find(|(body, _)| body.contains(&ip)).map(|(_, domain)| *domain)
    }

    /// The domain that a piece of code serves: of its function, or of the guard that stands before it.
    pub(super) fn domain(&self, ip: u64) -> Option<Domain> {
        if let Some(domain) = self.body(ip) {
            return Some(domain);
        }
        let outer = |domain: &Domain| matches!(domain, Domain::Object | Domain::Mem);
        guards::nearest(&self.code, ip, |slot| self.table.domain_of_slot(slot).filter(outer))
    }

    /// Who asks at `ip`: the code there, or the caller of the allocator's function that it belongs to.
    pub(super) fn asker(&self, ip: u64, hook: Hook) -> Hook {
        let words = self.body(ip).and_then(|_| self.frames.cfa_words(ip));
        match words {
            Some(words) => {
                Hook { caller_from: CallerFrom::Stack as u8, caller_words: i32::from(words), ..hook }
            }
            None => Hook { caller_from: CallerFrom::Here as u8, ..hook },
        }
    }
}
