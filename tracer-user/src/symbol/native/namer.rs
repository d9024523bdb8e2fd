//! Names places, file after file, with a bounded number of files open: blazesym maps every file that it meets, and the debug information of a large
//! process is gigabytes.

use std::fs::File;
use std::sync::Arc;

use super::frames::Call;
use super::opened::{Module, Opened};
use crate::symbol::debug_files::DebugFiles;
use crate::symbol::{Frame, FramePlace, hex};
use crate::target::modules::{CodeFile, Identity, Place};

/// What may be open at a time: modules, and bytes of their files (with their debug files) that are mapped. One module alone may be larger.
#[derive(Clone, Copy, Debug)]
pub(in crate::symbol) struct Room {
    pub(in crate::symbol) modules: usize,
    pub(in crate::symbol) bytes: u64,
}

/// Enough for the few files that most allocations of a process come from: the interpreter, the C library, and a handful of extensions.
pub(in crate::symbol) const ROOM: Room = Room { modules: 8, bytes: 512 << 20 };

/// Names places; stays in the thread that made it.
#[derive(Debug)]
pub(in crate::symbol) struct Namer {
    debug_files: DebugFiles,
    room: Room,
    /// The one that was asked last is last.
    open: Vec<Opened>,
}

impl Namer {
    pub(in crate::symbol) fn new(debug_files: DebugFiles) -> Self {
        Self::with_room(debug_files, ROOM)
    }

    pub(in crate::symbol) fn with_room(debug_files: DebugFiles, room: Room) -> Self {
        Self { debug_files, room, open: Vec::new() }
    }

    /// Whether a file is open, so that its places are named quickly.
    pub(in crate::symbol) fn is_open(&self, file: &Arc<CodeFile>) -> bool {
        let module = module(file);
        self.open.iter().any(|opened| opened.is_of(&module))
    }

    /// The frames of the call before a place, innermost first; never none.
    pub(in crate::symbol) fn name(&mut self, behind: &Place) -> Vec<Frame> {
        // The call is before the address that it returns to, which may belong to the next line, or function.
        let place = FramePlace {
            path: behind.file.path.to_string_lossy().into_owned(),
            offset: behind.offset.saturating_sub(1),
            vaddr: behind.vaddr.saturating_sub(1),
            build_id: behind.file.build_id.as_deref().map(hex),
        };
        let call = Call { place };
        // What is in the file now is not what the process runs; and what is mapped of a file that is cut short must not be touched.
        if !is_as_mapped(&behind.file) {
            self.open.retain(|opened| !opened.is_of(&module(&behind.file)));
            return vec![call.nameless("overwritten since it was mapped: no symbols")];
        }
        self.frames(&module(&behind.file), &call)
    }

    /// The frames of a call in a module.
    pub(in crate::symbol) fn frames(&mut self, module: &Module, call: &Call) -> Vec<Frame> {
        self.opened(module).map_or_else(|| vec![call.nameless("no symbols")], |opened| opened.frames(call))
    }

    /// The module, made the last of those that are open; the first ones are closed to make room.
    fn opened(&mut self, module: &Module) -> Option<&mut Opened> {
        let opened = match self.open.iter().position(|opened| opened.is_of(module)) {
            Some(at) => self.open.remove(at),
            None => Opened::open(module.clone(), &self.debug_files),
        };
        let mut bytes = opened.bytes;
        let fits = |other: &&Opened| {
            bytes = bytes.saturating_add(other.bytes);
            bytes <= self.room.bytes
        };
        let kept = self.open.iter().rev().take(self.room.modules.saturating_sub(1)).take_while(fits).count();
        self.open.drain(..self.open.len() - kept);
        self.open.push(opened);
        self.open.last_mut()
    }

    /// Bytes of the files that may be mapped now.
    #[cfg(test)]
    pub(in crate::symbol) fn bytes(&self) -> u64 {
        self.open.iter().map(|opened| opened.bytes).sum()
    }

    /// Modules that are open now.
    #[cfg(test)]
    pub(in crate::symbol) fn modules(&self) -> usize {
        self.open.len()
    }

    /// Whether anything can name a module.
    pub(in crate::symbol) fn knows(&mut self, module: &Module) -> bool {
        self.opened(module).is_some_and(|opened| opened.has_names())
    }
}

/// Whether a file has not been written to since it was first seen in the process.
fn is_as_mapped(file: &CodeFile) -> bool {
    File::open(file.open_path()).and_then(|now| Identity::of(&now)).is_ok_and(|now| now == file.identity())
}

fn module(file: &Arc<CodeFile>) -> Module {
    Module { path: file.path.clone(), build_id: file.build_id.clone(), own: Some(Arc::clone(file)) }
}
