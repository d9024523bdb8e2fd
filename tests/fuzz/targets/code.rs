//! Code: it is the target's. The first eight bytes are its address and, once more, the address of a second copy; the rest is the code.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_common::hook::Role;
use tracer_user::probe::code::calls::{Callee, Calls, Kind};
use tracer_user::probe::code::pymalloc::{FastPaths, SlowPath};
use tracer_user::probe::code::{Code, guards};

fuzz_target!(|data: &[u8]| {
    let Some((address, bytes)) = data.split_first_chunk() else { return };
    let address = u64::from_le_bytes(*address);
    let code = Code::of_parts([(address, bytes), (address.rotate_left(32), bytes)]);
    let fast = FastPaths::of(&code);
    let sites = fast.allocs.iter().map(|alloc| alloc.site).chain(fast.frees.iter().copied());
    for site in sites {
        assert!(code.at(site.ip).is_some() && code.at(site.store).is_some());
        let _ = guards::nearest(&code, site.ip, |word| (word % 2 == 0).then_some(word));
    }
    if let Some(slow) = SlowPath::of(&code, &fast.allocs) {
        let owned = slow.calls.iter().filter(|call| call.owner.is_some()).count();
        assert!(!slow.matches(&fast.allocs) || (owned, owned) == (slow.calls.len(), fast.allocs.len()));
    }
    // Every third address is an allocator.
    let callee = |vaddr: u64| (vaddr % 3 == 0).then_some(Callee::Libc(Role::Malloc));
    for call in Calls::of(&code, callee, callee).calls {
        if let Kind::Call(outcome) = call.kind {
            assert!(code.at(outcome.ip).is_some());
        }
    }
});
