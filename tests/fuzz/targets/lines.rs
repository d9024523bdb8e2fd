//! Line tables: they are read from the target's memory. The first eight bytes are the first line and the index, the rest is the table.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::symbol::lines::line_of;
use tracer_user::target::layout::Lines;

fuzz_target!(|data: &[u8]| {
    let Some((first_line, rest)) = data.split_first_chunk() else { return };
    let Some((unit, table)) = rest.split_first_chunk() else { return };
    let (first_line, unit) = (u32::from_le_bytes(*first_line), i32::from_le_bytes(*unit));
    for form in [Lines::Lnotab, Lines::Pep626, Lines::Pep657] {
        let _ = line_of(form, table, first_line, unit);
        assert_eq!(line_of(form, table, first_line, -1), Some(first_line));
    }
    // A code unit has two bytes.
    let of_unit = |table: &[u8], unit: i32| line_of(Lines::Pep657, table, first_line, unit * 2);
    // Each entry holds at most eight units, and no index past the last has a line.
    let past = i32::try_from(table.len() * 8).expect("libFuzzer's inputs are small");
    assert_eq!(of_unit(table, past), None);
    for unit in 0..past.min(64) {
        let line = of_unit(table, unit);
        let longer = [table, &[0xe8, 0]].concat();
        assert!(line.is_none() || of_unit(&longer, unit) == line, "the end of a table changed its start");
    }
});
