//! The frame walk, held against CPython's own word: on live processes over `process_vm_readv`, and on recordings of just the
//! memory that such a walk has read, which need no process, no root and no interpreter.
//! The walk along C frames is held against gdb, on live processes.
//!
//! `cargo test --package unshed-tests --test walk`; `UNSHED_RECORD=1` in front makes the recordings of `tests/memory/` anew. Each is
//! a pair: `NAME.mem`, the bytes (`tracer_user::target::recorded`), and `NAME.json`, where the walk begins and what it must find.

mod current;
mod expected;
mod faults;
mod live;
mod look;
mod native;
mod recorder;
mod replay;
