//! Into the kernel: what it allows (`doctor`), where a trap is cheapest (`sites`), the object (`load`), the gate of the sample engine's windows (`gate`), the unwind tables (`unwind`), the links
//! (`attach`), what a trap costs here (`calibrate`), how often there will be one (`rate`) and what that would come to (`forecast`). With `drain`, one of the two rooms that may name aya.

pub mod attach;
pub mod btf;
pub mod budget;
pub mod calibrate;
pub mod code;
pub mod doctor;
pub mod forecast;
pub mod gate;
pub mod family;
pub mod load;
pub mod multi;
pub mod rate;
pub mod sites;
pub mod unwind;
