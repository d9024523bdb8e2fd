//! The way from `_PyRuntime` to the named frames of one thread, over any memory.

use tracer_common::current::{Current, Way};
use tracer_common::frame::PyFrame;
use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::{self, Asking, Fault, Scratch, UserMemory, WalkEnd, Wish};
use tracer_user::symbol::code::{CodeNames, Named};
use tracer_user::target::layout::Layout;
use tracer_user::target::memory::Bytes;

/// Threads that are looked at.
const THREADS: usize = 64;

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How the walk ended.
    pub(crate) end: WalkEnd,
    /// The frames as captured.
    pub(crate) frames: Vec<PyFrame>,
    /// The same, named.
    pub(crate) named: Vec<Named>,
}

/// Finds the thread, walks its frames (at most `max_depth`) and names them.
pub(crate) fn look<M: UserMemory + Bytes + Clone>(
    memory: &M,
    layout: &Layout,
    runtime: u64,
    ident: u64,
    max_depth: u32,
) -> Result<Seen, Fault> {
    let Some(innermost) = innermost(memory, layout, runtime, ident)? else {
        return Ok(Seen { end: WalkEnd::NoThreadState, frames: Vec::new(), named: Vec::new() });
    };
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let mut scratch = Scratch::default();
    let walked = walk::walk(
        memory,
        &layout.walk,
        Wish { innermost, max_depth, seed: 7, epoch: 0 },
        &mut scratch,
        &mut frames,
    );
    let frames = frames[..walked.depth as usize].to_vec();
    let mut names = CodeNames::new(memory.clone(), layout);
    let named = frames.iter().map(|frame| names.name(frame)).collect();
    Ok(Seen { end: walked.end, frames, named })
}

/// The innermost frame of the thread that calls itself `ident`. The kernel looks for it where the runtime keeps the GIL's holder, or in the thread's own variable; a thread that is blocked
/// has neither, but the list of threads is made of words that name a thread state just as those do.
fn innermost(
    memory: &(impl UserMemory + Bytes),
    layout: &Layout,
    runtime: u64,
    ident: u64,
) -> Result<Option<u64>, Fault> {
    let threads = &layout.threads;
    let interpreter = memory.read_u64(runtime + threads.runtime_interpreters_head)?;
    let mut slot = interpreter.checked_add(threads.interpreter_threads_head).ok_or(Fault)?;
    for _ in 0..THREADS {
        let distance = slot.wrapping_sub(runtime).cast_signed();
        let current = Current { way: Way::Holder as u32, distance, ..Current::default() };
        let asking = Asking { runtime, thread_pointer: ident, holds_gil: false };
        match walk::innermost(memory, &layout.walk, &current, asking, &mut 0)? {
            0 => {}
            frame => return Ok(Some(frame)),
        }
        let tstate = memory.read_u64(slot)?;
        if tstate == 0 {
            return Ok(None);
        }
        slot = tstate.checked_add(threads.tstate_next).ok_or(Fault)?;
    }
    Ok(None)
}
