//! The names of whole stacks: C frames, which are asked for here, and Python frames, which `frames` has named.

use std::collections::HashMap;
use std::path::PathBuf;

use tracer_common::native::{EVALUATOR, NativeEnd};
use tracer_common::walk::WalkEnd;

use crate::error::Result;
use crate::report::story::OTHER_SITES;
use crate::session::Ended;
use crate::session::code::Code;
use crate::session::frames::{Frames, Told};
use crate::session::subject::Subject;
use crate::symbol::Frame;
use crate::symbol::debug_files::DebugFiles;
use crate::symbol::native::{NativeFrames, NativeNames, Options};
use crate::symbol::splice::{self, Mark, Misfit, Piece, Spliced, Walks};
use crate::target::modules::Place;

/// A named stack.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedStack {
    /// Innermost first.
    pub(super) frames: Vec<Frame>,
    /// Why it is not whole.
    pub(super) note: Option<String>,
}

/// The C frames of a stack, still being named.
#[derive(Default)]
struct Native {
    /// For each frame the key of its names, with the mark of the evaluator's frames.
    frames: Vec<u64>,
    end: Option<NativeEnd>,
}

/// A stack.
struct Stack {
    native: Native,
    /// Places in the table of Python frames: a program has far fewer frames than stacks.
    frames: Vec<u32>,
    /// For each of them how it was called.
    marks: Vec<Mark>,
    end: WalkEnd,
}

/// All stacks seen so far.
pub(super) struct Names {
    native: NativeNames,
    /// C frames whose site's Python frames come next.
    pending: Option<(u64, Native)>,
    stacks: HashMap<u64, Stack>,
}

impl Names {
    /// Ready to name; debug files are also looked for in some folders. C frames are named as they come, or all at the end.
    pub(super) fn new(subject: &Subject, debug_dirs: &[PathBuf], at_end: bool) -> Result<Self> {
        let debug_files = DebugFiles::of_process(subject.process.pid(), debug_dirs)?;
        Ok(Self {
            native: NativeNames::start(Options { debug_files, at_end }),
            pending: None,
            stacks: HashMap::new(),
        })
    }

    /// Takes what came through the ring: frames, or a milestone of the target, which ends the recording.
    pub(super) fn take(&mut self, told: Told, code: Option<&Code>) -> Option<Ended> {
        match told {
            Told::Native { site, end, frames } => {
                self.learn_native(site, end, frames, |address| code?.place(address));
            }
            Told::Stack { site, end, frames, marks } => {
                let native = self.pending.take().filter(|(of, _)| *of == site).map(|(_, native)| native);
                self.stacks.insert(site, Stack { native: native.unwrap_or_default(), frames, marks, end });
            }
            // It came to wake us.
            Told::UnknownCode => {}
            Told::Ended(ended) => return Some(ended),
        }
        None
    }

    /// Takes the C frames of a site, whose Python frames come next, and asks for their names. `place` says what is mapped at an address.
    fn learn_native(
        &mut self,
        site: u64,
        end: NativeEnd,
        frames: Vec<u64>,
        place: impl Fn(u64) -> Option<Place>,
    ) {
        let mut native = Native { frames, end: Some(end) };
        for frame in &mut native.frames {
            let (address, mark) = (*frame & !EVALUATOR, *frame & EVALUATOR);
            // The evaluator's own frames are folded away.
            if mark == 0 {
                *frame = self.ask(address, &place);
            }
        }
        self.pending = Some((site, native));
    }

    /// Asks for the frames of a call by the address behind it, which may be the first of the next file.
    fn ask(&mut self, address: u64, place: impl Fn(u64) -> Option<Place>) -> u64 {
        let call = place(address.wrapping_sub(1));
        let place = call.map(|call| Place { offset: call.offset + 1, vaddr: call.vaddr + 1, ..call });
        self.native.ask(address, place)
    }

    /// Waits for the names that are still being looked up.
    pub(super) fn finish(self, frames: Frames) -> StackNames {
        let Frames { named, gone, .. } = frames;
        StackNames { native: self.native.finish(), python: named, stacks: self.stacks, gone }
    }
}

/// The names of all stacks; by default there are none.
#[derive(Default)]
pub(super) struct StackNames {
    native: NativeFrames,
    python: Vec<Frame>,
    stacks: HashMap<u64, Stack>,
    /// Frames whose code object had died before it could be read.
    pub(super) gone: u64,
}

impl StackNames {
    /// Whether the frames of a site came through the ring.
    pub(super) fn knows(&self, site: u64) -> bool {
        self.stacks.contains_key(&site)
    }

    /// A stack by its site's id.
    pub(super) fn of(&self, site: u64) -> NamedStack {
        if site == tracer_common::site::OTHER_SITES {
            let note = format!(
                "{OTHER_SITES}: those that found no room in the site map, and those that matter least"
            );
            return NamedStack { frames: Vec::new(), note: Some(note) };
        }
        let Some(stack) = self.stacks.get(&site) else {
            let note = "its frames never came through the ring".to_owned();
            return NamedStack { frames: Vec::new(), note: Some(note) };
        };
        let walks = Walks {
            native: &stack.native.frames,
            native_end: splice_end(stack.native.end),
            python: &stack.marks,
            python_whole: stack.end == WalkEnd::Complete,
        };
        let Spliced { order, misfit } = splice::splice(&walks);
        let mut frames = Vec::with_capacity(order.len());
        for piece in order {
            match piece {
                Piece::Native(at) => {
                    let names = stack.native.frames.get(at).and_then(|key| self.native.get(key));
                    frames.extend(names.into_iter().flatten().cloned());
                }
                Piece::Python(at) => {
                    let index = stack.frames.get(at).copied().unwrap_or(u32::MAX);
                    frames.extend(self.python.get(index as usize).cloned());
                }
            }
        }
        NamedStack { frames, note: note(stack, misfit) }
    }
}

/// The end of a native walk as the splice needs it.
const fn splice_end(end: Option<NativeEnd>) -> splice::NativeEnd {
    match end {
        Some(NativeEnd::Outermost) => splice::NativeEnd::Whole,
        None | Some(NativeEnd::Off | NativeEnd::Evaluator) => splice::NativeEnd::Leaf,
        Some(_) => splice::NativeEnd::Cut,
    }
}

/// Why a stack is not whole, in sentences.
fn note(stack: &Stack, misfit: Option<Misfit>) -> Option<String> {
    let python = match stack.end {
        WalkEnd::Complete => None,
        WalkEnd::Truncated => Some("deeper than --max-depth: the outer frames are missing"),
        WalkEnd::Fault => Some("a frame could not be read: the outer frames are missing"),
        WalkEnd::NoThreadState => Some(
            "no Python frames: the thread ran no Python code, or had released the GIL and was not seen with it before",
        ),
    };
    let reason = stack.native.end.and_then(NativeEnd::reason);
    let native = misfit.map(|misfit| match reason {
        Some(reason) => format!("{} ({reason})", misfit.sentence()),
        None => misfit.sentence().to_owned(),
    });
    let sentences: Vec<String> = python.map(str::to_owned).into_iter().chain(native).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}
