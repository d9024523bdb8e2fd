//! CPython's table of allocator functions, `PyMemAllocatorEx {ctx, malloc, calloc, realloc, free}` per domain (`Include/cpython/pymem.h`): which functions stand in it
//! now. tracemalloc, debug hooks and profilers put theirs there while the program runs.

use std::fmt;

use tracer_common::domain::Domain;

use super::FUNCTION_LIMIT;
use super::table::{FUNCTIONS, Function};
use super::wrapper::decode;
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

    /// Who serves it. Debug hooks are told by their context, whose first byte names the domain (`Objects/obmalloc.c`, `debug_alloc_api_t`).
    #[must_use]
    pub fn server(&self, python: &Python) -> Server {
        if self.functions.iter().any(|function| !python.image.elf.is_code(*function)) {
            Server::Foreign
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
        let entries = [Domain::Object, Domain::Mem, Domain::Raw].map(|domain| entry(python, live, domain));
        Self { entries: entries.into_iter().flatten().collect() }
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
            Self::Debug => "debug hooks",
            Self::Tracemalloc => "tracemalloc",
            Self::Foreign => "another library",
        })
    }
}

/// Where the entry of a domain lies, from the code of one of its functions, and what it holds.
fn entry(python: &Python, live: Option<&Memory>, domain: Domain) -> Option<Entry> {
    let elf = &python.image.elf;
    let slot_of = |function: &Function| {
        let symbol = elf.symbol(function.symbol)?;
        let slot = decode(elf.code(symbol, FUNCTION_LIMIT)?, symbol.address)?.slot;
        slot.checked_sub(8 * function.slot_index()?)
    };
    let vaddr = FUNCTIONS.iter().filter(|function| function.domain == domain).find_map(slot_of)?;
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
    Some(Entry { domain, vaddr, context, functions, context_kind })
}
