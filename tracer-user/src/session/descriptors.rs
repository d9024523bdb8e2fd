//! Room for file descriptors: every file with code that the target has mapped is held open, and the usual limit of 1,024 is for programs that do not.

use std::io;

/// What the limit was; a command that we start gets it back, because not every program bears more (`select`).
#[derive(Clone, Copy)]
pub(super) struct Before(libc::rlimit);

/// Raises the limit as far as it may be raised. `None` where it could not be.
pub(super) fn raise() -> Option<Before> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the destination is ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let before = Before(limit);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads the structure only.
    (unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0).then_some(before)
}

impl Before {
    /// Puts the limit back. One system call, which may be made between fork and exec.
    pub(super) fn restore(self) -> io::Result<()> {
        // SAFETY: reads the structure only.
        let status = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
