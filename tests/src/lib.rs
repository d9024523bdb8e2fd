//! The tests' own crate: it sees unshed from outside, as an operator does. Real Python programs leak by a known amount and say
//! so themselves; unshed watches them; the tests hold the one against the other.
//!
//! The way of a test: [`interpreters`] finds a CPython, [`harness::Target`] runs a program of `programs/` under it,
//! [`harness::Unshed`] records it, [`report`] reads what was written and checks what must hold of any report, and [`truth`]
//! compares it with what the program says of itself; [`stacks`] does the same for stacks of machine code and Python.

pub mod harness;
pub mod interpreters;
pub mod report;
pub mod stacks;
pub mod truth;
