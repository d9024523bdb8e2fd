//! pymalloc's fast paths from a small C program, as the compilers of this machine write them.

use super::*;
use crate::probe::code::tests::fixture::{built, has};
use crate::target::elf::Elf;

const SOURCE: &str = include_str!("obmalloc.c");

/// Functions of the program into which an allocation, or a free, is inlined once.
const ALLOCATING: [&str; 9] =
    ["any_size", "known_size", "largest", "linked", "array", "chosen", "zeroed", "replaced", "refused"];
const FREEING: [&str; 6] = ["released", "unlinked", "counted_down", "replaced", "both", "all"];

/// The function, or the cold part of one, that an instruction is in; without what compilers add to the name.
fn function_of<'a>(elf: &Elf, names: &[&'a str], ip: u64) -> Option<&'a str> {
    let holds = |name: &&&str| {
        ["", ".cold", ".part.0", ".constprop.0"].iter().any(|suffix| {
            elf.symbol(&format!("{name}{suffix}"))
                .is_some_and(|symbol| (symbol.address..symbol.address + symbol.size.max(1)).contains(&ip))
        })
    };
    names.iter().find(holds).copied()
}

fn check(elf: &Elf, what: &str) {
    let code = Code::of(elf);
    let fast = FastPaths::of(&code);
    assert!(fast.lost.is_empty(), "{what}: {fast:#x?}");
    let in_functions = |names: &[&'static str], stores: Vec<u64>| {
        let mut found: Vec<&str> = stores
            .iter()
            .map(|ip| {
                function_of(elf, names, *ip)
                    .unwrap_or_else(|| panic!("{what}: {ip:#x} is in no such function"))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let mut expected = ALLOCATING.to_vec();
    expected.sort_unstable();
    let stores = fast.allocs.iter().map(|alloc| alloc.site.store).collect();
    assert_eq!(in_functions(&ALLOCATING, stores), expected, "{what}");
    let mut expected = FREEING.to_vec();
    expected.sort_unstable();
    let stores = fast.frees.iter().map(|site| site.store).collect();
    assert_eq!(in_functions(&FREEING, stores), expected, "{what}");
    let slow = SlowPath::of(&code, &fast.allocs).unwrap();
    assert_eq!(slow.function, elf.symbol("allocate_from_new_pool").unwrap().address, "{what}");
    assert!(slow.matches(&fast.allocs), "{what}: {slow:#x?} {fast:#x?}");
    assert_eq!((fast.allocs.len(), fast.frees.len()), (ALLOCATING.len(), FREEING.len()), "{what}");
    let sites = fast.allocs.iter().map(|alloc| alloc.site).chain(fast.frees.iter().copied());
    assert!(sites.into_iter().all(|site| site.emulated), "{what}: {fast:#x?}");
    for alloc in &fast.allocs {
        let class = match function_of(elf, &ALLOCATING, alloc.site.store) {
            Some("linked") => Some(16),
            Some("known_size") => Some(32),
            Some("largest") => Some(512),
            _ => None,
        };
        match (class, alloc.size) {
            (Some(bytes), size) => assert_eq!(size, Size::Class(bytes), "{what}"),
            (None, size) => assert!(!matches!(size, Size::Class(_)), "{what}: {alloc:#x?}"),
        }
    }
    // Nobody overwrites the size that is asked for by a plain call.
    let plain = fast.allocs.iter().find(|alloc| function_of(elf, &["any_size"], alloc.site.store).is_some());
    assert!(matches!(plain.map(|alloc| alloc.size), Some(Size::Asked(_))), "{what}: {plain:#x?}");
}

#[test]
fn all_that_the_source_has_are_found_whatever_the_compiler_does() {
    let compilers: Vec<&str> = ["gcc", "clang"].into_iter().filter(|compiler| has(compiler)).collect();
    assert!(compilers.contains(&"gcc"), "these tests need gcc");
    let layouts = [
        &["-no-pie", "-fno-pie", "-static"][..],
        &["-fPIE", "-pie", "-fcf-protection=full"],
        &["-fPIC", "-shared", "-march=x86-64-v3"],
    ];
    let expected = ["-DLIKELY=0", "-DLIKELY=1", "-DLIKELY=2"];
    // Every optimisation with every layout, and with every guess of what is likely.
    for compiler in compilers {
        for (number, optimise) in ["-O1", "-O2", "-O3", "-Os"].into_iter().enumerate() {
            for (index, layout) in layouts.iter().enumerate() {
                let likely = expected[(number + index) % expected.len()];
                let mut flags = vec!["-x", "c", "-w", "-nostdlib", "-Wl,--entry=0", optimise, likely];
                flags.extend(*layout);
                let what = format!("{compiler} {}", flags[5..].join(" "));
                let elf = built(compiler, &flags, SOURCE).unwrap_or_else(|said| panic!("{what}: {said}"));
                check(&elf, &what);
            }
        }
    }
}
