//! ELF files: they belong to the target. The first eight bytes are an address that is asked for, the rest is the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::target::elf::{Elf, Symbol};

/// The most that is asked for at once.
const LIMIT: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((address, file)) = data.split_first_chunk() else { return };
    let address = u64::from_le_bytes(*address);
    let Ok(elf) = Elf::parse(file.to_vec()) else { return };
    let begins = elf.segments().iter().map(|segment| segment.vaddr);
    for vaddr in begins.chain([address, address & 0xffff]).collect::<Vec<_>>() {
        ask(&elf, vaddr, file.len());
    }
    let _ = (elf.build_id(), elf.needed(), elf.soname(), elf.interpreter());
    for name in ["_PyRuntime", "Py_Version", "PyObject_Malloc", "main", ""] {
        let Some(symbol) = elf.symbol(name) else { continue };
        assert!(elf.code(symbol, LIMIT).is_none_or(|code| code.len() as u64 <= LIMIT));
        assert!(elf.name_at(symbol.address).is_some(), "{name} has an address, and the address no name");
    }
});

/// Asks everything that can be asked about an address.
fn ask(elf: &Elf, vaddr: u64, file_len: usize) {
    let offset = elf.file_offset(vaddr);
    if elf.is_code(vaddr) {
        assert!(elf.segments().iter().any(|segment| segment.executable));
    }
    if let Some(bytes) = elf.at(vaddr, 16) {
        assert_eq!(bytes.len(), 16);
        assert!(offset.is_some_and(|offset| offset < file_len as u64));
    }
    let _ = (elf.executable_vaddr(vaddr), elf.pointer_at(vaddr), elf.name_at(vaddr));
    let _ = (elf.at(vaddr, vaddr), elf.code(Symbol { address: vaddr, size: vaddr }, LIMIT));
}
