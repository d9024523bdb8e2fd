//! ELF files: they belong to the target. The first eight bytes are an address that is asked for, the rest is the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::target::elf::{Elf, Symbol};
use tracer_user::target::frame_table::FrameTable;
use tracer_user::unwind::evaluator;
use tracer_user::unwind::rows::FileRows;

/// The most that is asked for at once.
const LIMIT: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((address, file)) = data.split_first_chunk() else { return };
    let address = u64::from_le_bytes(*address);
    let Ok(elf) = Elf::parse(file.to_vec()) else { return };
    let begins = elf.segments().iter().map(|segment| segment.vaddr);
    for vaddr in begins.chain([address, address & 0xffff]).collect::<Vec<_>>() {
        ask(&elf, vaddr, file);
    }
    let _ = (elf.build_id(), elf.needed(), elf.soname(), elf.interpreter());
    for (vaddr, name) in elf.imports() {
        assert!(!name.is_empty() && elf.import_at(vaddr).is_some());
    }
    let frames = FrameTable::new(&elf);
    for range in frames.functions().take(LIMIT as usize) {
        assert!(elf.is_code(range.start) && elf.is_code(range.end - 1));
        assert_eq!(frames.function_at(range.end - 1), Some(range.clone()));
        let _ = (frames.cfa_words(range.start), frames.cfa_words(range.end - 1));
    }
    if let Ok(rows) = FileRows::of_table(&frames) {
        for (stretch, rule) in rows.stretches() {
            assert_eq!((rows.rule_at(stretch.start), rows.rule_at(stretch.end - 1)), (rule, rule));
        }
        let parts = evaluator::parts(&elf);
        assert!(parts.iter().all(|part| frames.function_at(part.start).as_ref() == Some(part)));
        let _ = rows.with_evaluator(&parts);
    }
    for name in ["_PyRuntime", "Py_Version", "PyObject_Malloc", "main", ""] {
        let Some(symbol) = elf.symbol(name) else { continue };
        assert!(elf.code(symbol, LIMIT).is_none_or(|code| code.len() as u64 <= LIMIT));
        assert!(elf.name_at(symbol.address).is_some(), "{name} has an address, and the address no name");
    }
});

/// Asks everything that can be asked about an address.
fn ask(elf: &Elf, vaddr: u64, file: &[u8]) {
    if elf.is_code(vaddr) {
        assert!(elf.segments().iter().any(|segment| segment.executable));
    }
    assert!(elf.at(vaddr, 16).is_none_or(|bytes| bytes.len() == 16));
    if let Some(begin) = elf.at(vaddr, 1) {
        // Of several segments with this address, it is the first in both.
        let offset = elf.file_offset(vaddr).expect("a byte that can be read is somewhere");
        assert_eq!(begin.first(), file.get(offset as usize));
    }
    let _ = (elf.file_offset(vaddr), elf.executable_vaddr(vaddr), elf.pointer_at(vaddr), elf.name_at(vaddr));
    let _ = (elf.import_at(vaddr), elf.plt_target(vaddr), elf.tail(vaddr));
    let _ = (elf.at(vaddr, vaddr), elf.code(Symbol { address: vaddr, size: vaddr }, LIMIT));
}
