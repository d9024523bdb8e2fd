//! The target's memory as a probe sees it: reads that fail instead of waiting for a page.

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use tracer_common::walk::{Fault, UserMemory};

use crate::code;

/// The memory of the process that hit the probe.
pub struct HitMemory;

impl UserMemory for HitMemory {
    #[inline(always)]
    fn word(&self, address: u64) -> Result<u64, Fault> {
        let mut word = 0u64;
        // SAFETY: the destination is eight bytes of our own; the source may be anything, the helper checks it.
        let status = unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, address as *const _) };
        if status == 0 { Ok(word) } else { Err(Fault) }
    }

    #[inline(always)]
    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        // A mask and no comparison: the verifier would follow both ways.
        let len = core::hint::black_box(len) & (size_of_val(out) as u32 - 1);
        // SAFETY: the destination holds at least `len` bytes, as the line above made sure; the helper checks the source.
        let status = unsafe { bpf_probe_read_user(out.as_mut_ptr().cast(), len, address as *const _) };
        if status == 0 { Ok(()) } else { Err(Fault) }
    }

    #[inline(always)]
    fn whole<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        let len = size_of_val(out) as u32;
        // SAFETY: the destination holds `len` bytes; the helper checks the source.
        let status = unsafe { bpf_probe_read_user(out.as_mut_ptr().cast(), len, address as *const _) };
        if status == 0 { Ok(()) } else { Err(Fault) }
    }

    #[inline(always)]
    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        *out = [0; WORDS];
        let len = size_of_val(out) as u32;
        // SAFETY: the destination holds `len` bytes; the helper checks the source, and stops at a zero byte.
        unsafe { bpf_probe_read_user_str(out.as_mut_ptr().cast(), len, address as *const _) };
        // The last byte is a zero if the text was longer.
    }

    #[inline(always)]
    fn code_read(&self, address: u64) {
        code::seen(address);
    }
}
