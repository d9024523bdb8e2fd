//! The registers of the probed thread. Which there are, where the kernel has put them and where a return address is, differs from processor to processor:
//! one file for each, and this object is built for one of them (`--cfg bpf_target_arch`, by `xtask/src/bpf_build.rs`).

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64;
#[cfg(bpf_target_arch = "x86_64")]
mod x86_64;

#[cfg(bpf_target_arch = "aarch64")]
pub use aarch64::Context;
#[cfg(bpf_target_arch = "x86_64")]
pub use x86_64::Context;

/// Reads eight bytes of the context, in assembly: LLVM merges reads of different fields, volatile or not, into one read at a computed
/// offset, which the verifier refuses ("dereference of modified ctx ptr").
macro_rules! read_at {
    ($regs:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: `regs` is the context that the kernel passed, and the offset is that of a field in it.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({regs} + {offset})",
                value = out(reg) value,
                regs = in(reg) $regs,
                offset = const $offset,
                options(pure, readonly, nostack),
            );
        }
        value
    }};
}
use read_at;
