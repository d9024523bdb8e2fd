//! Our own priority: what we do little of must be done at once.

/// As far as priorities of usual processes are raised (setpriority(2): −20 is the highest).
const NICE: libc::c_int = -10;

/// From now on the calling thread, and those that it starts, go before usual ones. Where that is not allowed, a busy machine makes us late, and what is lost by it is counted and told.
pub(super) fn go_first() {
    // SAFETY: it takes three numbers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}
