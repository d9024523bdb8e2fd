//! Names for machine code, the one door to blazesym: function, file, line and inlined callees of an address in the target.

use std::collections::HashMap;
use std::path::Path;

use blazesym::Pid;
use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use crate::symbol::{Frame, FrameKind};

/// Addresses that are remembered.
const CACHE_LIMIT: usize = 1 << 16;

/// Names of one process's machine code.
pub struct NativeNames {
    symbolizer: Symbolizer,
    source: Source<'static>,
    known: HashMap<u64, Vec<Frame>>,
}

impl NativeNames {
    /// Names for a process, by its id in our own PID namespace; its files are opened through `/proc/PID/map_files`, so that containers and
    /// deleted files are no obstacle.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(true)
            .build();
        let mut process = Process::new(Pid::from(pid));
        process.perf_map = false;
        Self { symbolizer, source: Source::Process(process), known: HashMap::new() }
    }

    /// The frames at a return address, innermost first: the functions that the compiler inlined there, then the one that holds the code.
    /// An address without a name gives one frame that says why.
    pub fn at_return(&mut self, return_address: u64) -> Vec<Frame> {
        if let Some(known) = self.known.get(&return_address) {
            return known.clone();
        }
        let frames = self.look_up(return_address);
        if self.known.len() < CACHE_LIMIT {
            self.known.insert(return_address, frames.clone());
        }
        frames
    }

    fn look_up(&self, return_address: u64) -> Vec<Frame> {
        // The call is before the address that it returns to, which may belong to the next line, or function.
        let call = Input::AbsAddr(return_address.saturating_sub(1));
        match self.symbolizer.symbolize_single(&self.source, call) {
            Ok(Symbolized::Sym(symbol)) => frames(&symbol),
            Ok(Symbolized::Unknown(reason)) => vec![nameless(return_address, &reason.to_string())],
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
