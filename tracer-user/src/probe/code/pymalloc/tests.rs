//! Fast paths as compilers write them, and what only looks alike.

use super::*;
use crate::probe::code::tests::fixture::Snippet;
use Block::{Freeblock, Held as In};
use Register::{R8, R12, R13, R14, Rax, Rbp, Rbx, Rcx, Rdi, Rdx};

mod compiled;
mod joined;

/// What comes before a fast path that looks its pool up by size: `{size}` is asked, `{pool}` is found.
fn lookup(asked: &str, pool: &str) -> String {
    format!(
        "lea r11d, [{asked}-1]; shr r11d, 4; lea r10d, [r11+r11]; mov {pool}, [r10*8+usedpools]
         mov r9, [{pool}+16]; cmp {pool}, r9; je slow"
    )
}

/// What comes behind: labels to jump to.
const ENDS: &str = "\nhlt; slow: ud2; extend: ud2";

/// The one allocation of a text that has nothing else, its trap at `trap`, its store at `store`.
fn alloc(text: &str) -> (Block, Size) {
    let snippet = Snippet::of(&format!("{text}{ENDS}"));
    let fast = snippet.fast();
    let [alloc] = &*fast.allocs else { panic!("{fast:#x?} in {text}") };
    assert!(fast.frees.is_empty() && fast.lost.is_empty(), "{fast:#x?} in {text}");
    assert_eq!((alloc.site.ip, alloc.site.store), (snippet.label("trap"), snippet.label("store")), "{text}");
    assert!(alloc.site.emulated, "{text}");
    (alloc.site.block, alloc.size)
}

/// The same of the one free.
fn free(text: &str) -> Block {
    let snippet = Snippet::of(&format!("{text}{ENDS}"));
    let fast = snippet.fast();
    let [site] = &*fast.frees else { panic!("{fast:#x?} in {text}") };
    assert!(fast.allocs.is_empty() && fast.lost.is_empty(), "{fast:#x?} in {text}");
    assert_eq!((site.ip, site.store), (snippet.label("trap"), snippet.label("store")), "{text}");
    assert!(site.emulated, "{text}");
    site.block
}

fn nothing(text: &str) {
    let fast = Snippet::of(&format!("{text}{ENDS}")).fast();
    assert_eq!(fast, FastPaths::default(), "{text}");
}

#[test]
fn both_orders_and_all_ways_to_count() {
    let load = "mov rcx, [rdx+8]";
    let next = "mov rsi, [rcx]; store: mov [rdx+8], rsi; test rsi, rsi; trap: je extend";
    for count in [
        "add dword ptr [rdx], 1",
        "inc dword ptr [rdx]",
        "sub dword ptr [rdx], -1",
        "lock inc dword ptr [rdx]",
        "mov r8d, [rdx]; add r8d, 1; mov [rdx], r8d",
        "mov r8d, [rdx]; inc r8d; mov [rdx], r8d",
        "mov r8d, [rdx]; lea r9d, [r8+1]; mov [rdx], r9d",
        "mov r8d, [rdx]; sub r8d, -1; mov [rdx], r8d",
    ] {
        let expected = (In(Rcx), Size::Asked(Rdi));
        let pool = lookup("rdi", "rdx");
        assert_eq!(alloc(&format!("{pool}; {load}; {count}; {next}")), expected);
        assert_eq!(alloc(&format!("{pool}; {count}; {load}; {next}")), expected);
        let late = next.replace("test", &format!("{count}; test"));
        assert_eq!(alloc(&format!("{pool}; {load}; {late}")), expected);
    }
}

#[test]
fn any_registers_also_those_that_need_another_encoding() {
    for (pool, block, asked, expected) in [
        ("r12", "r13", "rdi", (In(R13), Size::Asked(Rdi))),
        ("r13", "r12", "r14", (In(R12), Size::Asked(R14))),
        ("rbp", "rax", "rbx", (In(Rax), Size::Asked(Rbx))),
        ("rax", "rbp", "rdi", (In(Rbp), Size::Asked(Rdi))),
        ("rbx", "r8", "rbp", (In(R8), Size::Asked(Rbp))),
    ] {
        let lookup = lookup(asked, pool);
        let text = format!(
            "{lookup}; mov {block}, [{pool}+8]; inc dword ptr [{pool}]; mov rcx, [{block}]
             store: mov [{pool}+8], rcx; test rcx, rcx; trap: je extend"
        );
        assert_eq!(alloc(&text), expected);
        // With displacements of four bytes.
        let wide = text.replace("+8]", "+{disp}]").replace("{disp}", "8");
        assert_eq!(alloc(&wide.replace("store: mov", "store: {disp32} mov")), expected);
    }
}

#[test]
fn the_table_by_its_address_and_by_a_register() {
    let tail = "mov rax, [rdx+8]; inc dword ptr [rdx]; mov rcx, [rax]; store: mov [rdx+8], rcx
                test rcx, rcx; trap: jne extend";
    let expected = (In(Rax), Size::Asked(Rdi));
    // gcc and clang, as position independent code.
    let pie = "lea r8, usedpools[rip]; lea ecx, [rdi-1]; shr ecx, 4; add ecx, ecx; mov rdx, [r8+rcx*8]";
    assert_eq!(alloc(&format!("{pie}; {tail}")), expected);
    let pie = "lea ecx, [rdi-1]; shr ecx, 4; lea ecx, [rcx+rcx]; lea r8, usedpools[rip]; mov rdx, [r8+rcx*8]";
    assert_eq!(alloc(&format!("{pie}; {tail}")), expected);
    // Not so.
    let fixed = "lea ecx, [rdi-1]; shr ecx, 4; shl ecx, 1; mov rdx, [rcx*8+usedpools]";
    assert_eq!(alloc(&format!("{fixed}; {tail}")), expected);
    let moved =
        "mov r8d, offset usedpools; mov rcx, rdi; dec rcx; shr rcx, 4; add rcx, rcx; mov rdx, [r8+rcx*8]";
    assert_eq!(alloc(&format!("{moved}; {tail}")), expected);
}

#[test]
fn a_class_that_the_compiler_knew() {
    let variable = format!(
        "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; mov [rdx+8], rsi; test rsi, rsi; je extend",
        lookup("rdi", "rdx")
    );
    let fixed = |entry: &str| {
        format!(
            "jmp extend; mov rax, {entry}; mov r9, [rax+16]; cmp r9, rax; je slow; mov rbx, [rax+8]
             add dword ptr [rax], 1; mov rcx, [rbx]; mov [rax+8], rcx; test rcx, rcx; je extend"
        )
    };
    for (entry, expected) in [
        ("usedpools[rip]", Size::Class(16)),
        ("usedpools[rip+0x70]", Size::Class(128)),
        ("[usedpools+0x1f0]", Size::Class(512)),
        // No beginning of an entry; behind the table; before it.
        ("usedpools[rip+0x78]", Size::Pool),
        ("usedpools[rip+0x200]", Size::Pool),
        ("usedpools[rip-16]", Size::Pool),
    ] {
        let snippet = Snippet::of(&format!("{variable}; {}{ENDS}", fixed(entry)));
        let fast = snippet.fast();
        let sizes: Vec<Size> = fast.allocs.iter().map(|alloc| alloc.size).collect();
        assert_eq!(sizes, [Size::Asked(Rdi), expected], "{entry}");
    }
    // Nothing tells where the table begins.
    let alone = Snippet::of(&format!("{}{ENDS}", fixed("usedpools[rip+0x70]"))).fast();
    assert_eq!(alone.allocs.iter().map(|alloc| alloc.size).collect::<Vec<_>>(), [Size::Pool]);
}

#[test]
fn a_size_that_is_gone_is_the_pools() {
    let text = |asked: &str, next: &str| {
        format!(
            "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov {next}, [rcx]; store: mov [rdx+8], {next}
             test {next}, {next}; trap: je extend",
            lookup(asked, "rdx")
        )
    };
    assert_eq!(alloc(&text("rdi", "rsi")).1, Size::Asked(Rdi));
    assert_eq!(alloc(&text("rsi", "rsi")).1, Size::Pool);
    // A copy is as good, also one made before the lookup.
    assert_eq!(alloc(&format!("mov rbp, rsi; {}", text("rsi", "rsi"))).1, Size::Asked(Rbp));
    // But not where the lookup's own still holds it: an indirect jump, which nobody sees, may lead to just before.
    assert_eq!(alloc(&format!("mov rbx, rdi; {}", text("rdi", "rsi"))).1, Size::Asked(Rdi));
    let freed = "mov rbx, rdi; mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; dec dword ptr [rdx]; trap: je extend";
    assert_eq!(free(freed), In(Rdi));
    // A copy of the lower half is none.
    assert_eq!(alloc(&format!("mov ebp, esi; {}", text("rsi", "rsi"))).1, Size::Pool);
    // Another table, another arithmetic.
    for (from, to) in [("shr r11d, 4", "shr r11d, 3"), ("[rdi-1]", "[rdi-2]"), ("[r11+r11]", "[r11+r11*2]")] {
        assert_eq!(alloc(&text("rdi", "rsi").replace(from, to)).1, Size::Pool);
    }
}

#[test]
fn a_block_that_is_put_aside_is_seen_before() {
    // As in Debian's 3.13 to 3.15: behind the store no register holds it.
    let text = format!(
        "{}; mov rcx, [rdx+8]; add dword ptr [rdx], 1; mov [rsp+16], rcx; trap: mov rcx, [rcx]; store: mov [rdx+8], rcx
         test rcx, rcx; je extend{ENDS}",
        lookup("rdi", "rdx")
    );
    let snippet = Snippet::of(&text);
    let [Alloc { site, size: Size::Pool }] = *snippet.fast().allocs else { panic!("{text}") };
    assert_eq!((site.ip, site.store), (snippet.label("trap"), snippet.label("store")));
    assert_eq!((site.block, site.emulated), (In(Rcx), false));
    // Somebody else comes by there, or leaves.
    for (from, to) in [("trap:", "jmp trap; trap:"), ("trap:", "jc extend; trap:")] {
        let fast = Snippet::of(&text.replace(from, to)).fast();
        assert!(fast.allocs.iter().all(|alloc| alloc.site.ip != snippet.label("trap")), "{fast:#x?}");
    }
}

#[test]
fn frees_in_both_orders() {
    for count in [
        "sub dword ptr [rdx], 1",
        "dec dword ptr [rdx]",
        "add dword ptr [rdx], -1",
        "mov eax, [rdx]; sub eax, 1; mov [rdx], eax",
        "mov eax, [rdx]; lea r8d, [rax-1]; mov [rdx], r8d",
    ] {
        let load = "mov rcx, [rdx+8]; mov [rdi], rcx";
        let end = "test rcx, rcx; trap: je extend";
        assert_eq!(free(&format!("{load}; store: mov [rdx+8], rdi; {count}; {end}")), In(Rdi));
        assert_eq!(free(&format!("{count}; {load}; store: mov [rdx+8], rdi; {end}")), In(Rdi));
    }
    // 3.8 counts on both sides of the question whether the pool was full.
    let late = "mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; test rcx, rcx; trap: je full
                sub dword ptr [rdx], 1; jne extend; ret; full: sub dword ptr [rdx], 1; ret; ud2";
    assert_eq!(free(late), In(Rdi));
    nothing(&late.replace("full: sub", "full: add"));
    nothing(&late.replace("je full\n                sub dword ptr [rdx], 1;", "je full;"));
    let bases =
        "mov r8, [r13+8]; mov [r12], r8; store: mov [r13+8], r12; dec dword ptr [r13]; trap: je extend";
    assert_eq!(free(bases), In(R12));
}

#[test]
fn a_freed_block_may_have_two_names() {
    // The debug hooks' own pointer lies 16 bytes behind; the call of `memset`, which returned the block, hides what they have to do with each other.
    let text = "lea rdi, [rbp-16]; call extend; mov rcx, [rdx+8]; mov [rbp-16], rcx; store: mov [rdx+8], rax
                dec dword ptr [rdx]; test rcx, rcx; trap: je extend";
    assert_eq!(free(text), In(Rax));
    for other in ["mov [rbp-8], rcx", "mov [rbp], rcx", "mov [rdx-16], rcx", "mov [rax-16], rcx"] {
        nothing(&text.replace("mov [rbp-16], rcx", other));
    }
}

#[test]
fn a_freed_block_whose_register_is_gone_is_in_its_pool() {
    let text =
        "mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; mov edi, [rdx]; dec edi; mov [rdx], edi
                test rcx, rcx; trap: je extend";
    assert_eq!(free(text), Freeblock(Rdx));
    // The pool too: then the store itself is the last place.
    let text = text.replace("test rcx", "xor edx, edx; test rcx");
    let snippet = Snippet::of(&format!("{text}{ENDS}"));
    let fast = snippet.fast();
    let place = fast.frees.iter().map(|site| (site.ip, site.block, site.emulated)).collect::<Vec<_>>();
    assert_eq!(place, [(snippet.label("store"), In(Rdi), false)]);
}

#[test]
fn what_only_looks_alike() {
    let good = format!(
        "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; store: mov [rdx+8], rsi; test rsi, rsi; trap: je extend",
        lookup("rdi", "rdx")
    );
    assert_eq!(alloc(&good), (In(Rcx), Size::Asked(Rdi)));
    for (from, to) in [
        // Other places in the header.
        ("mov [rdx+8], rsi", "mov [rdx+16], rsi"),
        ("mov rcx, [rdx+8]", "mov rcx, [rdx+16]"),
        ("inc dword ptr [rdx]", "inc dword ptr [rdx+4]"),
        ("mov rsi, [rcx]", "mov rsi, [rcx+8]"),
        // Other widths.
        ("mov [rdx+8], rsi", "mov [rdx+8], esi"),
        ("mov rsi, [rcx]", "mov esi, [rcx]"),
        ("mov rcx, [rdx+8]", "mov ecx, [rdx+8]"),
        ("inc dword ptr [rdx]", "inc qword ptr [rdx]"),
        ("inc dword ptr [rdx]", "inc word ptr [rdx]"),
        // Not counted, or not by one, or down, or something else's.
        ("inc dword ptr [rdx]", "nop"),
        ("inc dword ptr [rdx]", "add dword ptr [rdx], 2"),
        ("inc dword ptr [rdx]", "dec dword ptr [rdx]"),
        ("inc dword ptr [rdx]", "inc dword ptr [rbx]"),
        ("inc dword ptr [rdx]", "mov r8d, [rbx]; inc r8d; mov [rdx], r8d"),
        ("inc dword ptr [rdx]", "inc dword ptr fs:[rdx]"),
        // The next block of something else; a value that is no longer the one that was read.
        ("mov rsi, [rcx]", "mov rsi, [rbx]"),
        ("mov rsi, [rcx]", "mov rsi, [rcx]; add rsi, 8"),
        ("mov rsi, [rcx]", "add rcx, 16; mov rsi, [rcx]"),
        ("mov rsi, [rcx]", "mov rsi, [rcx+rax]"),
        ("mov rsi, [rcx]", "mov rsi, fs:[rcx]"),
        // Another pool than the one that the block is from.
        ("mov rcx, [rdx+8]", "mov rcx, [rdx+8]; mov rdx, rbx"),
        ("mov [rdx+8], rsi", "mov [rdx+rax+8], rsi"),
        ("mov [rdx+8], rsi", "mov fs:[rdx+8], rsi"),
        // A call in between.
        ("mov rsi, [rcx]", "call extend; mov rsi, [rcx]"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        nothing(&text);
    }
    let free =
        "mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; dec dword ptr [rdx]; trap: je extend";
    for (from, to) in [
        ("dec dword ptr", "inc dword ptr"),
        ("mov [rdi], rcx", "mov [rdi+8], rcx"),
        ("mov [rdi], rcx", "mov [rdi], ecx"),
        ("mov [rdi], rcx", "mov [rdx], rcx"),
        ("mov [rdi], rcx", "mov [rsi], rcx"),
        ("mov [rdi], rcx", "mov [rdi], rax"),
        ("mov [rdx+8], rdi", "mov [rdx+8], rdx"),
        ("mov rcx, [rdx+8]", "mov rcx, [rdx]"),
        ("dec dword ptr [rdx]", "dec dword ptr [rdi]"),
    ] {
        let text = free.replace(from, to);
        assert_ne!(text, free, "{from}");
        nothing(&text);
    }
}
