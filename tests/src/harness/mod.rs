//! Running things: Python programs, the tool, the C compiler; and waiting for them without ever sleeping blindly.

mod extension;
mod lines;
mod target;
mod traps;
mod unshed;
mod wait;

pub use extension::build_extension;
pub use lines::Lines;
pub use target::{Target, program};
pub use traps::{Trap, assert_no_traps, traps_in_function, traps_of};
pub use unshed::{Output, Recording, Scratch, Unshed};
pub use wait::{LONG, SHORT, is_alive, signal, wait_exit, wait_until};
