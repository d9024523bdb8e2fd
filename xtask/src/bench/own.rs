//! What a process costs by itself: its CPU time and the most memory that it ever had resident, read from /proc until it ends.

use std::time::{Duration, Instant};

/// How often the memory is looked at: the kernel keeps the maximum, only the last moment is missed.
const GLANCE: Duration = Duration::from_millis(20);
/// The unit of CPU times in /proc on Linux, for user space, whatever the kernel's own (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Own {
    pub(crate) cpu_seconds: f64,
    /// `VmHWM`.
    pub(crate) peak_rss_bytes: u64,
}

/// Looks at a child until it has ended and is not reaped yet; `None` when it lasts longer than so many seconds or cannot be read.
pub(crate) fn to_the_end(pid: u32, seconds: f64) -> Option<Own> {
    let started = Instant::now();
    let mut own = Own::default();
    while started.elapsed().as_secs_f64() < seconds {
        let (ended, cpu_seconds) = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        own.cpu_seconds = cpu_seconds;
        if ended {
            return Some(own);
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        own.peak_rss_bytes = own.peak_rss_bytes.max(parse_peak(&status).unwrap_or(0));
        std::thread::sleep(GLANCE);
    }
    None
}

/// The CPU time of a process and all its threads until now, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    Some(parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.1)
}

/// Whether a process has ended, and its CPU seconds. The name, in parentheses, may hold anything.
fn parse_stat(stat: &str) -> Option<(bool, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // Fields 3, 14 and 15 of proc_pid_stat(5): state, utime, stime.
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((matches!(*fields.first()?, "Z" | "X"), (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND))
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_and_the_cpu_are_read_behind_the_name() {
        let stat = "42 (a) Z b) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 3 0 99 1 2";
        assert_eq!(parse_stat(stat), Some((false, 2.81)));
        assert_eq!(parse_stat(&stat.replace(") S", ") Z")), Some((true, 2.81)));
        assert_eq!(parse_stat("42 (a) S 1"), None);
    }

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t   2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(parse_peak("Name:\tx\n"), None);
    }

    #[test]
    fn a_child_is_seen_to_its_end() {
        let mut child = std::process::Command::new("sleep").arg("0.2").spawn().expect("there is sleep");
        let own = to_the_end(child.id(), 60.0).expect("it ends");
        assert!(own.peak_rss_bytes > 0, "{own:?}");
        assert!(child.wait().expect("it is ours").success());
    }
}
