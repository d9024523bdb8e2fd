//! The fence between the probes in the kernel and the loader in user space.
//!
//! Every type here has one writer and one reader on opposite sides, a fixed size and no hidden padding, which is
//! asserted beside its definition. The frame walk is here too, because the very same code runs in BPF, in the tests
//! against a live process and in the tests against recorded memory.
//!
//! The modules are listed in the way of the data: what is configured, what a hook says of itself, whose memory it is,
//! how frames are found, what is remembered of a block and of a site, what is sent, and what is lost.
#![cfg_attr(not(test), no_std)]

pub mod limits;
pub mod config;
pub mod current;
pub mod layout;
pub mod hook;
pub mod domain;
pub mod frame;
pub mod window;
pub mod walk;
pub mod unwind;
pub mod native;
pub mod block;
pub mod site;
pub mod event;
pub mod sample;
pub mod kin;
pub mod loss;

/// Declares that types may be copied between kernel and user space byte by byte.
///
/// Only types whose every bit pattern is valid and that have no implicit padding belong here.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($ty:ty),+ $(,)?) => {
        // SAFETY: each listed type is `repr(C)`, holds only integers, and its size assertion, beside the definition,
        // proves that it has no implicit padding.
        $(unsafe impl aya::Pod for $ty {})+
    };
}

#[cfg(feature = "user")]
pod!(
    config::TraceConfig,
    config::ProcessState,
    kin::KinConfig,
    sample::Gate,
    block::Block,
    site::SiteTotals,
    site::IntTotals,
    site::IntValueKey,
    hook::Hook,
    hook::SlowCall,
    unwind::Module,
    unwind::View,
    unwind::Page,
    unwind::Row,
    unwind::Rule,
);
