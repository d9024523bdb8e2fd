//! What a process has mapped: the files that it runs, and how to open the very file, through its mapping, so that other
//! mount namespaces and deleted files make no difference; and the memory that it writes to.

use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::target::process::{Process, proc_path};

/// One executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset in the file, in bytes, of `start`.
    pub offset: u64,
    /// The file's device, as `stat` gives it; on some file systems (btrfs, overlayfs) the maps name another one.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The file's path in the process's mount namespace, without the ` (deleted)` of a file that is gone.
    pub path: PathBuf,
}

impl Mapping {
    /// A path by which we can open the mapped file, whatever became of its name; one that cannot be opened, if there is none.
    ///
    /// `/proc/PID/map_files` needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN; without, the process's executable and the name in its root directory are tried. What a name
    /// leads to may be another file by now, or in the way of the mapped one: it must have its inode, which nobody else gets as long as it is mapped.
    #[must_use]
    pub fn open_path(&self, process: &Process) -> PathBuf {
        let mapped = proc_path(process.pid(), &format!("map_files/{:x}-{:x}", self.start, self.end));
        if mapped.metadata().is_ok() {
            return mapped;
        }
        let others = [Some(proc_path(process.pid(), "exe")), self.named_path(process.pid())];
        others.into_iter().flatten().find(|path| self.is_at(path)).unwrap_or(mapped)
    }

    /// The name, below the process's root directory; `None` for what lies outside of that.
    fn named_path(&self, pid: u32) -> Option<PathBuf> {
        let root = proc_path(pid, "root");
        // Of a process in a `chroot`, names begin at our own root directory.
        let inside = self.path.strip_prefix(root.read_link().ok()?).ok()?;
        Some(root.join(inside))
    }

    /// Whether a path leads to the mapped file. The device is not compared: btrfs and overlayfs map another than they tell.
    fn is_at(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|found| found.is_file() && found.ino() == self.inode)
    }

    /// The last part of the path, or nothing.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Memory that a process reads and writes and shares with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First address.
    pub(super) start: u64,
    /// Address after the last.
    pub(super) end: u64,
    /// The inode of the file that it was filled from; `None` for anonymous memory.
    pub(super) inode: Option<u64>,
}

/// The executable mappings of files in the text of `/proc/PID/maps`. Lines that make no sense are skipped.
pub(super) fn executable(text: &str) -> Vec<Mapping> {
    let lines = text.lines().filter_map(Line::parse);
    let run = lines.filter(|line| {
        line.permissions.get(2) == Some(&b'x') && line.path.starts_with('/') && line.inode != 0
    });
    run.map(|line| Mapping {
        start: line.start,
        end: line.end,
        offset: line.offset,
        device: line.device,
        inode: line.inode,
        path: unescape(line.path.strip_suffix(" (deleted)").unwrap_or(line.path)),
    })
    .collect()
}

/// The private writable mappings in the text of `/proc/PID/maps`, in its order: of files, anonymous (also those that were given
/// a name, `[anon:…]`) and the heap of `brk`. Stacks are left out. Lines that make no sense are skipped.
pub(super) fn private(text: &str) -> Vec<Region> {
    let lines = text.lines().filter_map(Line::parse);
    let written =
        lines.filter(|line| line.permissions.starts_with(b"rw") && line.permissions.ends_with(b"p"));
    let data = written.filter(|line| {
        line.inode != 0 || line.path.is_empty() || line.path == "[heap]" || line.path.starts_with("[anon:")
    });
    data.map(|line| Region {
        start: line.start,
        end: line.end,
        inode: Some(line.inode).filter(|inode| *inode != 0),
    })
    .collect()
}

/// Where the heap of `brk` begins, in the text of `/proc/PID/maps`.
pub(super) fn brk_heap(text: &str) -> Option<u64> {
    text.lines().filter_map(Line::parse).find(|line| line.path == "[heap]").map(|line| line.start)
}

/// Where the process may read or write, from the text of `/proc/PID/maps`, in its order. Lines that make no sense are skipped.
pub(super) fn accessible(text: &str) -> Vec<Range<u64>> {
    let lines = text.lines().filter_map(Line::parse).filter(|line| !line.permissions.starts_with(b"--"));
    lines.map(|line| line.start..line.end).collect()
}

/// One line of `/proc/PID/maps`.
struct Line<'text> {
    start: u64,
    end: u64,
    permissions: &'text [u8],
    offset: u64,
    device: u64,
    inode: u64,
    path: &'text str,
}

impl<'text> Line<'text> {
    fn parse(line: &'text str) -> Option<Self> {
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let mut rest = line;
        let mut word = || {
            let (word, tail) = rest.trim_start_matches(' ').split_once(' ')?;
            rest = tail;
            Some(word)
        };
        let (start, end) = word()?.split_once('-')?;
        let permissions = word()?.as_bytes();
        let offset = hex(word()?)?;
        let (major, minor) = word()?.split_once(':')?;
        let inode = word()?.parse().ok()?;
        let path = rest.trim_start_matches(' ');
        let (start, end) = (hex(start)?, hex(end)?);
        let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        let device = libc::makedev(major, minor);
        (start < end).then_some(Self { start, end, permissions, offset, device, inode, path })
    }
}

/// The kernel writes a newline in a path as `\012` (`fs/proc/task_mmu.c`, `show_map_vma`), and nothing else.
fn unescape(path: &str) -> PathBuf {
    Path::new(&std::ffi::OsString::from_vec(path.replace("\\012", "\n").into_bytes())).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00400000-00420000 r--p 00000000 fe:01 77                                 /usr/bin/python3.11
00420000-00900000 r-xp 00020000 fe:01 77                                 /usr/bin/python3.11
7f0000000000-7f0000001000 r-xp 00000000 00:00 0                          [vdso]
7f0000002000-7f0000001000 r-xp 00000000 fe:01 78                         /backwards
7f0000010000-7f0000020000 r-xp 00001000 fe:01 79                         /opt/a b\\012c.so (deleted)
garbage
7f0000030000-7f0000040000 r-xp 0 fe:01";

    #[test]
    fn reserved_addresses_are_no_memory() {
        let text = "7f0000000000-7f0000001000 rw-p 0 00:00 0 \n7f0000001000-7f0000002000 ---p 0 00:00 0 \nx\n7f0000003000-7f0000004000 r--s 0 fe:01 7 /f";
        let expected = [0x7f00_0000_0000..0x7f00_0000_1000, 0x7f00_0000_3000..0x7f00_0000_4000];
        assert_eq!(accessible(text), expected);
    }

    #[test]
    fn only_files_that_are_run() {
        let found = executable(TEXT);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].start, found[0].end, found[0].offset), (0x42_0000, 0x90_0000, 0x2_0000));
        assert_eq!((found[0].inode, found[0].device), (77, libc::makedev(0xfe, 1)));
        assert_eq!(found[1].path, Path::new("/opt/a b\nc.so"));
    }

    #[test]
    fn only_memory_of_its_own() {
        let text = "\
00900000-00910000 rw-p 00544000 fe:01 77                                 /usr/bin/python3.11
00910000-00950000 rw-p 00000000 00:00 0 
01000000-01100000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0                          [anon:cpython:pymalloc]
7f0000100000-7f0000200000 rw-s 00000000 00:01 9                          /dev/zero (deleted)
7f0000200000-7f0000300000 r--p 00000000 00:00 0 
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
7f0000400000-7f0000300000 rw-p 00000000 00:00 0 ";
        let found: Vec<_> = private(text).iter().map(|region| (region.start, region.inode)).collect();
        let expected =
            [(0x90_0000, Some(77)), (0x91_0000, None), (0x100_0000, None), (0x7f00_0000_0000, None)];
        assert_eq!(found, expected);
        assert_eq!((brk_heap(text), brk_heap(TEXT)), (Some(0x100_0000), None));
    }

    #[test]
    fn the_mapped_file_is_the_file() {
        let own = Process::open(std::process::id()).unwrap();
        let mapping = own.mappings().unwrap().into_iter().find(|mapping| mapping.path == own.exe()).unwrap();
        let inode = |path: &Path| path.metadata().unwrap().ino();
        assert_eq!(inode(&mapping.open_path(&own)), inode(own.exe()));
        let named = mapping.named_path(own.pid()).unwrap();
        assert_eq!(inode(&named), inode(own.exe()));
        assert!(mapping.is_at(&named) && mapping.is_at(&proc_path(own.pid(), "exe")));
        // What stands at a name is not believed for its name.
        let replaced = Mapping { inode: mapping.inode + 1, start: 0x1000, end: 0x2000, ..mapping };
        assert!(replaced.open_path(&own).metadata().is_err());
    }
}
