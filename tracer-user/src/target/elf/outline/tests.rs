//! Headers alone, against the whole file; and damaged ones.

use std::io::{Seek, Write};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::target::elf::Elf;
use crate::target::fixture::{self, Made};

fn outline(path: &std::path::Path) -> Outline {
    Outline::read(&File::open(path).unwrap()).unwrap()
}

#[test]
fn the_headers_say_what_the_whole_file_says() {
    let mut files: Vec<PathBuf> = fixture::libraries();
    files.extend(fixture::debian());
    files.extend(["/bin/true", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from));
    for path in files {
        let (elf, outline) = (Elf::open(&path).unwrap(), outline(&path));
        assert_eq!(outline.segments, elf.segments());
        assert_eq!(outline.build_id.as_deref(), elf.build_id());
        assert_eq!((outline.frame_index, outline.frames), (elf.frame_index(), elf.frames()));
    }
}

#[test]
fn descriptions_for_debuggers_are_found_packed_or_not() {
    // Linkers pack only what becomes smaller.
    let source = ".cfi_sections .debug_frame\n.rept 50\n.cfi_startproc\nnop\n.cfi_endproc\n.endr\n";
    let stored = |packed: &str| {
        let flag = format!("-Wl,--compress-debug-sections={packed}");
        let made = Made::by("gcc", &["-x", "assembler", "-shared", "-nostdlib", &flag], source).unwrap();
        outline(&made.path).debug_frames.unwrap()
    };
    let plain = stored("none");
    assert_eq!((plain.packed, plain.size > 40), (None, true));
    assert_eq!(stored("zlib").packed, Some((elf::ELFCOMPRESS_ZLIB, plain.size)));
}

#[test]
fn what_is_no_x86_64_file_is_refused() {
    let mut file = tempfile();
    assert!(Outline::read(&file).is_err());
    let mut bytes = std::fs::read("/bin/true").unwrap();
    bytes[0x12] = 183; // e_machine: aarch64.
    file.write_all(&bytes).unwrap();
    assert!(Outline::read(&file).is_err());
}

/// Section headers that say there are 2^32 of them, in a file that claims to be as long.
#[test]
fn headers_without_end_are_not_read() {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    let whole = Outline { frames: None, debug_frames: None, ..outline("/bin/true".as_ref()) };
    bytes[0x28..0x30].copy_from_slice(&(1u64 << 20).to_le_bytes());
    bytes[0x3c..0x3e].fill(0);
    let mut file = tempfile();
    file.write_all(&bytes).unwrap();
    file.set_len(1 << 40).unwrap();
    // The number of sections is the size of the first, where the header has none.
    file.seek(std::io::SeekFrom::Start((1 << 20) + 0x20)).unwrap();
    file.write_all(&(1u64 << 32).to_le_bytes()).unwrap();
    assert_eq!(Outline::read(&file).unwrap(), whole);
}

/// A file without a name.
fn tempfile() -> File {
    // Test runners make a process for each test, or a thread.
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(format!("unshed-outline-{process}-{thread:?}"));
    let options = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    std::fs::remove_file(path).unwrap();
    options.unwrap()
}

proptest! {
    #[test]
    fn broken_headers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..32),
    ) {
        let mut bytes = std::fs::read("/bin/true").unwrap();
        let sections = usize::try_from(u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap())).unwrap();
        // The file's header and the program headers, or the section headers.
        for (at, value) in changes {
            let headers = 0x40 + 13 * 56;
            let place = at.index(headers + bytes.len() - sections);
            bytes[if place < headers { place } else { sections + place - headers }] = value;
        }
        let mut file = tempfile();
        file.write_all(&bytes).unwrap();
        if let Ok(outline) = Outline::read(&file) {
            prop_assert!(outline.segments.len() <= SEGMENTS);
            let _ = crate::target::frame_table::bytes::FrameBytes::read(&file, &outline);
            let _ = crate::target::frame_table::bytes::FrameBytes::read_debug(&file, &outline);
        }
    }
}
