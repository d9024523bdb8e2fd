//! The thing that is made: the binary `unshed`, and whether this machine lets it run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run;

/// Builds the binary and returns its path.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut cargo = run::cargo();
    cargo.current_dir(run::root()).args(["build", "--package", "tracer-user", "--bin", "unshed"]);
    if release {
        cargo.arg("--release");
    }
    run::loudly("building unshed", &mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    Ok(run::target_dir().join(profile).join("unshed"))
}

/// Fails in one line when this process may not load BPF programs or attach uprobes.
pub(crate) fn kernel_lets_us() -> Result<()> {
    if !run::is_root() {
        bail!(
            "BPF programs need root; run it as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask …`"
        );
    }
    if !can_load(&std::fs::read_to_string("/proc/self/status")?) {
        bail!(
            "this root has neither CAP_SYS_ADMIN nor CAP_BPF with CAP_PERFMON; start the container with them"
        );
    }
    for (path, what) in [
        ("/proc/sys/kernel/unprivileged_bpf_disabled", "the bpf system call (CONFIG_BPF_SYSCALL)"),
        ("/sys/bus/event_source/devices/uprobe", "uprobes (CONFIG_UPROBE_EVENTS), or /sys is not mounted"),
    ] {
        if !Path::new(path).exists() {
            bail!("the kernel lacks {what}: there is no {path}; unshed cannot run on it");
        }
    }
    Ok(())
}

/// Whether the effective capabilities suffice: CAP_SYS_ADMIN (21), or CAP_BPF (39) and CAP_PERFMON (38).
fn can_load(status: &str) -> bool {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let caps = u64::from_str_radix(hex.trim(), 16).unwrap_or_default();
    let has = |cap: u32| caps >> cap & 1 == 1;
    has(21) || (has(39) && has(38))
}

#[cfg(test)]
mod tests {
    use super::can_load;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert!(can_load("Name:\tx\nCapEff:\t0000000000200000\n"));
        assert!(can_load("CapEff:\t000000c000000000\n"));
        assert!(!can_load("CapEff:\t0000008000000000\n"));
        assert!(!can_load("Name:\tx\n"));
    }
}
