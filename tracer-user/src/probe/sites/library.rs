//! The C library's own allocator functions in the place of the calls that the interpreter makes of them: where the compiler has left hundreds of such calls, a plan for
//! samples cannot afford a trap at each. A hit there knows by its return address whether the interpreter asks, for which domain, and who in it; what C code
//! asks for itself is passed over, unless the libc domain is wanted.

use std::rc::Rc;

use tracer_common::domain::Domain;
use tracer_common::hook::{CallerFrom, Hook, Register, Role};

use super::allocators::Server;
use super::facts::Facts;
use super::inlined::returned;
use super::spot::{Spot, first_emulated};
use super::table::{FUNCTIONS, Function};
use super::{FUNCTION_LIMIT, Place, Planner, Purpose, Request, return_spot};
use crate::probe::code::calls::Kind;
use crate::target::image::Image;
use crate::target::memory::{Bytes, Memory};
use crate::target::python::Python;

/// Fewer calls than this get a trap each: every function of the library has two, and stands in another file, which needs a link of its own.
const MANY: usize = 32;

/// The functions that Python's allocator calls, by what they mean.
const CALLED: [(&str, Role); 7] = [
    ("malloc", Role::Malloc),
    ("calloc", Role::Calloc),
    ("realloc", Role::Realloc),
    ("free", Role::Free),
    ("aligned_alloc", Role::AlignedAlloc),
    ("memalign", Role::AlignedAlloc),
    ("posix_memalign", Role::PosixMemalign),
];

/// The library that answers the interpreter's calls.
pub(super) struct Library {
    image: Rc<Image>,
    functions: Vec<(&'static Function, u64, Spot)>,
    /// Libc: what C code asks for itself counts too.
    domain: Domain,
}

impl Library {
    /// Finds it, if it is to be hooked instead of the calls: for samples, in a live process whose table of allocators holds nothing but CPython's own.
    pub(super) fn of(
        planner: &mut Planner,
        python: &Python,
        request: &Request<'_>,
        facts: &Facts<'_>,
    ) -> Option<Self> {
        let process = request.live.filter(|_| request.purpose == Purpose::Sample)?;
        let calls = &facts.calls.calls;
        let many = calls.iter().filter(|call| matches!(call.kind, Kind::Call(_))).count() >= MANY;
        let own = facts.table.entries.iter().all(|entry| entry.server(python) == Server::Own);
        if !many || !own {
            return None;
        }
        // The word through which the interpreter calls it tells which library that is.
        let elf = &python.image.elf;
        let (slot, _) = elf.imports().find(|(_, name)| *name == "malloc")?;
        let address = Memory::new(process.pid()).read_u64(slot.wrapping_add(python.image.bias?)).ok()?;
        let image = planner.foreign(process, address)?;
        if image.elf.symbol("malloc")?.address.wrapping_add(image.bias?) != address {
            return None;
        }
        let mut functions = Vec::new();
        for (name, role) in CALLED {
            let is_it = |function: &&Function| function.symbol == name && function.domain == Domain::Libc;
            if !calls.iter().any(|call| call.role == role && !call.outer) {
                continue;
            }
            let function = FUNCTIONS.iter().find(is_it)?;
            let symbol = image.elf.symbol(name)?;
            let spot =
                first_emulated(image.elf.code(symbol, FUNCTION_LIMIT)?, symbol.address, function.arguments)?;
            let returns = function.return_role().is_none() || return_spot(&image.elf, symbol).emulated;
            if !spot.emulated || !returns {
                return None;
            }
            functions.push((function, symbol.address, spot));
        }
        Some(Self {
            image,
            functions,
            domain: if request.wants(Domain::Libc) { Domain::Libc } else { Domain::Raw },
        })
    }

    /// Hooks its functions.
    pub(super) fn add(&self, planner: &mut Planner) {
        let place = Place { image: &self.image, runtime: None };
        for (function, address, spot) in &self.functions {
            let register = |index: usize| {
                spot.arguments.get(index).or(spot.arguments.first()).copied().unwrap_or(Register::Rdi) as u8
            };
            let hook = Hook {
                a: register(0),
                b: register(1),
                entry_words: i32::from(spot.pushed_words),
                caller_from: CallerFrom::Table as u8,
                ..Hook::new(function.role, self.domain)
            };
            let name = |offset: u64| format!("{}+{offset}", function.symbol);
            planner.add_at(&place, &name(spot.offset), address.wrapping_add(spot.offset), true, hook);
            let Some(symbol) =
                self.image.elf.symbol(function.symbol).filter(|_| function.return_role().is_some())
            else {
                continue;
            };
            let back = return_spot(&self.image.elf, symbol);
            let hook = returned(Register::Rax, true);
            planner.add_at(
                &place,
                &name(back.offset),
                address.wrapping_add(back.offset),
                back.emulated,
                hook,
            );
        }
    }
}
