//! Code for the tests: assembled and compiled here, or found on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::probe::code::Code;
use crate::probe::code::pymalloc::{FastPaths, SlowPath};
use crate::target::elf::Elf;
use crate::target::fixture::Made;
pub(in crate::probe::code) use crate::target::fixture::libraries;

/// A linked piece of assembly, with its labels.
pub(in crate::probe::code) struct Snippet {
    elf: Elf,
}

impl Snippet {
    /// Assembles a text in Intel's syntax. `usedpools` is a table of words, `counter` and `slot` are words.
    pub(in crate::probe::code) fn of(text: &str) -> Self {
        let source = format!(
            ".intel_syntax noprefix\n.bss\nusedpools: .skip 512\ncounter: .skip 8\nslot: .skip 8\n.text\n{text}\n"
        );
        let flags = ["-x", "assembler", "-nostdlib", "-static", "-no-pie", "-Wl,--entry=0"];
        Self { elf: built("gcc", &flags, &source).unwrap_or_else(|said| panic!("{source}\n{said}")) }
    }

    /// The address of a label.
    pub(in crate::probe::code) fn label(&self, name: &str) -> u64 {
        self.elf.symbol(name).unwrap_or_else(|| panic!("no label {name}")).address
    }

    pub(in crate::probe::code) fn code(&self) -> Code<'_> {
        Code::of(&self.elf)
    }

    pub(in crate::probe::code) fn fast(&self) -> FastPaths {
        FastPaths::of(&self.code())
    }

    /// The fast paths, and the slow path behind them.
    pub(in crate::probe::code) fn paths(&self) -> (FastPaths, SlowPath) {
        let (code, fast) = (self.code(), self.fast());
        let slow = SlowPath::of(&code, &fast.allocs).unwrap();
        (fast, slow)
    }
}

/// Debian's own interpreters of later versions, where `cargo xtask pythons` has unpacked them: each in a folder that one can chroot into.
pub(in crate::probe) fn unpacked() -> Vec<PathBuf> {
    let told = std::env::var_os("UNSHED_PYTHONS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/unshed/pythons"));
    let folder = told.or_else(home).unwrap_or_default();
    let path = |version: &str| folder.join(version).join(format!("usr/bin/python{version}"));
    let found: Vec<PathBuf> = ["3.13", "3.14", "3.15"].map(path).to_vec();
    let missing = found.iter().find(|path| !path.is_file());
    assert_eq!(missing, None, "these tests need it: cargo xtask pythons");
    found
}

/// Runs a compiler over a text, and reads what it has made.
pub(in crate::probe::code) fn built(compiler: &str, flags: &[&str], source: &str) -> Result<Elf, String> {
    let made = Made::by(compiler, flags, source)?;
    Elf::open(&made.path).map_err(|error| error.to_string())
}

/// Whether a program answers.
pub(in crate::probe::code) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success())
}

/// How often objdump finds a call of, or a jump to, the linker's stub of each of these functions.
pub(in crate::probe::code) fn stubs_called<const N: usize>(path: &Path, functions: [&str; N]) -> [usize; N] {
    let ran = Command::new("objdump").args(["-d", "--no-show-raw-insn", "-j", ".text"]).arg(path).output();
    let text = String::from_utf8(ran.unwrap().stdout).unwrap();
    let targets: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('\t').nth(1))
        .filter(|instruction| instruction.starts_with("call") || instruction.starts_with("jmp"))
        .filter_map(|instruction| instruction.trim_end().rsplit_once(' '))
        .map(|(_, target)| target)
        .collect();
    functions.map(|function| {
        let stub = format!("<{function}@plt>");
        targets.iter().filter(|target| **target == stub).count()
    })
}
