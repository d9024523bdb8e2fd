//! The causes of `tests/programs/service.py`, in the order of the table.

use anyhow::{Context, Result};

/// One cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What `--cause` takes.
    pub(crate) name: &'static str,
    /// Flags that `record` needs besides.
    pub(crate) args: &'static [&'static str],
}

const fn plain(name: &'static str) -> Case {
    Case { name, args: &[] }
}

/// The case without a leak.
pub(crate) const NONE: &str = "none";

/// All of them: without a leak, nine causes in Python, nine in C.
pub(crate) const ALL: [Case; 19] = [
    plain(NONE),
    plain("mutable_default"),
    plain("global_cache"),
    plain("cycles_gc_off"),
    plain("stored_tracebacks"),
    plain("class_list"),
    plain("callbacks"),
    plain("lru_cache_method"),
    plain("thread_locals"),
    plain("asyncio_tasks"),
    plain("c_int"),
    plain("c_reference"),
    // The C library's own allocator is watched on request.
    Case { name: "c_malloc", args: &["--domains", "object,mem,raw,libc"] },
    plain("c_mem"),
    plain("c_large"),
    plain("c_raw"),
    plain("c_dict"),
    plain("c_tuple"),
    plain("c_ctypes"),
];

/// The case of a name.
pub(crate) fn named(name: &str) -> Result<Case> {
    let case = ALL.iter().find(|case| case.name == name).copied();
    case.with_context(|| format!("there is no case {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighteen_leak() {
        assert_eq!(ALL.iter().filter(|case| case.name != NONE).count(), 18);
        assert_eq!(ALL.iter().filter(|case| case.name.starts_with("c_")).count(), 9);
        assert!(named("c_malloc").is_ok() && named("c_mallok").is_err());
    }
}
