//! Which facts are taken, where each form has them, and where we keep them: data, used both to compare a table with an interpreter and to make one of what it says.
//! The positions are those of `offsetof` for 3.15.2, 3.14.10 and 3.13.18 (equal in 3.13.0).

use super::{Row, Within};
use crate::target::layout::Layout;

/// A row, with less ceremony.
macro_rules! row {
    ($name:literal, $at:expr, $within:ident, $width:literal, $ft:literal, $get:expr, $set:expr) => {
        Row {
            name: $name,
            at: $at,
            within: Within::$within,
            width: $width,
            free_threaded: $ft,
            get: $get,
            set: $set,
        }
    };
}

/// A field of [`Layout`] that says just this.
macro_rules! plain {
    ($name:literal, $at:expr, $within:ident, $width:literal, $($field:ident).+) => {
        row!($name, $at, $within, $width, false, |layout| layout.$($field).+, |layout, told| {
            layout.$($field).+ = told;
            Some(())
        })
    };
}

/// The same of the walk, in 32 bits.
macro_rules! walk {
    ($name:literal, $at:expr, $within:ident, $width:literal, $ft:literal, $field:ident) => {
        row!($name, $at, $within, $width, $ft, |layout| u64::from(layout.walk.$field), |layout, told| {
            layout.walk.$field = told.try_into().ok()?;
            Some(())
        })
    };
}

/// A field of the walk that counts from where the walk begins to read.
macro_rules! inside {
    ($name:literal, $at:expr, $field:ident) => {
        row!(
            $name,
            $at,
            Frame,
            8,
            false,
            |layout| u64::from(layout.walk.frame_at + layout.walk.$field),
            |layout, told| {
                layout.walk.$field = inside(layout, told)?;
                Some(())
            }
        )
    };
}

/// A code object's name: the walk and who reads names say it both.
macro_rules! code_name {
    ($name:literal, $at:expr, $walk:ident) => {
        row!($name, $at, Code, 8, false, |layout| layout.objects.$walk, |layout, told| {
            layout.objects.$walk = told;
            layout.walk.$walk = u32::try_from(told.checked_sub(u64::from(layout.walk.code_at))?).ok()?;
            Some(())
        })
    };
}

/// All facts, in the order in which they are told.
pub(in crate::target) static ROWS: &[Row] = &[
    plain!("runtime_state.interpreters_head", [40, 40, 40], Runtime, 8, threads.runtime_interpreters_head),
    plain!("interpreter_state.threads_head", [72, 72, 72], Interpreter, 8, threads.interpreter_threads_head),
    plain!("thread_state.next", [192, 192, 168], Thread, 8, threads.tstate_next),
    walk!("thread_state.current_frame", [208, 208, 184], Thread, 8, false, tstate_frame),
    walk!("thread_state.thread_id", [240, 216, 192], Thread, 8, false, tstate_thread_id),
    inside!("interpreter_frame.previous", [320, 256, 232], frame_previous),
    inside!("interpreter_frame.executable", [328, 264, 240], frame_code),
    inside!("interpreter_frame.instr_ptr", [336, 272, 248], frame_instr),
    row!("interpreter_frame.owner", [352, 288, 264], Frame, 1, false, owner, set_owner),
    row!("interpreter_frame.tlbc_index", [368, 304, 0], Frame, 4, true, tlbc_index, set_tlbc_index),
    code_name!("code_object.filename", [384, 320, 280], code_filename),
    code_name!("code_object.qualname", [400, 336, 296], code_qualname),
    plain!("code_object.linetable", [408, 344, 304], Code, 8, objects.code_linetable),
    plain!("code_object.firstlineno", [416, 352, 312], Code, 4, objects.code_firstlineno),
    walk!("code_object.co_code_adaptive", [448, 384, 344], Code, 8, false, code_bytecode),
    walk!("code_object.co_tlbc", [456, 392, 0], Code, 8, true, code_tlbc),
    plain!("pyobject.ob_type", [472, 408, 360], Object, 8, objects.ob_type),
    plain!("type_object.tp_name", [488, 424, 376], Type, 8, objects.tp_name),
    plain!("type_object.tp_flags", [504, 440, 392], Type, 8, objects.tp_flags),
    plain!("long_object.lv_tag", [672, 576, 496], Long, 8, objects.ob_size),
    plain!("long_object.ob_digit", [680, 584, 504], Long, 4, objects.ob_digit),
    plain!("bytes_object.ob_sval", [704, 608, 528], Bytes, 1, objects.bytes_data),
    plain!("unicode_object.state", [720, 624, 544], Unicode, 4, objects.unicode_state),
    plain!("unicode_object.length", [728, 632, 552], Unicode, 8, objects.unicode_length),
    row!(
        "unicode_object.asciiobject_size",
        [736, 640, 560],
        Itself,
        8,
        false,
        |layout| layout.objects.unicode_ascii_data,
        |layout, told| {
            // What a string of other characters has more is two words (`PyCompactUnicodeObject`).
            layout.objects.unicode_ascii_data = told;
            layout.objects.unicode_data = told.checked_add(16)?;
            layout.walk.unicode_data = told.try_into().ok()?;
            Some(())
        }
    ),
];

/// An offset in a frame, from where the walk begins to read.
fn inside(layout: &Layout, told: u64) -> Option<u32> {
    u32::try_from(told.checked_sub(u64::from(layout.walk.frame_at))?).ok()
}

/// `owner` is one byte, of which the walk reads the word.
fn owner(layout: &Layout) -> u64 {
    let walk = &layout.walk;
    u64::from(walk.frame_at + walk.frame_entry_word + walk.frame_entry_shift / 8)
}

fn set_owner(layout: &mut Layout, told: u64) -> Option<()> {
    let inside = inside(layout, told)?;
    layout.walk.frame_entry_word = inside & !7;
    layout.walk.frame_entry_shift = (inside & 7) * 8;
    Some(())
}

fn tlbc_index(layout: &Layout) -> u64 {
    u64::from(layout.walk.frame_at + layout.walk.frame_tlbc)
}

/// The walk takes the lower half of a word.
fn set_tlbc_index(layout: &mut Layout, told: u64) -> Option<()> {
    let inside = inside(layout, told)?;
    layout.walk.frame_tlbc = inside.is_multiple_of(8).then_some(inside)?;
    Some(())
}
