//! The unwind tables of one process as the kernel has them: files are appended as they are mapped, a rule that several of them have is there once, and the
//! list of modules is written beside the one that is in use, so that a walk never sees half of it.

use std::collections::HashMap;
use std::ops::Range;

use tracer_common::limits::CHUNK_ROWS;
use tracer_common::unwind::{Module, Page, Row, Rule, Tables, View};

use super::cache::Key;
use super::rows::FileRows;
use super::rule::UNSUPPORTED;
use crate::target::modules;

/// The number of [`UNSUPPORTED`], for rules that find no room.
const NO_ROOM: u16 = 1;

/// What the kernel has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Mapped stretches of code at once. The table of modules has twice as many places: one half is in use while the other one is written.
    pub modules: u32,
    /// Pages of all files.
    pub pages: u32,
    /// Rows of all files, a multiple of [`CHUNK_ROWS`].
    pub rows: u32,
    /// Distinct rules, at most 65,536.
    pub rules: u32,
}

/// What the kernel has to be told. Rules, chunks, pages and modules have to be written in this order, and the view last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// New rules, by number.
    pub rules: Range<u32>,
    /// Chunks of rows that are new or longer than before.
    pub chunks: Range<u32>,
    /// New pages, by place.
    pub pages: Range<u32>,
    /// The modules that are mapped now, to be written from the place [`View::first`] of `view` on.
    pub modules: Vec<Module>,
    /// What makes these modules valid.
    pub view: View,
}

/// Where a file is in the tables.
#[derive(Clone, Copy, Debug)]
struct Placed {
    base: u32,
    first_page: u32,
    pages: u32,
}

/// The tables.
#[derive(Debug)]
pub struct Packed {
    limits: Limits,
    halves: [Vec<Module>; 2],
    view: View,
    pages: Vec<Page>,
    /// Whole chunks; behind the last row that is used are zeros.
    rows: Vec<Row>,
    used: usize,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    placed: HashMap<Key, Placed>,
    /// Rules that found no room.
    refused_rules: u64,
    /// Mapped stretches that found no room.
    refused_modules: u64,
    /// How much of the tables the kernel was told.
    told: (u32, u32, u32),
}

impl Packed {
    /// Empty tables.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let rules = vec![Rule::NONE, UNSUPPORTED];
        Self {
            limits,
            halves: [Vec::new(), Vec::new()],
            view: View::default(),
            pages: Vec::new(),
            rows: Vec::new(),
            used: 0,
            numbers: rules.iter().copied().zip(0..).collect(),
            rules,
            placed: HashMap::new(),
            refused_rules: 0,
            refused_modules: 0,
            told: (0, 0, 0),
        }
    }

    /// Bounds the rows from now on: whole chunks, and never less than are there. Gives the bound.
    pub fn limit_rows(&mut self, rows: u32) -> u32 {
        let used = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.limits.rows = rows.next_multiple_of(CHUNK_ROWS as u32).max(used);
        self.limits.rows
    }

    /// Whether a file's rows are in the tables.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.placed.contains_key(key)
    }

    /// Appends the rows of a file. `Err` says what there is no room for; the tables are then as before.
    ///
    /// # Errors
    /// When there are too many pages or rows.
    pub fn place(&mut self, key: Key, file: &FileRows) -> Result<(), String> {
        let room = |used: usize, more: usize, limit: u32, what: &str| {
            let fits = used.checked_add(more).is_some_and(|sum| sum <= limit as usize);
            fits.then_some(())
                .ok_or_else(|| format!("no room for {more} {what}: {used} of {limit} are taken"))
        };
        room(self.pages.len(), file.pages().len(), self.limits.pages, "pages")?;
        room(self.used, file.rows().len(), self.limits.rows, "unwind rows")?;
        let numbers: Vec<u16> = file.rules().iter().map(|rule| self.number(*rule)).collect();
        let (first_page, first_row) = (self.pages.len() as u32, self.used as u32);
        self.pages.extend(file.pages().iter().map(|page| match page.rows() {
            0 => Page::default(),
            rows => Page::new(first_row + page.first(), rows),
        }));
        self.rows.truncate(self.used);
        self.rows.extend(file.rows().iter().map(|row| {
            let number = numbers.get(usize::from(row.rule())).copied().unwrap_or(NO_ROOM);
            Row::new(row.low(), number)
        }));
        self.used = self.rows.len();
        self.rows.resize(self.used.next_multiple_of(CHUNK_ROWS), Row::default());
        self.placed.insert(key, Placed { base: file.base(), first_page, pages: file.pages().len() as u32 });
        Ok(())
    }

    /// Makes a new view of what is mapped; says what the kernel has to be told since the last time.
    pub fn view(&mut self, mapped: &[modules::Module]) -> Changes {
        let mut list: Vec<Module> = Vec::new();
        for one in mapped {
            let module = self.module(one);
            // What the loader maps in one piece may be cut by `mprotect`.
            match list.last_mut() {
                Some(last) if last.end == module.start && same_file(last, &module) => last.end = module.end,
                _ => list.push(module),
            }
        }
        let most = self.half() as usize;
        self.refused_modules = list.len().saturating_sub(most) as u64;
        list.truncate(most);
        let generation = self.view.generation().wrapping_add(1);
        let half = (generation & 1) as usize;
        self.view = View::new(generation, (half * most) as u16, list.len() as u16);
        self.halves[half].clone_from(&list);
        let rows_told = self.told.1 / CHUNK_ROWS as u32;
        let now = (self.rules.len() as u32, self.used as u32, self.pages.len() as u32);
        let before = std::mem::replace(&mut self.told, now);
        let chunks = if before.1 == now.1 { 0..0 } else { rows_told..now.1.div_ceil(CHUNK_ROWS as u32) };
        Changes { rules: before.0..now.0, chunks, pages: before.2..now.2, modules: list, view: self.view }
    }

    /// Places of one half of the table of modules; [`View`] counts both in 16 bits.
    fn half(&self) -> u32 {
        self.limits.modules.min(1 << 15)
    }

    fn module(&self, mapped: &modules::Module) -> Module {
        let placed = self.placed.get(&Key::of(&mapped.file));
        Module {
            start: mapped.start,
            end: mapped.end,
            delta: mapped.vaddr.wrapping_sub(mapped.start),
            page_base: placed.map_or(0, |placed| placed.base),
            first_page: placed.map_or(0, |placed| placed.first_page),
            pages: placed.map_or(0, |placed| placed.pages),
            reserved: 0,
        }
    }

    fn number(&mut self, rule: Rule) -> u16 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        let number = u16::try_from(self.rules.len()).ok();
        let Some(number) = number.filter(|number| u32::from(*number) < self.limits.rules) else {
            self.refused_rules += 1;
            return NO_ROOM;
        };
        self.rules.push(rule);
        self.numbers.insert(rule, number);
        number
    }

    /// The view that is valid now.
    #[must_use]
    pub const fn current(&self) -> View {
        self.view
    }

    /// Rules by number.
    #[must_use]
    pub fn rules(&self, numbers: Range<u32>) -> &[Rule] {
        part(&self.rules, numbers)
    }

    /// Pages by place.
    #[must_use]
    pub fn pages(&self, places: Range<u32>) -> &[Page] {
        part(&self.pages, places)
    }

    /// Chunks of rows by number; what is behind the last row is zero.
    #[must_use]
    pub fn chunks(&self, numbers: Range<u32>) -> &[[Row; CHUNK_ROWS]] {
        part(self.rows.as_chunks().0, numbers)
    }

    /// Rows that are in use.
    #[must_use]
    pub const fn row_count(&self) -> usize {
        self.used
    }

    /// Distinct rules, with the two that are always there.
    #[must_use]
    pub const fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Bytes of the tables in the kernel, as far as they are used: rules, whole chunks, pages, and the modules of both halves.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        let [one, other] = &self.halves;
        self.rules.len() * size_of::<Rule>()
            + self.rows.len() * size_of::<Row>()
            + self.pages.len() * size_of::<Page>()
            + (one.len() + other.len()) * size_of::<Module>()
    }

    /// Rules, and mapped stretches of code, that found no room.
    #[must_use]
    pub const fn refused(&self) -> (u64, u64) {
        (self.refused_rules, self.refused_modules)
    }
}

/// Whether two modules' rows are the same, for the same addresses.
fn same_file(one: &Module, other: &Module) -> bool {
    Module { start: 0, end: 0, ..*one } == Module { start: 0, end: 0, ..*other }
}

fn part<T>(all: &[T], places: Range<u32>) -> &[T] {
    all.get(places.start as usize..places.end as usize).unwrap_or_default()
}

impl Tables for Packed {
    fn module(&self, place: u32) -> Option<Module> {
        let most = self.half();
        let half = self.halves.get(usize::try_from(place.checked_div(most)?).ok()?)?;
        half.get((place % most) as usize).copied()
    }

    fn page(&self, place: u32) -> Option<Page> {
        self.pages.get(place as usize).copied()
    }

    fn row(&self, place: u32) -> Option<Row> {
        self.rows.get(place as usize).copied()
    }

    fn rule(&self, number: u16) -> Option<Rule> {
        self.rules.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests;
