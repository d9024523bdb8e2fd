//! What the numbers mean. Pure: no I/O, no clock, no aya, no tokio; sums and times come in, judgements go out.

pub mod balance;
pub mod books;
pub mod given;
pub mod history;
pub mod line;
pub mod order;
pub mod sample;
pub mod snapshot;
pub mod spread;
pub mod verdict;
