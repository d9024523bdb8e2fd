//! What an interpreter itself says of its structures: `_Py_DebugOffsets`, the first thing in `_PyRuntime` since 3.13 (`Include/internal/pycore_runtime.h`, from 3.14 on
//! `pycore_debug_offsets.h`). It is in the file's own bytes, so it is read before any process is looked at, and it survives a distributor's patches.
//!
//! It names the parts of structures, not the forms of what is in them: those are taken from the known version that it is nearest to. The file is the target's, so every number is checked.

use super::Layout;
use rows::ROWS;

pub(in crate::target) mod rows;

/// Bytes of it that are read: what the largest form has (888, 3.15), and some more.
pub const LENGTH: u64 = 1024;

/// What it begins with (`_Py_Debug_Cookie`).
pub const COOKIE: &[u8; 8] = b"xdebugpy";

/// The minor versions whose forms are known, newest first: a later version is most like the newest.
pub const FORMS: [u8; 3] = [15, 14, 13];

/// The largest of each structure that is believed, in bytes: twice and more what is there (`_PyRuntimeState` of 3.13.0 has 460 KB).
const RUNTIME_LIMIT: u64 = 4 << 20;
const STRUCTURE_LIMIT: u64 = 4096;

/// A structure whose size is told, and which bounds the offsets in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::target) enum Within {
    Runtime,
    Interpreter,
    Thread,
    Frame,
    Code,
    Object,
    Type,
    Long,
    Bytes,
    Unicode,
    /// It is a size itself.
    Itself,
}

impl Within {
    /// Where the size of this structure is, in each of [`FORMS`]; 0 where it is not told.
    pub(in crate::target) const fn size_at(self) -> [usize; 3] {
        match self {
            Self::Runtime => [24, 24, 24],
            Self::Interpreter => [48, 48, 48],
            Self::Thread => [176, 176, 152],
            Self::Frame => [312, 248, 224],
            Self::Code => [376, 312, 272],
            Self::Object => [464, 400, 352],
            Self::Type => [480, 416, 368],
            Self::Long => [664, 568, 488],
            Self::Bytes => [688, 592, 512],
            Self::Unicode => [712, 616, 536],
            Self::Itself => [0; 3],
        }
    }

    /// More than that is no such structure.
    const fn limit(self) -> u64 {
        match self {
            Self::Runtime | Self::Interpreter => RUNTIME_LIMIT,
            _ => STRUCTURE_LIMIT,
        }
    }
}

/// One fact that it tells.
pub struct Row {
    /// Its path in `struct _Py_DebugOffsets`.
    pub name: &'static str,
    /// Where it stands, in each of [`FORMS`]; 0 where it does not.
    pub at: [usize; 3],
    /// The structure that it is in.
    pub(in crate::target) within: Within,
    /// Bytes that what is there has, and is aligned to.
    width: u64,
    /// Only free-threaded builds have it.
    pub(in crate::target) free_threaded: bool,
    pub(in crate::target) get: fn(&Layout) -> u64,
    set: fn(&mut Layout, u64) -> Option<()>,
}

/// Where a table and an interpreter disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As [`Row::name`].
    pub name: &'static str,
    /// What the table says.
    pub table: u64,
    /// What the interpreter says.
    pub told: u64,
}

/// What an interpreter says, in the form of one minor version, checked for being possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugOffsets {
    /// The minor version whose form it has.
    pub minor: u8,
    /// It is a build without the GIL.
    pub free_threaded: bool,
    /// `PyThreadState.native_thread_id`: the kernel's name of the thread.
    pub native_thread_id: u64,
    told: Vec<Option<u64>>,
}

/// Whether bytes of `_PyRuntime` begin with debug offsets, and if so, whether they are those of a build without the GIL.
#[must_use]
pub fn free_threaded(bytes: &[u8]) -> Option<bool> {
    (bytes.get(..8)? == COOKIE).then_some(())?;
    Some(word(bytes, 16)? == 1)
}

/// `PY_VERSION_HEX` of the interpreter, where it tells its offsets.
#[must_use]
pub fn version(bytes: &[u8]) -> Option<u64> {
    free_threaded(bytes).and_then(|_| word(bytes, 8))
}

impl DebugOffsets {
    /// Reads them as this minor version writes them.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence.
    pub fn read(bytes: &[u8], minor: u8) -> Result<Self, String> {
        let form = FORMS.iter().position(|known| *known == minor).ok_or("of an unknown form")?;
        let free_threaded = free_threaded(bytes).ok_or("without their mark")?;
        let at = |at: usize| word(bytes, at).ok_or("cut off");
        let told = ROWS.iter().map(|row| {
            if row.at[form] == 0 || row.free_threaded && !free_threaded {
                return Ok(None);
            }
            let size_at = row.within.size_at()[form];
            let size = if size_at == 0 { STRUCTURE_LIMIT } else { at(size_at)? };
            let told = at(row.at[form])?;
            let fits = told.checked_add(row.width).is_some_and(|end| end <= size);
            if size > row.within.limit() || !fits || !told.is_multiple_of(row.width) {
                return Err(format!("impossible: {} is {told}, in {size} bytes", row.name));
            }
            Ok(Some(told))
        });
        let this = Self {
            minor,
            free_threaded,
            native_thread_id: at([248, 224, 200][form])?,
            told: told.collect::<Result<_, String>>()?,
        };
        let limit = at(Within::Thread.size_at()[form])?;
        if this.native_thread_id.saturating_add(8) > limit || !this.native_thread_id.is_multiple_of(8) {
            return Err(format!("impossible: thread_state.native_thread_id is {}", this.native_thread_id));
        }
        // An object is a head and its type (`struct _object`), with more before them in builds without the GIL.
        let object = at(Within::Object.size_at()[form])?;
        if object != if free_threaded { 32 } else { 16 } {
            return Err(format!("impossible: an object of {object} bytes"));
        }
        // The bytecode is the last part of a code object, and begins it with one byte (Include/cpython/code.h).
        let (code, size) = (this.told_of("code_object.co_code_adaptive"), at(Within::Code.size_at()[form])?);
        if code.is_some_and(|code| code.saturating_add(8) != size) {
            return Err(format!("impossible: bytecode at {} of {size} bytes", code.unwrap_or_default()));
        }
        Ok(this)
    }

    fn told_of(&self, name: &str) -> Option<u64> {
        ROWS.iter().zip(&self.told).find(|(row, _)| row.name == name).and_then(|(_, told)| *told)
    }

    /// Each fact of the form of this minor version, and where it stands.
    pub fn positions(minor: u8) -> impl Iterator<Item = (&'static str, u64)> {
        let form = FORMS.iter().position(|known| *known == minor);
        let rows =
            form.into_iter().flat_map(|form| ROWS.iter().map(move |row| (row.name, row.at[form] as u64)));
        rows.filter(|(_, at)| *at != 0)
    }

    /// Where a table says otherwise.
    #[must_use]
    pub fn differences(&self, layout: &Layout) -> Vec<Difference> {
        let told = ROWS.iter().zip(&self.told).filter_map(|(row, told)| Some((row, (*told)?)));
        told.map(|(row, told)| Difference { name: row.name, table: (row.get)(layout), told })
            .filter(|difference| difference.table != difference.told)
            .collect()
    }

    /// How many facts are told.
    #[must_use]
    pub fn len(&self) -> usize {
        self.told.iter().flatten().count()
    }

    /// Never: each form tells some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A known layout, with what is told in place of what it says.
    ///
    /// # Errors
    /// What the walk cannot do with it, as the end of a sentence.
    pub fn over(&self, known: &Layout) -> Result<Layout, String> {
        let mut layout = *known;
        // The names stay inside the bytes by which a code object is known, which go along with them.
        if let Some(file) = self.told_of("code_object.filename") {
            let moved = file.wrapping_sub(layout.objects.code_filename);
            let begin = u64::from(layout.walk.code_at).wrapping_add(moved);
            layout.walk.code_at = u32::try_from(begin).map_err(|_| "without room before a code's names")?;
        }
        let told = ROWS.iter().zip(&self.told).filter_map(|(row, told)| Some((row, (*told)?)));
        for (row, told) in told {
            (row.set)(&mut layout, told).ok_or_else(|| format!("out of reach: {} is {told}", row.name))?;
        }
        let walk = &mut layout.walk;
        let ends =
            [walk.frame_code, walk.frame_previous, walk.frame_instr, walk.frame_entry_word, walk.frame_tlbc];
        walk.frame_len = ends.into_iter().max().unwrap_or(0).saturating_add(8).next_multiple_of(8);
        if super::is_sound(&layout) {
            Ok(layout)
        } else {
            Err("further apart than the walk can read".to_owned())
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
