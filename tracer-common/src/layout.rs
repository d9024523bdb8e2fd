//! Where one CPython version keeps what the frame walk reads: offsets in bytes, as the loader tells the kernel.

/// Offsets in bytes for the walk from thread state to frames. Field names follow CPython's own.
///
/// The values live in `tracer-user/src/target/layout/`, one file per minor version; this is only their shape.
/// Offsets inside a frame are relative to the start of the chunk that is read, not to the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PyLayout {
    /// `PyThreadState.thread_id`: what `pthread_self` said in the thread that it is of.
    pub tstate_thread_id: u32,
    /// Where a thread state keeps its innermost frame: `frame` up to 3.10, `current_frame` from 3.13 on, and in between `cframe`, from which it is one step more.
    pub tstate_frame: u32,
    /// `_PyCFrame.current_frame`; [`PyLayout::NONE`] where there is no `_PyCFrame`.
    pub cframe_current_frame: u32,
    /// First byte of a frame that is read; a multiple of 8, as is `frame_len`.
    pub frame_at: u32,
    /// Bytes of a frame that are read, at most [`crate::limits::WINDOW`].
    pub frame_len: u32,
    /// The code object's pointer, inside the chunk.
    pub frame_code: u32,
    /// The caller's frame, inside the chunk.
    pub frame_previous: u32,
    /// The current instruction, inside the chunk: its address, or its index.
    pub frame_instr: u32,
    /// Bytes of bytecode for one step of the index (`f_lasti`); 0 where it is an address.
    pub instr_bytes: u32,
    /// How a frame says that C code called the evaluator for it: an [`Entry`].
    pub entry: u32,
    /// The eight bytes that hold what says so, inside the chunk (aligned down to 8).
    pub frame_entry_word: u32,
    /// Right shift that brings it to bit 0 of its word.
    pub frame_entry_shift: u32,
    /// Bits of the code object's pointer that are no part of the address (`_PyStackRef`, 3.14).
    pub code_tags: u32,
    /// First byte of a code object that is read as its fingerprint ([`crate::limits::CODE_CHUNK`] bytes).
    pub code_at: u32,
    /// Where the bytecode begins: `PyCodeObject.co_code_adaptive`; 0 where an instruction is an index.
    pub code_bytecode: u32,
    /// The pointer to the file's name, inside the fingerprint's bytes.
    pub code_filename: u32,
    /// The pointer to the function's qualified name (up to 3.10: its name), inside the fingerprint's bytes.
    pub code_qualname: u32,
    /// `PyCodeObject.co_tlbc` of free-threaded builds from 3.14 on, the bytecode of each thread; [`PyLayout::NONE`] elsewhere.
    pub code_tlbc: u32,
    /// Which of these a frame runs (`tlbc_index`, 32 bits), inside the chunk; a multiple of 8.
    pub frame_tlbc: u32,
    /// Where the characters of an ASCII `str` begin.
    pub unicode_data: u32,
}

const _: () = assert!(size_of::<PyLayout>() == 80);

impl PyLayout {
    /// There is no such field.
    pub const NONE: u32 = u32::MAX;
}

/// How a frame says that C code called the evaluator for it. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Each does: a call from Python to Python calls the evaluator too (up to 3.10).
    Each = 0,
    /// A flag of the frame itself (3.11, `is_entry`).
    Flag = 1,
    /// A frame of its own behind it, whose `owner` is [`Entry::SHIM_OWNER`] or more (from 3.12 on).
    Shim = 2,
    /// The same, and behind the last of them one more that no call of the evaluator made (3.15, `PyThreadState.base_frame`).
    ShimAndBase = 3,
}

impl Entry {
    /// The least `_PyInterpreterFrame.owner` of frames that stand for no Python code: `FRAME_OWNED_BY_CSTACK` of 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` and
    /// `FRAME_OWNED_BY_CSTACK` of 3.14, the former of 3.15 (Include/internal/pycore_frame.h, pycore_interpframe_structs.h).
    pub const SHIM_OWNER: u64 = 3;
}
