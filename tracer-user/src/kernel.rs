//! The calls of `bpf(2)` that aya 0.14 does not make: loading a program for `uprobe_multi`, linking it, reading maps in batches, and sharing a map's memory.
//!
//! Structures are those of `union bpf_attr` in include/uapi/linux/bpf.h; the kernel takes any prefix of it and treats the rest as zero.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_PROG_LOAD: i64 = 5;
const BPF_MAP_LOOKUP_BATCH: i64 = 24;
const BPF_LINK_CREATE: i64 = 28;
const BPF_ENABLE_STATS: i64 = 32;
const BPF_STATS_RUN_TIME: u32 = 0;

/// `BPF_TRACE_UPROBE_MULTI`.
pub const TRACE_UPROBE_MULTI: u32 = 48;
/// `BPF_F_UPROBE_MULTI_RETURN`.
const UPROBE_MULTI_RETURN: u32 = 1;
/// Bytes of verifier log asked for: enough for the statistics, and for the end of a refusal.
const LOG_BYTES: usize = 1 << 20;

/// Calls `bpf(2)`.
fn bpf<T>(command: i64, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a live, writable, fully initialised prefix of `union bpf_attr` of the size that is passed; every pointer in
    // it was made by the caller below from a buffer that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls `bpf(2)` with a command that returns a file descriptor.
fn bpf_fd<T>(command: i64, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd =
        i32::try_from(fd).map_err(|_| io::Error::other("the kernel returned an impossible descriptor"))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Address of a buffer as the kernel takes it.
fn address<T>(buffer: &[T]) -> u64 {
    buffer.as_ptr() as u64
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

const _: () = assert!(size_of::<ProgLoad>() == 72);

/// A loaded program and what the verifier said of it.
#[derive(Debug)]
pub struct Loaded {
    /// The program.
    pub fd: OwnedFd,
    /// The verifier's statistics ("processed 1234 insns …", "stack depth 48+0").
    pub log: String,
    /// It calls another program in its place.
    pub tail_call: bool,
}

/// Loads a program whose maps and calls are already relocated.
///
/// # Errors
/// The kernel's refusal, with the last lines of the verifier's log.
pub fn load_program(
    name: &str,
    prog_type: u32,
    attach_type: u32,
    insns: &[aya_obj::generated::bpf_insn],
    license: &std::ffi::CStr,
) -> Result<Loaded, (io::Error, String)> {
    let mut log = vec![0u8; LOG_BYTES];
    let mut prog_name = [0; 16];
    for (slot, byte) in prog_name.iter_mut().take(15).zip(name.bytes()) {
        *slot = byte;
    }
    let mut attr = ProgLoad {
        prog_type,
        insn_count: u32::try_from(insns.len()).unwrap_or(u32::MAX),
        insns: address(insns),
        license: license.as_ptr() as u64,
        log_level: 4, // BPF_LOG_STATS
        log_size: LOG_BYTES as u32,
        log_buf: log.as_mut_ptr() as u64,
        prog_name,
        expected_attach_type: attach_type,
        ..ProgLoad::default()
    };
    match bpf_fd(BPF_PROG_LOAD, &mut attr) {
        Ok(fd) => Ok(Loaded { fd, log: text(&log), tail_call: insns.iter().any(is_tail_call) }),
        Err(cause) => {
            // Statistics alone do not say why: ask again, with the instructions.
            attr.log_level = 1;
            let _ = bpf_fd(BPF_PROG_LOAD, &mut attr);
            let log = text(&log);
            let start = log.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
            Err((cause, log[start..].to_owned()))
        }
    }
}

/// `BPF_JMP | BPF_CALL` of the helper `bpf_tail_call` (include/uapi/linux/bpf.h).
fn is_tail_call(insn: &aya_obj::generated::bpf_insn) -> bool {
    insn.code == 0x85 && insn.src_reg() == 0 && insn.imm == 12
}

/// The text up to the first NUL.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateUprobeMulti {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    link_flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    flags: u32,
    pid: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<LinkCreateUprobeMulti>() == 64);

/// Links a program to all `offsets` of a file at once, for one process. Closing the descriptor takes every trap out.
///
/// # Errors
/// What the kernel says: `EINVAL` for a kernel without `uprobe_multi` or an offset that cannot be probed, `ESRCH` for a process that is gone.
pub fn link_uprobe_multi(
    program: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    points: &[(u64, u64)],
    returns: bool,
    pid: u32,
) -> io::Result<OwnedFd> {
    let offsets: Vec<u64> = points.iter().map(|&(offset, _)| offset).collect();
    let cookies: Vec<u64> = points.iter().map(|&(_, cookie)| cookie).collect();
    let mut attr = LinkCreateUprobeMulti {
        prog_fd: program.as_raw_fd() as u32,
        attach_type: TRACE_UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: address(&offsets),
        cookies: address(&cookies),
        count: u32::try_from(points.len()).map_err(io::Error::other)?,
        flags: if returns { UPROBE_MULTI_RETURN } else { 0 },
        pid,
        ..LinkCreateUprobeMulti::default()
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

const _: () = assert!(size_of::<MapElem>() == 32);

/// Writes an element of a map. `K` and `V` must be the map's own types: the kernel reads as many bytes as the map's elements have.
///
/// # Errors
/// What the kernel says.
pub fn update_elem<K: aya::Pod, V: aya::Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        ..MapElem::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// The first page of an array's memory, which the programs work in as well.
#[derive(Debug)]
pub struct SharedPage {
    page: NonNull<[AtomicU64; PAGE_WORDS]>,
}

/// Words of a page of x86-64.
const PAGE_WORDS: usize = 4096 / 8;

// SAFETY: all that is done with the page is done with atomic operations.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Of an array that was made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// What the kernel says (5.5 and later).
    pub fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses touches nothing that is there.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_WORDS * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(page.cast()) {
            Some(page_at) if page != libc::MAP_FAILED => Ok(Self { page: page_at }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64; PAGE_WORDS] {
        // SAFETY: the mapping is of this size and lives as long as `self`; others change it at any time, which is what atomic words are for.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.page.as_ptr().cast(), PAGE_WORDS * 8) };
    }
}

#[repr(C)]
#[derive(Default)]
struct EnableStats {
    kind: u32,
}

/// Makes the kernel measure the run time of BPF programs while the descriptor is open.
///
/// # Errors
/// What the kernel says (5.8 and later, `CAP_SYS_ADMIN`).
pub fn enable_run_time_stats() -> io::Result<OwnedFd> {
    bpf_fd(BPF_ENABLE_STATS, &mut EnableStats { kind: BPF_STATS_RUN_TIME })
}

/// Run time in nanoseconds and runs of a program, from its `fdinfo`.
#[must_use]
pub fn run_time(program: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((field("run_time_ns:")?, field("run_cnt:")?))
}

#[repr(C)]
#[derive(Default)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

const _: () = assert!(size_of::<MapBatch>() == 56);

/// Reads a hash map in batches: seven times faster than key by key (facts/ebpf.md §2.4). Entries that come or go meanwhile may
/// be missed or not; the caller disarms the probes first where that matters.
///
/// # Errors
/// What the kernel says; kernels before 5.6 have no batches.
pub fn read_hash<K: aya::Pod + Default, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(K, V),
) -> io::Result<()> {
    let mut room = 4096;
    let mut cursor: Option<u64> = None;
    loop {
        let mut keys = vec![K::default(); room];
        let mut values = vec![V::default(); room];
        let begin = cursor;
        let mut next = 0u64;
        let mut attr = MapBatch {
            in_batch: begin.as_ref().map_or(0, |cursor| std::ptr::from_ref(cursor) as u64),
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map_fd: map.as_raw_fd() as u32,
            ..MapBatch::default()
        };
        let end = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            Err(cause) if cause.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than there is room for.
            Err(cause) if cause.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 22 => {
                room *= 4;
                continue;
            }
            Err(cause) => return Err(cause),
        };
        let count = (attr.count as usize).min(room);
        keys.into_iter().zip(values).take(count).for_each(|(key, value)| each(key, value));
        if end {
            return Ok(());
        }
        cursor = Some(next);
    }
}
