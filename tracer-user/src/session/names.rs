//! The names of stacks, read when a stack is first seen, while its code objects live.

use std::collections::HashMap;
use std::path::PathBuf;

use tracer_common::frame::PyFrame;
use tracer_common::walk::WalkEnd;

use crate::error::Result;
use crate::session::subject::Subject;
use crate::symbol::Frame;
use crate::symbol::code::CodeNames;
use crate::symbol::debug_files::DebugFiles;
use crate::symbol::native::{NativeFrames, NativeNames, Options};
use crate::target::memory::Memory;
use crate::target::modules::{Modules, Place};
use crate::target::process::Process;

/// A named stack.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedStack {
    /// Innermost first.
    pub(super) frames: Vec<Frame>,
    /// Why it is not whole.
    pub(super) note: Option<String>,
}

/// A stack whose native part is still being named.
struct Stack {
    /// The key of the native frames.
    caller: u64,
    /// Indices into the table of Python frames: a program has far fewer frames than stacks.
    frames: Vec<u32>,
    note: Option<&'static str>,
}

/// The Python frames seen so far, each named once.
struct Frames {
    code: CodeNames<Memory>,
    by_place: HashMap<(u64, u64, i32), u32>,
    named: Vec<Frame>,
    gone: u64,
}

impl Frames {
    /// The index of a frame, which is named now if it is new.
    fn index(&mut self, frame: &PyFrame) -> u32 {
        let place = (frame.code, frame.fingerprint, frame.instr_bytes);
        if let Some(&index) = self.by_place.get(&place) {
            return index;
        }
        let named = self.code.name(frame);
        let index = self.named.len() as u32;
        self.named.push(named.frame);
        self.gone += u64::from(named.gone);
        // A frame that could not be read then may be readable at its next sight.
        if frame.flags & PyFrame::FAULTED == 0 {
            self.by_place.insert(place, index);
        }
        index
    }
}

/// All stacks seen so far.
pub(super) struct Names {
    frames: Frames,
    modules: Modules,
    /// `None` once its image has been replaced: the addresses that are still in the ring are of the old one.
    process: Option<Process>,
    native: NativeNames,
    stacks: HashMap<u64, Stack>,
}

impl Names {
    /// Ready to name; debug files are also looked for in some folders.
    pub(super) fn new(subject: &Subject, debug_dirs: &[PathBuf]) -> Result<Self> {
        let pid = subject.process.pid();
        let memory = Memory::new(pid);
        let process = Process::open(pid).ok();
        let mut modules = Modules::default();
        if let Some(process) = &process {
            // What is mapped now is held open before it can be unmapped or replaced. A process that is gone is noticed elsewhere.
            let _ = modules.refresh(process);
        }
        let debug_files = DebugFiles::of_process(pid, debug_dirs)?;
        Ok(Self {
            frames: Frames {
                code: CodeNames::new(memory, subject.layout),
                by_place: HashMap::new(),
                named: Vec::new(),
                gone: 0,
            },
            modules,
            process,
            native: NativeNames::start(Options { debug_files }),
            stacks: HashMap::new(),
        })
    }

    /// What an address is of, looked up again in the process if it is new.
    fn place(&mut self, address: u64) -> Option<Place> {
        // The address is the one behind the call, which may be the first of the next file.
        let call = address.checked_sub(1)?;
        let known = self.modules.place(call).or_else(|| {
            self.modules.refresh(self.process.as_ref()?).ok()?;
            self.modules.place(call)
        })?;
        Some(Place { offset: known.offset + 1, vaddr: known.vaddr + 1, ..known })
    }

    /// Names a stack's Python frames at once, because code objects die, and asks for the native code that wanted the memory.
    pub(super) fn learn(&mut self, site: u64, end: WalkEnd, caller: u64, frames: &[PyFrame]) {
        let note = match end {
            WalkEnd::Complete => None,
            WalkEnd::Truncated => Some("deeper than --max-depth: the outer frames are missing"),
            WalkEnd::Fault => Some("a frame could not be read: the outer frames are missing"),
            WalkEnd::NoThreadState => {
                Some("no Python frames: the thread did not hold the GIL or ran no Python code")
            }
        };
        let caller = match caller {
            0 => 0,
            address => {
                let place = self.place(address);
                self.native.ask(address, place)
            }
        };
        let frames = frames.iter().map(|frame| self.frames.index(frame)).collect();
        self.stacks.insert(site, Stack { caller, frames, note });
    }

    /// The target's image was replaced.
    pub(super) fn image_replaced(&mut self) {
        self.process = None;
    }

    /// Waits for the names that are still being looked up.
    pub(super) fn finish(self) -> StackNames {
        let Frames { named, gone, .. } = self.frames;
        StackNames { native: self.native.finish(), python: named, stacks: self.stacks, gone }
    }
}

/// The names of all stacks.
pub(super) struct StackNames {
    native: NativeFrames,
    python: Vec<Frame>,
    stacks: HashMap<u64, Stack>,
    /// Frames whose code object had died before it could be read.
    pub(super) gone: u64,
}

impl StackNames {
    /// A stack by its site's id.
    pub(super) fn of(&self, site: u64) -> NamedStack {
        if site == tracer_common::site::OTHER_SITES {
            let note = "(other sites): the site map was full".to_owned();
            return NamedStack { frames: Vec::new(), note: Some(note) };
        }
        let Some(stack) = self.stacks.get(&site) else {
            let note = "its frames never came through the ring".to_owned();
            return NamedStack { frames: Vec::new(), note: Some(note) };
        };
        let mut frames = self.native.get(&stack.caller).cloned().unwrap_or_default();
        frames.extend(stack.frames.iter().filter_map(|&index| self.python.get(index as usize).cloned()));
        NamedStack { frames, note: stack.note.map(str::to_owned) }
    }
}
