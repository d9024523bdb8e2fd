//! Object to kernel: maps of the size that was asked for, the configuration, and the programs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use tracer_common::config::{ProcessState, TraceConfig};
use tracer_common::hook::{Hook, SlowCall, SlowCallKey};
use tracer_common::limits::{CHUNK_ROWS, MAX_HOOKS, MAX_SLOW_CALLS, RING_BYTES};
use tracer_common::native::Stage;
use tracer_common::sample::Gate;
use tracer_common::site::{OTHER_SITES, SiteTotals};

use crate::error::{Context, Error, Kind, Result};
use crate::kernel;
use crate::probe::doctor::kernel_release;
use crate::probe::gate::SharedGate;
use crate::probe::multi;

/// The probes, built by build.rs.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("UNSHED_PROBES"));

/// The programs that a hit calls, one after the other, and their places in the table of programs.
pub(crate) const STAGES: [(Stage, &str); Stage::COUNT as usize] =
    [(Stage::Native, "on_native"), (Stage::Books, "on_books")];

/// The release from which the kernel has no warning for tracing programs whose maps are not allocated beforehand (kernel/bpf/verifier.c,
/// `check_map_prog_compatibility`; `cargo xtask kernels` sees it on 5.15 and not on 6.1).
const QUIET_RELEASE: (u32, u32) = (6, 1);

/// Bounds of the kernel's memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Live blocks.
    pub blocks: u32,
    /// Sites.
    pub sites: u32,
    /// Unwind rows.
    pub rows: u32,
}

/// Where nothing is traced.
const SMALLEST: Limits = Limits { blocks: 1, sites: 1, rows: 0 };
/// Bytes of a family's ring: 2,000 forks that nobody has read of yet.
const FAMILY_RING_BYTES: u32 = 64 << 10;

/// Whether the probes' own debug messages are wanted. Off, the messages are not even in the loaded programs: the level is a
/// constant that the verifier knows, and it removes what cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeLog {
    /// No messages.
    Off,
    /// Everything, through aya-log.
    Debug,
}

/// The loaded object: its maps, and its programs as aya holds them.
pub struct Probes {
    ebpf: Ebpf,
    gate: SharedGate,
}

impl Probes {
    /// Creates the maps and prepares the programs; nothing is attached.
    ///
    /// # Errors
    /// [`Kind::Privilege`] when the kernel does not let us, else what it says.
    pub fn load(limits: Limits, log: ProbeLog) -> Result<Self> {
        Self::load_with(limits, log, 1, RING_BYTES)
    }

    /// The same for the programs that watch a family, with maps as small as they go.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_for_family() -> Result<Self> {
        Self::load_with(SMALLEST, ProbeLog::Off, 1, FAMILY_RING_BYTES)
    }

    /// The same for a plan whose hits are counted and not traced: with maps as small as they go, but a counter for each of so many points.
    ///
    /// # Errors
    /// As [`Self::load`]; and when there are more points than a trace could have.
    pub fn load_for_counting(points: usize) -> Result<Self> {
        let counters =
            u32::try_from(points).ok().filter(|points| *points < MAX_HOOKS).map(|points| points + 1);
        let counters = counters.ok_or_else(|| too_many(points))?;
        Self::load_with(SMALLEST, ProbeLog::Off, counters, RING_BYTES)
    }

    fn load_with(limits: Limits, log: ProbeLog, counters: u32, ring_bytes: u32) -> Result<Self> {
        if would_panic(&kernel_release(), &panic_on_warn()) {
            return Err(Error::failed("this kernel is set to panic on warnings, and kernels before 6.1 warn when such probes are loaded")
                .next("`sysctl kernel.panic_on_warn=0` for the time of the trace; the warning itself is harmless"));
        }
        let level: u8 = match log {
            ProbeLog::Off => 0,
            ProbeLog::Debug => 4,
        };
        let ebpf = EbpfLoader::new()
            .map_max_entries("BLOCKS", limits.blocks)
            .map_max_entries("SITES", limits.sites.saturating_add(1))
            .map_max_entries("INTS", limits.sites)
            .map_max_entries("POINT_HITS", counters)
            .map_max_entries("RING", ring_bytes)
            .map_max_entries("ROWS", limits.rows.div_ceil(CHUNK_ROWS as u32).max(1))
            .override_global("AYA_LOG_LEVEL", &level, true)
            .load(OBJECT)
            .map_err(|cause| refused(&cause))?;
        let gate = ebpf.map("GATE").and_then(map_data);
        let gate = gate.ok_or_else(|| Error::failed("the object has no map GATE"))?;
        let gate = SharedGate::of(gate.fd().as_fd())?;
        let mut probes = Self { ebpf, gate };
        let mut sites: HashMap<_, u64, SiteTotals> = probes.typed("SITES")?;
        sites
            .insert(OTHER_SITES, SiteTotals { stack_sent: 1, ..SiteTotals::default() }, 0)
            .context("the site map")?;
        Ok(probes)
    }

    /// Writes what to trace, with counting off.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn configure(&mut self, config: TraceConfig, process: ProcessState) -> Result<()> {
        let mut map: Array<_, TraceConfig> = self.typed("CONFIG")?;
        map.set(0, TraceConfig { armed: 0, ..config }, 0).context("the configuration map")?;
        let mut map: Array<_, ProcessState> = self.typed("PROCESS")?;
        map.set(0, process, 0).context("the process map")
    }

    /// Opens the gate for a window: from now on hits are logged. The gate's `window` must be another than the last one's, and not 0; it is taken as
    /// open whatever `open` says.
    pub fn open_gate(&mut self, gate: Gate) {
        self.gate.open(gate);
    }

    /// Ends the window, if the probes have not, and says what it has come to. From now on deaths alone are logged, until the gate is shut.
    pub fn end_window(&mut self) -> Gate {
        self.gate.end()
    }

    /// Shuts the gate, if the probes have not, and says what the window has come to. Hits that are under way may still add to it for some microseconds, and log
    /// what happens in them.
    pub fn close_gate(&mut self) -> Gate {
        self.gate.close()
    }

    /// The gate as it is now.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.gate.read()
    }

    /// Writes what the probe points mean. A point's attach cookie is its place in the list plus one: place 0 means nothing.
    ///
    /// # Errors
    /// When there are more than fit, or what the kernel says.
    pub fn set_hooks(&mut self, hooks: &[Hook], slow_calls: &[(SlowCallKey, SlowCall)]) -> Result<()> {
        if hooks.len() >= MAX_HOOKS as usize {
            return Err(too_many(hooks.len()));
        }
        let mut map: Array<_, Hook> = self.typed("HOOKS")?;
        for (index, hook) in (1u32..).zip(hooks) {
            map.set(index, hook, 0).context("the map of hooks")?;
        }
        let mut map: HashMap<_, SlowCallKey, SlowCall> = self.typed("SLOW_CALLS")?;
        for (key, call) in slow_calls.iter().take(MAX_SLOW_CALLS as usize) {
            map.insert(key, call, 0).context("the map of slow calls")?;
        }
        Ok(())
    }

    /// Makes a loaded program the one that a hit calls at a stage.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_stage(&self, stage: Stage, program: BorrowedFd<'_>) -> Result<()> {
        let map = self.map_data("PROGRAMS").ok_or_else(|| Error::failed("the object has no map PROGRAMS"))?;
        let fd = program.as_raw_fd() as u32;
        kernel::update_elem(map.fd().as_fd(), &(stage as u32), &fd).context("the table of programs")
    }

    /// Turns counting on or off. Off is final: hits that are under way finish within microseconds.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn arm(&mut self, on: bool) -> Result<()> {
        let mut map: Array<_, TraceConfig> = self.typed("CONFIG")?;
        let config = map.get(&0, 0).context("the configuration map")?;
        map.set(0, TraceConfig { armed: u32::from(on), ..config }, 0).context("the configuration map")
    }

    /// Whether counting is on; the kernel turns it off when the interpreter ends.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn armed(&mut self) -> Result<bool> {
        let map: Array<_, TraceConfig> = self.typed("CONFIG")?;
        Ok(map.get(&0, 0).context("the configuration map")?.armed == 1)
    }

    /// Follows the ends of threads and the replacement of images, on the whole host; both programs look at the target's only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch_process(&mut self) -> Result<()> {
        for (program, tracepoint) in
            [("on_thread_exit", "sched_process_exit"), ("on_exec", "sched_process_exec")]
        {
            let program: &mut RawTracePoint = self
                .ebpf
                .program_mut(program)
                .ok_or_else(|| Error::failed(format!("the object has no program {program}")))?
                .try_into()
                .context("the object")?;
            program.load().map_err(|cause| refused(&cause))?;
            program.attach(tracepoint).context(format!("tracepoint {tracepoint}"))?;
        }
        Ok(())
    }

    /// Hits of so many probe points that `on_count` has counted, in the order of the plan, over all CPUs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counted(&mut self, points: usize) -> Result<Vec<u64>> {
        self.counted_at((1u32..).take(points))
    }

    /// Hits of the points with these cookies.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counted_at(&mut self, cookies: impl Iterator<Item = u32>) -> Result<Vec<u64>> {
        let map: PerCpuArray<_, u64> = self.typed("POINT_HITS")?;
        cookies.map(|place| Ok(map.get(&place, 0).context("the counters of hits")?.iter().sum())).collect()
    }

    /// The ring of new stacks, once.
    ///
    /// # Errors
    /// When it was taken already.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>> {
        let map = self.ebpf.take_map("RING").ok_or_else(|| Error::failed("the ring was taken already"))?;
        RingBuf::try_from(map).context("the ring")
    }

    /// A map, by name, as a typed one.
    ///
    /// # Errors
    /// When the object has no such map, or it is of another type.
    pub fn typed<'a, T>(&'a mut self, name: &str) -> Result<T>
    where
        T: TryFrom<&'a mut Map, Error: std::fmt::Display>,
    {
        let map =
            self.ebpf.map_mut(name).ok_or_else(|| Error::failed(format!("the object has no map {name}")))?;
        T::try_from(map).context(name)
    }

    /// aya's view, for `attach` and the log.
    pub(crate) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// A map's data, by name.
    pub(crate) fn map_data(&self, name: &str) -> Option<&MapData> {
        map_data(self.ebpf.map(name)?)
    }
}

fn panic_on_warn() -> String {
    std::fs::read_to_string("/proc/sys/kernel/panic_on_warn").unwrap_or_default()
}

/// Whether loading the probes would bring the host down. Their maps grow as they are filled, and for that the kernel had a warning (once after each boot)
/// for all tracing programs, because a probe inside its own allocator might call that again; ours are in user space.
fn would_panic(release: &str, panic_on_warn: &str) -> bool {
    multi::series(release) < QUIET_RELEASE && !matches!(panic_on_warn.trim(), "" | "0")
}

fn too_many(points: usize) -> Error {
    Error::failed(format!("{points} probe points are more than the {MAX_HOOKS} that fit"))
}

/// The data inside a map of any type that the object uses.
fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// Turns the kernel's refusal into words. aya hides the system call's error in the chain of causes.
pub(crate) fn refused(cause: &(dyn std::error::Error + 'static)) -> Error {
    let mut chain = Some(cause);
    let mut words = cause.to_string();
    // What the verifier refuses has the same number as what we may not do; it says why.
    let mut judged = false;
    while let Some(link) = chain {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = link.downcast_ref() {
            judged |= !verifier_log.to_string().trim().is_empty();
        }
        if let Some(io) = link.downcast_ref::<std::io::Error>()
            && !judged
            && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return Error::new(Kind::Privilege, format!("the kernel does not let us load BPF programs: {io}"))
                .next("run as root, or with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_SYS_ADMIN; `unshed doctor` names what is missing");
        }
        let text = link.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        chain = link.source();
    }
    // The end of a verifier's log is what it refuses.
    let begin = words.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
    Error::failed(format!("the kernel refused the probes: {}", words[begin..].replace('\n', " ")))
        .next("`unshed doctor` says what this kernel allows")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_error(log: &str) -> ProgramError {
        let io_error = std::io::Error::from_raw_os_error(libc::EACCES);
        ProgramError::LoadError { io_error, verifier_log: aya_obj::VerifierLog::new(log.to_owned()) }
    }

    #[test]
    fn what_the_verifier_refuses_is_no_lack_of_privilege() {
        assert_eq!(refused(&load_error("")).kind(), Kind::Privilege);
        let refusal = refused(&load_error("R1 invalid mem access 'scalar'"));
        assert_eq!(refusal.kind(), Kind::Failed);
        assert!(refusal.to_string().contains("R1 invalid mem access"), "{refusal}");
    }

    #[test]
    fn only_old_kernels_that_panic_on_warnings_would() {
        assert!(would_panic("5.15.0-91-generic", "1\n"));
        assert!(would_panic("6.0.12", "1"));
        assert!(!would_panic("5.15.0-91-generic", "0\n"));
        assert!(!would_panic("5.15.0-91-generic", ""));
        assert!(!would_panic("6.1.0-50-cloud-amd64", "1"));
    }
}
