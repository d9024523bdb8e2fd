//! A directory that files are opened below. Below the root of another mount namespace, which its owner furnishes, a symbolic link must not lead back
//! into ours, and opening must not hang on a FIFO. The same name means another file there than here.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::target::process::proc_path;

/// Larger files are left alone; the largest debug file that a distribution ships (of a browser) is below.
const FILE_LIMIT: u64 = 8 << 30;

/// A directory, held open: it stays usable when the process whose root it was has ended.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    /// The mount namespace, if it is another process's: it lives as long as somebody holds it.
    namespace: Option<File>,
    /// What paths begin with that are given in terms of a larger root than this (a target in a chroot).
    pub(crate) prefix: PathBuf,
    /// Symbolic links are resolved as if this were `/`.
    closed: bool,
}

impl Root {
    /// The root directory of a process, as the process sees it; `None` if it is gone or not ours to look into.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let link = proc_path(pid, "root");
        let namespace = File::open(proc_path(pid, "ns/mnt")).ok();
        let prefix = fs::read_link(&link).ok()?;
        Some(Self { directory: directory(&link)?, namespace, prefix, closed: true })
    }

    /// A directory of ours, whose links may lead anywhere.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        Some(Self { directory: directory(path)?, namespace: None, prefix: PathBuf::from("/"), closed: false })
    }

    /// A directory as if it were another process's root.
    #[cfg(test)]
    pub(crate) fn closed(path: &Path) -> Option<Self> {
        Some(Self { closed: true, ..Self::open(path)? })
    }

    /// A path of the process's namespace as a path below this directory; `None` if it is outside.
    pub(crate) fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let inside = path.strip_prefix(&self.prefix).ok()?;
        // The kernel writes no such paths; a capture is a file that anybody may have written.
        let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        (plain && !inside.as_os_str().is_empty()).then_some(inside)
    }

    /// Whether a path means the same file there as here: no mount namespace of its own, and no `chroot`.
    pub(crate) fn is_ours(&self) -> bool {
        let ours = || fs::metadata("/proc/self/ns/mnt").ok().map(|namespace| namespace.ino());
        let theirs = self.namespace.as_ref().and_then(|namespace| namespace.metadata().ok());
        self.prefix == Path::new("/") && theirs.is_none_or(|namespace| Some(namespace.ino()) == ours())
    }

    /// Has a command begin below the directory, in its mount namespace.
    ///
    /// # Errors
    /// When we have no descriptors left.
    pub(crate) fn enter(&self, command: &mut Command) -> io::Result<()> {
        let directory = self.directory.try_clone()?;
        let namespace = self.namespace.as_ref().map(File::try_clone).transpose()?;
        let begin = move || {
            let done = |status: libc::c_int| {
                if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            };
            // SAFETY: plain system calls on the child's own attributes with descriptors that the closure owns; they take no lock and allocate nothing.
            unsafe {
                if let Some(namespace) = &namespace {
                    done(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS))?;
                }
                done(libc::fchdir(directory.as_raw_fd()))?;
                done(libc::chroot(c".".as_ptr()))
            }
        };
        // SAFETY: between fork and exec only the system calls above run.
        unsafe { command.pre_exec(begin) };
        Ok(())
    }

    /// Opens a regular file below the directory for reading.
    pub(crate) fn file(&self, path: &Path) -> Option<File> {
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
