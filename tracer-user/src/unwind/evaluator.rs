//! Which code is the interpreter's evaluator, `_PyEval_EvalFrameDefault`, whose C frames stand for Python frames. Its symbol's size is not to be trusted: compilers
//! move parts of a function elsewhere, the rare ones (GCC, `.cold`) or, as GCC 16 does with this one, the loop itself, and those parts have no names in a stripped file.

use std::collections::BTreeMap;
use std::ops::Range;

use gimli::{CfaRule, X86_64};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use crate::target::elf::Elf;
use crate::target::frame_table::{FrameTable, Row};

/// The evaluator's name in all versions from 3.6 on; it is exported.
const NAME: &str = "_PyEval_EvalFrameDefault";

/// Parts of one function, and the bytes of all of them, at most: the compilers seen make three, of 85 KB.
const PARTS: usize = 16;
const BYTES: u64 = 4 << 20;

/// The addresses of the evaluator's parts in a file, the one with its symbol first; none where there is no such symbol, or no description of its code.
///
/// A part is what the evaluator jumps to, directly, without a change of its frame: such code is no function of its own, because a function
/// begins with nothing but its return address on the stack.
#[must_use]
pub fn parts(elf: &Elf) -> Vec<Range<u64>> {
    elf.symbol(NAME).map_or_else(Vec::new, |symbol| parts_of(elf, symbol.address))
}

/// The parts of the function that this address is in.
fn parts_of(elf: &Elf, vaddr: u64) -> Vec<Range<u64>> {
    let table = FrameTable::new(elf);
    let mut parts: Vec<Range<u64>> = table.function_at(vaddr).into_iter().collect();
    let (mut at, mut left) = (0, BYTES);
    while let Some(part) = parts.get(at).cloned() {
        at += 1;
        let len = part.end - part.start;
        let Some(code) = elf.at(part.start, len).filter(|_| len <= left) else { continue };
        left -= len;
        for (source, target) in jumps_out(code, &part) {
            let known = parts.iter().any(|part| part.contains(&target));
            if !known && parts.len() < PARTS && shares_frame(&table, source, target) {
                parts.extend(table.function_at(target));
            }
        }
    }
    parts
}

/// The direct jumps out of a stretch of code, one to each target.
fn jumps_out(code: &[u8], range: &Range<u64>) -> Vec<(u64, u64)> {
    let mut found = BTreeMap::new();
    let mut decoder = Decoder::with_ip(64, code, range.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let jumps = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        );
        if jumps && instruction.op0_kind() == OpKind::NearBranch64 {
            let target = instruction.near_branch64();
            if !range.contains(&target) {
                found.entry(target).or_insert(instruction.ip());
            }
        }
    }
    found.into_iter().map(|(target, source)| (source, target)).collect()
}

/// Whether the frame is the same before and after a jump, and has more in it than a return address: in a call in tail position it has not.
fn shares_frame(table: &FrameTable<'_>, source: u64, target: u64) -> bool {
    let before = table.row_at(source, cfa).flatten();
    before.is_some_and(|frame| frame != (X86_64::RSP, 8)) && before == table.row_at(target, cfa).flatten()
}

fn cfa(row: &Row) -> Option<(gimli::Register, i64)> {
    match *row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Some((register, offset)),
        CfaRule::Expression(_) => None,
    }
}

#[cfg(test)]
mod tests;
