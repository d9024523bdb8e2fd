//! Fast paths that jumps lead into, out of, and through; and the calls of the slow path.

use super::*;

const TAIL: &str = "mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; store: mov [rdx+8], rsi; test rsi, rsi; trap: je extend";

#[test]
fn a_fast_path_behind_a_jump_and_one_that_falls_through() {
    let expected = (In(Rcx), Size::Asked(Rdi));
    let to = |jump: &str| lookup("rdi", "rdx").replace("je slow", jump);
    assert_eq!(alloc(&format!("{}; {TAIL}", to("je slow"))), expected);
    // Moved away, also behind padding: the one jump to it brings everything along.
    for padding in ["", ".balign 32; nop; "] {
        assert_eq!(alloc(&format!("{}; ret; {padding} cold: {TAIL}", to("jne cold"))), expected);
        assert_eq!(alloc(&format!("jmp begin; cold: {TAIL}; begin: {}; ud2", to("jne cold"))), expected);
    }
    // In three pieces, two of them moved away.
    let (first, second) = TAIL.split_once("mov rsi").unwrap();
    let text = format!("{}; {first} jmp there; ud2; there: mov rsi{second}", to("je slow"));
    assert_eq!(alloc(&text), expected);
    let (first, second) = TAIL.split_once("inc").unwrap();
    let text = format!("there: inc {second}; begin: {}; {first} test r8, r8; jne there; ret", to("je slow"));
    assert_eq!(alloc(&format!("jmp begin; {text}")), expected);
}

#[test]
fn the_pool_may_be_counted_behind_a_jump() {
    let text = "mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; jmp there; ud2
                there: dec dword ptr [rdx]; test rcx, rcx; trap: je extend; ret";
    assert_eq!(free(&format!("{text}; ud2")), In(Rdi));
}

/// Two frees whose ends are one: `common` is jumped to at the end of the second.
fn two_frees(second: &str, common: &str) -> (Snippet, FastPaths) {
    let text = format!(
        "mov rcx, [rdx+8]; mov [rdi], rcx; store: mov [rdx+8], rdi; common: {common}; trap: je extend; ret
         ud2; {second}; also: jmp common; {ENDS}"
    );
    let snippet = Snippet::of(&text);
    let fast = snippet.fast();
    (snippet, fast)
}

fn places(sites: &[Site]) -> Vec<(u64, Block, bool)> {
    sites.iter().map(|site| (site.ip, site.block, site.emulated)).collect()
}

#[test]
fn merged_ends_share_a_trap() {
    let common = "dec dword ptr [rdx]; test rcx, rcx";
    let second = |block: &str, pool: &str| {
        format!("mov rcx, [{pool}+8]; mov [{block}], rcx; other: mov [{pool}+8], {block}")
    };
    let (snippet, fast) = two_frees(&second("rdi", "rdx"), common);
    assert_eq!(places(&fast.frees), [(snippet.label("trap"), In(Rdi), true)]);
    assert!(fast.lost.is_empty());
    // The blocks are in different registers: only the pool, in the same, tells.
    let (snippet, fast) = two_frees(&second("rbx", "rdx"), common);
    assert_eq!(places(&fast.frees), [(snippet.label("trap"), Freeblock(Rdx), true)]);
    // Neither are the pools: each needs its own trap, before they meet.
    let second = format!("{}; dec dword ptr [rbp]", second("rbx", "rbp"));
    let (snippet, fast) = two_frees(&second, "dec dword ptr [rdx]; test rcx, rcx");
    let apart = [(snippet.label("store"), In(Rdi), false), (snippet.label("also"), In(Rbx), true)];
    assert_eq!((places(&fast.frees), fast.lost), (apart.to_vec(), Vec::new()));
}

#[test]
fn nobody_else_may_come_by_a_trap() {
    // Somebody jumps behind the store with nothing freed: no cheap instruction is only the free's.
    let (snippet, fast) = two_frees("mov rcx, [rsi]", "dec dword ptr [rdx]; test rcx, rcx");
    assert_eq!(places(&fast.frees), [(snippet.label("store"), In(Rdi), false)]);
    // The way there is a jump of the free's own: that one is cheap.
    let text =
        "mov rcx, [rdx+8]; mov [rdi], rcx; dec dword ptr [rdx]; store: mov [rdx+8], rdi; trap: jmp common
                ud2; mov rcx, [rsi]; common: test rcx, rcx; je extend; ret";
    assert_eq!(free(text), In(Rdi));
    // A function that was called comes back behind the store.
    let text = "jmp store; call slow; store: mov [rdx+8], rdi; dec dword ptr [rdx]; je extend; ret";
    nothing(text);
}

#[test]
fn a_store_that_is_an_allocation_on_one_way_only_is_lost() {
    let text = format!(
        "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; store: mov [rdx+8], rsi; test rsi, rsi
         je extend; ret; other: mov rsi, 1; jmp store; {ENDS}",
        lookup("rdi", "rdx")
    );
    let snippet = Snippet::of(&text);
    let fast = snippet.fast();
    assert_eq!((fast.allocs.len(), &*fast.lost), (0, &[snippet.label("store")][..]));
}

#[test]
fn who_jumps_into_the_middle_brings_another_size_and_another_block() {
    let join = |there: &str, other: &str| {
        let text = format!(
            "jmp begin; {other}; jmp there; begin: {}; {}",
            lookup("rdi", "rdx"),
            TAIL.replace(there, &format!("there: {there}"))
        );
        alloc(&text)
    };
    let pool = "mov rdx, usedpools[rip+0x70]";
    // To the load of the block: the pool's class alone is known.
    assert_eq!(join("mov rcx, [rdx+8]", pool), (In(Rcx), Size::Pool));
    // To the load of the next one, with the block in the same register.
    let other = |block: &str| {
        format!("{pool}; mov {block}, [rdx+8]; inc dword ptr [rdx]; mov rsi, [{block}]; mov rcx, {block}")
    };
    assert_eq!(join("mov rsi, [rcx]", &other("rbx")), (In(Rcx), Size::Pool));
    assert_eq!(join("store:", &other("rbx")), (In(Rcx), Size::Pool));
    // Before the size was looked at: nothing is lost.
    let text = format!("jmp begin; mov rdi, 48; begin: {}; {TAIL}", lookup("rdi", "rdx"));
    assert_eq!(alloc(&text), (In(Rcx), Size::Asked(Rdi)));
    // A copy from before somebody jumps in is none of his.
    let text =
        format!("jmp begin; begin: mov rbx, rdi; there: {}; {TAIL}; ret; jmp there", lookup("rdi", "rdx"));
    assert_eq!(alloc(&text), (In(Rcx), Size::Asked(Rdi)));
}

#[test]
fn who_jumps_to_the_store_with_another_register_hides_the_block() {
    let text = format!(
        "jmp begin; other: mov rdx, usedpools[rip]; mov rbx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rbx]; jmp store
         begin: {}; {TAIL}{ENDS}",
        lookup("rdi", "rdx")
    );
    let snippet = Snippet::of(&text);
    let fast = snippet.fast();
    assert_eq!((fast.allocs.len(), &*fast.lost), (0, &[snippet.label("store")][..]));
}

#[test]
fn a_class_is_not_the_class_of_whoever_jumps_in() {
    // As in Debian's `PyUnicode_New`, where two sizes share the rest of the fast path.
    let entry =
        |inside: u32| format!("mov rax, usedpools[rip+{inside}]; mov r9, [rax+16]; cmp r9, rax; je slow");
    let shared = "there: mov rbx, [rax+8]; inc dword ptr [rax]; mov rcx, [rbx]; store: mov [rax+8], rcx
                  test rcx, rcx; trap: je extend; ret";
    let text = format!(
        "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; mov [rdx+8], rsi; test rsi, rsi; je extend; ret
         one: {}; {shared} ud2; {}; jmp there; {ENDS}",
        lookup("rdi", "rdx"),
        entry(0x70),
        entry(0x90).replace("mov rax", "ud2; two: mov rax"),
    );
    let snippet = Snippet::of(&text.replace("trap: je extend; ret ud2", "trap: je extend; ret; ud2"));
    let fast = snippet.fast();
    let at = |alloc: &&Alloc| alloc.site.ip == snippet.label("trap");
    assert_eq!(fast.allocs.iter().find(at).map(|alloc| alloc.size), Some(Size::Pool));
}

#[test]
fn allocations_of_two_classes_may_share_a_trap() {
    let path = |inside: u32| {
        format!(
            "mov rax, usedpools[rip+{inside}]; mov rbx, [rax+8]; inc dword ptr [rax]; mov rcx, [rbx]; mov [rax+8], rcx"
        )
    };
    for (second, expected) in [(0x90, Size::Pool), (0x70, Size::Class(128))] {
        let text = format!(
            "{}; mov rcx, [rdx+8]; inc dword ptr [rdx]; mov rsi, [rcx]; mov [rdx+8], rsi; test rsi, rsi; je extend
             ret; ud2; {}; common: test rcx, rcx; trap: je extend; ret; ud2; {}; jmp common; {ENDS}",
            lookup("rdi", "rdx"),
            path(0x70),
            path(second)
        );
        let snippet = Snippet::of(&text);
        let fast = snippet.fast();
        let shared = fast.allocs.iter().filter(|alloc| alloc.site.ip == snippet.label("trap"));
        let shared: Vec<(Block, Size)> = shared.map(|alloc| (alloc.site.block, alloc.size)).collect();
        assert_eq!(shared, [(In(Rbx), expected); 2], "{fast:#x?}");
    }
}

/// A whole allocation: `{n}` makes its labels its own.
fn whole(number: u32, far: bool) -> String {
    let jump = if far {
        "jne fast{n}; slow{n}: mov edi, r11d; call new; jmp out{n}; fast{n}:"
    } else {
        "je slow{n};"
    };
    let text = format!(
        "first{{n}}: lea eax, [rdi-1]; cmp rax, 511; ja out{{n}}; {}; mov rcx, [rdx+8]; inc dword ptr [rdx]
         mov rsi, [rcx]; store{{n}}: mov [rdx+8], rsi; test rsi, rsi; je out{{n}}; out{{n}}: ret; ud2;",
        lookup("rdi", "rdx").replace("je slow", jump)
    );
    let cold = "slow{n}: mov rbx, rdi; mov edi, r11d; call{n}: call new; test rax, rax; jne out{n}; ret;";
    let text = if far { text } else { format!("{text} {cold}") };
    text.replace("{n}", &number.to_string())
}

#[test]
fn each_slow_call_stands_in_for_a_fast_path() {
    let text =
        format!("{} {} {} ud2; new: xor eax, eax; ret", whole(1, false), whole(2, true), whole(3, false));
    let snippet = Snippet::of(&text);
    let (fast, slow) = snippet.paths();
    assert_eq!(slow.function, snippet.label("new"));
    assert_eq!((fast.allocs.len(), slow.calls.len()), (3, 3));
    assert!(slow.matches(&fast.allocs), "{slow:#x?} {fast:#x?}");
    for (call, number) in slow.calls.iter().zip(1..) {
        let owner = call.owner.and_then(|owner| fast.allocs.get(owner)).map(|alloc| alloc.site.store);
        assert_eq!(owner, Some(snippet.label(&format!("store{number}"))));
        // The first and third keep it in another register; the second has overwritten it.
        assert_eq!(call.size, (number != 2).then_some(Rbx), "{number}");
    }
    assert_eq!(slow.calls.first().map(|call| call.ip), Some(snippet.label("call1")));
}

#[test]
fn a_slow_call_may_be_a_jump() {
    // The end of a function of its own, as in Debian's 3.14; or the very jump that decides.
    let end = whole(1, false).replace("call1: call new; test rax, rax; jne out1; ret", "call1: jmp new");
    let decides = whole(1, false).replace("je slow1", "call1: je new");
    let decides = decides.split(" slow1:").next().unwrap_or_default();
    for text in [&*end, decides] {
        let snippet = Snippet::of(&format!("{text} {} ud2; new: xor eax, eax; ret", whole(2, false)));
        let (fast, slow) = snippet.paths();
        assert_eq!((slow.function, fast.allocs.len()), (snippet.label("new"), 2), "{text}");
        assert!(slow.matches(&fast.allocs), "{slow:#x?} in {text}");
        let jumps = slow.calls.iter().filter(|call| call.next_ip.is_none()).map(|call| call.ip);
        assert_eq!(jumps.collect::<Vec<_>>(), [snippet.label("call1")], "{text}");
    }
}

#[test]
fn a_fast_path_or_a_slow_call_too_many_is_no_match() {
    let two = format!("{} {}", whole(1, false), whole(2, false));
    let text = format!("{two} call new; ret; new: ret");
    let (fast, slow) = Snippet::of(&text).paths();
    assert!(
        !slow.matches(&fast.allocs) && slow.calls.iter().filter(|call| call.owner.is_none()).count() == 1
    );
    // One of the fast paths does something that is not understood: its slow call must not count for its neighbour.
    let hidden = two.replace("store2: mov [rdx+8], rsi", "store2: lea r8, [rdx+8]; mov [r8], rsi");
    let (fast, slow) = Snippet::of(&format!("{hidden} new: ret")).paths();
    assert_eq!((fast.allocs.len(), slow.calls.len()), (1, 2));
    assert!(!slow.matches(&fast.allocs));
    // A fast path whose slow call goes elsewhere.
    let astray = two.replace("call2: call new", "call2: call first1");
    let (fast, slow) = Snippet::of(&format!("{astray} new: ret")).paths();
    assert_eq!((fast.allocs.len(), slow.matches(&fast.allocs)), (2, false));
}
