//! Names for addresses: code objects, line tables, machine code, types.

use serde::{Deserialize, Serialize};

pub mod code;
pub mod debug_files;
pub mod lines;
pub mod native;
pub mod object;
pub mod rename;
#[cfg(test)]
pub(in crate::symbol) mod fixture;
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
    /// Qualified name of the function; `<libfoo.so+0x1234>`, or a sentence in angle brackets, when there is none.
    pub function: String,
    /// Source file as the code object or debug information names it.
    pub file: Option<String>,
    /// Line of the call or allocation; `None` where the code has no line.
    pub line: Option<u32>,
    /// ELF file of a native frame.
    pub module: Option<String>,
    /// The native function was inlined into the next frame.
    pub inlined: bool,
    /// Where in its ELF file a native frame is, named or not; the frames of inlined functions share the place of the function that holds them.
    #[serde(flatten)]
    pub place: Option<FramePlace>,
    /// Why a native frame has no name, a clause: `no symbols in libfoo.so (build id 0123…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<String>,
}

/// Where in an ELF file a native frame's call is: enough to name it on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FramePlace {
    /// The file's path in the target's mount namespace.
    #[serde(rename = "module_path")]
    pub path: String,
    /// Offset in the file, in bytes, of the last byte of the call.
    #[serde(rename = "module_offset")]
    pub offset: u64,
    /// The file's own address of that byte, as `addr2line -e FILE` takes it.
    #[serde(rename = "module_address")]
    pub vaddr: u64,
    /// The file's build id in lower-case hexadecimal, if it has one.
    pub build_id: Option<String>,
}

/// The part of a path behind its last slash; all of it where there is none.
#[must_use]
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A string takes any text.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that a text of hexadecimal digits stands for; `None` if it is none.
#[must_use]
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_hexadecimal_text_stands_for_no_bytes() {
        assert_eq!((hex(&[0, 0xa5, 0xff]).as_str(), unhex("00a5FF")), ("00a5ff", Some(vec![0, 0xa5, 0xff])));
        for wrong in ["0", "0g", "+1", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
        assert_eq!((file_name("/usr/lib/a.so"), file_name("a.so"), file_name("/")), ("a.so", "a.so", "/"));
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }
    }
}
