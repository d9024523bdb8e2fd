//! The stack of a hit: walked into the thread's own room, hashed into a site id, and sent once.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use aya_log_ebpf::debug;
use tracer_common::config::{TraceConfig, work};
use tracer_common::domain::Domain;
use tracer_common::event::{EventHead, EventKind};
use tracer_common::frame::PyFrame;
use tracer_common::limits::{MAX_DEPTH, PYTHON_TURNS};
use tracer_common::loss::Loss;
use tracer_common::native::NativeEnd;
use tracer_common::site::{OTHER_SITES, SiteTotals};
use tracer_common::walk::{self, Asking, WalkEnd, Walked, Wish};

use crate::birth::Birth;
use crate::inflight::Thread;
use crate::loss::lose;
use crate::maps::{EMPTY_SITE, PROCESS, RING, SITES};
use crate::user_memory::HitMemory;
use crate::{code, gate, process};

/// The site that the current thread stands at, once its stack is walked, by its Python frames, its C frames, and the domain: its id, and its element, which exists if there is
/// room. Its stack is on its way to the loader.
#[inline(always)]
pub fn site(thread: &mut Thread, config: &TraceConfig) -> (u64, Option<*mut SiteTotals>) {
    let Birth { domain, caller, .. } = thread.birth;
    let walked = walked(thread);
    if config.work & (work::SITES | work::LOG) == 0 {
        return (OTHER_SITES, None);
    }
    let Some(totals) = element(walked.id, domain) else {
        lose(Loss::SiteMapFull);
        return (OTHER_SITES, SITES.get_ptr_mut(OTHER_SITES));
    };
    // SAFETY: taking the address of a field of a map element.
    let sent = unsafe { &raw mut (*totals).stack_sent };
    // SAFETY: the pointer is into an element that is never removed; a race sends the stack twice, which is harmless.
    if unsafe { sent.read_volatile() } == 0 {
        if send(thread, &walked, domain, caller.address, gate::patient(config)) {
            // SAFETY: as above.
            unsafe { sent.write_volatile(1) };
            debug!(&(), "site {:x}: {} frames, end {}", walked.id, walked.depth, walked.end as u32);
        } else {
            lose(Loss::RingFull);
        }
    }
    (walked.id, Some(totals))
}

/// Walks the Python frames of the current thread, as many as one program may; `true` if there are more.
#[inline(always)]
pub fn walk(thread: &mut Thread, config: &TraceConfig) -> bool {
    if !thread.scratch.progress.has_begun() {
        begin(thread, config);
    }
    let frames = &mut thread.record.frames;
    thread.scratch.walk_on(&HitMemory, &config.layout, frames, PYTHON_TURNS)
}

/// Finds the innermost frame.
#[inline(always)]
fn begin(thread: &mut Thread, config: &TraceConfig) {
    let seed = thread.native.hash;
    if config.work & work::STACKS == 0 {
        return thread.scratch.progress.bare(seed, WalkEnd::Complete);
    }
    let asking = Asking {
        runtime: PROCESS.get(0).map_or(0, |process| process.runtime),
        thread_pointer: process::thread_pointer(config),
        // Who allocates without the GIL may have lost its thread state to another thread: then it is asked each time.
        holds_gil: config.work & work::GIL_TOLD != 0 && thread.birth.domain <= Domain::Mem as u32,
    };
    let mut known = thread.scratch.tstate;
    let innermost = walk::innermost(&HitMemory, &config.layout, &config.current, asking, &mut known);
    thread.scratch.tstate = known;
    match innermost {
        Err(_) => thread.scratch.progress.bare(seed, WalkEnd::Fault),
        Ok(0) => thread.scratch.progress.bare(seed, WalkEnd::NoThreadState),
        Ok(innermost) => {
            let window = thread.window;
            let wish =
                Wish { innermost, max_depth: config.max_depth, seed, epoch: code::epoch(config, window) };
            thread.scratch.begin(wish);
        }
    }
}

/// What the walk has found; counts what was cut off.
#[inline(always)]
fn walked(thread: &Thread) -> Walked {
    let walked = thread.scratch.progress.walked();
    match walked.end {
        WalkEnd::Complete => {}
        WalkEnd::Truncated => lose(Loss::StackTruncated),
        WalkEnd::Fault => lose(Loss::FrameFault),
        WalkEnd::NoThreadState => lose(Loss::NoThreadState),
    }
    walked
}

/// A site's element, which is made if need be; `None` when the map is full.
#[inline(always)]
fn element(id: u64, domain: u32) -> Option<*mut SiteTotals> {
    if let Some(totals) = SITES.get_ptr_mut(id) {
        return Some(totals);
    }
    // Another thread may make it at the same moment: then the lookup below finds its element.
    let _ = SITES.insert(id, EMPTY_SITE.get(0)?, 1);
    let totals = SITES.get_ptr_mut(id)?;
    // SAFETY: the element is never removed; both racers write the same domain.
    unsafe { (&raw mut (*totals).domain).write_volatile(domain) };
    Some(totals)
}

/// Sends the frames through the ring, those in C first; `false` if it is full. What has come through is sent again then, which is harmless.
#[inline(always)]
fn send(thread: &mut Thread, walked: &Walked, domain: u32, caller: u64, flags: u64) -> bool {
    let native = &mut thread.native;
    if native.end != NativeEnd::Off as u32 {
        let depth = bounded(native.depth);
        native.head = EventHead {
            kind: EventKind::Native as u32,
            depth,
            site: walked.id,
            domain,
            end: native.end,
            caller,
        };
        if !output((&raw mut native.head).cast(), depth, size_of::<u64>(), flags) {
            return false;
        }
    }
    let depth = bounded(walked.depth);
    thread.record.head = EventHead {
        kind: EventKind::Stack as u32,
        depth,
        site: walked.id,
        domain,
        end: walked.end as u32,
        caller,
    };
    output((&raw mut thread.record).cast(), depth, size_of::<PyFrame>(), flags)
}

/// A depth as the verifier wants it: through memory, and no more than there are.
#[inline(always)]
fn bounded(depth: u32) -> u32 {
    let depth = core::hint::black_box(depth);
    if depth as usize > MAX_DEPTH { MAX_DEPTH as u32 } else { depth }
}

/// Sends a head and so many elements of this size that lie behind it.
#[inline(always)]
fn output(record: *mut core::ffi::c_void, depth: u32, element: usize, flags: u64) -> bool {
    let len = size_of::<EventHead>() as u64 + u64::from(depth) * element as u64;
    // SAFETY: the record holds MAX_DEPTH elements and `depth` is at most that; the ring lives as long as the program.
    let status = unsafe { bpf_ringbuf_output((&raw const RING).cast_mut().cast(), record, len, flags) };
    status == 0
}
