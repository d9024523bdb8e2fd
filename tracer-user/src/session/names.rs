//! The names of stacks, read when a stack is first seen, while its code objects live.

use std::collections::HashMap;

use tracer_common::frame::PyFrame;
use tracer_common::walk::WalkEnd;

use crate::session::subject::Subject;
use crate::symbol::Frame;
use crate::symbol::code::CodeNames;
use crate::symbol::native::NativeNames;
use crate::target::memory::Memory;

/// A named stack.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedStack {
    /// Innermost first.
    pub(super) frames: Vec<Frame>,
    /// Why it is not whole.
    pub(super) note: Option<String>,
}

/// All stacks seen so far.
pub(super) struct Names {
    code: CodeNames<Memory>,
    native: NativeNames,
    stacks: HashMap<u64, NamedStack>,
    /// Frames whose code object had died before it could be read.
    pub(super) gone: u64,
}

impl Names {
    pub(super) fn new(subject: &Subject) -> Self {
        let memory = Memory::new(subject.process.pid());
        Self {
            code: CodeNames::new(memory, subject.layout),
            native: NativeNames::new(subject.process.pid()),
            stacks: HashMap::new(),
            gone: 0,
        }
    }

    /// Names a stack: the Python frames first, because code objects die sooner than libraries, below the native code that asked for the memory.
    pub(super) fn learn(&mut self, site: u64, end: WalkEnd, caller: u64, frames: &[PyFrame]) {
        let named: Vec<_> = frames.iter().map(|frame| self.code.name(frame)).collect();
        self.gone += named.iter().filter(|named| named.gone).count() as u64;
        let note = match end {
            WalkEnd::Complete => None,
            WalkEnd::Truncated => Some("deeper than --max-depth: the outer frames are missing".to_owned()),
            WalkEnd::Fault => Some("a frame could not be read: the outer frames are missing".to_owned()),
            WalkEnd::NoThreadState => {
                Some("no Python frames: the thread did not hold the GIL or ran no Python code".to_owned())
            }
        };
        let mut frames = if caller == 0 { Vec::new() } else { self.native.at_return(caller) };
        frames.extend(named.into_iter().map(|named| named.frame));
        self.stacks.insert(site, NamedStack { frames, note });
    }

    /// A stack by its site's id.
    pub(super) fn of(&self, site: u64) -> NamedStack {
        if site == tracer_common::site::OTHER_SITES {
            let note = "(other sites): the site map was full".to_owned();
            return NamedStack { frames: Vec::new(), note: Some(note) };
        }
        self.stacks.get(&site).cloned().unwrap_or_else(|| NamedStack {
            frames: Vec::new(),
            note: Some("its frames never came through the ring".to_owned()),
        })
    }
}
