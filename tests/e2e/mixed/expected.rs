//! The stack as faulthandler and gdb see it, put together. What calls what comes from neither of our walks, but from the names that the program has given its functions.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use unshed_tests::harness::{GdbFrame, StoppedThread};
use unshed_tests::report::Frame;

/// The evaluator, whose C frames stand for Python frames.
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";

/// A Python frame as faulthandler prints it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    file: String,
    line: u32,
    /// Its name, without its scope.
    function: String,
}

impl Told {
    /// Whether C code has called it, by its name (see `ways.py`).
    fn is_called_by_c(&self) -> bool {
        ["by_c_", "__", "<module>", "<genexpr>"].iter().any(|prefix| self.function.starts_with(prefix))
    }
}

/// What `ways.py` says where it stands.
#[derive(Deserialize)]
struct Standing {
    tid: u32,
    frames: Vec<Told>,
}

/// A frame that a reported stack must have.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// A Python frame.
    Python(Told),
    /// A C frame.
    Native {
        /// Its function, if gdb knows it.
        name: Option<String>,
        /// The file, without its folder.
        module: String,
        /// The call's last byte in the file.
        offset: u64,
    },
}

impl Expected {
    /// Whether a reported frame is this one: by its line, or by its place in the file and, where both have one, its name.
    pub(super) fn is(&self, frame: &Frame) -> bool {
        match self {
            Self::Python(told) => {
                let own = frame.function.rsplit('.').next();
                frame.kind == "python"
                    && (own, frame.file.as_ref(), frame.line)
                        == (Some(told.function.as_str()), Some(&told.file), Some(told.line))
            }
            Self::Native { name, module, offset } => {
                let named = name.as_deref().filter(|_| frame.unnamed.is_none());
                frame.kind == "native"
                    && frame.module.as_ref() == Some(module)
                    && frame.module_offset == Some(*offset)
                    && named.is_none_or(|name| name == frame.function)
            }
        }
    }
}

impl Expected {
    /// Whether it is an allocator, by its name if gdb knows it.
    pub(super) fn is_allocator(&self) -> bool {
        match self {
            Self::Python(_) => false,
            Self::Native { name, .. } => {
                name.as_ref().is_none_or(|name| name.to_lowercase().contains("alloc"))
            }
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python(Told { file, line, function }) => write!(to, "{function} ({file}:{line})"),
            Self::Native { name, module, offset } => {
                write!(to, "{} [{module}+{offset:#x}]", name.as_deref().unwrap_or("?"))
            }
        }
    }
}

/// The C frames above the first evaluator, of the thread that has stopped by itself: the one in `calloc`.
pub(super) fn above_evaluator(pid: u32, threads: &[StoppedThread]) -> Vec<Expected> {
    let is_there = |thread: &&StoppedThread| {
        thread
            .frames
            .first()
            .and_then(|frame| frame.name.as_deref())
            .is_some_and(|name| name.contains("calloc"))
    };
    let thread = threads.iter().find(is_there).expect("a thread stands in calloc");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process stands");
    let frames = thread.addresses();
    let above = frames.iter().take_while(|(_, frame)| !is_evaluator(frame));
    above.map(|(address, frame)| native(&maps, *address, frame)).collect()
}

fn is_evaluator(frame: &GdbFrame) -> bool {
    frame.name.as_deref().is_some_and(|name| name.starts_with(EVALUATOR))
}

fn native(maps: &str, address: u64, frame: &GdbFrame) -> Expected {
    let (module, offset) = place(maps, address - 1);
    Expected::Native { name: frame.name.clone(), module, offset }
}

/// The stack from the leaf outwards, its line being the one that leaks.
pub(super) fn expected(said: &Value, leaf: &Told, pid: u32, threads: &[StoppedThread]) -> Vec<Expected> {
    let Standing { tid, frames } = Standing::deserialize(said).expect("ways.py says where it stands");
    let thread = threads.iter().find(|thread| thread.tid == tid);
    let thread = thread.unwrap_or_else(|| panic!("gdb does not know the thread {tid}"));
    let mut python = frames.into_iter().peekable();
    let standing = python.next().expect("the leaf stands");
    assert_eq!(standing.function, leaf.function, "the leaf is not the innermost frame");
    let mut stack = vec![Expected::Python(leaf.clone())];
    let mut in_evaluator = false;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process stands");
    for (address, frame) in thread.addresses() {
        if is_evaluator(frame) {
            // The leaf itself is there already, and never called by C code.
            in_evaluator = true;
            loop {
                let told = python.next().unwrap_or_else(|| {
                    panic!("gdb has more evaluators than there are Python frames for: {said}\n{thread:#?}")
                });
                let called_by_c = told.is_called_by_c() || python.peek().is_none();
                stack.push(Expected::Python(told));
                if called_by_c {
                    break;
                }
            }
        } else if in_evaluator {
            stack.push(native(&maps, address, frame));
        }
    }
    assert!(python.next().is_none(), "there are Python frames without an evaluator in gdb's backtrace");
    stack
}

/// The file that is mapped at an address, and the address's place in it.
fn place(maps: &str, address: u64) -> (String, u64) {
    let found = maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let offset = fields.nth(1)?;
        let path = fields.nth(2)?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
        let name = path.rsplit('/').next()?.to_owned();
        (start..end).contains(&address).then(|| (name, offset + (address - start)))
    });
    found.unwrap_or_else(|| panic!("{address:#x} is of no file"))
}
