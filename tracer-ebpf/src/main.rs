//! The probes of unshed: entry points only. A hit is checked (`hit`), complete in itself (`fast`, `object`) or paired with its return (`inflight`). Where a block is born, the next program (`birth`) walks its C frames (`native`), and the one after it its Python
//! frames (`stack`), which are written into the books (`alloc`, `free`, `resize`, `ints`); all that is lost is counted (`loss`). In the windows of the
//! sample engine hits come through the `gate`, and what happens is logged there instead.
//!
//! Every entry point returns 0: any other value makes the kernel build a perf sample (kernel/trace/trace_uprobe.c, `__uprobe_perf_func`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod hit;
mod registers;
mod gate;
mod fast;
mod slow_call;
mod object;
mod code;
mod inflight;
mod alloc;
mod free;
mod resize;
mod ints;
mod birth;
mod native;
mod stack;
mod user_memory;
mod process;
mod kin;
mod loss;
mod count;

use aya_ebpf::macros::{raw_tracepoint, uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext, RetProbeContext};

/// Any probed instruction; the cookie says which. It must be one piece: the kernel allows no tail call in a function that was not inlined. One link's returns may run it as well: it looks at the probe point, not at how it was hit.
#[uprobe]
#[inline(always)]
pub fn on_entry(ctx: ProbeContext) -> u32 {
    hit::hit(&ctx);
    0
}

/// The same for returns, as perf events must have it.
#[uretprobe]
#[inline(always)]
pub fn on_return(ctx: RetProbeContext) -> u32 {
    hit::hit(&ctx);
    0
}

/// The hit at which a block was born goes on here: its C frames.
#[uprobe]
pub fn on_native(ctx: ProbeContext) -> u32 {
    native::walk(&ctx);
    0
}

/// And here: its Python frames, and the books.
#[uprobe]
pub fn on_books(ctx: ProbeContext) -> u32 {
    birth::books(&ctx);
    0
}

/// Any probed instruction or return, of a plan that is only looked at: counts how often.
#[uprobe]
pub fn on_count(ctx: ProbeContext) -> u32 {
    count::hit(&ctx);
    0
}

/// A thread of any process ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn on_thread_exit(_ctx: RawTracePointContext) -> i32 {
    process::thread_exits();
    0
}

/// A process replaces its image.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn on_exec(_ctx: RawTracePointContext) -> i32 {
    process::execs();
    0
}

/// A process of any family makes another one, or a thread.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn on_kin_fork(ctx: RawTracePointContext) -> i32 {
    kin::forks(&ctx);
    0
}

/// A process of any family replaces its image.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn on_kin_exec(_ctx: RawTracePointContext) -> i32 {
    kin::execs();
    0
}

/// A thread of any family ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn on_kin_exit(_ctx: RawTracePointContext) -> i32 {
    kin::exits();
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing here can panic at run time: the verifier refuses a program in which this loop is reachable.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
