//! Which layout a CPython has: the table of its version, or where no build of it has been tried, what its debug offsets make of the nearest table. What is not proven is marked so.

use std::sync::{Mutex, PoisonError};

use crate::target::layout::debug_offsets::{self, DebugOffsets, FORMS};
use crate::target::layout::{self, Layout, proven};
use crate::target::process::Process;
use crate::target::python::Version;
use crate::target::verified::{self, Start};

/// Layouts that were made, at most: each lives as long as we do, and a target may make up as many as it likes.
const MADE: usize = 64;

/// What is known of where a CPython keeps things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// They are known.
    Known(&'static Layout),
    /// They held when they were looked at, or at least agree with what it says itself; why they are not proven, as a sentence.
    Unproven(&'static Layout, String),
    /// They are not; why, as the end of a sentence, or nothing where the version says all.
    Unknown(Option<String>),
}

/// What is to be tried.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// The table of its version.
    Proven(&'static Layout),
    /// One of these, the likeliest first; never none.
    Tried(Vec<Guess>),
    /// Nothing.
    Refused(Option<String>),
}

/// One layout that may be right.
#[derive(Debug, PartialEq, Eq)]
struct Guess {
    layout: Layout,
    native_thread_id: Option<u64>,
    /// Why it is not proven.
    why: String,
    /// The interpreter's file itself agrees with it, or says nothing else.
    agrees: bool,
}

/// What is known of a version whose `_PyRuntime` begins with these bytes. Of a process, what is not proven is tried on it.
#[must_use]
pub(super) fn of(version: Version, told: Option<&[u8]>, process: Option<(&Process, u64)>) -> Offsets {
    let guesses = match claim(version, told) {
        Claim::Proven(layout) => return Offsets::Known(layout),
        Claim::Refused(why) => return Offsets::Unknown(why),
        Claim::Tried(guesses) => guesses,
    };
    let mut said = None;
    for Guess { layout, native_thread_id, why, agrees } in guesses {
        let held = match process {
            Some((process, runtime)) => {
                verified::holds(process, Start { runtime, native_thread_id }, &layout)
                    .map(|()| "its frames were read with that before anything was counted")
            }
            None if agrees => Ok("nothing was tried, as it had not begun to run"),
            None => Err("it has not begun to run, and can be tried only then; trace it with -p".to_owned()),
        };
        match held.map(|how| (kept(layout), how)) {
            Ok((Some(layout), how)) => {
                return Offsets::Unproven(layout, format!("CPython {version} is unproven: {why}; {how}"));
            }
            Ok((None, _)) => return Offsets::Unknown(Some("too many others were tried before".to_owned())),
            Err(not) => said = said.or(Some(format!("{why}, but {not}"))),
        }
    }
    Offsets::Unknown(said)
}

/// What is to be tried. Pure.
fn claim(version: Version, told: Option<&[u8]>) -> Claim {
    let told = told.filter(|bytes| debug_offsets::free_threaded(bytes).is_some());
    let is_free = told.and_then(debug_offsets::free_threaded).unwrap_or(false);
    let is_proven = proven::is_proven(version.minor, version.micro, is_free);
    let table = table(version.major, version.minor, is_free);
    let untried = || match is_free {
        true => format!("no CPython {version} without the GIL has been tried"),
        false => format!("no CPython {version} has been tried"),
    };
    let (table, bytes) = match (table, told) {
        (None, None) => return Claim::Refused(None),
        (None, Some(bytes)) => return unknown(version.major, bytes),
        // Before 3.13 there are none.
        (Some(table), None) if is_proven && version.minor < FORMS[FORMS.len() - 1] => {
            return Claim::Proven(table);
        }
        (Some(table), None) => {
            let agrees = version.minor < FORMS[FORMS.len() - 1];
            return one(Guess { layout: *table, native_thread_id: None, why: untried(), agrees });
        }
        (Some(table), Some(bytes)) => (table, bytes),
    };
    let told = match DebugOffsets::read(bytes, version.minor) {
        Ok(told) => told,
        Err(why) => return Claim::Refused(Some(format!("its debug offsets are {why}"))),
    };
    let native_thread_id = Some(told.native_thread_id);
    let differences = told.differences(table);
    let Some(first) = differences.first() else {
        return if is_proven {
            Claim::Proven(table)
        } else {
            one(Guess { layout: *table, native_thread_id, why: untried(), agrees: true })
        };
    };
    let why = format!(
        "it says that {} is {} and not {}, and {} more of the kind",
        first.name,
        first.told,
        first.table,
        differences.len() - 1
    );
    match told.over(table) {
        Ok(layout) => one(Guess { layout, native_thread_id, why, agrees: false }),
        Err(not) => Claim::Refused(Some(format!("its debug offsets are {not}"))),
    }
}

/// A version without a table, that says itself where things are, in one of the forms that are known.
fn unknown(major: u8, bytes: &[u8]) -> Claim {
    let mut said = None;
    let mut guesses = Vec::new();
    for minor in FORMS {
        let made = DebugOffsets::read(bytes, minor).and_then(|told| {
            let table = table(major, minor, told.free_threaded).ok_or("of an unknown form")?;
            Ok((told.over(table)?, told.native_thread_id))
        });
        match made {
            Ok((layout, native)) => guesses.push(Guess {
                layout,
                native_thread_id: Some(native),
                why: format!(
                    "it is read like {major}.{minor}, as far as its debug offsets do not say otherwise"
                ),
                agrees: false,
            }),
            Err(why) => said = said.or(Some(format!("its debug offsets are {why}"))),
        }
    }
    if guesses.is_empty() { Claim::Refused(said) } else { Claim::Tried(guesses) }
}

fn one(guess: Guess) -> Claim {
    Claim::Tried(vec![guess])
}

const fn table(major: u8, minor: u8, is_free: bool) -> Option<&'static Layout> {
    if is_free { layout::of_free_threaded(major, minor) } else { layout::of(major, minor) }
}

/// The same, for as long as we live. Each is kept once; `None` when there are too many.
fn kept(layout: Layout) -> Option<&'static Layout> {
    static MADE_SO_FAR: Mutex<Vec<&Layout>> = Mutex::new(Vec::new());
    let mut made = MADE_SO_FAR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = made.iter().find(|known| ***known == layout) {
        return Some(known);
    }
    if made.len() >= MADE {
        return None;
    }
    let new: &'static Layout = Box::leak(Box::new(layout));
    made.push(new);
    Some(new)
}

#[cfg(test)]
mod forms;
#[cfg(test)]
mod tests;
