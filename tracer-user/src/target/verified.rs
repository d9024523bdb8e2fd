//! Whether a layout that no test has proven is that of a process: its threads and their frames are walked, with the walk that the kernel will run, before anything is believed.
//!
//! A wrong layout does not pass by luck. There must be a thread state whose thread exists, and a chain of frames from it to its end, each of whose code objects says that it is one and has names.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use tracer_common::frame::PyFrame;
use tracer_common::layout::PyLayout;
use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::{Fault, Scratch, UserMemory, WalkEnd, Wish, walk};

use crate::target::layout::Layout;
use crate::target::memory::{Bytes, Memory};
use crate::target::process::{Process, proc_path};
use crate::target::whereabouts::namespace_pids;

/// The target runs while it is looked at: a chain that changes under the walk is looked at again, so often and after so long.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(2);
/// Thread states that are looked at.
const THREADS: usize = 64;
/// Frames that are followed to the end of a chain; `sys.setrecursionlimit` may be high, but no stack is that deep.
const FRAMES: usize = 1 << 20;
/// Threads of a process that are listed.
const TASKS: usize = 1 << 16;
/// The longest name that is believed, in characters.
const NAME: u64 = 1 << 16;
/// Bytes of an instruction.
const UNIT: u64 = 2;

/// Where a process keeps what the walk begins from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Address of `_PyRuntime`.
    pub(super) runtime: u64,
    /// `PyThreadState.native_thread_id`, where it is known.
    pub(super) native_thread_id: Option<u64>,
}

/// Whether the layout is that of the process.
///
/// # Errors
/// What was not found, as the end of a sentence.
pub(super) fn holds(process: &Process, start: Start, layout: &Layout) -> Result<(), String> {
    let memory = Memory::new(process.pid());
    let mut said = String::new();
    for again in 0..TRIES {
        if again > 0 {
            std::thread::sleep(PAUSE);
        }
        match once(&memory, start, layout, &threads_of(process)) {
            Ok(()) => return Ok(()),
            Err(why) if process.still_same() => why.clone_into(&mut said),
            Err(_) => return Err("the process has ended".to_owned()),
        }
    }
    Err(said)
}

/// The thread states of the first interpreter, as many as are asked for; those before one that cannot be read.
pub(super) fn thread_states(memory: &impl Bytes, runtime: u64, layout: &Layout, most: usize) -> Vec<u64> {
    let word = |address: u64, offset: u64| memory.read_u64(address.checked_add(offset)?).ok();
    let mut found = Vec::new();
    let interpreter = word(runtime, layout.threads.runtime_interpreters_head).filter(|at| *at != 0);
    let mut next = interpreter.and_then(|at| word(at, layout.threads.interpreter_threads_head));
    while let Some(at) = next.filter(|at| *at != 0 && found.len() < most) {
        found.push(at);
        next = word(at, layout.threads.tstate_next);
    }
    found
}

/// The ids of its threads, as they see them themselves.
fn threads_of(process: &Process) -> HashSet<u64> {
    let tasks = fs::read_dir(proc_path(process.pid(), "task")).into_iter().flatten().flatten();
    let own = tasks.take(TASKS).filter_map(|task| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        namespace_pids(&status).last().copied().map(u64::from)
    });
    own.collect()
}

/// One look.
fn once<M: Bytes + UserMemory>(
    memory: &M,
    start: Start,
    layout: &Layout,
    threads: &HashSet<u64>,
) -> Result<(), &'static str> {
    let states = thread_states(memory, start.runtime, layout, THREADS);
    let mut states = states.into_iter().filter(|state| is_threads(memory, *state, start, layout, threads));
    let mut said = "they lead to no thread of it";
    if states.any(|state| match runs_python(memory, state, layout) {
        Ok(()) => true,
        Err(why) => {
            said = why;
            false
        }
    }) {
        return Ok(());
    }
    Err(said)
}

/// Whether a thread state is that of a thread that exists. Its `thread_id` is a thread pointer, and the first word there is its own address (x86-64 psABI, "Thread-Local Storage":
/// `%fs:0`), with glibc and with musl.
fn is_threads(
    memory: &impl Bytes,
    state: u64,
    start: Start,
    layout: &Layout,
    threads: &HashSet<u64>,
) -> bool {
    let word = |offset: u64| memory.read_u64(state.checked_add(offset)?).ok();
    let pointer = word(u64::from(layout.walk.tstate_thread_id)).filter(|pointer| *pointer != 0);
    let is_pointer = pointer.is_some_and(|pointer| memory.read_u64(pointer) == Ok(pointer));
    let exists = start.native_thread_id.is_none_or(|at| word(at).is_some_and(|id| threads.contains(&id)));
    is_pointer && exists
}

/// Walks the frames of a thread to their end.
fn runs_python<M: Bytes + UserMemory>(memory: &M, state: u64, layout: &Layout) -> Result<(), &'static str> {
    let moved = "its frames cannot be read";
    let innermost = innermost(memory, state, &layout.walk).map_err(|Fault| moved)?;
    let mut frames = Box::new([PyFrame::default(); MAX_DEPTH]);
    let mut scratch = Box::<Scratch>::default();
    let wish = Wish { innermost, max_depth: MAX_DEPTH as u32, seed: 0, epoch: 0 };
    let walked = walk(memory, &layout.walk, wish, &mut scratch, &mut frames);
    match walked.end {
        WalkEnd::Complete => {}
        WalkEnd::Truncated if ends(memory, innermost, &layout.walk) => {}
        _ => return Err(moved),
    }
    let frames = frames.iter().take(walked.depth as usize).filter(|frame| frame.flags & PyFrame::SHIM == 0);
    let mut count = 0;
    for frame in frames {
        count += 1;
        if frame.flags & PyFrame::FAULTED != 0 || !is_code(memory, frame, layout).unwrap_or(false) {
            return Err("what they call a code object is none");
        }
    }
    if count > 0 { Ok(()) } else { Err("none of its threads runs Python code") }
}

/// The innermost frame of a thread state; 0 if it runs no Python code.
pub(super) fn innermost(memory: &impl Bytes, state: u64, walk: &PyLayout) -> Result<u64, Fault> {
    let frame = memory.read_u64(state.wrapping_add(u64::from(walk.tstate_frame)))?;
    if frame == 0 || walk.cframe_current_frame == PyLayout::NONE {
        return Ok(frame);
    }
    memory.read_u64(frame.wrapping_add(u64::from(walk.cframe_current_frame)))
}

/// Whether a chain of frames that is longer than a walk ends.
fn ends(memory: &impl Bytes, innermost: u64, walk: &PyLayout) -> bool {
    let before = u64::from(walk.frame_at + walk.frame_previous);
    let mut frame = innermost;
    (0..FRAMES).any(|_| {
        frame = memory.read_u64(frame.wrapping_add(before)).unwrap_or(u64::MAX);
        frame == 0
    })
}

/// Whether a frame's code object is one, by its type, its names, its table of lines, and an instruction inside of it.
fn is_code(memory: &impl Bytes, frame: &PyFrame, layout: &Layout) -> Result<bool, Fault> {
    let objects = &layout.objects;
    let word = |offset: u64| memory.read_u64(frame.code.checked_add(offset).ok_or(Fault)?);
    if !is_a(memory, frame.code, "code", layout)?
        || !is_a(memory, word(objects.code_linetable)?, "bytes", layout)?
    {
        return Ok(false);
    }
    for name in [word(objects.code_filename)?, word(objects.code_qualname)?] {
        if !is_a(memory, name, "str", layout)? || !is_text(memory, name, layout)? {
            return Ok(false);
        }
    }
    if layout.walk.instr_bytes != 0 {
        return Ok(true);
    }
    // `Py_SIZE` of a code object counts its instructions (Objects/codeobject.c, `_PyCode_New`, from 3.11 on).
    let end = word(objects.ob_size)?.saturating_mul(UNIT);
    let at = u64::try_from(i64::from(frame.instr_bytes) + UNIT as i64).map_err(|_| Fault)?;
    Ok(at <= end.saturating_add(UNIT) && at.is_multiple_of(UNIT))
}

/// Whether a string is compact, and where it is ASCII, is as long as it says: behind its last character is a zero, and none before (`Include/cpython/unicodeobject.h`).
fn is_text(memory: &impl Bytes, string: u64, layout: &Layout) -> Result<bool, Fault> {
    let objects = &layout.objects;
    let at = |offset: u64| string.checked_add(offset).ok_or(Fault);
    let length = memory.read_u64(at(objects.unicode_length)?)?;
    let mut state = [0; 2];
    memory.read(at(objects.unicode_state)?, &mut state)?;
    let state = u16::from_le_bytes(state).unbounded_shr(objects.unicode_kind_bit);
    let (kind, is_compact, is_ascii) = (state & 7, state >> 3 & 1 == 1, state >> 4 & 1 == 1);
    if !is_compact || !matches!(kind, 1 | 2 | 4) || length == 0 || length > NAME {
        return Ok(false);
    }
    if !is_ascii {
        return Ok(true);
    }
    let mut text = vec![0; usize::try_from(length + 1).map_err(|_| Fault)?];
    memory.read(at(objects.unicode_ascii_data)?, &mut text)?;
    Ok(text.iter().position(|byte| *byte == 0) == Some(text.len() - 1) && text.is_ascii())
}

/// Whether the type of an object has this name.
fn is_a(memory: &impl Bytes, object: u64, name: &str, layout: &Layout) -> Result<bool, Fault> {
    let kind = memory.read_u64(object.checked_add(layout.objects.ob_type).ok_or(Fault)?)?;
    let text = memory.read_u64(kind.checked_add(layout.objects.tp_name).ok_or(Fault)?)?;
    let mut seen = vec![0; name.len() + 1];
    memory.read(text, &mut seen)?;
    Ok(seen.split_last() == Some((&0, name.as_bytes())))
}
