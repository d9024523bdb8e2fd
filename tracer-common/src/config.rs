//! What the loader tells the probes: whom to trace, how deep, and where this CPython keeps its frames.

use crate::current::Current;
use crate::layout::PyLayout;

/// The one element of the `CONFIG` map. The loader writes it; the probes read it, and clear `armed` when the
/// interpreter begins to end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceConfig {
    /// 1 while hits count. Attaching and detaching take tens of milliseconds; this makes both ends exact.
    pub armed: u32,
    /// Frames kept of a stack, 1 to [`crate::limits::MAX_DEPTH`].
    pub max_depth: u32,
    /// Device of the target's PID namespace file, as `stat` gives it.
    pub ns_dev: u64,
    /// Inode of the target's PID namespace file.
    pub ns_ino: u64,
    /// The target's process id inside its own PID namespace.
    pub ns_tgid: u32,
    /// Bytes of a pool of pymalloc, a power of two.
    pub pool_bytes: u32,
    /// What a hit does, a sum of [`work`]s.
    pub work: u32,
    /// Which C frames are walked, a [`crate::native::Mode`].
    pub native: u32,
    /// What names the current thread state.
    pub current: Current,
    /// Bytes from the start of the kernel's `struct task_struct` to the thread pointer of user space (x86-64: `thread.fsbase`), as the running kernel's BTF has it; 0: not known.
    pub thread_pointer_at: u32,
    /// So many ints from 0 on CPython makes once and shares; and those from −5 on.
    pub small_ints: u32,
    /// Where this CPython keeps its thread state, frames and code objects.
    pub layout: PyLayout,
}

const _: () = assert!(size_of::<TraceConfig>() == 72 + size_of::<PyLayout>());
const _: () = assert!(core::mem::offset_of!(TraceConfig, layout) == 72);

/// What a hit may do; a trace does all of it, the benchmark measures the parts.
pub mod work {
    /// The stack is walked.
    pub const STACKS: u32 = 1;
    /// Sites are summed up.
    pub const SITES: u32 = 2;
    /// Live blocks are remembered.
    pub const BLOCKS: u32 = 4;
    /// Every free is seen, so what was read of a code object is right until its block is freed.
    pub const REMEMBER_CODE: u32 = 8;
    /// Hits count only while the gate is open ([`crate::sample::Gate`]): births and deaths go through the ring, and nothing is kept of blocks and sums.
    pub const LOG: u32 = 16;
    /// A new pool is entered itself, by its address, in the place of its first block ([`crate::block::Block::pool_class_bytes`]); it is no part of any sum.
    pub const POOLS: u32 = 32;
    /// The domains `object` and `mem` have functions of their own, so that whoever hits those holds the GIL. Where `PYTHONMALLOC=malloc` gives them the raw domain's, a hit proves nothing.
    pub const GIL_TOLD: u32 = 64;
    /// Several processes are looked at in turns: `CONFIG` names the one whose turn it is, and threads of all of them are remembered.
    pub const TURNS: u32 = 128;
    /// Births of objects are hooked: what comes out of a freelist belongs from then on to the line where it was born.
    pub const BIRTHS: u32 = 256;
    /// The debug hooks and the allocator behind them are both hooked (builds without the GIL): each free comes twice, the second time from a little before.
    pub const TWICE: u32 = 512;
    /// Everything that a hit of a trace is for.
    pub const ALL: u32 = STACKS | SITES | BLOCKS;
}

/// The one element of the `PROCESS` map: what is learnt of the running image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessState {
    /// Address of `_PyRuntime`. The loader writes it for a process that runs already;
    /// for a process that has not yet mapped its interpreter, the first hit computes it from its own address.
    pub runtime: u64,
    /// The target's process id as the kernel's own namespace has it; 0 until the first hit has learnt it.
    pub kernel_tgid: u32,
    /// Changes whenever a block is freed that may have been a code object; never 0.
    pub code_epoch: u32,
    /// The generation of the unwind tables for which the loader was asked to look at the target's mapped code again.
    pub asked: u32,
    /// Padding, spelt out.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ProcessState>() == 24);
