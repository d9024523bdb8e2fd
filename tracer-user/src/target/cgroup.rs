//! Which cgroups a process is in, and which container they tell of: the text of `/proc/PID/cgroup`, whose names are the target's or its owner's to choose.

/// Lines that are read: one for each hierarchy of version 1, of which kernels have a dozen, and one of version 2.
const LINES: usize = 64;
/// Bytes of a path that are kept: `PATH_MAX`, which the kernel writes at most.
const PATH: usize = 4096;
/// Bytes of a hierarchy's controllers that are kept.
const CONTROLLERS: usize = 256;
/// Hexadecimal digits of a container's id: all of Docker, containerd, CRI-O and Podman make it so.
const ID: usize = 64;

/// A process's place in one hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// The hierarchy's controllers, or its name (`name=systemd`), as the kernel writes them; empty for version 2.
    pub controllers: String,
    /// Path from the root of our cgroup namespace; begins with `/..` where it lies outside of that.
    pub path: String,
}

/// A container that a path tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Who runs it, as the path has it: `docker`, `cri-containerd`, `crio`, `libpod`; `kubepods` where only that is said; may be empty.
    pub runtime: String,
    /// Its id.
    pub id: String,
}

/// The hierarchies in the text of `/proc/PID/cgroup` (cgroups(7)): `4:memory:/path`, version 2 is `0::/path`. Lines that make no sense are skipped.
#[must_use]
pub fn parse(text: &str) -> Vec<Cgroup> {
    let parse = |line: &str| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        id.parse::<u32>().ok()?;
        let makes_sense = path.starts_with('/') && path.len() <= PATH && controllers.len() <= CONTROLLERS;
        makes_sense.then(|| Cgroup { controllers: controllers.to_owned(), path: path.to_owned() })
    };
    text.lines().take(LINES).filter_map(parse).collect()
}

/// The path that tells most of where a process belongs: the first of these that is not the root: version 2, systemd's own, the one of memory, any.
/// On hosts with both versions, container runtimes use version 1.
#[must_use]
pub fn telling(cgroups: &[Cgroup]) -> Option<&Cgroup> {
    let away = || cgroups.iter().filter(|cgroup| cgroup.path != "/");
    let rank = |cgroup: &&Cgroup| {
        let controllers = cgroup.controllers.as_str();
        let has_container = container_in(&cgroup.path).is_some();
        let rank = match controllers {
            "" => 0,
            "name=systemd" => 1,
            _ if controllers.split(',').any(|one| one == "memory") => 2,
            _ => 3,
        };
        (!has_container, rank)
    };
    away().min_by_key(rank)
}

/// The container that any of the paths tells of.
#[must_use]
pub fn container(cgroups: &[Cgroup]) -> Option<Container> {
    container_in(&telling(cgroups)?.path)
}

/// The innermost part of a path that is a container's id, alone (`/docker/ID`) or with its runtime (`docker-ID.scope`, `SLICE:cri-containerd:ID`).
fn container_in(path: &str) -> Option<Container> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    parts.iter().enumerate().rev().find_map(|(at, part)| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (before, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
        let is_id = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        // The conmon that waits beside a container is none.
        if !is_id || before.ends_with("conmon") {
            return None;
        }
        let said = before.rsplit(':').next().filter(|said| !said.is_empty());
        let runtime = said.or_else(|| outer(&parts[..at])).unwrap_or_default();
        Some(Container { runtime: runtime.to_owned(), id: id.to_owned() })
    })
}

/// What the parts around an id that stands alone say of who runs it.
fn outer<'p>(parts: &[&'p str]) -> Option<&'p str> {
    let known = ["docker", "kubepods", "crio", "containerd", "libpod_parent", "ecs", "garden"];
    parts
        .iter()
        .rev()
        .map(|part| part.strip_suffix(".slice").unwrap_or(part))
        .find(|part| known.contains(part))
}

#[cfg(test)]
mod tests;
