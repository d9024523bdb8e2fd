//! Which pages of the target are in memory, from `/proc/PID/pagemap`: what is not there is not looked at, because a look would bring it there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::Result;
use crate::target::process::{Process, proc_path, unreadable};

/// x86-64 has no other page that `pagemap` counts by.
pub(super) const PAGE: u64 = 4096;

/// Bytes that `pagemap` has for each page (`Documentation/admin-guide/mm/pagemap.rst`, as are the two bits).
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Never touched, given back, or not mapped.
    Absent,
    /// In memory: reading it changes nothing.
    Present,
    /// Swapped out: reading it would bring it back.
    Swapped,
}

/// Who knows where pages are.
pub(super) trait Pages {
    /// Where `count` pages are: those at `start`, `start + stride`, `start + 2 * stride` … Both are multiples of [`PAGE`].
    fn at(&mut self, start: u64, stride: u64, count: usize) -> Vec<Page>;
}

/// A process's own page map.
#[derive(Debug)]
pub(super) struct PageMap {
    file: File,
    bytes: Vec<u8>,
}

impl PageMap {
    pub(super) fn open(process: &Process) -> Result<Self> {
        let pid = process.pid();
        let file = File::open(proc_path(pid, "pagemap")).map_err(|cause| unreadable(pid, &cause))?;
        Ok(Self { file, bytes: Vec::new() })
    }

    /// Fills `bytes` as far as the file goes: what lies past the process's address space, or is no process's any more, is not there.
    fn fill(&mut self, len: usize, offset: u64) {
        self.bytes.clear();
        self.bytes.resize(len, 0);
        let mut done = 0;
        while done < len {
            match self.file.read_at(&mut self.bytes[done..], offset + done as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => done += read,
            }
        }
    }
}

impl Pages for PageMap {
    fn at(&mut self, start: u64, stride: u64, count: usize) -> Vec<Page> {
        // All entries are read and some are used: one call costs more than the entries between.
        let step = usize::try_from(stride / PAGE).unwrap_or(1).max(1) * ENTRY;
        self.fill(count.saturating_mul(step), start / PAGE * ENTRY as u64);
        let entries = self.bytes.chunks(step).filter_map(|chunk| chunk.first_chunk::<ENTRY>());
        entries.map(|entry| page(u64::from_le_bytes(*entry))).collect()
    }
}

const fn page(entry: u64) -> Page {
    match entry {
        entry if entry & PRESENT != 0 => Page::Present,
        entry if entry & SWAPPED != 0 => Page::Swapped,
        _ => Page::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_the_kernels() {
        assert_eq!(
            [page(0), page(1 << 61), page(1 << 62), page(1 << 63 | 1)],
            [Page::Absent, Page::Absent, Page::Swapped, Page::Present]
        );
    }

    #[test]
    fn our_own_pages_are_where_we_put_them() {
        let len = 64 * PAGE as usize;
        // SAFETY: a new private anonymous mapping, which nobody else knows.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: a range that we have just mapped; without the advice one touched page might bring all of them.
        unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
        for touched in [0, 4, 12] {
            // SAFETY: in the mapping, which is writable.
            unsafe { start.cast::<u8>().add(touched * PAGE as usize).write_volatile(1) };
        }
        let own = Process::open(std::process::id()).unwrap();
        let mut pages = PageMap::open(&own).unwrap();
        let seen = pages.at(start as u64, 4 * PAGE, 5);
        let expected = [Page::Present, Page::Present, Page::Absent, Page::Present, Page::Absent];
        assert_eq!(seen, expected);
        assert_eq!(pages.at(1 << 62, PAGE, 2), [Page::Absent; 2], "no address of a process");
        // SAFETY: what was mapped above, and is used no more.
        unsafe { libc::munmap(start, len) };
    }
}
