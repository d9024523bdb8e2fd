//! A directory that files are opened below. Below the root of another mount namespace, which its owner furnishes, a symbolic link must not lead back
//! into ours, and opening must not hang on a FIFO.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// Larger files are left alone; the largest debug file that a distribution ships (of a browser) is below.
const FILE_LIMIT: u64 = 8 << 30;

/// A directory, held open: it stays usable when the process whose root it was has ended.
#[derive(Debug)]
pub(in crate::symbol) struct Root {
    directory: OwnedFd,
    /// The mount namespace, if it is another process's: it lives as long as somebody holds it.
    _namespace: Option<File>,
    /// What paths begin with that are given in terms of a larger root than this (a target in a chroot).
    pub(super) prefix: PathBuf,
    /// Symbolic links are resolved as if this were `/`.
    closed: bool,
}

impl Root {
    /// The root directory of a process, as the process sees it; `None` if it is gone or not ours to look into.
    pub(in crate::symbol) fn of_process(pid: u32) -> Option<Self> {
        let link = PathBuf::from(format!("/proc/{pid}/root"));
        let namespace = File::open(format!("/proc/{pid}/ns/mnt")).ok();
        let prefix = std::fs::read_link(&link).ok()?;
        Some(Self { directory: directory(&link)?, _namespace: namespace, prefix, closed: true })
    }

    /// A directory of ours, whose links may lead anywhere.
    pub(in crate::symbol) fn open(path: &Path) -> Option<Self> {
        Some(Self {
            directory: directory(path)?,
            _namespace: None,
            prefix: PathBuf::from("/"),
            closed: false,
        })
    }

    /// A directory as if it were another process's root.
    #[cfg(test)]
    pub(super) fn closed(path: &Path) -> Option<Self> {
        Some(Self { closed: true, ..Self::open(path)? })
    }

    /// A path of the process's namespace as a path below this directory; `None` if it is outside.
    pub(in crate::symbol) fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let inside = path.strip_prefix(&self.prefix).ok()?;
        // The kernel writes no such paths; a capture is a file that anybody may have written.
        let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        (plain && !inside.as_os_str().is_empty()).then_some(inside)
    }

    /// Opens a regular file below the directory for reading.
    pub(in crate::symbol) fn file(&self, path: &Path) -> Option<File> {
        let name = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: `open_how` is plain integers, for which all zeros are valid.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        // A FIFO opens at once with O_NONBLOCK, and is then refused for what it is.
        how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) as u64;
        how.resolve = libc::RESOLVE_NO_MAGICLINKS | if self.closed { libc::RESOLVE_IN_ROOT } else { 0 };
        // SAFETY: the name ends with a 0, `how` has the size that is given, and both outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.directory.as_raw_fd(),
                name.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        let facts = file.metadata().ok()?;
        (facts.is_file() && facts.len() > 0 && facts.len() <= FILE_LIMIT).then_some(file)
    }
}

fn directory(path: &Path) -> Option<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    Some(OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?.into())
}
