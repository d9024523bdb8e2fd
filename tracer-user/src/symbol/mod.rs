//! Names for addresses: code objects, line tables, machine code, types.

use serde::{Deserialize, Serialize};

pub mod code;
pub mod lines;
pub mod native;
pub mod object;
pub mod splice;

/// Whether a frame is machine code or Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// A function of an ELF file.
    Native,
    /// A code object.
    Python,
}

/// One named frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Native or Python.
    pub kind: FrameKind,
    /// Qualified name of the function; a sentence in angle brackets when there is none.
    pub function: String,
    /// Source file as the code object or debug information names it.
    pub file: Option<String>,
    /// Line of the call or allocation; `None` where the code has no line.
    pub line: Option<u32>,
    /// ELF file of a native frame.
    pub module: Option<String>,
    /// The native function was inlined into the next frame.
    pub inlined: bool,
}
