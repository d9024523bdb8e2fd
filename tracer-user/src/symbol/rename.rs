//! Names the native frames of a recorded story again, with debug files that were not at hand where it was recorded.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::symbol::debug_files::DebugFiles;
use crate::symbol::native::frames::Call;
use crate::symbol::native::namer::Namer;
use crate::symbol::native::opened::Module;
use crate::symbol::{Frame, FrameKind, FramePlace, unhex};

/// Names frames by their places, with the debug files in some folders.
#[derive(Debug)]
pub struct Renamer {
    namer: Namer,
    known: HashMap<FramePlace, Vec<Frame>>,
}

impl Renamer {
    /// Takes the folders: each may hold `.build-id/xx/yyyy.debug`, files named like a module or with `.debug` behind, or a module's whole path.
    ///
    /// # Errors
    /// When a folder cannot be opened.
    pub fn new(folders: &[PathBuf]) -> Result<Self> {
        Ok(Self { namer: Namer::new(DebugFiles::of_folders(folders)?), known: HashMap::new() })
    }

    /// Names all places of many stacks, module by module, so that each file is read once; then replaces in each stack what has become better.
    /// Returns how many places are in files of the right build.
    pub fn rename<'a>(&mut self, stacks: impl IntoIterator<Item = &'a mut Vec<Frame>>) -> usize {
        let stacks: Vec<&mut Vec<Frame>> = stacks.into_iter().collect();
        let frames = stacks.iter().flat_map(|stack| stack.iter());
        let mut places: Vec<FramePlace> = frames.filter_map(|frame| frame.place.clone()).collect();
        places.sort_unstable_by(|one, other| {
            (&one.build_id, &one.path, one.vaddr).cmp(&(&other.build_id, &other.path, other.vaddr))
        });
        places.dedup();
        for place in places {
            if let Some(frames) = self.name(&place) {
                self.known.insert(place, frames);
            }
        }
        for stack in stacks {
            *stack = renamed(std::mem::take(stack), &self.known);
        }
        self.known.len()
    }

    /// The frames of a place, if a file of its very build is in the folders.
    fn name(&mut self, place: &FramePlace) -> Option<Vec<Frame>> {
        // Without a build id nothing proves that a file is of the same build, and a wrong name is worse than none.
        let build_id = unhex(place.build_id.as_ref()?)?;
        let module = Module { path: PathBuf::from(&place.path), build_id: Some(build_id), own: None };
        self.namer.knows(&module).then(|| self.namer.frames(&module, &Call { place: place.clone() }))
    }
}

/// The stack with the groups of frames replaced that are better known now. A group is what one call has become: the functions inlined there, then
/// the one that holds them.
fn renamed(stack: Vec<Frame>, known: &HashMap<FramePlace, Vec<Frame>>) -> Vec<Frame> {
    let mut result = Vec::with_capacity(stack.len());
    let mut group: Vec<Frame> = Vec::new();
    for frame in stack {
        // A cut between two calls, also where the outer frame of a group is missing.
        if group.last().is_some_and(|last| frame.kind != FrameKind::Native || last.place != frame.place) {
            result.append(&mut better(std::mem::take(&mut group), known));
        }
        let whole = !frame.inlined;
        group.push(frame);
        if whole {
            result.append(&mut better(std::mem::take(&mut group), known));
        }
    }
    result.append(&mut better(group, known));
    result
}

fn better(group: Vec<Frame>, known: &HashMap<FramePlace, Vec<Frame>>) -> Vec<Frame> {
    let place = group.first().and_then(|frame| frame.place.as_ref());
    match place.and_then(|place| known.get(place)) {
        Some(frames) if worth(frames) > worth(&group) => frames.clone(),
        _ => group,
    }
}

/// How much a group says: that it has a name, that it has a line, how many functions were inlined.
fn worth(group: &[Frame]) -> (bool, bool, usize) {
    let named = group.iter().all(|frame| frame.unnamed.is_none());
    (named, group.iter().any(|frame| frame.line.is_some()), group.len())
}

#[cfg(test)]
mod tests;
