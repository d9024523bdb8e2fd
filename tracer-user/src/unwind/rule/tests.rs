//! Each kind of rule from a description that the assembler has made.

use tracer_common::unwind::{Cfa, Rbp, Rule};

use super::*;
use crate::target::elf::Elf;
use crate::target::fixture::Made;
use crate::target::frame_table::FrameTable;
use crate::target::modules::CodeFile;
use crate::unwind::rows::FileRows;

/// Opcodes of `.cfi_escape`: `DW_CFA_def_cfa_expression`, and `DW_CFA_expression` (DWARF 5, 7.24).
const CFA_IS: &str = ".cfi_escape 0x0f,";
const SAVED_AT: &str = ".cfi_escape 0x10,";

/// A function for each of these descriptions, `f0` and so on, with bytes between them that nothing describes.
fn assembled(descriptions: &[String], flags: &[&str]) -> (Made, Elf) {
    let functions = descriptions.iter().enumerate().map(|(number, description)| {
        format!(
            ".globl f{number}, g{number}\nf{number}:\n.cfi_startproc\nnop\n{description}\ng{number}: ret\n.cfi_endproc\n.skip 16, 0xcc\n"
        )
    });
    let source: String = functions.collect();
    let all = [&["-x", "assembler", "-shared", "-nostdlib"], flags].concat();
    let made = Made::by("gcc", &all, &source).unwrap_or_else(|said| panic!("{source}\n{said}"));
    let elf = Elf::open(&made.path).unwrap();
    (made, elf)
}

/// The rules of descriptions, and what they lack.
fn rules_of(descriptions: &[String], flags: &[&str]) -> Vec<(Rule, Option<Lack>)> {
    descriptions
        .iter()
        .map(|description| {
            let (made, elf) = assembled(std::slice::from_ref(description), flags);
            let rows = FileRows::of(&CodeFile::of_file(&made.path).unwrap()).unwrap();
            let lacks: Vec<Lack> = rows.lacks().keys().copied().collect();
            assert!(lacks.len() < 2, "{lacks:?}");
            (rows.rule_at(elf.symbol("g0").unwrap().address), lacks.first().copied())
        })
        .collect()
}

fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[test]
fn what_compilers_write_has_a_kind() {
    let cases = [
        (String::new(), Rule::new(Cfa::Rsp, 1, Rbp::Same, 0)),
        (".cfi_def_cfa_offset 16; .cfi_offset rbp, -16".into(), Rule::new(Cfa::Rsp, 2, Rbp::AtCfa, -2)),
        (".cfi_def_cfa rbp, 16; .cfi_offset rbp, -16".into(), Rule::new(Cfa::Rbp, 2, Rbp::AtCfa, -2)),
        (".cfi_def_cfa_offset 262136".into(), Rule::new(Cfa::Rsp, i16::MAX, Rbp::Same, 0)),
        (".cfi_same_value rbp".into(), Rule::new(Cfa::Rsp, 1, Rbp::Same, 0)),
        (".cfi_undefined rbp".into(), Rule::new(Cfa::Rsp, 1, Rbp::Unknown, 0)),
        // GCC's functions that align their stack: breg6 -8, deref; rbp at breg6 0.
        (
            format!("{CFA_IS} 3, 0x76, 0x78, 0x06; {SAVED_AT} 6, 2, 0x76, 0"),
            Rule::new(Cfa::AtRbp, -1, Rbp::AtRbp, 0),
        ),
        (format!("{CFA_IS} 3, 0x77, 0x10, 0x06"), Rule::new(Cfa::AtRsp, 2, Rbp::Same, 0)),
        (".cfi_undefined rip".into(), Rule::new(Cfa::Outermost, 0, Rbp::Unknown, 0)),
        // glibc's `__restore_rt` (sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c).
        (
            format!(
                ".cfi_signal_frame; {CFA_IS} 4, 0x77, 0xa0, 1, 0x06; {SAVED_AT} 6, 3, 0x77, 0xf8, 0; {SAVED_AT} 16, 3, 0x77, 0xa8, 1"
            ),
            Rule::new(Cfa::Signal, 0, Rbp::Same, 0),
        ),
    ];
    let (texts, expected): (Vec<String>, Vec<Rule>) = cases.into_iter().unzip();
    let found = rules_of(&texts, &[]);
    for ((text, expected), found) in texts.iter().zip(expected).zip(found) {
        assert_eq!(found, (expected, None), "{text}");
    }
}

#[test]
fn what_has_no_kind_says_why() {
    let cases = [
        (".cfi_def_cfa r10, 0".into(), Lack::CfaRegister(10)),
        (".cfi_def_cfa_offset 12".into(), Lack::CfaOffset),
        (".cfi_def_cfa_offset 262144".into(), Lack::CfaOffset),
        // OpenSSL's assembly: breg7 8, deref, plus_uconst 8.
        (format!("{CFA_IS} 5, 0x77, 0x08, 0x06, 0x23, 8"), Lack::CfaExpression),
        // breg3 8, deref.
        (format!("{CFA_IS} 3, 0x73, 0x08, 0x06"), Lack::CfaExpression),
        // A word of four bytes: breg7 8, deref_size 4.
        (format!("{CFA_IS} 4, 0x77, 0x08, 0x94, 4"), Lack::CfaExpression),
        (".cfi_offset rip, -16".into(), Lack::ReturnAddress),
        (".cfi_register rip, rdi".into(), Lack::ReturnAddress),
        (".cfi_restore rip; .cfi_same_value rip".into(), Lack::ReturnAddress),
        // An instruction that DWARF does not have.
        (".cfi_escape 0x3f".into(), Lack::Unreadable),
    ];
    let (texts, expected): (Vec<String>, Vec<Lack>) = cases.into_iter().unzip();
    let found = rules_of(&texts, &[]);
    for ((text, expected), found) in texts.iter().zip(expected).zip(found) {
        assert_eq!(found, (UNSUPPORTED, Some(expected)), "{text}");
    }
}

#[test]
fn a_lost_rbp_leaves_the_rest() {
    let texts = [
        ".cfi_register rbp, rax",
        ".cfi_val_offset rbp, -16",
        // rbp at breg7 8: true while rsp stays, but no kind.
        ".cfi_escape 0x10, 6, 2, 0x77, 8",
    ];
    for found in rules_of(&owned(texts), &[]) {
        assert_eq!(found, (Rule::new(Cfa::Rsp, 1, Rbp::Unknown, 0), Some(Lack::Rbp)));
    }
}

#[test]
fn between_functions_nothing_is_known() {
    let (made, elf) = assembled(&owned(["", ".cfi_def_cfa_offset 24", ""]), &[]);
    let rows = FileRows::of(&CodeFile::of_file(&made.path).unwrap()).unwrap();
    let at = |name: &str| elf.symbol(name).unwrap().address;
    let plain = Rule::new(Cfa::Rsp, 1, Rbp::Same, 0);
    assert_eq!(rows.rule_at(at("f0") - 1), Rule::NONE);
    assert_eq!([rows.rule_at(at("f0")), rows.rule_at(at("g0")), rows.rule_at(at("f1"))], [plain; 3]);
    assert_eq!([rows.rule_at(at("g0") + 1), rows.rule_at(at("f1") - 1)], [Rule::NONE; 2]);
    assert_eq!(rows.rule_at(at("g1")), Rule::new(Cfa::Rsp, 3, Rbp::Same, 0));
    assert_eq!([rows.rule_at(at("g2") + 1), rows.rule_at(0), rows.rule_at(u64::MAX)], [Rule::NONE; 3]);
}

/// The linker describes its stubs itself: before the second of their instructions nothing is pushed, at the last there is.
#[test]
fn the_linkers_stubs_have_a_kind() {
    for (flags, place) in [(["-Wl,-z,lazy", "-Wl,-z,noibtplt"], 11), (["-Wl,-z,lazy", "-Wl,-z,ibtplt"], 9)] {
        let (made, elf) = assembled(&owned(["call elsewhere@PLT"]), &flags);
        let file = CodeFile::of_file(&made.path).unwrap();
        let rows = FileRows::of(&file).unwrap();
        let plt = Rule::new(Cfa::Plt, place, Rbp::Same, 0);
        let found: Vec<_> = rows.stretches().filter(|(_, rule)| rule.cfa() == Cfa::Plt as u8).collect();
        let [(stubs, rule)] = found.as_slice() else { panic!("{flags:?}: {found:x?}") };
        assert_eq!(*rule, plt, "{flags:?}");
        assert!(stubs.start % 16 == 0 && elf.is_code(stubs.start) && rows.lacks().is_empty());
    }
}

#[test]
fn descriptions_for_debuggers_will_do() {
    let expected = (Rule::new(Cfa::Rsp, 3, Rbp::Same, 0), None);
    // Many functions: linkers pack only what becomes smaller.
    let source = ".cfi_sections .debug_frame\n.rept 50\n.cfi_startproc\nnop\n.cfi_endproc\n.endr\n\
        .globl f\n.cfi_startproc\nnop\n.cfi_def_cfa_offset 24\nf: ret\n.cfi_endproc\n";
    for packed in ["none", "zlib"] {
        let flag = format!("-Wl,--compress-debug-sections={packed}");
        let made = Made::by("gcc", &["-x", "assembler", "-shared", "-nostdlib", &flag], source).unwrap();
        let file = CodeFile::of_file(&made.path).unwrap();
        assert!(file.frames().is_none_or(|bytes| FrameTable::of(&bytes).functions().len() == 0));
        let rows = FileRows::of(&file).unwrap();
        let vaddr = Elf::open(&made.path).unwrap().symbol("f").unwrap().address;
        assert_eq!((rows.rule_at(vaddr), rows.lacks().keys().next().copied()), expected, "{packed}");
    }
}

#[test]
fn a_file_without_descriptions_says_so() {
    let made = Made::by("gcc", &["-x", "assembler", "-shared", "-nostdlib"], "nop\n").unwrap();
    let error = FileRows::of(&CodeFile::of_file(&made.path).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "it has no frame descriptions (.eh_frame, .debug_frame)");
}
