//! The walk from the current thread state to the Python frames, generic over how memory is read: the kernel runs it on a hit,
//! the tests run the very same code against a live process and against recorded memory.
//!
//! From the thread state to its innermost frame, then along `previous` (up to 3.10 `f_back`); what differs between versions is told by [`PyLayout`]
//! (`Include/internal/pycore_frame.h`, `Include/cpython/pystate.h`; up to 3.10 `Include/cpython/frameobject.h`).
//! From 3.11 on, calls from Python to Python share one C frame, so this chain, and not the C stack, is the Python stack.

mod turns;

use crate::current::{Current, Way};
use crate::frame::{PyFrame, fingerprint, place as place_of, with_text};
use crate::layout::{Entry, PyLayout};
use crate::limits::{CODE_CHUNK, KNOWN_CODES, TEXT_CHUNK, WINDOW};
use crate::window::{Want, Window};

pub use turns::{Progress, Walked, Wish, mix_frame, walk};

/// The longest stretch of frames that is taken for one, in bytes.
const MAX_SPAN: u64 = 256 << 10;

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

    /// Fills the first `len` bytes of `out`, whose size is a power of two. In the kernel `len` must be less than that.
    ///
    /// # Errors
    /// [`Fault`] when any of the bytes cannot be read without waiting.
    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault>;

    /// Fills all of `out`.
    ///
    /// # Errors
    /// As [`UserMemory::fill`].
    fn whole<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        self.fill(address, (WORDS * 8) as u32, out)
    }

    /// The text at an address up to its first zero byte, as much of it as fits; what is behind it, and a text that cannot be read, are zeros.
    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]);

    /// Is told before the identity of the code object at this address is read, to be remembered.
    fn code_read(&self, address: u64) {
        let _ = address;
    }
}

/// Room for a walk, and what it remembers for the next one of the same thread. In the kernel it lies in the thread's map entry, because a program's own
/// stack must stay under 64 bytes (facts/ebpf.md §2.6).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// A stretch of the thread's frames. Frames of Python-to-Python calls lie side by side (`Include/internal/pycore_frame.h`, `_PyThreadState_PushFrame`), so one
    /// read brings many.
    pub window: Window,
    /// The lowest frame that lay side by side with the innermost one in the last walk; 0 when unknown. A guess, of use only to read more at once.
    pub floor: u64,
    /// The thread state that was last found to be this thread's.
    pub tstate: u64,
    /// The walk that is under way.
    pub progress: Progress,
    /// The identity bytes of a code object.
    pub code: [u64; CODE_CHUNK / 8],
    /// The beginning of a name.
    pub text: [u64; TEXT_CHUNK / 8],
    /// Code objects of the last walks, each at its [`crate::frame::place`].
    pub known: [Known; KNOWN_CODES],
}

/// A code object whose identity was read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its address.
    code: u64,
    /// Its identity.
    fingerprint: u64,
    /// The [`Wish::epoch`] in which that was read; 0: none was.
    epoch: u32,
    /// Padding, spelt out.
    reserved: u32,
}

const _: () = assert!(size_of::<Known>() == 24);

const _: () = assert!(
    size_of::<Scratch>()
        == size_of::<Window>()
            + 16
            + size_of::<Progress>()
            + CODE_CHUNK
            + TEXT_CHUNK
            + KNOWN_CODES * size_of::<Known>()
);

impl Default for Scratch {
    fn default() -> Self {
        Self {
            window: Window::default(),
            floor: 0,
            tstate: 0,
            progress: Progress::default(),
            code: [0; CODE_CHUNK / 8],
            text: [0; TEXT_CHUNK / 8],
            known: [Known::default(); KNOWN_CODES],
        }
    }
}

/// The [`Wish::epoch`] of a window, 0 where there are none, at an epoch of what was seen freed (never 0). Each window has its own: nobody has seen what was freed before it.
#[inline(always)]
#[must_use]
pub const fn epoch_of(window: u32, freed: u32) -> u32 {
    // Spread (2^32 divided by the golden ratio), so that the next window's first epochs are none of this one's.
    let epoch = freed ^ window.wrapping_mul(0x9e37_79b9);
    if epoch == 0 { 1 } else { epoch }
}

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

/// The thread that asks for its innermost frame.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Address of `_PyRuntime`; 0 if unknown.
    pub runtime: u64,
    /// Its thread pointer, which is what `pthread_self` says (glibc, nptl/pthread_self.c; musl, src/thread/pthread_self.c); 0 if unknown.
    pub thread_pointer: u64,
    /// It is doing what only the GIL's holder does.
    pub holds_gil: bool,
}

/// The innermost frame of the thread that runs now, or 0 if no thread state is that thread's.
///
/// `current` names a thread state. Up to 3.11 that is the GIL holder's: a thread without the GIL would read a stranger's stack there, so the thread state's `thread_id` must
/// be its own. `known` is a thread state that was this thread's before, or 0; it becomes the one that was found. A thread that has
/// released the GIL (numpy allocates so, and so does all code that reads files) still has it, with the frames that called the C code: they do not move until it is back.
///
/// # Errors
/// [`Fault`] when a page on the way cannot be read.
#[inline(always)]
pub fn innermost<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    current: &Current,
    asking: Asking,
    known: &mut u64,
) -> Result<u64, Fault> {
    let mut tstate = current.named(memory, asking.runtime, asking.thread_pointer)?;
    // To a thread that holds the GIL, its holder is itself, even if another thread has made its thread state (PyThreadState_New, before 3.12).
    let is_own = tstate != 0 && asking.holds_gil && (current.way == Way::Holder as u32 || tstate == *known);
    if !is_own {
        let thread_id = layout.tstate_thread_id as u64;
        if tstate == 0 || memory.word(tstate.wrapping_add(thread_id))? != asking.thread_pointer {
            tstate = *known;
            if tstate == 0
                || memory.word(tstate.wrapping_add(thread_id)).unwrap_or(0) != asking.thread_pointer
            {
                return Ok(0);
            }
        }
    }
    *known = tstate;
    let frame = memory.word(tstate.wrapping_add(layout.tstate_frame as u64))?;
    if frame == 0 || layout.cframe_current_frame == PyLayout::NONE {
        return Ok(frame);
    }
    memory.word(frame.wrapping_add(layout.cframe_current_frame as u64))
}

/// Makes the frame at `address` lie in the window, and gives its place there in words.
///
/// # Errors
/// [`Fault`] when it cannot be read.
#[inline(always)]
fn bring<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    address: u64,
    scratch: &mut Scratch,
) -> Result<usize, Fault> {
    let begin = address.wrapping_add(layout.frame_at as u64);
    let len = layout.frame_len as u64;
    // What lies below is read along, as far as it was frames the last time.
    let below = address.wrapping_sub(scratch.floor);
    let mut inside = 0;
    if scratch.floor != 0 && below < MAX_SPAN {
        let room = WINDOW as u64 - 8 - len;
        inside = if below < room { below } else { room };
    }
    let want = Want { begin, len, from: begin.wrapping_sub(inside), total: inside + len };
    scratch.window.bring(memory, want)
}

/// The fingerprint of the code object at an address: of its first line, its counts, where its names are, and how they begin. It changes only when the code
/// object dies.
///
/// # Errors
/// [`Fault`] when the code object cannot be read; names that cannot be read count as empty.
#[inline(always)]
pub fn identity<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    code: u64,
    chunk: &mut [u64; CODE_CHUNK / 8],
    text: &mut [u64; TEXT_CHUNK / 8],
) -> Result<u64, Fault> {
    memory.whole(code.wrapping_add(layout.code_at as u64), chunk)?;
    let mut print = fingerprint(chunk);
    for name in [layout.code_filename, layout.code_qualname] {
        let string = chunk[(name / 8) as usize & (CODE_CHUNK / 8 - 1)];
        memory.text(string.wrapping_add(layout.unicode_data as u64), text);
        print = with_text(print, text);
    }
    Ok(print)
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameIs {
    /// Python code that other Python code called.
    Inner,
    /// Python code that C code called.
    Entry,
    /// No Python code: it says that C code called the frame inside it.
    Shim,
    /// No Python code, and nothing said.
    Base,
}

/// What the frame at `place` of the window is.
#[inline(always)]
fn kind_of(layout: &PyLayout, place: usize, window: &Window) -> FrameIs {
    let entry = window.word(place, layout.frame_entry_word) >> (layout.frame_entry_shift & 63);
    if layout.entry == Entry::Each as u32 || (layout.entry == Entry::Flag as u32 && entry & 1 == 1) {
        FrameIs::Entry
    } else if layout.entry == Entry::Flag as u32 || entry & 0xff < Entry::SHIM_OWNER {
        FrameIs::Inner
    } else if layout.entry == Entry::ShimAndBase as u32 && window.word(place, layout.frame_previous) == 0 {
        FrameIs::Base
    } else {
        FrameIs::Shim
    }
}

/// Bytes from the start of the bytecode of `code` to the instruction of the frame at `place`.
#[inline(always)]
fn position<M: UserMemory>(memory: &M, layout: &PyLayout, place: usize, code: u64, window: &Window) -> i32 {
    let instr = window.word(place, layout.frame_instr);
    if layout.instr_bytes != 0 {
        return (instr as i32).wrapping_mul(layout.instr_bytes as i32);
    }
    let mut begin = code.wrapping_add(layout.code_bytecode as u64);
    if layout.code_tlbc != PyLayout::NONE {
        // Number 0 is the code object's own (3.14, Include/cpython/code.h, `_PyCodeArray`: a size, then pointers).
        let number = window.word(place, layout.frame_tlbc) as u32;
        if number != 0 {
            let array = memory.word(code.wrapping_add(layout.code_tlbc as u64)).unwrap_or(0);
            begin = memory.word(array.wrapping_add(8 + 8 * number as u64)).unwrap_or(begin);
        }
    }
    instr.wrapping_sub(begin) as i32
}

/// One step: takes the frame at `place` of the window into `out`. What is remembered of its code object in the same epoch is still right.
///
/// A code object that cannot be read still gives a frame, marked [`PyFrame::FAULTED`]: its address is known, and user space can read it later.
#[inline(always)]
fn step<M: UserMemory>(
    memory: &M,
    layout: &PyLayout,
    place: usize,
    epoch: u32,
    scratch: &mut Scratch,
    out: &mut PyFrame,
) {
    let code = scratch.window.word(place, layout.frame_code) & !(layout.code_tags as u64);
    out.code = code;
    out.instr_bytes = position(memory, layout, place, code, &scratch.window);
    out.flags = 0;
    let known = &mut scratch.known[place_of(code, KNOWN_CODES) & (KNOWN_CODES - 1)];
    if epoch != 0 && known.epoch == epoch && known.code == code {
        out.fingerprint = known.fingerprint;
        return;
    }
    memory.code_read(code);
    if let Ok(fingerprint) = identity(memory, layout, code, &mut scratch.code, &mut scratch.text) {
        out.fingerprint = fingerprint;
        *known = Known { code, fingerprint, epoch, reserved: 0 };
    } else {
        out.fingerprint = 0;
        out.flags = PyFrame::FAULTED;
    }
}

#[cfg(test)]
mod tests;
