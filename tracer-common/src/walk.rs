//! The walk from the current thread state to the Python frames, generic over how memory is read: the kernel runs it on a hit,
//! the tests run the very same code against a live process and against recorded memory.
//!
//! For CPython 3.11 (`Include/internal/pycore_frame.h`, `Include/cpython/pystate.h`): tstate → `cframe` → `current_frame`, then along `previous`.
//! Calls from Python to Python share one C frame, so this chain, and not the C stack, is the Python stack.

use crate::frame::{PyFrame, fingerprint, finish, mix};
use crate::layout::PyLayout;
use crate::limits::{CODE_CHUNK, FRAME_CHUNK, MAX_DEPTH};

/// The page could not be read. A value, not an error: user space may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Memory of the target, by address. Addresses come from the target and wrap rather than overflow: a wild one is a fault like any other.
pub trait UserMemory {
    /// Reads one word.
    ///
    /// # Errors
    /// [`Fault`] when the address cannot be read without waiting.
    fn word(&self, address: u64) -> Result<u64, Fault>;

    /// Fills the first `len` bytes of `out`; `len` is at most the size of `out`.
    ///
    /// # Errors
    /// [`Fault`] when any of the bytes cannot be read without waiting.
    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault>;
}

/// Room for the reads of one step. In the kernel it lies in the thread's map entry, because a program's own stack must stay
/// under 64 bytes (facts/ebpf.md §2.6).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Scratch {
    /// The head of an interpreter frame.
    pub frame: [u64; FRAME_CHUNK / 8],
    /// The identity bytes of a code object.
    pub code: [u64; CODE_CHUNK / 8],
}

const _: () = assert!(size_of::<Scratch>() == FRAME_CHUNK + CODE_CHUNK);

/// How a walk ended. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// The outermost frame was reached.
    Complete = 0,
    /// There were more frames than asked for.
    Truncated = 1,
    /// A frame could not be read.
    Fault = 2,
    /// The thread runs no Python code, or is not the one that holds the GIL.
    NoThreadState = 3,
}

impl WalkEnd {
    /// The end of a code that crossed the fence; unknown codes read as [`WalkEnd::Fault`].
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Complete,
            1 => Self::Truncated,
            3 => Self::NoThreadState,
            _ => Self::Fault,
        }
    }
}

/// The innermost frame of the thread that runs now, or 0 if the thread state is not that thread's.
///
/// `tstate_slot` is the address of `_PyRuntime.gilstate.tstate_current`, which names the holder of the GIL; a thread without
/// the GIL would read a stranger's stack there, so the thread state's `native_thread_id` must be `tid`, the caller's id in its own PID namespace.
///
/// # Errors
/// [`Fault`] when a page on the way cannot be read.
#[inline(always)]
pub fn innermost<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    tstate_slot: u64,
    tid: u32,
) -> Result<u64, Fault> {
    if tstate_slot == 0 {
        return Ok(0);
    }
    let tstate = memory.word(tstate_slot)?;
    if tstate == 0 || memory.word(tstate.wrapping_add(layout.tstate_native_thread_id as u64))? != tid as u64 {
        return Ok(0);
    }
    let cframe = memory.word(tstate.wrapping_add(layout.tstate_cframe as u64))?;
    if cframe == 0 {
        return Ok(0);
    }
    memory.word(cframe.wrapping_add(layout.cframe_current_frame as u64))
}

/// One step: reads the frame at `address` into `scratch`, its identity into `out`, and returns the caller's frame (0 at the end).
///
/// A code object that cannot be read still gives a frame, marked [`PyFrame::FAULTED`]: its address is known, and user space can read it later.
///
/// # Errors
/// [`Fault`] when the frame itself cannot be read.
#[inline(always)]
pub fn step<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    address: u64,
    scratch: &mut Scratch,
    out: &mut PyFrame,
) -> Result<u64, Fault> {
    memory.fill(address.wrapping_add(layout.frame_at as u64), layout.frame_len, &mut scratch.frame)?;
    let code = field(&scratch.frame, layout.frame_code);
    let instr = field(&scratch.frame, layout.frame_instr);
    let entry = field(&scratch.frame, layout.frame_entry_word) >> (layout.frame_entry_shift & 63);
    out.code = code;
    out.instr_bytes = instr.wrapping_sub(code.wrapping_add(layout.code_bytecode as u64)) as i32;
    out.flags = (entry & 1) as u32 * PyFrame::ENTRY;
    out.fingerprint = 0;
    if memory.fill(code.wrapping_add(layout.code_at as u64), CODE_CHUNK as u32, &mut scratch.code).is_ok() {
        out.fingerprint = fingerprint(&scratch.code);
    } else {
        out.flags |= PyFrame::FAULTED;
    }
    Ok(field(&scratch.frame, layout.frame_previous))
}

/// The word at a byte offset of the frame's chunk. The offset is the loader's, but the verifier must see that it is inside.
#[inline(always)]
fn field(chunk: &[u64; FRAME_CHUNK / 8], offset: u32) -> u64 {
    let index = (offset / 8) as usize;
    if index < chunk.len() { chunk[index] } else { 0 }
}

/// Adds a frame to a stack's hash.
#[inline(always)]
#[must_use]
pub const fn mix_frame(hash: u64, frame: &PyFrame) -> u64 {
    mix(mix(hash, frame.code ^ frame.fingerprint), frame.instr_bytes as u32 as u64)
}

/// What a whole walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Frames written.
    pub depth: u32,
    /// Why it ended.
    pub end: WalkEnd,
    /// The site's id, from the frames and the seed (domain and native caller).
    pub id: u64,
}

/// Walks from the frame at `innermost` outwards, at most `max_depth` frames (and never more than [`MAX_DEPTH`]).
#[inline(always)]
pub fn walk<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    innermost: u64,
    max_depth: u32,
    seed: u64,
    scratch: &mut Scratch,
    frames: &mut [PyFrame; MAX_DEPTH],
) -> Walked {
    let mut hash = mix(0, seed);
    let mut address = innermost;
    let mut depth = 0;
    let mut end = WalkEnd::Complete;
    while depth < MAX_DEPTH {
        if address == 0 {
            break;
        }
        if depth as u32 >= max_depth {
            end = WalkEnd::Truncated;
            break;
        }
        match step(memory, layout, address, scratch, &mut frames[depth]) {
            Ok(previous) => address = previous,
            Err(Fault) => {
                end = WalkEnd::Fault;
                break;
            }
        }
        hash = mix_frame(hash, &frames[depth]);
        depth += 1;
    }
    if depth == MAX_DEPTH && address != 0 {
        end = WalkEnd::Truncated;
    }
    Walked { depth: depth as u32, end, id: finish(hash) }
}

#[cfg(test)]
mod tests;
