//! Where a trap is cheapest: the plan of the probe points for builds whose allocators are called through their symbols.
//!
//! The choice is made by decoding the functions, never by a table of offsets. Everything here is pure but for the reads of the
//! live allocator table, which only say which functions the slots name now.

use std::fmt;
use std::path::PathBuf;

use tracer_common::domain::Domain;
use tracer_common::hook::{Hook, Register, Role};

use crate::error::{Error, Kind, Result};
use crate::target::elf::{Elf, Symbol};
use crate::target::image::Image;
use crate::target::memory::Memory;
use crate::target::python::Python;

pub mod complete;
mod free;
pub mod spot;
pub mod table;
pub mod wrapper;

use complete::Completeness;
use spot::{Spot, first_emulated};
use table::{FUNCTIONS, Function};

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
}

/// What is to be hooked, and where the allocator table is read.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    domains: &'a [Domain],
    live: Option<&'a Memory>,
}

impl Request<'_> {
    fn wants(&self, domain: Domain) -> bool {
        self.domains.contains(&domain)
    }
}

/// Plans the traps.
///
/// `live` is the memory of the running process, `None` for a program that has not started; `ints` hooks `PyLong_FromLong`; `libc` is the file with
/// the C library's allocator, for [`Domain::Libc`].
///
/// # Errors
/// [`Kind::Target`] when the file lacks an allocator function of a chosen domain, or it cannot be decoded.
pub fn plan(
    python: &Python,
    live: Option<&Memory>,
    domains: &[Domain],
    ints: bool,
    libc: Option<&Image>,
) -> Result<HookPlan> {
    let request = Request { domains, live };
    let mut planner = Planner { points: Vec::new() };
    let elf = &python.image.elf;
    let interpreter = Place { image: &python.image, tstate_slot: python.tstate_slot_vaddr() };
    for function in FUNCTIONS.iter().filter(|function| function.is_wanted(domains, ints)) {
        let place = match (function.domain, libc) {
            (Domain::Libc, None) => continue,
            (Domain::Libc, Some(image)) => Place { image, tstate_slot: None },
            _ => interpreter,
        };
        let Some(symbol) = place.image.elf.symbol(function.symbol) else {
            if function.optional {
                continue;
            }
            return Err(unhookable(place.image, function, "has no symbol"));
        };
        let direct = place.image.elf.code(symbol, FUNCTION_LIMIT);
        let direct = direct.and_then(|code| first_emulated(code, symbol.address, function.arguments));
        let Some(spot) = direct else { return Err(unhookable(place.image, function, "cannot decode")) };
        let behind = (!spot.emulated && function.role == Role::Free && function.domain != Domain::Libc)
            .then(|| free::behind_wrapper(python, &request, function))
            .flatten();
        match behind {
            Some(found) => planner.add(&place, &found.name, found.address, &found.spot, found.hook()),
            None => planner.add_function(&place, function, symbol, &spot),
        }
    }
    Ok(HookPlan { points: planner.points, completeness: complete::judge(elf, python, &request) })
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
    tstate_slot: Option<u64>,
}

struct Planner {
    points: Vec<Point>,
}

impl Planner {
    /// The entry of a function, and its return if it hands out memory.
    fn add_function(&mut self, place: &Place<'_>, function: &Function, symbol: Symbol, spot: &Spot) {
        let register = |index: usize| {
            spot.arguments.get(index).or(spot.arguments.first()).copied().unwrap_or(Register::Rdi)
        };
        let hook = Hook {
            role: function.role,
            domain: function.domain,
            a: register(0),
            b: register(1),
            pushed_words: spot.pushed_words,
            tstate_delta: 0,
        };
        self.add(place, function.symbol, symbol.address, spot, hook);
        let Some(role) = function.return_role() else { return };
        // The kernel takes the return address from where the stack pointer points, so nothing may have been pushed.
        let spot = if spot.pushed_words == 0 { spot.clone() } else { return_spot(&place.image.elf, symbol) };
        let hook = Hook {
            role,
            domain: function.domain,
            a: Register::Rax,
            b: Register::Rax,
            pushed_words: 0,
            tstate_delta: 0,
        };
        self.add(place, function.symbol, symbol.address, &spot, hook);
    }

    /// One trap, unless there is one at its place in its direction already.
    fn add(&mut self, place: &Place<'_>, name: &str, address: u64, spot: &Spot, hook: Hook) {
        let vaddr = address.wrapping_add(spot.offset);
        let Some(file_offset) = place.image.elf.file_offset(vaddr) else { return };
        let returns = matches!(hook.role, Role::Return | Role::IntReturn);
        let same = |point: &Point| {
            (point.file_offset, point.returns) == (file_offset, returns) && point.file == place.image.open
        };
        if self.points.iter().any(same) {
            return;
        }
        let delta = place.tstate_slot.map(|slot| slot.wrapping_sub(vaddr).cast_signed());
        let tstate_delta = delta.and_then(|delta| i32::try_from(delta).ok()).unwrap_or(0);
        self.points.push(Point {
            name: format!("{name}+{}", spot.offset),
            file: place.image.open.clone(),
            file_offset,
            vaddr,
            hook: Hook { tstate_delta, ..hook },
            returns,
            emulated: spot.emulated,
        });
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
