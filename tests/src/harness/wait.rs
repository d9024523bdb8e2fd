//! Waiting: for a condition or for a child's end. Deadlines are there so that nothing hangs, never to time anything.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// For what is due at once on an idle machine.
pub const SHORT: Duration = Duration::from_secs(30);

/// For what computes: a traced program on a busy machine.
pub const LONG: Duration = Duration::from_secs(240);

/// How long the thread gives way between two looks at a condition.
const PARK: Duration = Duration::from_millis(2);

/// Looks at a condition until it holds.
///
/// # Panics
/// When it does not hold by the deadline; the message says what was waited for.
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "waited {} s in vain until {what}", deadline.as_secs());
        std::thread::park_timeout(PARK);
    }
}

/// Waits for a child to end.
///
/// # Panics
/// When it still runs at the deadline.
pub fn wait_exit(what: &str, child: &mut Child, deadline: Duration) -> ExitStatus {
    let mut status = None;
    wait_until(&format!("{what} ended"), deadline, || {
        status = child.try_wait().expect("a child of ours can be waited for");
        status.is_some()
    });
    status.expect("the loop ends with a status")
}

/// Sends a signal.
///
/// # Panics
/// When the process does not exist.
pub fn signal(pid: u32, number: i32) {
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    let result = unsafe { libc::kill(pid.cast_signed(), number) };
    assert_eq!(result, 0, "cannot send signal {number} to {pid}: {}", std::io::Error::last_os_error());
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}
