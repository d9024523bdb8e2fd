//! How to get from a C frame to its caller where the code keeps no frame pointer: a rule for each instruction, made from `.eh_frame` in user space and
//! searched by address on a hit. Pure tables and their search; the walk that uses them is [`crate::native`].
//!
//! A process's tables are four: its modules (mapped stretches of code, sorted by address), pages (for each 64 KiB of a file's code, where its rows are),
//! rows (the low half of an address and the number of a rule, sorted within their page), and rules. A row is 4 bytes, because thousands of functions share a few hundred rules.

use crate::limits::{MAX_MODULES, MAX_PAGE_ROWS, MAX_PAGES};

/// Bits of an address below its page.
pub const PAGE_BITS: u32 = 16;

/// Where the canonical frame address (CFA) is: the value of the stack pointer before the call that made the frame. The return address is the word below it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cfa {
    /// Nothing describes the instruction.
    None = 0,
    /// `rsp` + offset.
    Rsp = 1,
    /// `rbp` + offset.
    Rbp = 2,
    /// The word at `rsp` + offset.
    AtRsp = 3,
    /// The word at `rbp` + offset: functions that align their stack.
    AtRbp = 4,
    /// A stub of the linker's procedure linkage table: `rsp` + 8, and 8 more from the place in its 16 bytes on that the offset's words say.
    Plt = 5,
    /// The frame of a signal, which holds all registers (arch/x86/include/uapi/asm/sigcontext.h): at `rsp` + 120 `rbp`, + 160 `rsp`, + 168 `rip`.
    Signal = 6,
    /// The outermost frame: it has no caller.
    Outermost = 7,
    /// A rule that no other kind expresses.
    Unsupported = 8,
}

/// Where the caller's `rbp` is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rbp {
    /// The function has not touched it.
    Same = 0,
    /// At CFA + offset.
    AtCfa = 1,
    /// At `rbp` + offset.
    AtRbp = 2,
    /// Lost.
    Unknown = 3,
}

/// What the rows of one stretch of instructions say, in eight bytes: kinds in the lowest two, flags, and two offsets in words of 8 bytes, signed.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule(pub u64);

impl Rule {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// The flag of code that is the interpreter's evaluator: its frames stand for Python frames.
    const EVALUATOR: u64 = 1 << 16;
    /// Where the file's place is, below the offsets.
    const FILE_SHIFT: u32 = 17;

    /// A rule; offsets are in words of 8 bytes.
    #[must_use]
    pub const fn new(cfa: Cfa, cfa_words: i16, rbp: Rbp, rbp_words: i16) -> Self {
        let words = (cfa_words as u16 as u64) << 32 | (rbp_words as u16 as u64) << 48;
        Self(cfa as u64 | (rbp as u64) << 8 | words)
    }

    /// The same rule for code of the evaluator.
    #[must_use]
    pub const fn of_evaluator(self) -> Self {
        Self(self.0 | Self::EVALUATOR)
    }

    /// Whether the code is the evaluator's.
    #[inline(always)]
    #[must_use]
    pub const fn is_evaluator(self) -> bool {
        self.0 & Self::EVALUATOR != 0
    }

    /// The same rule as it was found: with the place of its file's first page, by which files are told apart that were mapped at one address after the other.
    #[inline(always)]
    #[must_use]
    pub const fn found_in(self, first_page: u32) -> Self {
        Self(self.0 | ((first_page & (MAX_PAGES - 1)) as u64) << Self::FILE_SHIFT)
    }

    /// The rule as it stands in the table: without what [`Rule::found_in`] has added.
    #[must_use]
    pub const fn bare(self) -> Self {
        Self(self.0 & !(((MAX_PAGES - 1) as u64) << Self::FILE_SHIFT))
    }

    /// What [`Rule::found_in`] has added.
    #[inline(always)]
    #[must_use]
    pub const fn file(self) -> u64 {
        self.0 >> Self::FILE_SHIFT & (MAX_PAGES - 1) as u64
    }

    /// Code of a [`Cfa`].
    #[inline(always)]
    #[must_use]
    pub const fn cfa(self) -> u8 {
        self.0 as u8
    }

    /// Code of an [`Rbp`].
    #[inline(always)]
    #[must_use]
    pub const fn rbp(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The CFA's offset in bytes, as a number that wraps.
    #[inline(always)]
    #[must_use]
    pub const fn cfa_offset(self) -> u64 {
        ((self.0 >> 32) as u16 as i16 as i64 * 8) as u64
    }

    /// The offset of the caller's `rbp` in bytes, as a number that wraps.
    #[inline(always)]
    #[must_use]
    pub const fn rbp_offset(self) -> u64 {
        ((self.0 >> 48) as u16 as i16 as i64 * 8) as u64
    }
}

/// A stretch of mapped code and the file that it is of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// What added to an address, wrapping, gives the file's own.
    pub delta: u64,
    /// The file's first page: its own address without the lowest [`PAGE_BITS`] bits.
    pub page_base: u32,
    /// The place of that page in the table of pages.
    pub first_page: u32,
    /// Pages of the file. 0: nothing is known of its code.
    pub pages: u32,
    /// Padding, spelt out.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Module>() == 40);
const _: () = assert!(MAX_PAGES.is_power_of_two() && MAX_PAGES.trailing_zeros() + Rule::FILE_SHIFT <= 32);

/// Where a page's rows are: the first one's place in the lower half, their number in the upper. The first row of a page that is not empty
/// applies from the page's beginning on.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page(pub u64);

impl Page {
    /// A page with so many rows, the first at this place.
    #[must_use]
    pub const fn new(first: u32, rows: u32) -> Self {
        Self(first as u64 | (rows as u64) << 32)
    }

    /// The place of the first row.
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> u32 {
        self.0 as u32
    }

    /// How many rows.
    #[inline(always)]
    #[must_use]
    pub const fn rows(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A row: from which address of its page on (the upper half) which rule holds (the lower half).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row(pub u32);

impl Row {
    /// From the lowest 16 bits of an address on the rule with this number.
    #[must_use]
    pub const fn new(low: u16, rule: u16) -> Self {
        Self((low as u32) << 16 | rule as u32)
    }

    /// The lowest 16 bits of the address.
    #[inline(always)]
    #[must_use]
    pub const fn low(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The number of the rule.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u16 {
        self.0 as u16
    }
}

/// Which modules are valid now, in one word, so that it changes at once: a generation that changes with it, the first one's place, and their number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View(pub u64);

impl View {
    /// A view of `count` modules from the place `first` on.
    #[must_use]
    pub const fn new(generation: u32, first: u16, count: u16) -> Self {
        Self(generation as u64 | (first as u64) << 32 | (count as u64) << 48)
    }

    /// The generation.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// The first module's place.
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> u32 {
        (self.0 >> 32) as u16 as u32
    }

    /// How many modules.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> u32 {
        (self.0 >> 48) as u16 as u32
    }
}

/// The tables of a process, by place. A place that is not there gives `None`.
pub trait Tables {
    /// A module.
    fn module(&self, place: u32) -> Option<Module>;
    /// A page.
    fn page(&self, place: u32) -> Option<Page>;
    /// A row.
    fn row(&self, place: u32) -> Option<Row>;
    /// A rule.
    fn rule(&self, number: u16) -> Option<Rule>;
}

/// Why there is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The address is in no module: code that was made at run time, or mapped since.
    Module,
    /// The module's file says nothing of the address.
    Row,
}

/// The rule of the instruction that the byte at `address` belongs to.
///
/// # Errors
/// Why there is none.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, view: View, address: u64) -> Result<Rule, Missing> {
    let module = module_at(tables, view, address).ok_or(Missing::Module)?;
    let vaddr = address.wrapping_add(module.delta);
    let page = ((vaddr >> PAGE_BITS) as u32).wrapping_sub(module.page_base);
    if page >= module.pages {
        return Err(Missing::Row);
    }
    let page = tables.page(module.first_page.wrapping_add(page)).ok_or(Missing::Row)?;
    let (mut first, mut left) = (page.first(), page.rows());
    if left == 0 {
        return Err(Missing::Row);
    }
    // The last row whose address is not above; the last rule number makes the comparison one of whole rows.
    let wanted = Row::new(vaddr as u16, u16::MAX).0;
    let mut turn = 0;
    while turn < MAX_PAGE_ROWS.trailing_zeros() && left > 1 {
        let half = left / 2;
        let Row(row) = tables.row(first.wrapping_add(half)).ok_or(Missing::Row)?;
        if row <= wanted {
            first = first.wrapping_add(half);
            left -= half;
        } else {
            left = half;
        }
        turn += 1;
    }
    let row = tables.row(first).ok_or(Missing::Row)?;
    let rule = tables.rule(row.rule()).ok_or(Missing::Row)?;
    if rule.cfa() == Cfa::None as u8 { Err(Missing::Row) } else { Ok(rule.found_in(module.first_page)) }
}

/// The module that an address is in.
#[inline(always)]
fn module_at<T: Tables>(tables: &T, view: View, address: u64) -> Option<Module> {
    let (mut first, mut left) = (view.first(), view.count());
    let mut turn = 0;
    while turn < MAX_MODULES.trailing_zeros() && left > 1 {
        let half = left / 2;
        if tables.module(first + half)?.start <= address {
            first += half;
            left -= half;
        } else {
            left = half;
        }
        turn += 1;
    }
    let module = tables.module(first)?;
    (left > 0 && module.start <= address && address < module.end).then_some(module)
}

#[cfg(test)]
pub(crate) mod tests;
