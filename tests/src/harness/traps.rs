//! Whether a process's code is what its files say: the only proof that no trap was left behind is to read the probed bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use object::{Object, ObjectSegment, ObjectSymbol};

use super::wait::{SHORT, wait_until};

/// A byte of a process's code that is not the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The mapped file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What stands there in memory; a trap is 0xcc.
    pub byte: u8,
}

/// A mapping of a file that can be executed.
struct Code {
    start: u64,
    len: usize,
    offset: u64,
    file: PathBuf,
}

/// All bytes of a process's executable mappings that are not the bytes of the mapped files.
///
/// # Errors
/// When the process has gone, or is just becoming another.
pub fn traps_of(pid: u32) -> io::Result<Vec<Trap>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut traps = Vec::new();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    for code in maps.lines().filter_map(executable) {
        let mut now = vec![0; code.len];
        let mut then = vec![0; code.len];
        memory.read_exact_at(&mut now, code.start)?;
        // Its name may be another file's, here or by now.
        let mapped = format!("/proc/{pid}/map_files/{:x}-{:x}", code.start, code.start + code.len as u64);
        let in_file = File::open(mapped)?.read_at(&mut then, code.offset)?;
        for (at, (&now, &then)) in now.iter().zip(&then).enumerate().take(in_file) {
            if now != then {
                traps.push(Trap { file: code.file.clone(), offset: code.offset + at as u64, byte: now });
            }
        }
    }
    Ok(traps)
}

/// A line of `/proc/PID/maps`, if it is code of a file.
fn executable(line: &str) -> Option<Code> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let path = fields.nth(2)?.trim_start();
    if !permissions.contains('x') || !path.starts_with('/') {
        return None;
    }
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    Some(Code { start, len: usize::try_from(end - start).ok()?, offset, file: path.into() })
}

/// Asserts that a process's code is what its files say. The kernel takes traps out a moment after their owner has died, so it is
/// given that moment.
///
/// # Panics
/// When a trap is left; the message says where.
pub fn assert_no_traps(pid: u32) {
    let mut left = Vec::new();
    let end = Instant::now() + SHORT;
    wait_until("the traps were looked for", SHORT * 2, || {
        left = traps_of(pid).unwrap_or_else(|error| panic!("cannot read the code of {pid}: {error}"));
        left.is_empty() || Instant::now() > end
    });
    assert!(
        left.is_empty(),
        "{} s after unshed has gone, traps are left in {pid}: {left:x?}",
        SHORT.as_secs()
    );
}

/// The traps of a process that lie inside a function of its libpython.
///
/// # Panics
/// When the process maps no libpython or the function is not in it.
#[must_use]
pub fn traps_in_function(pid: u32, function: &str) -> Vec<Trap> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))
        .unwrap_or_else(|error| panic!("cannot read the mappings of {pid}: {error}"));
    let code =
        maps.lines().filter_map(executable).find(|code| code.file.to_string_lossy().contains("libpython"));
    let file = code.unwrap_or_else(|| panic!("{pid} has no libpython mapped")).file;
    let (from, to) = function_in_file(&file, function);
    let traps = traps_of(pid).unwrap_or_else(|error| panic!("cannot read the code of {pid}: {error}"));
    traps.into_iter().filter(|trap| trap.file == file && (from..to).contains(&trap.offset)).collect()
}

/// The file offsets between which the code of a symbol lies.
///
/// # Panics
/// When the file cannot be read or has no such symbol.
#[must_use]
pub fn function_in_file(path: &Path, function: &str) -> (u64, u64) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let elf = object::File::parse(&*bytes)
        .unwrap_or_else(|error| panic!("{} is no ELF file: {error}", path.display()));
    let symbol = elf.dynamic_symbols().chain(elf.symbols()).find(|symbol| symbol.name() == Ok(function));
    let symbol = symbol.unwrap_or_else(|| panic!("{} has no symbol {function}", path.display()));
    let inside = |at: u64, len: u64| (at..at + len).contains(&symbol.address());
    let segment = elf.segments().find(|segment| inside(segment.address(), segment.size()));
    let segment = segment.unwrap_or_else(|| panic!("{function} lies in no segment of {}", path.display()));
    let start = symbol.address() - segment.address() + segment.file_range().0;
    (start, start + symbol.size().max(1))
}
