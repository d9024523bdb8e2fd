//! Where a trap is cheapest, and where traps see everything: the plan of the probe points.
//!
//! The choice is made by decoding the code, never by a table of offsets. Everything here is pure but for the reads of the
//! live allocator table, which say which functions the slots name now, and of the files of foreign allocators.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use tracer_common::domain::Domain;
use tracer_common::hook::{CallerFrom, Hook, Register, Role, SlowCall, SlowCallKey};

use crate::error::{Error, Kind, Result};
use crate::target::elf::{Elf, Symbol};
use crate::target::image::Image;
use crate::target::memory::Memory;
use crate::target::process::Process;
use crate::target::python::Python;

pub mod allocators;
pub mod births;
pub mod complete;
pub mod facts;
mod free;
pub mod inlined;
mod library;
pub mod spot;
pub mod table;
pub mod wrapper;

use allocators::{Server, Table};
use births::BirthCounts;
use complete::Completeness;
use facts::{Counts, Facts};
use spot::{Spot, first_emulated};
use table::{FUNCTIONS, Function, MAPPERS};

/// The most that is decoded of one function, in bytes.
const FUNCTION_LIMIT: u64 = 16 << 10;

/// One trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The function, as it is reported: its symbol, with the offset of the probed instruction.
    pub name: String,
    /// A path by which the file can be opened.
    pub file: PathBuf,
    /// Offset of the probed instruction in the file, in bytes.
    pub file_offset: u64,
    /// Its address in the file's own address space.
    pub vaddr: u64,
    /// What a hit means.
    pub hook: Hook,
    /// The program runs when the function returns.
    pub returns: bool,
    /// The kernel emulates the instruction; otherwise it must single-step it.
    pub emulated: bool,
}

impl Point {
    /// What a hit costs the target, predicted, in nanoseconds: measured on a KVM guest, empty program (facts/ebpf.md §2.1).
    #[must_use]
    pub const fn predicted_ns(&self) -> u32 {
        match (self.emulated, self.returns) {
            (true, false) => 700,
            (true, true) => 1_130,
            (false, false) => 9_200,
            (false, true) => 10_000,
        }
    }
}

/// A probe point as `-v` and `unshed doctor -p` print it: "entry  PyObject_Malloc+6  0x1af1e6  emulated".
impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.returns { "return" } else { "entry" };
        let how = if self.emulated { "emulated" } else { "single-stepped, some ten times slower" };
        write!(out, "{kind:<6} {:<22} {:#x}  {how}", self.name, self.vaddr)
    }
}

/// All the traps, and whether they see everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPlan {
    /// The traps, each place once per direction.
    pub points: Vec<Point>,
    /// Whether every block of the chosen Python domains passes one of them.
    pub completeness: Completeness,
    /// The fast paths that were found; none if the functions are hooked by their symbols.
    pub counts: Counts,
    /// Births of objects, for [`Purpose::Sample`].
    pub births: BirthCounts,
    /// What each call of the slow path stands in for.
    pub slow_calls: Vec<(SlowCallKey, SlowCall)>,
    /// Who served the Python domains when the plan was made.
    pub table: Table,
}

impl HookPlan {
    /// Whether the probes count every small block, so that the heap's own counters can prove it.
    #[must_use]
    pub fn counts_all_pools(&self) -> bool {
        let of = |role: Role| self.points.iter().filter(|point| point.hook.role == role as u8).count() as u32;
        let Counts { allocs, frees, .. } = self.counts;
        allocs > 0 && of(Role::FastAlloc) == allocs && of(Role::FastFree) == frees && of(Role::NewPool) == 1
    }
}

/// Where the traps of the Python domains go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// Where they see everything at the least cost.
    #[default]
    Sites,
    /// On the allocator functions, at the first emulated instruction and at their return.
    Functions,
    /// On the allocator functions, at their very entry and at their return, as it is usually done; for comparison.
    Naive,
}

/// What the hits are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Every block is followed from its birth to its death.
    #[default]
    Trace,
    /// Births and deaths are seen in short windows: objects out of freelists count too, and there should be few points, because each costs an interruption of the
    /// target whenever a window opens or closes.
    Sample,
}

/// What is to be hooked, and who serves the Python domains now.
#[derive(Clone, Copy)]
struct Request<'a> {
    domains: &'a [Domain],
    live: Option<&'a Process>,
    table: &'a Table,
    purpose: Purpose,
    births: bool,
}

impl Request<'_> {
    fn wants(&self, domain: Domain) -> bool {
        self.domains.contains(&domain)
    }

    fn wants_births(&self) -> bool {
        self.births && self.wants(Domain::Object)
    }
}

/// What is asked of the planner.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// The running process; `None` for a program that has not started.
    pub live: Option<&'a Process>,
    /// The domains to be seen.
    pub domains: &'a [Domain],
    /// Hook `PyLong_FromLong`.
    pub ints: bool,
    /// The file with the C library's allocator, for [`Domain::Libc`].
    pub libc: Option<&'a Image>,
    /// Where the traps go.
    pub how: How,
    /// What the hits are for.
    pub purpose: Purpose,
}

/// Plans the traps.
///
/// # Errors
/// [`Kind::Target`] when the file lacks an allocator function of a chosen domain, or it cannot be decoded.
pub fn plan(python: &Python, wish: &Wish<'_>) -> Result<HookPlan> {
    let memory = wish.live.map(|process| Memory::new(process.pid()));
    let table = Table::read(python, memory.as_ref());
    // Where ints have a freelist, their allocations do not tell who keeps them.
    let follows_ints = wish.ints && python.layout().is_some_and(|layout| layout.objects.int_freelist);
    let births = wish.purpose == Purpose::Sample || follows_ints;
    let request =
        Request { domains: wish.domains, live: wish.live, table: &table, purpose: wish.purpose, births };
    let mut planner = Planner::default();
    let interpreter = Place { image: &python.image, runtime: Some(python.runtime_vaddr) };
    let (completeness, counts, how) = match wish.how {
        How::Sites => by_sites(&mut planner, python, &interpreter, &request),
        how => (complete::judge(&python.image.elf, python, &request), Counts::default(), how),
    };
    for function in FUNCTIONS.iter().filter(|function| function.is_wanted(wish.domains, wish.ints)) {
        if how == How::Sites && function.slot_index().is_some() {
            continue;
        }
        let place = match (function.domain, wish.libc) {
            (Domain::Libc, None) => continue,
            (Domain::Libc, Some(image)) => Place { image, runtime: None },
            _ => interpreter,
        };
        planner.function(python, &request, &place, function, how)?;
    }
    let Planner { points, slow_calls, births, .. } = planner;
    Ok(HookPlan { points, completeness, counts, births, slow_calls, table })
}

/// Plans the traps on the functions by which a C library gets memory from the kernel, as far as they have symbols and can be decoded.
#[must_use]
pub fn mappers(image: &Image) -> Vec<Point> {
    let mut planner = Planner::default();
    let place = Place { image, runtime: None };
    for function in MAPPERS {
        let symbol = image.elf.symbol(function.symbol);
        let code = symbol.and_then(|symbol| Some((symbol, image.elf.code(symbol, FUNCTION_LIMIT)?)));
        if let Some((symbol, code)) = code
            && let Some(spot) = first_emulated(code, symbol.address, function.arguments)
        {
            planner.add_function(&place, function, symbol, &spot);
        }
    }
    planner.points
}

/// Hooks the fast paths; or nothing, where the functions serve the wish better: if only some of the domains that share their code are wanted, and the
/// compiler has left the functions alone.
fn by_sites(
    planner: &mut Planner,
    python: &Python,
    place: &Place<'_>,
    request: &Request<'_>,
) -> (Completeness, Counts, How) {
    // A pass over the whole code of its own: made only where its answer can matter.
    let functions = || complete::judge(&python.image.elf, python, request);
    if complete::is_free_threaded(python) {
        // pymalloc is in the file, but nobody calls it: mimalloc's functions are hooked wherever the table names them, unless there are copies of them.
        let (mut judged, how) = match complete::are_wrappers_pure(python) {
            false => (functions(), How::Functions),
            true => {
                let facts = Facts::of(python, request.table);
                (inlined::add(planner, python, place, request, &facts), How::Sites)
            }
        };
        let of_pymalloc =
            [Role::FastAlloc, Role::FastFree, Role::NewPool, Role::NewPoolReturn].map(|role| role as u8);
        planner.points.retain(|point| !of_pymalloc.contains(&point.hook.role));
        if judged.complete {
            judged.reason = format!("{}, free-threaded", python.flavour);
            let notes = request.table.notes(python).join("; ");
            judged.reason =
                if notes.is_empty() { judged.reason } else { format!("{}: {notes}", judged.reason) };
        }
        // Nobody could tell whether samples still live.
        let knows_pages = python.layout().is_some_and(|layout| layout.pages.is_some());
        if request.purpose == Purpose::Sample && !knows_pages {
            judged.complete = false;
            judged.reason.push_str(
                "; the books of this version's mimalloc are not known, so samples cannot be followed: trace it with --exact",
            );
        }
        return (judged, Counts::default(), how);
    }
    let python_domains = [Domain::Object, Domain::Mem, Domain::Raw];
    let wanted = python_domains.iter().filter(|domain| request.wants(**domain)).count();
    let own = request.table.entries.iter().all(|entry| entry.server(python) == Server::Own);
    if wanted == 0 || (own && wanted < python_domains.len()) {
        let functions = functions();
        if wanted == 0 || functions.complete {
            if request.wants_births() {
                planner.births =
                    births::add(planner, place, &Facts::of(python, request.table), request.purpose);
            }
            return (functions, Counts::default(), How::Functions);
        }
    }
    let facts = Facts::of(python, request.table);
    if request.wants_births() {
        planner.births = births::add(planner, place, &facts, request.purpose);
    }
    if facts.gap().is_some() {
        let functions = functions();
        if functions.complete {
            return (functions, Counts::default(), How::Functions);
        }
    }
    let completeness = inlined::add(planner, python, place, request, &facts);
    (completeness, facts.counts(), How::Sites)
}

fn unhookable(image: &Image, function: &Function, what: &str) -> Error {
    Error::new(
        Kind::Target,
        format!("{} {what} {}, so its hooks cannot be placed", image.path.display(), function.symbol),
    )
}

/// A file that gets traps.
#[derive(Clone, Copy)]
struct Place<'a> {
    image: &'a Image,
    /// Address of `_PyRuntime` in its own address space, if it is there.
    runtime: Option<u64>,
}

#[derive(Default)]
struct Planner {
    points: Vec<Point>,
    slow_calls: Vec<(SlowCallKey, SlowCall)>,
    births: BirthCounts,
    /// Files of foreign allocators.
    foreign: Vec<Rc<Image>>,
}

impl Planner {
    /// A function by its symbol, where it is cheapest, or (naively) at its entry.
    fn function(
        &mut self,
        python: &Python,
        request: &Request<'_>,
        place: &Place<'_>,
        function: &Function,
        how: How,
    ) -> Result<()> {
        let Some(symbol) = place.image.elf.symbol(function.symbol) else {
            if function.optional {
                return Ok(());
            }
            return Err(unhookable(place.image, function, "has no symbol"));
        };
        let direct = place.image.elf.code(symbol, FUNCTION_LIMIT);
        let direct = direct.and_then(|code| first_emulated(code, symbol.address, function.arguments));
        let Some(mut spot) = direct else { return Err(unhookable(place.image, function, "cannot decode")) };
        if how == How::Naive && function.slot_index().is_some() {
            spot = Spot {
                offset: 0,
                arguments: function.arguments.to_vec(),
                pushed_words: 0,
                emulated: spot.emulated && spot.offset == 0,
            };
        } else if !spot.emulated
            && function.role == Role::Free
            && function.domain != Domain::Libc
            && let Some(found) = free::behind_wrapper(python, request, function)
        {
            let ip = found.address.wrapping_add(found.spot.offset);
            let name = format!("{}+{}", found.name, found.spot.offset);
            self.add_at(place, &name, ip, found.spot.emulated, found.hook());
            return Ok(());
        }
        self.add_function(place, function, symbol, &spot);
        Ok(())
    }

    /// The entry of a function, and its return if it hands out memory.
    fn add_function(&mut self, place: &Place<'_>, function: &Function, symbol: Symbol, spot: &Spot) {
        let register = |index: usize| {
            spot.arguments.get(index).or(spot.arguments.first()).copied().unwrap_or(Register::Rdi) as u8
        };
        let words = i32::from(spot.pushed_words);
        let hook = Hook {
            a: register(0),
            b: register(1),
            entry_words: words,
            caller_words: words,
            ..Hook::new(function.role, function.domain)
        };
        let at = |spot: &Spot| {
            (format!("{}+{}", function.symbol, spot.offset), symbol.address.wrapping_add(spot.offset))
        };
        let (name, ip) = at(spot);
        self.add_at(place, &name, ip, spot.emulated, hook);
        let Some(role) = function.return_role() else { return };
        // The kernel takes the return address from where the stack pointer points, so nothing may have been pushed.
        let spot = if spot.pushed_words == 0 { spot.clone() } else { return_spot(&place.image.elf, symbol) };
        let (name, ip) = at(&spot);
        let hook = Hook {
            a: Register::Rax as u8,
            caller_from: CallerFrom::Here as u8,
            ..Hook::new(role, function.domain)
        };
        self.add_at(place, &name, ip, spot.emulated, hook);
    }

    /// One trap, unless there is one at its place, of its role and in its direction already.
    fn add_at(&mut self, place: &Place<'_>, name: &str, vaddr: u64, emulated: bool, hook: Hook) {
        let Some(file_offset) = place.image.elf.file_offset(vaddr) else { return };
        let same = |point: &Point| {
            (point.file_offset, point.hook.returns, point.hook.role) == (file_offset, hook.returns, hook.role)
                && point.file == place.image.open
        };
        if self.points.iter().any(same) {
            return;
        }
        // At a return the instruction is the caller's: what lies at a distance from that is not the runtime.
        let runtime = place.runtime.filter(|_| hook.returns == 0);
        let delta = runtime.map(|runtime| runtime.wrapping_sub(vaddr).cast_signed());
        let runtime_delta = delta.and_then(|delta| i32::try_from(delta).ok()).unwrap_or(0);
        self.points.push(Point {
            name: name.to_owned(),
            file: place.image.open.clone(),
            file_offset,
            vaddr,
            hook: Hook { runtime_delta, ..hook },
            returns: hook.returns == 1,
            emulated,
        });
    }

    /// The file of a running process that has code at this address.
    fn foreign(&mut self, process: &Process, address: u64) -> Option<Rc<Image>> {
        let mappings = process.mappings().ok()?;
        let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        if let Some(known) = self.foreign.iter().find(|image| image.path == mapping.path) {
            return Some(Rc::clone(known));
        }
        let image = Rc::new(Image::of_mapping(process, mapping).ok()?);
        self.foreign.push(Rc::clone(&image));
        Some(image)
    }
}

/// Where the return of a function can be probed, whatever becomes of its arguments.
fn return_spot(elf: &Elf, symbol: Symbol) -> Spot {
    let (code, address) = (elf.code(symbol, FUNCTION_LIMIT).unwrap_or_default(), symbol.address);
    let found = first_emulated(code, address, &[]).filter(|spot| spot.pushed_words == 0);
    found.unwrap_or(Spot { offset: 0, arguments: Vec::new(), pushed_words: 0, emulated: false })
}

#[cfg(test)]
mod tests;
