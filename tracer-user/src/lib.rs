//! unshed: finds the memory that a running CPython process never sheds.
//!
//! The modules stand in the order in which the data moves: what was asked for (`cli`), who is traced (`target`), into the kernel (`probe`),
//! out of it (`drain`), what it means (`heap`), names (`symbol`), out (`report`); `session` owns time and drives them, `kernel` is the few
//! calls of `bpf(2)` that `probe` and `drain` make themselves.

pub mod error;
pub mod cli;
pub mod session;
pub mod target;
pub mod kernel;
pub mod unwind;
pub mod probe;
pub mod drain;
pub mod heap;
pub mod symbol;
pub mod report;
