//! Where a process lives, as the reports tell it: its ids outside and inside, its cgroups, its container, and what it does not share with unshed.

use serde::{Deserialize, Serialize};

use super::plain;

/// Digits of a container's id that people read.
const SHORT_ID: usize = 12;

/// Where a process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Home {
    /// Its process ids, from unshed's PID namespace inwards: the last one is what it takes itself for.
    pub namespace_pids: Vec<u32>,
    /// Namespaces that it does not share with unshed: `mount`, `pid`, `user`, `cgroup`, `network`.
    pub namespaces: Vec<String>,
    /// Its root directory, as unshed names it, if that is not `/`.
    pub root: Option<String>,
    /// The path of the cgroup that tells most of where it belongs; `None` if it is at the root of all hierarchies.
    pub cgroup: Option<String>,
    /// Unshed is in that cgroup too.
    pub cgroup_shared: bool,
    /// Its place in each hierarchy.
    pub cgroups: Vec<Cgroup>,
    /// The container that its cgroups tell of.
    pub container: Option<Container>,
}

/// A place in a hierarchy of cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Controllers, or the name, of a hierarchy of version 1; empty for version 2.
    pub controllers: String,
    /// Path from the root of unshed's cgroup namespace.
    pub path: String,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Who runs it, as the cgroup's path says; may be empty.
    pub runtime: String,
    /// Its id.
    pub id: String,
}

impl Home {
    /// What there is to say to people, as clauses; none of a process that lives where unshed does.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(Container { runtime, id }) = &self.container
            && !self.cgroup_shared
        {
            let id = id.get(..SHORT_ID).unwrap_or(id);
            let runtime = if runtime.is_empty() { String::new() } else { format!("{runtime} ") };
            told.push(plain::clean(&format!("{runtime}container {id}")).into_owned());
        }
        if let [_, .., inside] = self.namespace_pids[..] {
            told.push(format!("pid {inside} inside"));
        }
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.cgroup_shared) {
            told.push(plain::clean(&format!("cgroup {cgroup}")).into_owned());
        }
        if let Some(root) = &self.root {
            told.push(plain::clean(&format!("root {root}")).into_owned());
        }
        if let Some((last, others)) = self.namespaces.split_last() {
            let names =
                if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
            told.push(format!("{names} namespace{} of its own", if others.is_empty() { "" } else { "s" }));
        }
        told
    }

    /// The same in a word for a table: the container, else the last part of the cgroup, else the root directory, else the id inside; `-` if there is nothing to say.
    #[must_use]
    pub fn word(&self) -> String {
        let container = self.container.as_ref().map(|Container { runtime, id }| {
            let runtime = if runtime.is_empty() { "container" } else { runtime };
            format!("{runtime}:{}", id.get(..SHORT_ID).unwrap_or(id))
        });
        let last = |path: &String| path.rsplit('/').find(|part| !part.is_empty()).map(str::to_owned);
        let cgroup = || self.cgroup.as_ref().filter(|_| !self.cgroup_shared).and_then(last);
        let inside = || match self.namespace_pids[..] {
            [_, .., inside] => Some(format!("pid {inside}")),
            _ => None,
        };
        let word = container.filter(|_| !self.cgroup_shared).or_else(cgroup);
        let word = word.or_else(|| self.root.as_ref().and_then(last)).or_else(inside);
        word.map_or_else(|| "-".to_owned(), |word| plain::clean(&word).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Home {
        Home {
            namespace_pids: vec![4711, 7],
            namespaces: ["mount", "pid", "cgroup"].map(str::to_owned).to_vec(),
            cgroup: Some("/kubepods.slice/cri-containerd-0123456789abcdef.scope".to_owned()),
            container: Some(Container {
                runtime: "cri-containerd".to_owned(),
                id: "0123456789abcdef".to_owned(),
            }),
            ..Home::default()
        }
    }

    #[test]
    fn who_lives_here_needs_no_word() {
        let here = Home {
            namespace_pids: vec![4711],
            cgroup: Some("/a".to_owned()),
            cgroup_shared: true,
            ..Home::default()
        };
        assert_eq!((here.told(), here.word().as_str()), (Vec::new(), "-"));
        assert_eq!(Home::default().word(), "-");
    }

    #[test]
    fn a_container_is_told_by_its_id() {
        let told = [
            "cri-containerd container 0123456789ab",
            "pid 7 inside",
            "cgroup /kubepods.slice/cri-containerd-0123456789abcdef.scope",
            "mount, pid and cgroup namespaces of its own",
        ];
        assert_eq!(
            (pod().told(), pod().word().as_str()),
            (told.map(str::to_owned).to_vec(), "cri-containerd:0123456789ab")
        );
        // Seen from inside, it is where we are.
        let inside = Home { cgroup_shared: true, namespaces: Vec::new(), namespace_pids: vec![7], ..pod() };
        assert_eq!((inside.told(), inside.word().as_str()), (Vec::new(), "-"));
    }

    #[test]
    fn others_are_told_by_what_they_have() {
        let service = Home { cgroup: Some("/system.slice/web.service".to_owned()), ..Home::default() };
        assert_eq!(
            (service.word().as_str(), service.told()),
            ("web.service", vec!["cgroup /system.slice/web.service".to_owned()])
        );
        let chroot = Home { root: Some("/srv/old".to_owned()), ..Home::default() };
        assert_eq!((chroot.word().as_str(), chroot.told()), ("old", vec!["root /srv/old".to_owned()]));
        let namespace =
            Home { namespace_pids: vec![9, 1], namespaces: vec!["pid".to_owned()], ..Home::default() };
        assert_eq!(namespace.word(), "pid 1");
        assert_eq!(namespace.told(), ["pid 1 inside", "pid namespace of its own"]);
    }

    #[test]
    fn hostile_names_cannot_move_the_cursor() {
        let container = Some(Container { runtime: "\u{1b}[2J".to_owned(), id: "é".repeat(20) });
        let home = Home { container, cgroup: Some("/\u{7}x".to_owned()), ..Home::default() };
        let all = home.told().join(" ") + &home.word();
        assert!(!all.contains(['\u{1b}', '\u{7}']), "{all:?}");
    }
}
