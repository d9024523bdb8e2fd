//! One process of this host, seen from outside through `/proc`, and held so that a re-used pid is never mistaken for it.
//!
//! Everything in `/proc/PID` is written by the target or in its name: it is parsed with bounds and never trusted.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::target::maps::{self, Mapping, Region};
use crate::target::whereabouts::namespace_pids;

/// The most that is read of any file in `/proc`: 16 MiB hold the maps of 100,000 mappings.
const PROC_LIMIT: u64 = 16 << 20;

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`, in field 9 of `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Time that the scheduler gave, in nanoseconds (include/linux/posix-timers_types.h).
const CPUCLOCK_SCHED: libc::clockid_t = 2;

/// A process that was alive when it was opened.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    start_time: u64,
    pidfd: OwnedFd,
    comm: String,
    exe: PathBuf,
    command: Vec<String>,
    namespace_pid: u32,
    pid_namespace: (u64, u64),
}

/// What `/proc/PID/stat` says that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    flags: u64,
    start_time: u64,
}

impl Process {
    /// Opens a process by its id in our own PID namespace.
    ///
    /// # Errors
    /// [`Kind::Target`] when there is no such process, or it is a kernel thread, a zombie or a mere thread; [`Kind::Privilege`] when it is not
    /// ours to look into.
    pub fn open(pid: u32) -> Result<Self> {
        same_namespace()?;
        let before = alive(pid)?;
        let pidfd = open_pidfd(pid)?;
        let status = read_text(pid, "status").map_err(|cause| unreadable(pid, &cause))?;
        let leader = number(&status, "Tgid:").unwrap_or(u64::from(pid));
        if leader != u64::from(pid) {
            return Err(Error::new(Kind::Target, format!("{pid} is a thread of process {leader}"))
                .next(format!("trace the whole process: -p {leader}")));
        }
        let exe = fs::read_link(proc_path(pid, "exe")).map_err(|cause| unreadable(pid, &cause))?;
        let namespace = fs::metadata(proc_path(pid, "ns/pid")).map_err(|cause| unreadable(pid, &cause))?;
        let command = read_bytes(pid, "cmdline").map_err(|cause| unreadable(pid, &cause))?;
        let process = Self {
            pid,
            start_time: before.start_time,
            pidfd,
            comm: read_text(pid, "comm").unwrap_or_default().trim_end().to_owned(),
            exe,
            command: split_command(&command),
            namespace_pid: namespace_pids(&status).last().copied().unwrap_or(pid),
            pid_namespace: (namespace.dev(), namespace.ino()),
        };
        if process.still_same() { Ok(process) } else { Err(gone(pid)) }
    }

    /// Its id in our PID namespace.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22): with the pid, its identity.
    #[must_use]
    pub const fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Becomes readable when the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The name of its main thread, at most 15 bytes.
    #[must_use]
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// Path of its executable in its own mount namespace; ends in ` (deleted)` when the file is gone.
    #[must_use]
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// Inode of its executable, deleted or not.
    #[must_use]
    pub fn exe_inode(&self) -> Option<u64> {
        Some(fs::metadata(proc_path(self.pid, "exe")).ok()?.ino())
    }

    /// Its command line, as it shows it.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// Its id in its own PID namespace, which is what its threads see.
    #[must_use]
    pub const fn namespace_pid(&self) -> u32 {
        self.namespace_pid
    }

    /// Device and inode of its PID namespace, as `bpf_get_ns_current_pid_tgid` wants them.
    #[must_use]
    pub const fn pid_namespace(&self) -> (u64, u64) {
        self.pid_namespace
    }

    /// Whether the pid still belongs to the process that was opened, and that one has not ended.
    ///
    /// The start time alone would not do: its clock ticks every 10 ms, and an heir of the pid can start in the tick in which the owner did.
    /// The descriptor is the process's own and becomes readable when it ends.
    #[must_use]
    pub fn still_same(&self) -> bool {
        let mut ended = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, ours; a timeout of 0 never waits.
        let ready = unsafe { libc::poll(&raw mut ended, 1, 0) };
        ready == 0
            && read_stat(self.pid).is_ok_and(|stat| stat.start_time == self.start_time && !stat.is_dead())
    }

    /// The process that has it under `ptrace`, if any.
    #[must_use]
    pub fn tracer_pid(&self) -> Option<u32> {
        let status = read_text(self.pid, "status").ok()?;
        number(&status, "TracerPid:").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
    }

    /// Its resident memory in bytes (`VmRSS`); `None` once it has ended.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        let status = read_text(self.pid, "status").ok()?;
        number(&status, "VmRSS:")?.checked_mul(1024)
    }

    /// CPU time of all its threads, ended ones too; `None` once it has ended. A thread that runs right now is up to date to a tick of the kernel's
    /// clock (1 to 10 ms).
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let id = libc::pid_t::try_from(self.pid).ok()?;
        // The clock of a process, as clock_getcpuclockid(3) makes it (include/linux/posix-timers_types.h, `make_process_cpuclock`).
        let clock = !id << 3 | CPUCLOCK_SCHED;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the destination is ours; a clock that does not exist is an error.
        let read = unsafe { libc::clock_gettime(clock, &raw mut time) } == 0;
        let seconds = u64::try_from(time.tv_sec).ok()?;
        let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
        // What was read may be the time of the heir of its pid.
        (read && self.still_same()).then(|| Duration::new(seconds, nanoseconds))
    }

    /// The executable mappings that have a file behind them, in the order of their addresses.
    ///
    /// # Errors
    /// [`Kind::Target`] when it has ended, [`Kind::Privilege`] when its maps may not be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>> {
        self.maps().map(|text| maps::executable(&text))
    }

    /// The addresses that it may read or write, ascending.
    ///
    /// # Errors
    /// As [`Self::mappings`].
    pub fn accessible(&self) -> Result<Vec<Range<u64>>> {
        self.maps().map(|text| maps::accessible(&text))
    }

    /// Its private writable mappings, in the order of their addresses; never none.
    pub(super) fn regions(&self) -> Result<Vec<Region>> {
        let regions = maps::private(&self.maps()?);
        // A process that is ending has no memory any more some time before it counts as ended (`do_exit` of the kernel's `kernel/exit.c`).
        if regions.is_empty() { Err(gone(self.pid)) } else { Ok(regions) }
    }

    /// Where its heap of `brk` begins; `None` if it has none.
    pub(super) fn brk_heap(&self) -> Result<Option<u64>> {
        self.maps().map(|text| maps::brk_heap(&text))
    }

    fn maps(&self) -> Result<String> {
        let text = read_text(self.pid, "maps");
        // What was read may be nothing, of an ended process, or the maps of the heir of its pid.
        if !self.still_same() {
            return Err(gone(self.pid));
        }
        text.map_err(|cause| unreadable(self.pid, &cause))
    }

    /// Its swapped-out memory in bytes (`VmSwap`); `None` once it has ended, and on kernels without swap.
    pub(super) fn swapped_bytes(&self) -> Option<u64> {
        let status = read_text(self.pid, "status").ok()?;
        number(&status, "VmSwap:")?.checked_mul(1024)
    }
}

impl Stat {
    /// The fields after the command's name, which is in parentheses and may hold anything, parentheses too.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            flags: fields.get(6)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The ids of all processes of our PID namespace, ascending; empty if `/proc` cannot be read.
#[must_use]
pub fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The process that has made a process, or its heir; `None` once that has ended.
#[must_use]
pub fn parent_of(pid: u32) -> Option<u32> {
    number(&read_text(pid, "status").ok()?, "PPid:").and_then(|pid| u32::try_from(pid).ok())
}

/// The name of this host; `"localhost"` if it has none.
#[must_use]
pub fn hostname() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the kernel writes at most `name.len() - 1` bytes into `name`, so that its last byte stays 0.
    let status = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let name =
        CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if status != 0 || name.is_empty() { "localhost".to_owned() } else { name }
}

/// `/proc/PID/NAME`.
pub(super) fn proc_path(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn read_bytes(pid: u32, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(proc_path(pid, name))?.take(PROC_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_text(pid: u32, name: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bytes(pid, name)?).into_owned())
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    let text = read_text(pid, "stat")?;
    Stat::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected format of stat"))
}

/// The stat of a process that has memory of its own to look into.
fn alive(pid: u32) -> Result<Stat> {
    let stat = read_stat(pid).map_err(|cause| unreadable(pid, &cause))?;
    let what = if stat.flags & KERNEL_THREAD != 0 {
        "a kernel thread"
    } else if stat.is_dead() {
        "a zombie: it has ended, and its parent has not taken note"
    } else {
        return Ok(stat);
    };
    Err(Error::new(Kind::Target, format!("process {pid} is {what}")).next(LIST))
}

fn open_pidfd(pid: u32) -> Result<OwnedFd> {
    let id = libc::pid_t::try_from(pid).map_err(|_| missing(pid))?;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(match io::Error::last_os_error() {
            // pidfd_open(2): the pid is no thread group leader.
            cause if cause.raw_os_error() == Some(libc::EINVAL) => {
                Error::new(Kind::Target, format!("{pid} is a thread, not a process")).next(LIST)
            }
            cause => unreadable(pid, &cause),
        }),
    }
}

/// Whether ids in `/proc`, which are of the namespace that it was mounted in, mean the same as those that system calls take, which are of ours.
fn same_namespace() -> Result<()> {
    let own = fs::read_to_string("/proc/self/status");
    let what = match own.as_deref().map(namespace_pids) {
        // A kernel without PID namespaces says nothing.
        Ok(ids) if ids.len() <= 1 => return Ok(()),
        Ok(_) => {
            "/proc shows another PID namespace than the one that unshed runs in: no process id means the same in both"
        }
        Err(_) => "/proc does not show the PID namespace that unshed runs in",
    };
    Err(Error::failed(what).next(
        "mount the namespace's own: `unshare --mount-proc`, or `mount -t proc proc /proc` in a mount namespace of your own",
    ))
}

/// The number behind a key of `/proc/PID/status`.
fn number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn split_command(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The next step wherever the pid was wrong.
pub(super) const LIST: &str = "list the Python processes of this host with `unshed ps`";

fn missing(pid: u32) -> Error {
    Error::new(Kind::Target, format!("there is no process {pid}")).next(LIST)
}

/// The process that was opened is no more.
pub(super) fn gone(pid: u32) -> Error {
    Error::new(Kind::Target, format!("process {pid} has ended")).next(LIST)
}

/// What a failed look into `/proc/PID` means.
pub(super) fn unreadable(pid: u32, cause: &io::Error) -> Error {
    match cause.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            Error::new(Kind::Privilege, format!("process {pid} may not be looked into: {cause}"))
                .next("run unshed as root, outside any sandbox that forbids it, or with CAP_SYS_PTRACE, CAP_BPF and CAP_PERFMON")
        }
        _ if !proc_path(pid, "stat").exists() => missing(pid),
        Some(libc::ESRCH | libc::ENOENT) => gone(pid),
        _ => Error::failed(format!("process {pid} cannot be read: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn we_can_look_at_ourselves() {
        let own = Process::open(std::process::id()).unwrap();
        assert!(own.still_same() && own.rss_bytes().unwrap() > 100_000 && own.start_time() > 0);
        assert_eq!(own.exe(), std::env::current_exe().unwrap());
        assert_eq!(own.command().len(), std::env::args().count());
        assert!(own.mappings().unwrap().iter().any(|mapping| mapping.path == own.exe()));
        assert!(all_pids().contains(&own.pid()) && own.namespace_pid() > 0 && own.pid_namespace().1 > 0);
        assert!(!hostname().is_empty());
    }

    #[test]
    fn cpu_time_is_that_of_all_threads_ended_ones_too() {
        let own = Process::open(std::process::id()).unwrap();
        let before = own.cpu_time().unwrap();
        // A thread's own clock says how much it has used; it has ended when its time is looked for.
        let used = std::thread::spawn(|| {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while time.tv_nsec < 20_000_000 {
                // SAFETY: the destination is ours; the call cannot fail for this clock.
                unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
            }
            Duration::from_nanos(time.tv_nsec as u64)
        });
        let used = used.join().unwrap();
        assert!(own.cpu_time().unwrap() - before >= used, "an ended thread's time is lost");
        let mut child = Command::new("true").spawn().unwrap();
        let ended = Process::open(child.id());
        child.wait().unwrap();
        assert_eq!(ended.ok().and_then(|process| process.cpu_time()), None);
    }

    /// A child with a pid of our choice (`clone3` with `set_tid`, as root), which ends when it is killed.
    fn heir_of(pid: u32) -> u32 {
        let wanted = pid.cast_signed();
        // SAFETY: an all-zero `clone_args` asks for a plain fork.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.exit_signal = libc::SIGCHLD as u64;
        args.set_tid = std::ptr::from_ref(&wanted) as u64;
        args.set_tid_size = 1;
        // SAFETY: the arguments are ours and live; the child only waits for its end, which needs no allocation and no lock.
        let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
        if child == 0 {
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        assert_eq!(child, i64::from(pid), "{}: this test must run as root", io::Error::last_os_error());
        pid
    }

    #[test]
    fn the_heir_of_a_pid_is_not_mistaken_for_its_owner() {
        let mut first = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(first.id()).unwrap();
        assert!(process.still_same());
        first.kill().unwrap();
        first.wait().unwrap();
        let heir = heir_of(process.pid());
        let seen = (process.still_same(), process.mappings().is_err());
        // SAFETY: the pid is that of a child of ours that nobody has waited for.
        unsafe {
            libc::kill(heir.cast_signed(), libc::SIGKILL);
            libc::waitpid(heir.cast_signed(), std::ptr::null_mut(), 0);
        }
        assert_eq!(seen, (false, true), "(the heir is taken for the owner, its mappings are refused)");
    }

    #[test]
    fn a_stat_line_survives_any_name() {
        let line = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10";
        assert_eq!(Stat::parse(line), Some(Stat { state: b'S', flags: 4_194_560, start_time: 4711 }));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_closed_door_is_a_matter_of_privilege() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(unreadable(1, &denied).kind(), Kind::Privilege);
        let gone = unreadable(u32::MAX, &io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!((gone.kind(), gone.to_string().contains("no process")), (Kind::Target, true));
        // kthreadd, where this PID namespace has it.
        if let Err(error) = Process::open(2) {
            assert_eq!(error.kind(), Kind::Target, "{error}");
        }
    }

    #[test]
    fn what_is_no_live_process_is_named() {
        let missing = Process::open(u32::MAX).unwrap_err();
        assert_eq!((missing.kind(), missing.to_string().contains("no process")), (Kind::Target, true));
        let mut child = Command::new("true").spawn().unwrap();
        let process = Process::open(child.id());
        // Unreaped, it is a zombie once it has run; waitid with WNOWAIT would leave it one.
        let mut info = std::mem::MaybeUninit::zeroed();
        // SAFETY: `info` has room for what waitid writes.
        unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        assert!(Process::open(child.id()).unwrap_err().to_string().contains("zombie"));
        assert!(process.is_err() || !process.unwrap().still_same());
        child.wait().unwrap();
    }
}
