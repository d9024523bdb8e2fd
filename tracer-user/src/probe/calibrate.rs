//! What a trap costs on this machine, measured on ourselves: the same probe, on a function of our own, some thousands of times.

use std::arch::naked_asm;
use std::time::Instant;

use crate::error::{Context, Error, Result};
use crate::probe::attach::Method;
use crate::probe::load::Probes;

/// The cookie of a probe point that means nothing.
const NOTHING: u64 = 0;

/// Calls per measurement: some 0.2 ms, so short that other work of the machine seldom comes between (2 ms on a busy one nearly always held a
/// switch to another task, and a trap seemed to cost twice as much).
const CALLS: u32 = 300;
/// The same for traps that cost ten times as much.
const STEPPED_CALLS: u32 = 30;
/// Measurements, of which the least counts: what is above it is the machine's other work.
const ROUNDS: u32 = 50;

/// Nanoseconds that a trap takes from the thread that runs into it, the probe's work not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrapCost {
    /// A trap on an instruction that the kernel emulates.
    pub entry_ns: f64,
    /// What a return trap adds.
    pub return_ns: f64,
}

/// A function whose first instruction the kernel emulates, and which does nothing else.
#[unsafe(naked)]
extern "C" fn probed() {
    naked_asm!("nop", "ret")
}

/// The same with an instruction that the kernel must single-step (arch/x86/kernel/uprobes.c emulates no `test`).
#[unsafe(naked)]
extern "C" fn stepped() {
    naked_asm!("test edi, edi", "ret")
}

/// Measures a trap, with a program that finds at once that we are not its target; or with one that is told that we are, and then its work counts.
///
/// # Errors
/// What the kernel says.
pub fn trap_cost(method: &Method, probes: &mut Probes) -> Result<TrapCost> {
    let (path, offset) = own_offset(probed)?;
    let bare_ns = call_ns(probed, CALLS);
    let mut link = |returns| method.link(probes, &path, &[(offset, NOTHING)], returns, std::process::id());
    let entry = link(false)?;
    let entry_ns = (call_ns(probed, CALLS) - bare_ns).max(0.0);
    let returns = link(true)?;
    let both_ns = (call_ns(probed, CALLS) - bare_ns).max(entry_ns);
    drop((entry, returns));
    Ok(TrapCost { entry_ns, return_ns: both_ns - entry_ns })
}

/// Nanoseconds of a trap on an instruction that the kernel single-steps, measured likewise.
///
/// # Errors
/// What the kernel says.
pub fn stepped_ns(method: &Method, probes: &mut Probes) -> Result<f64> {
    let (path, offset) = own_offset(stepped)?;
    let bare_ns = call_ns(stepped, STEPPED_CALLS);
    let link = method.link(probes, &path, &[(offset, NOTHING)], false, std::process::id())?;
    let stepped_ns = (call_ns(stepped, STEPPED_CALLS) - bare_ns).max(0.0);
    drop(link);
    Ok(stepped_ns)
}

/// Nanoseconds per call of a function.
fn call_ns(function: extern "C" fn(), calls: u32) -> f64 {
    let round = || {
        let start = Instant::now();
        for _ in 0..calls {
            std::hint::black_box(function)();
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Where a function lies in our own executable: path and file offset.
fn own_offset(function: extern "C" fn()) -> Result<(std::path::PathBuf, u64)> {
    let path = std::path::PathBuf::from("/proc/self/exe");
    let address = function as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").context("our own mappings")?;
    let mapped = maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        (start..end).contains(&address).then_some(address - start + offset)
    });
    mapped.map(|offset| (path, offset)).ok_or_else(|| Error::failed("our own code is not mapped"))
}
