//! Out of the kernel: events as they happen (`ring`), sums and blocks when they are asked for (`books`), the clocks (`clock`). With
//! `probe`, one of the two rooms that may name aya.

pub mod books;
pub mod clock;
pub mod log;
pub mod ring;
