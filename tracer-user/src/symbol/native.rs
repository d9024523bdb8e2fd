//! Names for machine code, the one door to blazesym: function, file, line and inlined callees of an address in the target.
//!
//! Reading debug information takes milliseconds, sometimes hundreds of them; code objects die in the meantime, and the ring of new stacks
//! overflows. So it happens in a thread of its own, which is asked as addresses come and gives all its answers at the end.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use blazesym::Pid;
use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{CodeInfo, Input, Reason, Sym, Symbolized, Symbolizer};

use crate::symbol::{Frame, FrameKind};

/// Addresses that are named; a program has a few thousand callers of its allocators.
const LIMIT: usize = 1 << 16;

/// Frames by the return address that they stand for, innermost first.
pub type NativeFrames = HashMap<u64, Vec<Frame>>;

/// Names of one process's machine code, in the making.
pub struct NativeNames {
    questions: Sender<u64>,
    asked: HashSet<u64>,
    stale: Arc<AtomicBool>,
    worker: JoinHandle<NativeFrames>,
}

impl NativeNames {
    /// Names for a process, by its id in our own PID namespace; its files are opened through `/proc/PID/map_files`, so that containers and
    /// deleted files are no obstacle.
    #[must_use]
    pub fn start(pid: u32) -> Self {
        let (questions, incoming) = channel();
        let stale = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&stale);
        let worker = std::thread::spawn(move || {
            // The reader of the ring must not wait for a processor because of this. Linux has a nice value per thread.
            // SAFETY: takes integers only; 0 is the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
            Namer::new(pid).answer(&incoming, &watched)
        });
        Self { questions, asked: HashSet::new(), stale, worker }
    }

    /// Asks for the frames at a return address.
    pub fn ask(&mut self, return_address: u64) {
        if self.asked.len() < LIMIT && self.asked.insert(return_address) {
            // A worker that is gone has answered nothing; that is seen at the end.
            let _ = self.questions.send(return_address);
        }
    }

    /// The target's image was replaced: what has not been named by now never will be, because its addresses mean something else.
    pub fn image_replaced(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answers and gives them all.
    #[must_use]
    pub fn finish(self) -> NativeFrames {
        drop(self.questions);
        self.worker.join().unwrap_or_default()
    }
}

/// The thread's own part; a symbolizer stays in the thread that made it.
struct Namer {
    symbolizer: Symbolizer,
    source: Source<'static>,
}

impl Namer {
    fn new(pid: u32) -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(true)
            .build();
        let mut process = Process::new(Pid::from(pid));
        process.perf_map = false;
        Self { symbolizer, source: Source::Process(process) }
    }

    /// Answers until nobody can ask any more.
    fn answer(&self, questions: &Receiver<u64>, stale: &AtomicBool) -> NativeFrames {
        let mut answers = NativeFrames::new();
        for address in questions {
            if !stale.load(Ordering::Relaxed) {
                answers.insert(address, self.look_up(address));
            }
        }
        answers
    }

    /// The functions that the compiler inlined at the call, then the one that holds the code. An address without a name gives one frame
    /// that says why.
    fn look_up(&self, return_address: u64) -> Vec<Frame> {
        // The call is before the address that it returns to, which may belong to the next line, or function.
        let call = Input::AbsAddr(return_address.saturating_sub(1));
        match self.symbolizer.symbolize_single(&self.source, call) {
            Ok(Symbolized::Sym(symbol)) => frames(&symbol),
            Ok(Symbolized::Unknown(reason)) => vec![nameless(return_address, words(reason))],
            Err(cause) => vec![nameless(return_address, &cause.to_string())],
        }
    }
}

/// A symbol as frames, innermost first.
fn frames(symbol: &Sym<'_>) -> Vec<Frame> {
    let module = symbol.module.as_ref().map(|module| file_name(Path::new(module)));
    let frame = |function: &str, info: Option<&CodeInfo<'_>>, inlined| Frame {
        kind: FrameKind::Native,
        function: function.to_owned(),
        file: info.map(|info| info.to_path().display().to_string()),
        line: info.and_then(|info| info.line),
        module: module.clone(),
        inlined,
    };
    let inlined = symbol.inlined.iter().rev();
    inlined
        .map(|inlined| frame(&inlined.name, inlined.code_info.as_ref(), true))
        .chain([frame(&symbol.name, symbol.code_info.as_deref(), false)])
        .collect()
}

/// Why an address has no name, in a word or two: stripped files are what most people run.
const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingSyms => "no symbols",
        Reason::UnknownAddr => "no symbol there",
        Reason::Unmapped => "not mapped any more",
        _ => "no file",
    }
}

fn nameless(address: u64, reason: &str) -> Frame {
    Frame {
        kind: FrameKind::Native,
        function: format!("<{address:#x}: {reason}>"),
        file: None,
        line: None,
        module: None,
        inlined: false,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
