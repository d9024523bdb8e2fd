//! Where one CPython version keeps what the frame walk reads: offsets in bytes, as the loader tells the kernel.

/// Offsets in bytes for the walk from thread state to frames. Field names follow CPython's own.
///
/// The values live in `tracer-user/src/target/layout/`, one file per minor version; this is only their shape.
/// Offsets inside a frame are relative to the start of the chunk that is read, not to the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PyLayout {
    /// `PyThreadState.cframe`: pointer to the current `_PyCFrame`.
    pub tstate_cframe: u32,
    /// `_PyCFrame.current_frame`.
    pub cframe_current_frame: u32,
    /// `PyThreadState.native_thread_id`: the thread's id inside its own PID namespace.
    pub tstate_native_thread_id: u32,
    /// First byte of a frame that is read; a multiple of 8, as is `frame_len`.
    pub frame_at: u32,
    /// Bytes of a frame that are read, at most [`crate::limits::WINDOW`].
    pub frame_len: u32,
    /// The code object's pointer, inside the chunk.
    pub frame_code: u32,
    /// The caller's frame, inside the chunk.
    pub frame_previous: u32,
    /// Pointer to the current instruction, inside the chunk.
    pub frame_instr: u32,
    /// The eight bytes that hold the entry flag, inside the chunk (aligned down to 8).
    pub frame_entry_word: u32,
    /// Right shift that brings the entry flag to bit 0 of its word.
    pub frame_entry_shift: u32,
    /// First byte of a code object that is read as its fingerprint ([`crate::limits::CODE_CHUNK`] bytes).
    pub code_at: u32,
    /// `PyCodeObject.co_code_adaptive`: where the bytecode begins.
    pub code_bytecode: u32,
    /// The pointer to the file's name, inside the fingerprint's bytes.
    pub code_filename: u32,
    /// The pointer to the function's qualified name, inside the fingerprint's bytes.
    pub code_qualname: u32,
    /// Where the characters of an ASCII `str` begin.
    pub unicode_data: u32,
    /// Padding, spelt out.
    pub reserved: u32,
}

const _: () = assert!(size_of::<PyLayout>() == 64);
