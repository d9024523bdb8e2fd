//! Where to trap `free`: its wrapper is `mov; mov; jmp *slot`, which the kernel emulates nothing of, but the function that the slot
//! names begins with a test for NULL and a jump. That function takes the pointer as its second argument, after the context.

use tracer_common::domain::Domain;
use tracer_common::hook::{Hook, Register, Role};

use super::spot::{Spot, first_emulated};
use super::table::{FUNCTIONS, Function};
use super::{FUNCTION_LIMIT, Request};
use crate::target::python::Python;

/// Bytes that are decoded of a function whose size is not known.
const NAMELESS: u64 = 16;

/// A function behind a wrapper, and where in it the trap goes.
pub(super) struct Behind {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) spot: Spot,
    domain: Domain,
}

impl Behind {
    pub(super) fn hook(&self) -> Hook {
        let pointer = self.spot.arguments.first().copied().unwrap_or(Register::Rsi) as u8;
        let words = i32::from(self.spot.pushed_words);
        Hook {
            a: pointer,
            b: pointer,
            entry_words: words,
            caller_words: words,
            ..Hook::new(Role::Free, self.domain)
        }
    }
}

/// The function that frees the blocks of a domain, if it can be trapped cheaply and sees nothing but chosen domains.
///
/// `object` and `mem` share one function as a rule: one trap serves both then, and counts for the first.
pub(super) fn behind_wrapper(python: &Python, request: &Request<'_>, function: &Function) -> Option<Behind> {
    let address = base_free(python, request, function)?;
    let frees = FUNCTIONS.iter().filter(|other| other.role == Role::Free && other.domain != Domain::Libc);
    let sharing: Vec<&Function> =
        frees.filter(|other| base_free(python, request, other) == Some(address)).collect();
    if !sharing.iter().all(|other| request.wants(other.domain)) {
        return None;
    }
    let elf = &python.image.elf;
    let name = elf.name_at(address);
    // A stripped file tells neither name nor size of a local function.
    let size = name
        .and_then(|name| elf.symbol(name))
        .map_or(0, |symbol| symbol.size)
        .clamp(NAMELESS, FUNCTION_LIMIT);
    let spot =
        first_emulated(elf.at(address, size)?, address, &[Register::Rsi]).filter(|spot| spot.emulated)?;
    let name = name.map_or_else(|| format!("(behind {})", function.symbol), str::to_owned);
    Some(Behind { name, address, spot, domain: sharing.first()?.domain })
}

/// The function behind the wrapper of a domain's `free`, if it is one of this very file and has no context, which is CPython's own allocator:
/// tracemalloc, debug hooks and other allocators have one or lie elsewhere. In the file's own address space.
fn base_free(python: &Python, request: &Request<'_>, function: &Function) -> Option<u64> {
    let entry = request.table.of(function.domain)?;
    let target = entry.free();
    (entry.context == 0 && python.image.elf.is_code(target)).then_some(target)
}
