//! Into the kernel: what it allows (`doctor`), where a trap is cheapest (`sites`), the object (`load`), the links (`attach`), and what a
//! trap costs here (`calibrate`). With `drain`, one of the two rooms that may name aya.

pub mod attach;
pub mod calibrate;
pub mod code;
pub mod doctor;
pub mod load;
pub mod multi;
pub mod sites;
