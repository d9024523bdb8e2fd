//! Whether hooks on the symbols see every block. On builds with profile-guided optimisation the compiler has copied the allocator into its
//! callers, and the symbols are not called any more: then a trace by symbols would lie, and must say so.

use std::collections::HashSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};
use tracer_common::domain::Domain;

use super::table::{FUNCTIONS, Function};
use super::wrapper::{Loads, decode};
use super::{FUNCTION_LIMIT, Request};
use crate::target::elf::Elf;
use crate::target::python::Python;

/// Code that copies or compares the allocator table, and calls nothing through it: `Objects/obmalloc.c` of 3.11.
const KEEPERS: &[&str] = &[
    "PyMem_GetAllocator",
    "PyMem_SetAllocator",
    "PyMem_SetupDebugHooks",
    "_PyMem_GetCurrentAllocatorName",
    "_PyMem_SetDefaultAllocator",
    "_PyMem_SetupAllocators",
    "_PyMem_DebugEnabled",
    "_PyMem_PymallocEnabled",
    "_PyObject_DebugMallocStats",
];

/// Whether the traps see everything, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completeness {
    /// Every block of the chosen Python domains passes a trap.
    pub complete: bool,
    /// How the interpreter was built, as far as it matters here: "shared, pure wrappers".
    pub build: String,
    /// One line: how it was built, and why that is not complete or what stands between the wrappers and the allocator.
    pub reason: String,
}

/// Whether the interpreter was built without the GIL: from 3.13 on, `_PyRuntime` begins with `_Py_DebugOffsets`, a mark and two words, of which the second says so
/// (`Include/internal/pycore_debug_offsets.h`). Up to 3.12 there is no such build.
#[must_use]
pub(super) fn is_free_threaded(python: &Python) -> bool {
    let begin = python.image.elf.at(python.runtime_vaddr, 24).unwrap_or_default();
    begin.strip_prefix(b"xdebugpy").and_then(|words| words.get(8..16)).is_some_and(|word| word != [0; 8])
}

/// Whether all of CPython's allocator functions only call through the table: where the compiler has guessed whom they call, they hold a copy of it.
#[must_use]
pub(super) fn are_wrappers_pure(python: &Python) -> bool {
    let elf = &python.image.elf;
    let functions = FUNCTIONS.iter().filter(|function| function.slot_index().is_some());
    functions.filter_map(|function| elf.symbol(function.symbol)).all(|symbol| {
        elf.code(symbol, FUNCTION_LIMIT)
            .and_then(|code| decode(code, symbol.address))
            .is_some_and(|wrapper| wrapper.pure)
    })
}

/// Judges a build for the chosen domains.
#[must_use]
pub(super) fn judge(elf: &Elf, python: &Python, request: &Request<'_>) -> Completeness {
    let flavour = python.flavour;
    let functions: Vec<&Function> = FUNCTIONS
        .iter()
        .filter(|function| function.slot_index().is_some() && request.wants(function.domain))
        .collect();
    if functions.is_empty() {
        let build = flavour.to_string();
        return Completeness { complete: true, reason: build.clone(), build };
    }
    let mut slots = HashSet::new();
    let mut inlined = Vec::new();
    let mut known = Vec::new();
    for function in &functions {
        let symbol = elf.symbol(function.symbol);
        let code = symbol.and_then(|symbol| Some((symbol, elf.code(symbol, FUNCTION_LIMIT)?)));
        let Some((symbol, code)) = code else { continue };
        known.push(symbol.address..symbol.address.saturating_add(code.len() as u64));
        match decode(code, symbol.address) {
            Some(wrapper) => {
                slots.insert(wrapper.slot);
                if !wrapper.pure {
                    inlined.push(function.symbol);
                }
            }
            None => inlined.push(function.symbol),
        }
    }
    known.extend(
        KEEPERS
            .iter()
            .filter_map(|name| elf.symbol(name))
            .map(|symbol| symbol.address..symbol.address.saturating_add(symbol.size)),
    );
    let callers = other_callers(elf, &slots, |ip| known.iter().any(|range| range.contains(&ip)));
    let pure = inlined.is_empty();
    let build = format!("{flavour}, {}", if pure { "pure wrappers" } else { "inlined allocator" });
    let more = match inlined.len() {
        0 | 1 => String::new(),
        many => format!(", {} more of its functions", many - 1),
    };
    let note = match (inlined.first(), callers) {
        (None, 0) => table_notes(python, request, &functions),
        (None, callers) => {
            format!("{callers} places call the allocator past its symbols, where hooks do not see it")
        }
        (Some(first), callers) => format!(
            "the compiler (PGO/LTO) put the allocator into {first}{more} and {callers} other places, where hooks on its symbols do not see it"
        ),
    };
    let reason = if note.is_empty() { build.clone() } else { format!("{build}: {note}") };
    Completeness { complete: pure && callers == 0, build, reason }
}

/// Places outside the known functions that call or compare a pointer of the allocator table: one linear pass over the code.
fn other_callers(elf: &Elf, slots: &HashSet<u64>, is_known: impl Fn(u64) -> bool) -> usize {
    let mut callers = 0;
    for segment in elf.segments().iter().filter(|segment| segment.executable) {
        let code = elf.at(segment.vaddr, segment.file_size).unwrap_or_default();
        let mut loads = Loads::default();
        for instruction in Decoder::with_ip(64, code, segment.vaddr, DecoderOptions::NONE) {
            if instruction.is_invalid() || instruction.code() == Code::Int3 {
                loads.clear();
                continue;
            }
            let used = loads.slot_used_by(&instruction).filter(|slot| slots.contains(slot));
            if used.is_some() && !is_known(instruction.ip()) {
                callers += 1;
                // The comparison and the call behind it are one place.
                loads.clear();
            }
            loads.step(&instruction);
            if matches!(instruction.flow_control(), FlowControl::Return | FlowControl::UnconditionalBranch) {
                loads.clear();
            }
        }
    }
    callers
}

/// What the allocator table says now: whose functions stand behind the wrappers.
fn table_notes(python: &Python, request: &Request<'_>, functions: &[&Function]) -> String {
    let content = |domain: Domain| {
        let wanted = functions.iter().any(|function| function.domain == domain);
        request.table.of(domain).filter(|_| wanted).map(|entry| (entry.context, entry.free()))
    };
    let (object, raw) = (content(Domain::Object).or_else(|| content(Domain::Mem)), content(Domain::Raw));
    let hooked = [object, raw].into_iter().flatten().any(|(context, _)| context != 0);
    let foreign = [object, raw].into_iter().flatten().any(|(_, target)| !python.image.elf.is_code(target));
    if foreign {
        "another library's allocator is installed; blocks are seen as Python asks for them".to_owned()
    } else if hooked {
        "debug hooks or tracemalloc are installed; blocks are seen as Python asks for them".to_owned()
    } else if object.is_some() && object == raw {
        "PYTHONMALLOC=malloc: every block comes from the C library".to_owned()
    } else {
        String::new()
    }
}
