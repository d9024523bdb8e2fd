//! Python frames as the kernel captures them: addresses, never names. Names are read in user space.

/// One Python frame of a stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PyFrame {
    /// Address of the code object.
    pub code: u64,
    /// Hash of the code object's identity bytes at the moment of capture ([`fingerprint`]). User space takes it again when
    /// it reads the names: another value means that the code object had died, and its address has a new tenant.
    pub fingerprint: u64,
    /// Bytes from the start of the bytecode to the current instruction; −2 before the first one.
    pub instr_bytes: i32,
    /// A sum of [`PyFrame::ENTRY`], [`PyFrame::FAULTED`] and [`PyFrame::SHIM`].
    pub flags: u32,
}

const _: () = assert!(size_of::<PyFrame>() == 24);

impl PyFrame {
    /// The frame is the outermost Python frame of its C evaluator frame.
    pub const ENTRY: u32 = 1;
    /// The code object could not be read when the stack was walked (its page was not resident).
    pub const FAULTED: u32 = 2;
    /// No Python frame, but a call of the evaluator that has none at this moment: the one that it had has ended, and is being cleared (from 3.12 on).
    pub const SHIM: u32 = 4;
}

/// The multiplier of [`mix`] and [`place`]: 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One of so many places, a power of two from 2 on, for what lies at an address: the upper bits of the address spread, without the four that allocators leave 0.
#[inline(always)]
#[must_use]
pub const fn place(address: u64, places: usize) -> usize {
    ((address >> 4).wrapping_mul(GOLDEN) >> (64 - places.trailing_zeros())) as usize
}

/// Adds a word to a running 64-bit hash: rotate, exclusive-or, multiply. Cheap enough to run per frame in the kernel; [`finish`]
/// spreads the high bits down before it is used as a key.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(GOLDEN)
}

/// The last step of a hash made with [`mix`]. Never 0, which is the site of what could not be told apart.
#[inline(always)]
#[must_use]
pub const fn finish(hash: u64) -> u64 {
    let hash = hash ^ (hash >> 32);
    if hash == 0 { 1 } else { hash }
}

/// Adds the beginning of a name to a fingerprint: a dead function's names may have left their places to those of the next.
#[inline(always)]
#[must_use]
pub const fn with_text(print: u64, text: &[u64; crate::limits::TEXT_CHUNK / 8]) -> u64 {
    let mut hash = print;
    let mut at = 0;
    while at < text.len() {
        hash = (hash ^ text[at]).wrapping_mul(GOLDEN);
        at += 1;
    }
    // What differs in the last letters stands in the high bits now.
    finish(hash)
}

/// Hash of the identity bytes of a code object, as [`crate::walk`] reads them.
#[inline(always)]
#[must_use]
pub fn fingerprint(words: &[u64; crate::limits::CODE_CHUNK / 8]) -> u64 {
    let mut hash = 0;
    let mut at = 0;
    while at < words.len() {
        hash = mix(hash, words[at]);
        at += 1;
    }
    finish(hash)
}
