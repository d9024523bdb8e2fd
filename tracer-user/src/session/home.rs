//! Where the target lives, for the report.

use crate::report::story::{Cgroup, Container, Home};
use crate::target::whereabouts::Whereabouts;

/// The same as the reports keep it.
#[must_use]
pub fn of(found: &Whereabouts) -> Home {
    let cgroups = found.cgroups.iter();
    Home {
        namespace_pids: found.namespace_pids.clone(),
        namespaces: found.namespaces.iter().map(|&name| name.to_owned()).collect(),
        root: found.root.as_ref().map(|root| root.display().to_string()),
        cgroup: found.cgroup().map(str::to_owned),
        cgroup_shared: found.shares_cgroup,
        cgroups: cgroups
            .map(|cgroup| Cgroup { controllers: cgroup.controllers.clone(), path: cgroup.path.clone() })
            .collect(),
        container: found
            .container
            .as_ref()
            .map(|container| Container { runtime: container.runtime.clone(), id: container.id.clone() }),
    }
}
