//! The forms of debug offsets, from bytes to layouts and back. (Beside the tables this would be compiled into `xtask`, too.)

use proptest::prelude::*;

use crate::target::fixture;
use crate::target::image::Image;
use crate::target::layout;
use crate::target::layout::Layout;
use crate::target::layout::debug_offsets::rows::ROWS;
use crate::target::layout::debug_offsets::{
    COOKIE, DebugOffsets, FORMS, LENGTH, Within, free_threaded, version,
};

/// What a table would say of itself, in a form of its own.
fn told(layout: &Layout, form: usize, free_threaded: bool) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(LENGTH).unwrap()];
    bytes[..8].copy_from_slice(COOKIE);
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(16, u64::from(free_threaded));
    for row in ROWS {
        put(
            row.within.size_at()[form].max(24),
            if row.within == Within::Object { row_object(free_threaded) } else { 4096 },
        );
    }
    put(Within::Runtime.size_at()[form], 1 << 20);
    put(Within::Interpreter.size_at()[form], 1 << 20);
    put(Within::Code.size_at()[form], u64::from(layout.walk.code_bytecode) + 8);
    put([248, 224, 200][form], 160);
    for row in ROWS.iter().filter(|row| row.at[form] != 0 && (free_threaded || !row.free_threaded)) {
        put(row.at[form], (row.get)(layout));
    }
    bytes
}

const fn row_object(free_threaded: bool) -> u64 {
    if free_threaded { 32 } else { 16 }
}

#[test]
fn each_table_is_what_its_own_words_make_of_the_one_before() {
    for (form, minor) in FORMS.into_iter().enumerate() {
        for free_threaded in [false, true] {
            let of = if free_threaded { layout::of_free_threaded } else { layout::of };
            let table = of(3, minor).unwrap();
            let told = DebugOffsets::read(&told(table, form, free_threaded), minor).unwrap();
            assert_eq!(told.differences(table), []);
            assert_eq!(told.over(table), Ok(*table));
            assert_eq!((told.free_threaded, told.native_thread_id), (free_threaded, 160));
            // Over another table: all that is told is right.
            let other = told.over(of(3, if minor == 13 { 14 } else { 13 }).unwrap()).unwrap();
            assert_eq!(told.differences(&other), []);
        }
    }
}

#[test]
fn an_interpreter_agrees_with_its_table() {
    let path = fixture::libraries().into_iter().find(|path| path.ends_with("libpython3.13.so.1.0"));
    let image = Image::of_file(&path.expect("pyenv has a 3.13")).unwrap();
    let runtime = image.elf.symbol("_PyRuntime").unwrap().address;
    let bytes = image.elf.at(runtime, LENGTH).unwrap();
    assert_eq!(
        (free_threaded(bytes), version(bytes).map(|version| version >> 16)),
        (Some(false), Some(0x30d))
    );
    let told = DebugOffsets::read(bytes, 13).unwrap();
    assert_eq!(told.differences(layout::of(3, 13).unwrap()), []);
    assert_eq!((told.len(), told.is_empty(), told.native_thread_id), (23, false, 160));
    // In other forms the same bytes mean nothing.
    assert!(DebugOffsets::read(bytes, 14).is_err() && DebugOffsets::read(bytes, 15).is_err());
}

#[test]
fn what_is_no_such_thing_is_refused() {
    let table = layout::of(3, 14).unwrap();
    let good = told(table, 1, false);
    let refused = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        DebugOffsets::read(&bytes, 14).unwrap_err()
    };
    assert_eq!(refused(0, 0), "without their mark");
    assert_eq!(refused(208, 4096), "impossible: thread_state.current_frame is 4096, in 4096 bytes");
    assert_eq!(refused(208, 73), "impossible: thread_state.current_frame is 73, in 4096 bytes");
    assert_eq!(refused(176, 1 << 40), "impossible: thread_state.next is 8, in 1099511627776 bytes");
    assert_eq!(refused(400, 24), "impossible: an object of 24 bytes");
    assert_eq!(refused(224, u64::MAX), format!("impossible: thread_state.native_thread_id is {}", u64::MAX));
    assert_eq!(refused(384, 200), "impossible: bytecode at 200 of 216 bytes");
    assert_eq!(DebugOffsets::read(&good[..200], 14).unwrap_err(), "cut off");
    assert_eq!(DebugOffsets::read(&good, 12).unwrap_err(), "of an unknown form");
}

proptest! {
    #[test]
    fn hostile_bytes_are_possible_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..1100),
        small in prop::collection::vec(0_u64..128, 130),
        minor in 12_u8..17,
        known in 8_u8..16,
        mild in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if mild {
            bytes = small.iter().flat_map(|word| (word * 8).to_le_bytes()).collect();
            bytes[..8].copy_from_slice(COOKIE);
        }
        if let Ok(told) = DebugOffsets::read(&bytes, minor)
            && let Ok(made) = told.over(layout::of(3, known).unwrap())
        {
            prop_assert!(layout::is_sound(&made));
            prop_assert_eq!(told.differences(&made), []);
        }
    }
}
