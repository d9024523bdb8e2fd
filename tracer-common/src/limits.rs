//! Every capacity, depth and loop bound, in one place, with the arithmetic beside it.

/// Frames that one stack can hold. The walk is a verifier-bounded loop of this many turns, two reads each.
pub const MAX_DEPTH: usize = 128;

/// Frames kept by default (`--max-depth`): deep enough for web frameworks, half of what the walk could do.
pub const DEFAULT_DEPTH: u32 = 64;

/// Live blocks the kernel remembers by default (`--max-blocks`).
///
/// A block costs about 96 bytes of kernel memory once it exists (key 8, value 24, hash element 48, slab rounding), and the
/// table of buckets 16 bytes for each of the next power of two, at once: 32 MiB for this default, 200 MiB when it is full.
pub const DEFAULT_BLOCKS: u32 = 2_000_000;

/// The most that `--max-blocks` accepts: 64 Mi blocks are 6 GiB of kernel memory.
pub const MAX_BLOCKS: u32 = 64 << 20;

/// Distinct sites (stack and domain) the kernel remembers by default (`--max-sites`): 360 bytes each, taken on demand, and 2 MiB for the table. The start of an interpreter
/// with a large program makes 30,000.
pub const DEFAULT_SITES: u32 = 131_072;

/// Threads that may be inside an allocator call at the same moment or have been: one entry each, released at thread exit.
pub const MAX_THREADS: u32 = 16_384;

/// Processes of a family whose forks are told: the target, its children and theirs, as long as they live.
pub const MAX_FAMILY: u32 = 4096;

/// Distinct (site, value) pairs that `--ints` remembers.
pub const MAX_INT_VALUES: u32 = 65_536;

/// Bytes of the ring buffer that carries new stacks: 4 MiB hold 1,300 stacks of full depth, and a stack is sent once.
pub const RING_BYTES: u32 = 4 << 20;

/// Probe points of one trace: three per inlined allocation of the largest build seen (254 in Debian's 3.13) and room for ten times as many.
pub const MAX_HOOKS: u32 = 8192;

/// Bits of the set of addresses at which code objects were seen, 128 KiB; with 10,000 code objects one free in a hundred is taken for one of theirs.
pub const CODE_BITS: u32 = 1 << 20;

/// Calls of `allocate_from_new_pool` that are known by their return address.
pub const MAX_SLOW_CALLS: u32 = 4096;

/// Bytes of frames that a walk reads at once, at most: some twenty of the interpreter's.
pub const WINDOW: usize = 4096;

/// Bytes of a code object that are its fingerprint: its first line, its variable counts and the addresses of its names.
pub const CODE_CHUNK: usize = 64;

/// Code objects whose identity a thread remembers from its last walks, a power of two.
pub const KNOWN_CODES: usize = 128;

/// Bytes of a name that are part of a code object's fingerprint. Two functions that differ only behind them, and of which one has taken the place of the other
/// in all its parts, are taken for one.
pub const TEXT_CHUNK: usize = 32;

/// Mapped stretches of code that are known at once, a power of two; a process with 150 shared objects has about as many.
pub const MAX_MODULES: u32 = 2048;

/// Rows of one page of 64 KiB of code, at most: one for each byte.
pub const MAX_PAGE_ROWS: u32 = 1 << 16;

/// Pages of 64 KiB of code whose rows are known, over all files: 1 GiB of code.
pub const MAX_PAGES: u32 = 1 << 14;

/// C frames that one probe program walks before it calls itself again; the kernel allows 33 calls of one hit (include/linux/bpf.h, `MAX_TAIL_CALL_CNT`).
pub const NATIVE_TURNS: usize = 8;

/// Python frames that one probe program walks before it calls itself again: more than most stacks have, because a call costs some 40 ns, as much as a frame.
pub const PYTHON_TURNS: usize = 32;

/// Distinct unwind rules of one process. Place 0 is the rule of code that nothing describes.
pub const MAX_RULES: u32 = 8192;

/// Unwind rows that are read and written together, a power of two.
pub const CHUNK_ROWS: usize = 1024;

/// Buckets of a site's lifetime histogram (see [`crate::site::lifetime_bucket`]).
pub const LIFETIME_BUCKETS: usize = 64;

const _: () = assert!(DEFAULT_DEPTH as usize <= MAX_DEPTH);
const _: () = assert!(DEFAULT_BLOCKS <= MAX_BLOCKS);
const _: () = assert!(RING_BYTES.is_power_of_two() && RING_BYTES.is_multiple_of(65_536));
// One call to begin the walk along C frames and one to end it; those of the Python frames, each of which may have a shim behind it; and some more for frames inside the allocator, which are not recorded.
const _: () = assert!(2 + MAX_DEPTH / NATIVE_TURNS + (2 * MAX_DEPTH + 1).div_ceil(PYTHON_TURNS) + 4 <= 33);
const _: () = assert!(MAX_DEPTH.is_power_of_two());
const _: () = assert!(MAX_MODULES.is_power_of_two() && CHUNK_ROWS.is_power_of_two());
const _: () = assert!(KNOWN_CODES.is_power_of_two());
const _: () = assert!(WINDOW.is_power_of_two() && CODE_CHUNK.is_multiple_of(8));
