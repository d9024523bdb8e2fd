//! From an instruction to its line: the location table of CPython 3.11 and later (PEP 657; `Objects/locations.md` of 3.11).
//!
//! The table is read from the target's memory, so it may hold anything.

/// Kinds of entries, from `Include/internal/pycore_code.h` (`_PyCodeLocationInfoKind`); 0–9 are the short forms.
const ONE_LINE: std::ops::RangeInclusive<u8> = 10..=12;
const NO_COLUMNS: u8 = 13;
const LONG: u8 = 14;
const NONE: u8 = 15;

/// The line of a code unit (two bytes of bytecode). `None` for an instruction without a line, an index past the table and a table that is
/// broken before the index. Before the first instruction, index −1, the frame stands on the code object's first line.
#[must_use]
pub fn line_of(table: &[u8], first_line: u32, unit_index: i32) -> Option<u32> {
    let Ok(wanted) = u64::try_from(unit_index) else { return Some(first_line) };
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
                    prop_assert_eq!(line_of(&table, first_line, unit), *line);
                    unit += 1;
                }
            }
            prop_assert_eq!(line_of(&table, first_line, unit), None);
            prop_assert_eq!(line_of(&table, first_line, -1), Some(first_line));
        }

        #[test]
        fn hostile_tables_never_panic(table: Vec<u8>, first_line: u32, unit: i32) {
            let _ = line_of(&table, first_line, unit);
        }

        #[test]
        fn hostile_entries_never_panic(table in prop::collection::vec(0x80u8.., 0..99), first_line: u32, unit in 0i32..99) {
            let _ = line_of(&table, first_line, unit);
        }
    }
}
