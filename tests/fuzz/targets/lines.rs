//! Line tables: they are read from the target's memory. The first eight bytes are the first line and the index, the rest is the table.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::symbol::lines::line_of;

fuzz_target!(|data: &[u8]| {
    let Some((first_line, rest)) = data.split_first_chunk() else { return };
    let Some((unit, table)) = rest.split_first_chunk() else { return };
    let (first_line, unit) = (u32::from_le_bytes(*first_line), i32::from_le_bytes(*unit));
    let _ = line_of(table, first_line, unit);
    // Each entry holds at most eight units, and no index past the last has a line.
    let past = i32::try_from(table.len() * 8).expect("libFuzzer's inputs are small");
    assert_eq!(line_of(table, first_line, past), None);
    assert_eq!(line_of(table, first_line, -1), Some(first_line));
    for unit in 0..past.min(64) {
        let line = line_of(table, first_line, unit);
        let longer = [table, &[0xe8, 0]].concat();
        assert!(
            line.is_none() || line_of(&longer, first_line, unit) == line,
            "the end of a table changed its start"
        );
    }
});
