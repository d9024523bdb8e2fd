//! CPython's table of allocator functions, `PyMemAllocatorEx {ctx, malloc, calloc, realloc, free}` per domain (`Include/cpython/pymem.h`): which functions stand in it
//! now. tracemalloc, debug hooks and profilers put theirs there while the program runs.

use std::fmt;

use tracer_common::domain::Domain;
use tracer_common::hook::Role;

use super::table::{FUNCTIONS, Function};
use super::wrapper::decode;
use super::{FUNCTION_LIMIT, complete};
use crate::target::memory::{Bytes, Memory};
use crate::target::python::Python;

/// Words of a table entry.
const WORDS: u64 = 5;

/// One domain's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub domain: Domain,
    /// Its address in the file's own address space.
    pub vaddr: u64,
    /// The context that its functions are given.
    pub context: u64,
    /// `malloc`, `calloc`, `realloc`, `free`; addresses in the file's own address space, even of functions of other files.
    pub functions: [u64; 4],
    /// The first byte of what the context points at; 0 if that is unknown.
    pub context_kind: u8,
    /// They are CPython's own, without a context, but neither those with which the file begins nor the C library's: mimalloc (`PYTHONMALLOC=mimalloc`, from 3.13 on).
    pub mimalloc: bool,
}

/// The entries of all three domains, as far as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By domain.
    pub entries: Vec<Entry>,
}

/// Who serves a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// CPython's own functions, without a context: pymalloc or the C library's.
    Own,
    /// CPython's copy of mimalloc, in the place of pymalloc.
    Mimalloc,
    /// CPython's debug hooks, before its own functions.
    Debug,
    /// Functions of CPython with a context: tracemalloc.
    Tracemalloc,
    /// Functions of another file.
    Foreign,
}

impl Entry {
    /// Its `free`.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.functions[3]
    }

    /// The functions with which the file begins.
    fn begun(&self, python: &Python) -> Option<[u64; 4]> {
        let mut functions = [0; 4];
        for (slot, function) in (self.vaddr..).step_by(8).skip(1).zip(&mut functions) {
            *function = python.image.elf.pointer_at(slot)?;
        }
        Some(functions)
    }

    /// The functions of mimalloc that others stand before now: in a build without the GIL, those with which the file begins.
    pub(super) fn mimalloc_behind(&self, python: &Python) -> Option<[u64; 4]> {
        let served = complete::is_free_threaded(python) && serves_without_gil(self.domain, python);
        self.begun(python).filter(|begun| served && *begun != self.functions)
    }

    /// What the function allocates for that this slot of the entry names, in the file's own address space; `None` for any other word.
    #[must_use]
    pub fn role_of_slot(&self, vaddr: u64) -> Option<Role> {
        let inside = vaddr.checked_sub(self.vaddr)?;
        [(8, Role::Malloc), (16, Role::Calloc), (24, Role::Realloc)]
            .into_iter()
            .find_map(|(slot, role)| (slot == inside).then_some(role))
    }

    /// Who serves it. Debug hooks are told by their context, whose first byte names the domain (`Objects/obmalloc.c`, `debug_alloc_api_t`).
    #[must_use]
    pub fn server(&self, python: &Python) -> Server {
        if self.functions.iter().any(|function| !python.image.elf.is_code(*function)) {
            Server::Foreign
        } else if self.mimalloc {
            Server::Mimalloc
        } else if self.context == 0 {
            Server::Own
        } else if matches!(self.context_kind, b'r' | b'm' | b'o') {
            Server::Debug
        } else {
            Server::Tracemalloc
        }
    }
}

impl Table {
    /// Reads the table of a live process, or of the file for a program that has not started.
    #[must_use]
    pub fn read(python: &Python, live: Option<&Memory>) -> Self {
        let domains = [Domain::Object, Domain::Mem, Domain::Raw];
        let mut entries: Vec<Entry> =
            domains.into_iter().filter_map(|domain| entry(python, live, domain)).collect();
        let begun: Vec<Option<[u64; 4]>> = entries.iter().map(|entry| entry.begun(python)).collect();
        let free_threaded = complete::is_free_threaded(python);
        let all_known = begun.iter().all(Option::is_some);
        for entry in entries.iter_mut().filter(|entry| entry.context == 0) {
            entry.mimalloc = match free_threaded {
                true => serves_without_gil(entry.domain, python),
                false => all_known && !begun.contains(&Some(entry.functions)),
            };
        }
        Self { entries }
    }

    /// Whether who calls a function of the `object` or the `mem` domain holds the GIL: the raw domain, whose callers need not, shares none with them. One that was not found shares nothing.
    #[must_use]
    pub fn tells_gil(&self) -> bool {
        let raw = self.of(Domain::Raw).map(|entry| entry.functions);
        self.entries
            .iter()
            .filter(|entry| entry.domain != Domain::Raw)
            .all(|entry| Some(entry.functions) != raw)
    }

    /// Whether each free of an object comes twice, from the debug hooks and from mimalloc behind them, which is hooked whoever stands before it where there is no GIL.
    #[must_use]
    pub fn frees_twice(&self, python: &Python) -> bool {
        let debugged = self.entries.iter().any(|entry| entry.server(python) == Server::Debug);
        debugged && complete::is_free_threaded(python)
    }

    /// The entry of a domain.
    #[must_use]
    pub fn of(&self, domain: Domain) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.domain == domain)
    }

    /// Whether the same functions of CPython serve the same domains, and no others: foreign ones lie elsewhere in each process.
    #[must_use]
    pub fn same_functions(&self, other: &Self) -> bool {
        let own = |table: &Self| table.entries.iter().all(|entry| entry.context == 0);
        own(self) && self == other
    }

    /// The domain that a slot at this address of the file belongs to.
    #[must_use]
    pub fn domain_of_slot(&self, vaddr: u64) -> Option<Domain> {
        let inside = |entry: &&Entry| vaddr.checked_sub(entry.vaddr).is_some_and(|inside| inside < 8 * WORDS);
        self.entries.iter().find(inside).map(|entry| entry.domain)
    }

    /// What has been put in, in words; nothing if it is all CPython's own.
    #[must_use]
    pub fn notes(&self, python: &Python) -> Vec<&'static str> {
        let has = |server| self.entries.iter().any(|entry| entry.server(python) == server);
        let mut notes = Vec::new();
        if has(Server::Foreign) {
            notes.push("another library's allocator is installed");
        }
        if has(Server::Tracemalloc) {
            notes.push("tracemalloc is on");
        }
        if has(Server::Mimalloc) {
            notes.push("mimalloc serves objects: no block is pymalloc's");
        }
        if has(Server::Debug) {
            notes.push("CPython's debug hooks are on");
        }
        let own = |domain| self.of(domain).filter(|entry| entry.server(python) == Server::Own);
        if let (Some(object), Some(raw)) = (own(Domain::Object), own(Domain::Raw))
            && object.functions == raw.functions
        {
            notes.push("PYTHONMALLOC=malloc: every block comes from the C library");
        }
        notes
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Own => "CPython's own",
            Self::Mimalloc => "mimalloc",
            Self::Debug => "debug hooks",
            Self::Tracemalloc => "tracemalloc",
            Self::Foreign => "another library",
        })
    }
}

/// Whether mimalloc serves a domain of a build without the GIL, which has no pymalloc: the raw domain only from 3.15 on.
const fn serves_without_gil(domain: Domain, python: &Python) -> bool {
    !matches!(domain, Domain::Raw) || python.version.minor >= 15
}

/// Where the entry of a domain lies, from the code of one of its functions, and what it holds.
fn entry(python: &Python, live: Option<&Memory>, domain: Domain) -> Option<Entry> {
    let elf = &python.image.elf;
    let slot_of = |function: &Function| {
        let symbol = elf.symbol(function.symbol)?;
        let slot = decode(elf.code(symbol, FUNCTION_LIMIT)?, symbol.address)?.slot;
        slot.checked_sub(8 * function.slot_index()?)
    };
    // Where the wrappers of a shared library reach the table through another pointer, the version tells where in `_PyRuntime` it lies.
    let in_runtime = || {
        let table = python.layout()?.runtime_allocators?;
        let index = [Domain::Raw, Domain::Mem, Domain::Object].iter().position(|other| *other == domain)?;
        Some(python.runtime_vaddr.wrapping_add(table).wrapping_add(8 * WORDS * index as u64))
    };
    let by_code = FUNCTIONS.iter().filter(|function| function.domain == domain).find_map(slot_of);
    let vaddr = by_code.or_else(in_runtime)?;
    let mut words = [0u64; WORDS as usize];
    let mut context_kind = 0;
    if let Some((memory, bias)) = live.zip(python.image.bias) {
        for (index, word) in words.iter_mut().enumerate() {
            *word = memory.read_u64(vaddr.wrapping_add(bias).wrapping_add(8 * index as u64)).ok()?;
        }
        if words[0] != 0 {
            let mut first = [0];
            memory.read(words[0], &mut first).ok();
            context_kind = first[0];
        }
        words[1..].iter_mut().for_each(|function| *function = function.wrapping_sub(bias));
    } else {
        for (index, word) in words.iter_mut().enumerate() {
            *word = elf.pointer_at(vaddr.wrapping_add(8 * index as u64))?;
        }
    }
    let [context, functions @ ..] = words;
    Some(Entry { domain, vaddr, context, functions, context_kind, mimalloc: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(object: u64, mem: u64, raw: u64) -> Table {
        let entry = |(domain, free): (Domain, u64)| Entry {
            domain,
            vaddr: 0,
            context: 0,
            functions: [0x10, 0x20, 0x30, free],
            context_kind: 0,
            mimalloc: false,
        };
        Table {
            entries: [(Domain::Object, object), (Domain::Mem, mem), (Domain::Raw, raw)].map(entry).to_vec(),
        }
    }

    #[test]
    fn only_functions_that_the_raw_domain_does_not_share_tell_of_the_gil() {
        assert!(table(1, 1, 2).tells_gil());
        assert!(table(1, 2, 3).tells_gil());
        assert!(!table(1, 1, 1).tells_gil());
        assert!(!table(1, 2, 2).tells_gil());
        assert!(!table(2, 1, 2).tells_gil());
    }
}
