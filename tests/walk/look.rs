//! The way from `_PyRuntime` to the named frames of one thread, over any memory.

use tracer_common::frame::PyFrame;
use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::{self, Fault, Scratch, UserMemory, WalkEnd, Wish};
use tracer_user::symbol::code::{CodeNames, Named};
use tracer_user::target::layout::Layout;
use tracer_user::target::layout::v3_11::LAYOUT;
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
    runtime: u64,
    tid: u32,
    max_depth: u32,
) -> Result<Seen, Fault> {
    let Some(innermost) = innermost(memory, &LAYOUT, runtime, tid)? else {
        return Ok(Seen { end: WalkEnd::NoThreadState, frames: Vec::new(), named: Vec::new() });
    };
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let mut scratch = Scratch::default();
    let walked = walk::walk(
        memory,
        &LAYOUT.walk,
        Wish { innermost, max_depth, seed: 7, epoch: 0 },
        &mut scratch,
        &mut frames,
    );
    let frames = frames[..walked.depth as usize].to_vec();
    let mut names = CodeNames::new(memory.clone(), &LAYOUT);
    let named = frames.iter().map(|frame| names.name(frame)).collect();
    Ok(Seen { end: walked.end, frames, named })
}

/// The innermost frame of the thread `tid`. The kernel looks for it where the runtime keeps the GIL's holder; a thread that is blocked
/// holds no GIL, but the list of threads is made of words that name a thread state just as that one does.
fn innermost(
    memory: &(impl UserMemory + Bytes),
    layout: &Layout,
    runtime: u64,
    tid: u32,
) -> Result<Option<u64>, Fault> {
    let threads = &layout.threads;
    let interpreter = memory.read_u64(runtime + threads.runtime_interpreters_head)?;
    let mut slot = interpreter.checked_add(threads.interpreter_threads_head).ok_or(Fault)?;
    for _ in 0..THREADS {
        match walk::innermost(memory, &layout.walk, slot, || tid, true, &mut 0)? {
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
