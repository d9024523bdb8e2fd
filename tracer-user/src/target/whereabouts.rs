//! Where a process lives: under which ids others know it, in which cgroups and container it is, and what of the host it does not share with us.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::target::cgroup::{self, Cgroup, Container};
use crate::target::process::{proc_path, read_text};

/// PID namespaces are at most so deep (include/linux/pid_namespace.h, `MAX_PID_NS_LEVEL`), and the first one.
const LEVELS: usize = 33;

/// The kernel's names of namespaces (namespaces(7)), and ours.
const NAMESPACES: [(&str, &str); 5] =
    [("mnt", "mount"), ("pid", "pid"), ("user", "user"), ("cgroup", "cgroup"), ("net", "network")];

/// Where a process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its ids, from our PID namespace inwards: the last one is what it takes itself for.
    pub namespace_pids: Vec<u32>,
    /// Namespaces that it does not share with us.
    pub namespaces: Vec<&'static str>,
    /// Its root directory, as we name it; `None` if that is `/`.
    pub root: Option<PathBuf>,
    /// Its place in each hierarchy of cgroups.
    pub cgroups: Vec<Cgroup>,
    /// The container that its cgroups tell of.
    pub container: Option<Container>,
    /// We are in the cgroup that tells most ourselves.
    pub shares_cgroup: bool,
}

impl Whereabouts {
    /// Of a process by its id in our PID namespace; what cannot be read is left out.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let read = |name| read_text(pid, name).unwrap_or_default();
        let cgroups = cgroup::parse(&read("cgroup"));
        let own = cgroup::parse(&read_text(std::process::id(), "cgroup").unwrap_or_default());
        let telling = cgroup::telling(&cgroups);
        Self {
            namespace_pids: namespace_pids(&read("status")),
            namespaces: NAMESPACES
                .iter()
                .filter(|(name, _)| is_other(pid, name))
                .map(|(_, ours)| *ours)
                .collect(),
            root: proc_path(pid, "root").read_link().ok().filter(|root| root != Path::new("/")),
            container: cgroup::container(&cgroups),
            shares_cgroup: telling.is_none_or(|telling| own.contains(telling)),
            cgroups,
        }
    }

    /// The path that tells most of where it belongs; `None` for one at the root of all hierarchies.
    #[must_use]
    pub fn cgroup(&self) -> Option<&str> {
        cgroup::telling(&self.cgroups).map(|cgroup| cgroup.path.as_str())
    }
}

/// The line `NSpid:` of `/proc/PID/status` (proc(5)): the ids of a process, from the namespace of `/proc` inwards. Empty if there is none that makes sense.
#[must_use]
pub fn namespace_pids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_ascii_whitespace().take(LEVELS).map_while(|word| word.parse().ok()).collect()
}

/// Whether a process is in another namespace of a kind than we.
fn is_other(pid: u32, name: &str) -> bool {
    let of = |path: PathBuf| path.metadata().ok().map(|facts| (facts.dev(), facts.ino()));
    let theirs = of(proc_path(pid, &format!("ns/{name}")));
    theirs.is_some() && theirs != of(PathBuf::from(format!("/proc/self/ns/{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_told_from_outside_inwards() {
        assert_eq!(namespace_pids("Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t7\n"), [4711, 12, 1]);
        assert_eq!(namespace_pids("NSpid:\t4711"), [4711]);
        // A kernel without PID namespaces, a line that is cut, a number that is none.
        for none in ["Name:\tx\n", "NSpid:\n", "NSpid:\tx 1", ""] {
            assert!(namespace_pids(none).is_empty(), "{none}");
        }
        assert_eq!(namespace_pids("NSpid: 4711 -1 1"), [4711]);
        assert_eq!(namespace_pids(&format!("NSpid:{}", " 7".repeat(1000))).len(), LEVELS);
    }

    #[test]
    fn we_are_where_we_are() {
        let own = Whereabouts::of(std::process::id());
        assert_eq!((own.namespaces.len(), own.root.as_ref(), own.shares_cgroup), (0, None, true), "{own:?}");
        assert_eq!(own.namespace_pids.first(), Some(&std::process::id()));
        // One that is gone is nowhere.
        assert_eq!(Whereabouts::of(u32::MAX), Whereabouts { shares_cgroup: true, ..Whereabouts::default() });
    }

    proptest! {
        #[test]
        fn any_status_ends(status in "(NSpid:)?[0-9 \\t\\n\\PC]{0,200}") {
            prop_assert!(namespace_pids(&status).len() <= LEVELS);
        }
    }
}
