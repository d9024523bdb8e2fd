//! From an instruction to its line: the line table of a code object, in the form that its CPython has.
//!
//! The table is read from the target's memory, so it may hold anything.

use crate::target::layout::Lines;

/// Kinds of entries, from `Include/internal/pycore_code.h` (`_PyCodeLocationInfoKind`); 0–9 are the short forms.
const ONE_LINE: std::ops::RangeInclusive<u8> = 10..=12;
const NO_COLUMNS: u8 = 13;
const LONG: u8 = 14;
const NONE: u8 = 15;

/// The line of an instruction that begins so many bytes into the bytecode. `None` for an instruction without a line, a place past the table and a table that is
/// broken before the place. Before the first instruction, at a negative place, the frame stands on the code object's first line.
#[must_use]
pub fn line_of(form: Lines, table: &[u8], first_line: u32, instr_bytes: i32) -> Option<u32> {
    let Ok(at) = u64::try_from(instr_bytes) else { return Some(first_line) };
    match form {
        Lines::Lnotab => lnotab(table, first_line, at),
        Lines::Pep626 => pep626(table, first_line, at),
        Lines::Pep657 => pep657(table, first_line, at / 2),
    }
}

/// Pairs of bytes of bytecode and, signed, of lines: each says how far the next line is from the one before (`Objects/lnotab_notes.txt` of 3.8). The last line has no end.
fn lnotab(table: &[u8], first_line: u32, wanted: u64) -> Option<u32> {
    let mut line = i64::from(first_line);
    let mut begin = 0u64;
    for [bytes, lines] in table.as_chunks().0 {
        begin += u64::from(*bytes);
        if begin > wanted {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    u32::try_from(line).ok()
}

/// A pair's line is that of its own bytes, and −128 stands for none (PEP 626; `Objects/lnotab_notes.txt` of 3.10).
fn pep626(table: &[u8], first_line: u32, wanted: u64) -> Option<u32> {
    const NO_LINE: i8 = -128;
    let mut line = i64::from(first_line);
    let mut end = 0u64;
    for [bytes, lines] in table.as_chunks().0 {
        let lines = lines.cast_signed();
        end += u64::from(*bytes);
        if lines != NO_LINE {
            line += i64::from(lines);
        }
        if wanted < end {
            return if lines == NO_LINE { None } else { u32::try_from(line).ok() };
        }
    }
    None
}

/// Entries of lines and columns, by code units of two bytes (PEP 657; `Objects/locations.md` of 3.11).
fn pep657(table: &[u8], first_line: u32, wanted: u64) -> Option<u32> {
    let mut cursor = Cursor { table };
    let mut line = i64::from(first_line);
    let mut end = 0u64;
    loop {
        let head = cursor.byte()?;
        if head & 0x80 == 0 {
            return None;
        }
        let kind = head >> 3 & 15;
        line = line.checked_add(cursor.entry(kind)?)?;
        end += u64::from(head & 7) + 1;
        if wanted < end {
            return if kind == NONE { None } else { u32::try_from(line).ok() };
        }
    }
}

struct Cursor<'a> {
    table: &'a [u8],
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.table.split_first()?;
        self.table = rest;
        Some(*first)
    }

    /// The rest of an entry after its head: how far its line is from the one before.
    fn entry(&mut self, kind: u8) -> Option<i64> {
        let delta = match kind {
            NONE => 0,
            NO_COLUMNS => self.signed()?,
            LONG => {
                let delta = self.signed()?;
                for _ in 0..3 {
                    self.unsigned()?;
                }
                delta
            }
            kind if ONE_LINE.contains(&kind) => {
                self.byte()?;
                self.byte()?;
                i64::from(kind - ONE_LINE.start())
            }
            _ => {
                self.byte()?;
                0
            }
        };
        Some(delta)
    }

    /// Six bits a byte, lowest first; bit 6 says that there is more.
    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..36).step_by(6) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x3f) << shift;
            if byte & 0x40 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The sign is the lowest bit.
    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        let magnitude = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 1 { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unsigned(out: &mut Vec<u8>, mut value: u64) {
        while value >= 64 {
            out.push(0x40 | (value & 0x3f) as u8);
            value >>= 6;
        }
        out.push(value as u8);
    }

    fn signed(out: &mut Vec<u8>, value: i64) {
        unsigned(out, value.unsigned_abs() << 1 | u64::from(value < 0));
    }

    /// One entry: its line (`None`: no line), its units (1–8), and whether columns are written.
    fn encode(entries: &[(Option<u32>, u8, bool)], first_line: u32) -> Vec<u8> {
        let mut table = Vec::new();
        let mut current = i64::from(first_line);
        for (line, units, columns) in entries {
            let head = |kind: u8| 0x80 | kind << 3 | (units - 1);
            let Some(line) = line else {
                table.push(head(NONE));
                continue;
            };
            let delta = i64::from(*line) - current;
            current = i64::from(*line);
            match (delta, columns) {
                (_, false) => {
                    table.push(head(NO_COLUMNS));
                    signed(&mut table, delta);
                }
                (0, true) if units % 2 == 0 => table.extend([head(units % 10), 0x77]),
                (0..=2, true) => table.extend([head(10 + delta as u8), 1, 2]),
                (_, true) => {
                    table.push(head(LONG));
                    signed(&mut table, delta);
                    for value in [0, 80, 4000] {
                        unsigned(&mut table, value);
                    }
                }
            }
        }
        table
    }

    /// The line of each instruction of two bytes.
    fn lines(form: Lines, table: &[u8], first_line: u32, instructions: i32) -> Vec<Option<u32>> {
        (0..instructions).map(|index| line_of(form, table, first_line, 2 * index)).collect()
    }

    #[test]
    fn pairs_of_bytes_and_lines_up_to_3_9() {
        // `def f(x):⏎ y = [x⏎ ]⏎⏎ return y` of 3.8: four bytes of the first line, then back from the third to the second.
        let table = [0, 1, 4, 1, 2, 0xff, 4, 3];
        let of = |line: u32, times: usize| std::iter::repeat_n(Some(line), times);
        let expected: Vec<_> = of(11, 2).chain(of(12, 1)).chain(of(11, 2)).chain(of(14, 3)).collect();
        assert_eq!(lines(Lines::Lnotab, &table, 10, 8), expected);
        assert_eq!(line_of(Lines::Lnotab, &table, 10, -1), Some(10));
        // More than 255 bytes, or 127 lines, are told in several pairs.
        assert_eq!(line_of(Lines::Lnotab, &[255, 0, 1, 127, 0, 73], 1, 256), Some(201));
        assert_eq!(line_of(Lines::Lnotab, &[255, 0, 1, 127, 0, 73], 1, 254), Some(1));
    }

    #[test]
    fn each_pair_has_its_own_line_in_3_10() {
        // Two instructions on the first line, one without a line, one three lines up.
        let table = [4, 0, 2, 0x80, 2, 0xfd];
        assert_eq!(lines(Lines::Pep626, &table, 10, 5), [Some(10), Some(10), None, Some(7), None]);
        // A pair of no bytes only counts lines.
        assert_eq!(lines(Lines::Pep626, &[0, 127, 2, 73], 1, 1), [Some(201)]);
    }

    proptest! {
        #[test]
        fn every_unit_has_the_line_of_its_entry(
            entries in prop::collection::vec((prop::option::of(0u32..1_000_000), 1u8..=8, any::<bool>()), 0..60),
            first_line in 0u32..1_000_000,
        ) {
            let table = encode(&entries, first_line);
            let mut unit = 0;
            for (line, units, _) in &entries {
                for _ in 0..*units {
                    prop_assert_eq!(line_of(Lines::Pep657, &table, first_line, unit * 2), *line);
                    unit += 1;
                }
            }
            prop_assert_eq!(line_of(Lines::Pep657, &table, first_line, unit * 2), None);
            prop_assert_eq!(line_of(Lines::Pep657, &table, first_line, -2), Some(first_line));
        }

        #[test]
        fn hostile_tables_never_panic(table: Vec<u8>, first_line: u32, at: i32) {
            for form in [Lines::Lnotab, Lines::Pep626, Lines::Pep657] {
                let _ = line_of(form, &table, first_line, at);
            }
        }

        #[test]
        fn hostile_entries_never_panic(table in prop::collection::vec(0x80u8.., 0..99), first_line: u32, at in 0i32..199) {
            let _ = line_of(Lines::Pep657, &table, first_line, at);
        }
    }
}
