//! The plan for any build: pymalloc's fast paths wherever they are, the slow path behind them, and the places where what pymalloc does not serve is asked of
//! the C library. One trap per event, at an instruction where block and size are at hand.

use tracer_common::domain::Domain;
use tracer_common::hook::{BlockFrom, CallerFrom, Hook, Register, Role, SizeFrom, SlowCall, SlowCallKey};

use super::allocators::{Server, Table};
use super::complete::Completeness;
use super::facts::Facts;
use super::library::Library;
use super::spot::{Spot, first_emulated};
use super::{FUNCTION_LIMIT, Place, Planner, Request};
use crate::probe::code::calls::{Call, Kind};
use crate::probe::code::pymalloc::{Alloc, Block, Size};
use crate::target::python::Python;

/// Adds the traps of the chosen Python domains, and judges them.
pub(super) fn add(
    planner: &mut Planner,
    python: &Python,
    place: &Place<'_>,
    request: &Request<'_>,
    facts: &Facts<'_>,
) -> Completeness {
    let malloc_serves_objects = malloc_serves_objects(facts.table);
    let library = Library::of(planner, python, request, facts).filter(|_| !malloc_serves_objects);
    let adder = Adder { place, request, facts, malloc_serves_objects, through_library: library.is_some() };
    for alloc in &facts.fast.allocs {
        adder.alloc(planner, alloc);
    }
    if request.wants(Domain::Object) || request.wants(Domain::Mem) {
        for site in &facts.fast.frees {
            let hook = with_block(Hook::new(Role::FastFree, Domain::Object), site.block);
            planner.add_at(place, &adder.name(site.ip), site.ip, site.emulated, hook);
        }
        adder.slow(planner);
    }
    for call in &facts.calls.calls {
        adder.call(planner, call);
    }
    if let Some(library) = library {
        library.add(planner);
    }
    let unhooked = adder.servers(planner, python);
    let build = format!(
        "{}, {}",
        python.flavour,
        if is_inlined(facts) { "inlined allocator" } else { "allocator called" }
    );
    let gap = facts.gap().or(unhooked);
    let complete = gap.is_none();
    let notes = facts.table.notes(python).join("; ");
    let mut reason = match gap {
        Some(gap) => format!("{build}: {gap}"),
        None => format!("{build}: {}", facts.words()),
    };
    if !notes.is_empty() {
        reason = format!("{reason}; {notes}");
    }
    Completeness { complete, build, reason }
}

/// More places hand out blocks than the allocator's own functions have.
fn is_inlined(facts: &Facts<'_>) -> bool {
    facts.fast.allocs.iter().any(|alloc| facts.body(alloc.site.ip).is_none())
}

/// `PYTHONMALLOC=malloc`: objects are served by the functions of the raw domain.
fn malloc_serves_objects(table: &Table) -> bool {
    let functions = |domain| table.of(domain).filter(|entry| entry.context == 0).map(|entry| entry.functions);
    functions(Domain::Object).is_some() && functions(Domain::Object) == functions(Domain::Raw)
}

fn with_block(hook: Hook, block: Block) -> Hook {
    match block {
        Block::Held(register) => Hook { a: register as u8, ..hook },
        Block::Freeblock(pool) => Hook { a: pool as u8, block_from: BlockFrom::Freeblock as u8, ..hook },
    }
}

struct Adder<'a> {
    place: &'a Place<'a>,
    request: &'a Request<'a>,
    facts: &'a Facts<'a>,
    malloc_serves_objects: bool,
    /// Calls of the C library are seen there, and only told apart by where they are made.
    through_library: bool,
}

impl Adder<'_> {
    /// The name of a point.
    fn name(&self, ip: u64) -> String {
        self.facts.name(self.place, ip)
    }

    fn alloc(&self, planner: &mut Planner, alloc: &Alloc) {
        let domain = self.facts.domain(alloc.site.store).unwrap_or(Domain::Object);
        if !self.request.wants(domain) {
            return;
        }
        let hook = with_block(Hook::new(Role::FastAlloc, domain), alloc.site.block);
        let hook = match alloc.size {
            Size::Asked(register) => Hook { b: register as u8, ..hook },
            Size::Class(size_bytes) => Hook { size_from: SizeFrom::Constant as u8, size_bytes, ..hook },
            Size::Pool => Hook { size_from: SizeFrom::Pool as u8, ..hook },
        };
        let hook = self.facts.asker(alloc.site.ip, hook);
        planner.add_at(self.place, &self.name(alloc.site.ip), alloc.site.ip, alloc.site.emulated, hook);
    }

    /// The slow path: its entry, its return, and for each of its calls what its caller is.
    fn slow(&self, planner: &mut Planner) {
        let Some(slow) = &self.facts.slow else { return };
        let elf = &self.place.image.elf;
        let code = elf.at(slow.function, 64).or_else(|| elf.at(slow.function, 16)).unwrap_or_default();
        let unknown = Spot { offset: 0, arguments: Vec::new(), pushed_words: 0, emulated: false };
        let spot =
            first_emulated(code, slow.function, &[]).filter(|spot| spot.pushed_words == 0).unwrap_or(unknown);
        let ip = slow.function.wrapping_add(spot.offset);
        let name = elf.name_at(slow.function).map_or_else(|| "(new pool)".to_owned(), str::to_owned);
        let name = format!("{name}+{}", spot.offset);
        planner.add_at(self.place, &name, ip, spot.emulated, Hook::new(Role::NewPool, Domain::Object));
        let back = Hook { role: Role::NewPoolReturn as u8, ..returned(Register::Rax, true) };
        planner.add_at(self.place, &name, ip, spot.emulated, back);
        let Some(runtime) = self.place.runtime else { return };
        for call in &slow.calls {
            // Who jumps there is not known by the return address: the function that it returns to counts as the one that asks.
            let Some(behind) = call.next_ip else { continue };
            let owner = call.owner.and_then(|owner| self.facts.fast.allocs.get(owner));
            let here = owner.map_or(call.ip, |alloc| alloc.site.ip);
            let domain =
                owner.and_then(|alloc| self.facts.domain(alloc.site.store)).unwrap_or(Domain::Object);
            let size = call.size.map_or(SlowCall::NO_REGISTER, |register| register as u32);
            let value = SlowCall {
                size_register: size,
                domain: domain as u32,
                ..self.slow_call(call.ip, behind, here)
            };
            let key: SlowCallKey = behind.wrapping_sub(runtime).cast_signed();
            planner.slow_calls.push((key, value));
        }
    }

    /// What the call at `ip`, which returns to `behind`, says of who asks, if that is the function itself as seen at `here`.
    fn slow_call(&self, ip: u64, behind: u64, here: u64) -> SlowCall {
        let asker = self.facts.asker(ip, Hook::default());
        let on_stack = asker.caller_from == CallerFrom::Stack as u8;
        SlowCall {
            here_delta: i32::try_from(here.wrapping_sub(behind).cast_signed()).unwrap_or(0),
            // The call has pushed its own return address below.
            caller_words: if on_stack { asker.caller_words + 1 } else { -1 },
            ..SlowCall::default()
        }
    }

    /// A call of the C library's allocator, and where its outcome is seen.
    fn call(&self, planner: &mut Planner, call: &Call) {
        let domain = if call.passed_on {
            self.facts.domain(call.ip).unwrap_or(Domain::Object)
        } else if self.malloc_serves_objects && call.kind == Kind::Jump {
            Domain::Object
        } else {
            Domain::Raw
        };
        let name = self.name(call.ip);
        if self.through_library && matches!(call.kind, Kind::Call(_)) && !call.outer {
            return self.known_in_library(planner, call, domain);
        }
        if call.role == Role::Free {
            // Large blocks of any domain end here.
            planner.add_at(
                self.place,
                &name,
                call.ip,
                call.emulated,
                Hook { caller_from: CallerFrom::Here as u8, ..Hook::new(Role::Free, Domain::Raw) },
            );
            return;
        }
        // A large block of a wanted domain is resized by the raw domain's function: followed by who has it already.
        let follows = call.role == Role::Realloc
            && !self.request.wants(domain)
            && (self.request.wants(Domain::Object) || self.request.wants(Domain::Mem));
        if !follows && !self.request.wants(domain) {
            return;
        }
        let hook = match call.role {
            Role::Realloc => Hook { size_bytes: u32::from(follows), ..Hook::new(call.role, domain) },
            Role::AlignedAlloc | Role::PosixMemalign => {
                // `posix_memalign(&a, _, c)` has its size in the third register.
                let b = if call.role == Role::PosixMemalign { Register::Rdx } else { Register::Rsi };
                Hook { b: b as u8, ..Hook::new(call.role, domain) }
            }
            role => Hook::new(role, domain),
        };
        match call.kind {
            Kind::Jump => {
                planner.add_at(self.place, &name, call.ip, call.emulated, hook);
                // It returns where the C library's function does.
                if !self.through_library {
                    planner.add_at(self.place, &name, call.ip, call.emulated, returned(Register::Rax, true));
                }
            }
            Kind::Call(outcome) => {
                let hook = Hook { entry_words: -1, ..self.facts.asker(call.ip, hook) };
                planner.add_at(self.place, &name, call.ip, call.emulated, hook);
                let name = self.name(outcome.ip);
                planner.add_at(
                    self.place,
                    &name,
                    outcome.ip,
                    outcome.emulated,
                    returned(outcome.register, false),
                );
            }
        }
    }

    /// A call that is seen in the C library: what it says of who asks.
    fn known_in_library(&self, planner: &mut Planner, call: &Call, domain: Domain) {
        let Some(runtime) = self.place.runtime else { return };
        // Whatever the domain, a block may end here or move.
        if self.request.wants(domain) || matches!(call.role, Role::Free | Role::Realloc) {
            let value = SlowCall {
                size_register: SlowCall::NO_REGISTER,
                domain: domain as u32,
                ..self.slow_call(call.ip, call.next_ip, call.ip)
            };
            planner.slow_calls.push((call.next_ip.wrapping_sub(runtime).cast_signed(), value));
        }
    }

    /// The functions that tracemalloc, debug hooks or another library have put into the table: they own the blocks, and what they call in turn is theirs. They may go while we trace, and then
    /// mimalloc's, where there is no pymalloc, serve again.
    fn servers(&self, planner: &mut Planner, python: &Python) -> Option<String> {
        let mut gap = None;
        for entry in &self.facts.table.entries {
            let server = entry.server(python);
            if server == Server::Own || !self.request.wants(entry.domain) {
                continue;
            }
            let own = entry.mimalloc_behind(python).map(|functions| (functions, Server::Mimalloc));
            for (functions, server) in [(entry.functions, server)].into_iter().chain(own) {
                let roles = [Role::Malloc, Role::Calloc, Role::Realloc, Role::Free];
                for (function, role) in functions.into_iter().zip(roles) {
                    if !self.server(planner, python, function, Hook::new(role, entry.domain), server) {
                        gap = Some(format!("the functions of {server} cannot be hooked"));
                    }
                }
            }
        }
        gap
    }

    /// One such function: its arguments come after the context. `false` if no trap can be placed.
    fn server(&self, planner: &mut Planner, python: &Python, vaddr: u64, hook: Hook, server: Server) -> bool {
        let other;
        let (place, vaddr) = match (server, self.request.live, python.image.bias) {
            (Server::Foreign, Some(process), Some(bias)) if !python.image.elf.is_code(vaddr) => {
                let address = vaddr.wrapping_add(bias);
                let Some(image) = planner.foreign(process, address) else { return false };
                other = image;
                let bias = other.bias.unwrap_or(0);
                (Place { image: &other, runtime: None }, address.wrapping_sub(bias))
            }
            _ => (*self.place, vaddr),
        };
        let arguments = [Register::Rsi, Register::Rdx];
        let wanted = if hook.role == Role::Free as u8 || hook.role == Role::Malloc as u8 { 1 } else { 2 };
        let code = [FUNCTION_LIMIT.min(96), 32, 8].into_iter().find_map(|len| place.image.elf.at(vaddr, len));
        let Some(spot) = code.and_then(|code| first_emulated(code, vaddr, &arguments[..wanted])) else {
            return false;
        };
        let register = |index: usize| {
            spot.arguments.get(index).or(spot.arguments.first()).copied().unwrap_or(Register::Rsi)
        };
        let symbol = place.image.elf.name_at(vaddr).map_or_else(|| format!("{vaddr:#x}"), str::to_owned);
        let words = i32::from(spot.pushed_words);
        let hook = Hook {
            a: register(0) as u8,
            b: register(1) as u8,
            entry_words: words,
            caller_words: words,
            ..hook
        };
        planner.add_at(
            &place,
            &format!("{symbol}+{}", spot.offset),
            vaddr.wrapping_add(spot.offset),
            spot.emulated,
            hook,
        );
        if hook.role != Role::Free as u8 {
            let bare = code
                .and_then(|code| first_emulated(code, vaddr, &[]))
                .filter(|spot| spot.pushed_words == 0 && spot.emulated);
            let (offset, emulated) = bare.map_or((0, false), |spot| (spot.offset, true));
            planner.add_at(
                &place,
                &format!("{symbol}+{offset}"),
                vaddr.wrapping_add(offset),
                emulated,
                returned(Register::Rax, true),
            );
        }
        true
    }
}

/// The end of an allocating call: at the function's return, or at an instruction behind the call.
pub(super) fn returned(result: Register, returns: bool) -> Hook {
    Hook { a: result as u8, returns: u8::from(returns), ..Hook::new(Role::Return, Domain::Object) }
}
