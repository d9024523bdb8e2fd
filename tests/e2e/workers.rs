//! The workers of `prefork.py`.

use serde_json::Value;
use unshed_tests::harness::{Recording, Target};

/// Lets a target have workers, and waits until each is traced.
pub(crate) fn start(target: &mut Target, recording: &mut Recording, command: &str) -> Vec<u32> {
    let workers = pids(&target.ask(command)["workers"]);
    let mut missing = workers.clone();
    while !missing.is_empty() {
        let pid = recording.following();
        missing.retain(|worker| *worker != pid);
    }
    workers
}

/// The process ids of a list.
pub(crate) fn pids(list: &Value) -> Vec<u32> {
    list.as_array().expect("a list").iter().map(pid).collect()
}

/// A process id.
pub(crate) fn pid(of: &Value) -> u32 {
    of.as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}
