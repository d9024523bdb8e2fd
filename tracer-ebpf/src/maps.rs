//! Every map in one place: who writes it, who reads it, and what its fullness means for the truth of the report.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf};
use tracer_common::block::Block;
use tracer_common::config::{ProcessState, TraceConfig};
use tracer_common::hook::{HitKind, Hook, SlowCall, SlowCallKey};
use tracer_common::kin::KinConfig;
use tracer_common::limits::{
    CHUNK_ROWS, DEFAULT_BLOCKS, DEFAULT_SITES, MAX_FAMILY, MAX_HOOKS, MAX_INT_VALUES, MAX_MODULES, MAX_PAGES,
    MAX_RULES, MAX_SLOW_CALLS, MAX_THREADS, RING_BYTES,
};
use tracer_common::loss;
use tracer_common::native::Stage;
use tracer_common::sample::Gate;
use tracer_common::site::{IntTotals, IntValueKey, SiteTotals};
use tracer_common::unwind::{Module, Page, Row, Rule, View};

use crate::inflight::Thread;

/// What to trace. Written by the loader, read on every hit; the probes only ever clear `armed`.
#[map]
pub static CONFIG: Array<TraceConfig> = Array::with_max_entries(1, 0);

/// The gate of the sample engine. The loader opens and shuts it word by word, through memory that it shares with the probes: nothing that they add at
/// that moment is lost. Not used by a trace.
#[map]
pub static GATE: Array<Gate> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What is learnt of the running image. Written by the loader for a live process, else by the first hit.
#[map]
pub static PROCESS: Array<ProcessState> = Array::with_max_entries(1, 0);

/// Live blocks by address. A plain hash that refuses when it is full: an LRU would forget the oldest blocks, which are the leaked ones.
/// Not preallocated: it costs what it holds. Read by the loader once, after the probes are disarmed.
#[map]
pub static BLOCKS: HashMap<u64, Block> = HashMap::with_max_entries(DEFAULT_BLOCKS, BPF_F_NO_PREALLOC);

/// Sums per site. Elements are never removed while a trace runs, so a pointer to one stays good. When it is full, the element
/// [`tracer_common::site::OTHER_SITES`], which the loader made, takes the rest.
#[map]
pub static SITES: HashMap<u64, SiteTotals> = HashMap::with_max_entries(DEFAULT_SITES, BPF_F_NO_PREALLOC);

/// The call that each thread is in, and its private room to work. Written and read by that thread's hits alone.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(MAX_THREADS, BPF_F_NO_PREALLOC);

/// One zeroed thread to begin from: it is too large for a program's stack.
#[map]
pub static EMPTY_THREAD: Array<Thread> = Array::with_max_entries(1, 0);

/// One zeroed site to begin from.
#[map]
pub static EMPTY_SITE: Array<SiteTotals> = Array::with_max_entries(1, 0);

/// `--ints`: calls of `PyLong_FromLong` per site.
#[map]
pub static INTS: HashMap<u64, IntTotals> = HashMap::with_max_entries(DEFAULT_SITES, BPF_F_NO_PREALLOC);

/// `--ints`: how often a site made a value. What no longer fits is counted as `int_values_full`.
#[map]
pub static INT_VALUES: HashMap<IntValueKey, u64> =
    HashMap::with_max_entries(MAX_INT_VALUES, BPF_F_NO_PREALLOC);

/// New stacks and the target's own milestones, in order. A stack that finds it full is sent at the site's next hit.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// One counter per row of the loss table; added to atomically, so that no CPU's count is lost.
#[map]
pub static LOSSES: Array<u64> = Array::with_max_entries(loss::ROWS, 0);

/// Hits while armed, per CPU and [`HitKind`].
#[map]
pub static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(HitKind::ROWS, 0);

/// `on_count`: hits per probe point, by its cookie. The loader makes room for the points that it counts, or for none when it traces.
#[map]
pub static POINT_HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_HOOKS, 0);

/// What each probe point means; a hit's attach cookie is its place here. Written by the loader before anything is attached. Place 0 means nothing.
#[map]
pub static HOOKS: Array<Hook> = Array::with_max_entries(MAX_HOOKS, 0);

/// Addresses at which code objects were seen, as a set of bits; a free of one of them ends what was remembered of code objects.
#[map]
pub static CODE_BITS: Array<u64> = Array::with_max_entries(tracer_common::limits::CODE_BITS / 64, 0);

/// The calls of `allocate_from_new_pool`, by return address. Written by the loader before anything is attached.
#[map]
pub static SLOW_CALLS: HashMap<SlowCallKey, SlowCall> =
    HashMap::with_max_entries(MAX_SLOW_CALLS, BPF_F_NO_PREALLOC);

/// The programs that a hit goes through, one calling the next. Written by the loader before anything is attached. A program with a tail call in it is not given a private
/// stack, which on preemptible kernels from 6.13 on two threads could share on one CPU (kernel/bpf/verifier.c, `check_max_stack_depth`; facts/ebpf.md §2.6).
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(Stage::COUNT, 0);

/// Which part of `MODULES` is valid. Written by the loader whenever the target's mapped code has changed.
#[map]
pub static VIEW: Array<View> = Array::with_max_entries(1, 0);

/// The target's mapped code by address, in two halves, of which one is valid and the other free for the next state.
#[map]
pub static MODULES: Array<Module> = Array::with_max_entries(2 * MAX_MODULES, 0);

/// Where each page of code has its unwind rows. What a valid module refers to never changes.
#[map]
pub static PAGES: Array<Page> = Array::with_max_entries(MAX_PAGES, 0);

/// Unwind rows. The loader makes room for what the target has mapped, and some more.
#[map]
pub static ROWS: Array<[Row; CHUNK_ROWS]> = Array::with_max_entries(1, 0);

/// Unwind rules.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, 0);

/// Where the kernel keeps what a fork is told by. Written by the loader before the family is watched.
#[map]
pub static KIN: Array<KinConfig> = Array::with_max_entries(1, 0);

/// The living processes of the watched family, by their ids in the kernel's own namespace. The loader enters the first ones, `kin` those that they fork.
#[map]
pub static FAMILY: HashMap<u32, u32> = HashMap::with_max_entries(MAX_FAMILY, BPF_F_NO_PREALLOC);
