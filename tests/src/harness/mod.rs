//! Running things: Python programs, the tool, the C compiler; and waiting for them without ever sleeping blindly.

mod addr2line;
mod extension;
mod gdb;
mod lines;
mod scratch;
mod target;
mod traps;
mod unshed;
mod wait;

pub use addr2line::named_by_offset;
pub use extension::{
    Build, DebugInfo, Installed, build_extension, build_id, debug_file, install, module_name, whole,
};
pub use gdb::{FrameKind, Gdb, GdbFrame, StoppedThread};
pub use lines::Lines;
pub use scratch::Scratch;
pub use target::{Launch, Target, innermost, program};
pub use traps::{Trap, assert_no_traps, function_in_file, traps_in_function, traps_of};
pub use unshed::{EXACT, Output, Recording, Unshed};
pub use wait::{LONG, SHORT, is_alive, signal, wait_exit, wait_until};
