//! `uprobe_multi`: all probe points of a file in one link. aya 0.14 cannot load such a program, so aya-obj and `bpf(2)` do it here; aya 0.16 can, and
//! will replace this file.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::bpf_prog_type::{BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_RAW_TRACEPOINT};
use aya_obj::{Object, ProgramSection};

use crate::error::{Context, Error, Result};
use crate::kernel::{self, Loaded, TRACE_UPROBE_MULTI};
use crate::probe::load::{OBJECT, Probes, STAGES, refused};

/// The kernel's release from which a pid filter covers the whole process (6.10, commit 46ba0e49b642); before, it silently covered one thread.
const FIRST_RELEASE: (u32, u32) = (6, 10);

/// Whether this kernel's `uprobe_multi` can be trusted, from its release ("6.18.44-…").
#[must_use]
pub fn supported(release: &str) -> bool {
    series(release) >= FIRST_RELEASE
}

/// The first two numbers of a release.
pub(crate) fn series(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Loads a program of the object for `uprobe_multi`, or (`attach_type` 0) as the object has it, with the maps that `probes` has made.
///
/// # Errors
/// What the verifier says.
pub fn load(probes: &Probes, program: &str, attach_type: u32) -> Result<Loaded> {
    let mut object = Object::parse(OBJECT).context("the embedded object")?;
    let maps: Vec<_> = object.maps.drain().collect();
    let fds = maps.iter().filter_map(|(name, map)| {
        let data = probes.map_data(name)?;
        Some((name.as_str(), data.fd().as_fd().as_raw_fd(), map))
    });
    let text: HashSet<_> = object.functions.keys().map(|&(section, _)| section).collect();
    object.relocate_maps(fds, &text).context("the embedded object's maps")?;
    object.relocate_calls(&text).context("the embedded object's calls")?;
    let found = object
        .programs
        .get(program)
        .ok_or_else(|| Error::failed(format!("the embedded object has no program {program}")))?;
    let prog_type = match found.section {
        ProgramSection::RawTracePoint => BPF_PROG_TYPE_RAW_TRACEPOINT,
        _ => BPF_PROG_TYPE_KPROBE,
    };
    let function = object
        .functions
        .get(&found.function_key())
        .ok_or_else(|| Error::failed(format!("the embedded object has no code for {program}")))?;
    kernel::load_program(program, prog_type as u32, attach_type, &function.instructions, &found.license)
        .map_err(|(cause, log)| match cause.raw_os_error() {
            Some(libc::EPERM) => refused(&cause),
            _ => Error::failed(format!("the kernel refused the program {program}: {cause}\n{log}")),
        })
}

/// The names of the object's programs.
///
/// # Errors
/// When the object cannot be parsed.
pub fn program_names() -> Result<Vec<String>> {
    let mut names: Vec<_> =
        Object::parse(OBJECT).context("the embedded object")?.programs.into_keys().collect();
    names.sort();
    Ok(names)
}

/// The program that sits on probe points: the same on instructions and on returns, so that the verifier walks it once.
#[derive(Debug)]
pub struct Programs {
    hit: Loaded,
    /// The programs that it calls; the kernel keeps them as long as their table lives, and we as long as this.
    #[expect(dead_code, reason = "held to be dropped")]
    stages: Vec<Loaded>,
}

impl Programs {
    /// Loads it.
    ///
    /// # Errors
    /// What the verifier says.
    pub fn load(probes: &Probes) -> Result<Self> {
        let hit = load(probes, "on_entry", TRACE_UPROBE_MULTI)?;
        let mut stages = Vec::new();
        for (stage, name) in STAGES {
            let loaded = load(probes, name, TRACE_UPROBE_MULTI)?;
            probes.set_stage(stage, loaded.fd.as_fd())?;
            stages.push(loaded);
        }
        Ok(Self { hit, stages })
    }

    /// Loads the one that only counts, in its place.
    ///
    /// # Errors
    /// What the verifier says.
    pub fn load_counting(probes: &Probes) -> Result<Self> {
        Ok(Self { hit: load(probes, "on_count", TRACE_UPROBE_MULTI)?, stages: Vec::new() })
    }

    /// Links it to (file offset, cookie) pairs of a file, for one process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn link(&self, path: &Path, points: &[(u64, u64)], returns: bool, pid: u32) -> Result<OwnedFd> {
        let c_path = CString::new(path.as_os_str().as_bytes()).context(path.display())?;
        kernel::link_uprobe_multi(self.hit.fd.as_fd(), &c_path, points, returns, pid)
            .context(format!("probes on {}", path.display()))
    }

    /// Run time in nanoseconds and runs, as far as the kernel has measured them.
    #[must_use]
    pub fn run_time(&self) -> (u64, u64) {
        kernel::run_time(self.hit.fd.as_fd()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::supported;

    #[test]
    fn releases_are_read() {
        assert!(supported("6.18.44-fc-v595"));
        assert!(supported("6.10.0"));
        assert!(supported("7.0-rc1"));
        assert!(!supported("6.9.12"));
        assert!(!supported("5.15.0-91-generic"));
        assert!(!supported(""));
    }
}
