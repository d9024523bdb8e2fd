//! Names for machine code, the one door to blazesym: function, file, line and inlined callees of a place in a file.
//!
//! Files are asked, not processes: a file that is held open gives its names after the process has unmapped it, has replaced it on disk, or has ended,
//! and in whatever mount namespace it lies.
//!
//! Reading debug information takes milliseconds, sometimes hundreds of them; code objects die in the meantime, and the ring of new stacks
//! overflows. So it happens in a thread of its own, which is asked as addresses come and gives all its answers at the end. Where our own time is bounded while the target is watched, it does not begin
//! before the end either: a file that is held open can wait.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use self::namer::Namer;
use crate::symbol::Frame;
use crate::symbol::debug_files::DebugFiles;
use crate::target::modules::{Identity, Place};

pub(in crate::symbol) mod exported;
pub(in crate::symbol) mod frames;
pub(in crate::symbol) mod namer;
pub(in crate::symbol) mod opened;
#[cfg(test)]
mod tests;

/// Addresses that are named; a large program has some ten thousand calls on the ways to its allocators.
const LIMIT: usize = 1 << 16;
/// Keys of addresses at which several files have been; no address of a process is so high (`TASK_SIZE_MAX` of x86-64 is 2^56 at most).
const SECOND_FILE: u64 = 1 << 62;

/// Frames by the address that they stand for, innermost first; the frames of inlined functions come before the one that holds their code.
pub type NativeFrames = HashMap<u64, Vec<Frame>>;

/// Where names are looked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Where detached debug information may be.
    pub debug_files: DebugFiles,
    /// Nothing is looked up before [`NativeNames::finish`].
    pub at_end: bool,
}

/// Names of a process's machine code, in the making.
#[derive(Debug)]
pub struct NativeNames {
    questions: Sender<Question>,
    /// By address: the file, and its own address there, that has been asked for; more than one only where code was unmapped and other code mapped.
    asked: HashMap<u64, Vec<Asked>>,
    keys: usize,
    worker: JoinHandle<NativeFrames>,
}

/// What tells apart what has been asked for at one address.
#[derive(Debug)]
struct Asked {
    place: Option<(Identity, u64)>,
    key: u64,
}

/// Which frames to make.
#[derive(Debug)]
struct Question {
    key: u64,
    address: u64,
    place: Option<Place>,
}

impl NativeNames {
    /// Starts the thread.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (questions, incoming) = channel();
        let worker = std::thread::spawn(move || {
            // The reader of the ring must not wait for a processor because of this. Linux has a nice value per thread.
            // SAFETY: takes integers only; 0 is the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
            answer(Namer::new(options.debug_files), &incoming, options.at_end)
        });
        Self { questions, asked: HashMap::new(), keys: 0, worker }
    }

    /// Asks for the frames of a call, by the address *behind* it, and what was mapped there when it was made; `None`: code of no file. What is asked
    /// stays valid whatever the process does next.
    ///
    /// Returns the key of the answer among [`NativeFrames`]: the address itself, unless another file's code was at this address before. Beyond
    /// 65,536 questions there is no answer.
    pub fn ask(&mut self, address: u64, place: Option<Place>) -> u64 {
        let of = place.as_ref().map(|place| (place.file.identity(), place.vaddr));
        let known = self.asked.get(&address).map(Vec::as_slice).unwrap_or_default();
        if let Some(asked) = known.iter().find(|asked| asked.place == of) {
            return asked.key;
        }
        let key = if known.is_empty() { address } else { SECOND_FILE + self.keys as u64 };
        if self.keys < LIMIT {
            self.keys += 1;
            self.asked.entry(address).or_default().push(Asked { place: of, key });
            // A worker that is gone has answered nothing; that is seen at the end.
            let _ = self.questions.send(Question { key, address, place });
        }
        key
    }

    /// Waits for the last answers and gives them all.
    #[must_use]
    pub fn finish(self) -> NativeFrames {
        drop(self.questions);
        self.worker.join().unwrap_or_default()
    }
}

/// Answers until nobody can ask any more. What has come in meanwhile is answered file by file, so that few files are open at a time.
fn answer(mut namer: Namer, questions: &Receiver<Question>, at_end: bool) -> NativeFrames {
    let mut answers = NativeFrames::new();
    while let Ok(first) = questions.recv() {
        let mut by_file: HashMap<Identity, Vec<(u64, Place)>> = HashMap::new();
        let more: Vec<Question> =
            if at_end { questions.iter().collect() } else { questions.try_iter().collect() };
        for question in std::iter::once(first).chain(more) {
            match question.place {
                Some(place) => {
                    let file = place.file.identity();
                    by_file.entry(file).or_default().push((question.key, place));
                }
                None => drop(answers.insert(question.key, vec![frames::of_no_file(question.address)])),
            }
        }
        let mut files: Vec<_> = by_file.into_values().collect();
        files.sort_by_cached_key(|places| {
            !places.first().is_some_and(|(_, place)| namer.is_open(&place.file))
        });
        for (key, place) in files.into_iter().flatten() {
            answers.insert(key, namer.name(&place));
        }
    }
    answers
}
