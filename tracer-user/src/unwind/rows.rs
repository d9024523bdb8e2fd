//! The rows of one file: for each address of its code the rule that holds there, in pages of 64 KiB as the kernel searches them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use gimli::{EndianSlice, LittleEndian, UnwindSection};
use tracer_common::unwind::{PAGE_BITS, Page, Row, Rule};

use super::rule::{self, Lack, UNSUPPORTED};
use crate::error::{Error, Result};
use crate::target::frame_table::FrameTable;
use crate::target::modules::CodeFile;

/// Pages of one file, at most: 4 GiB of code, more than `rip`-relative code can span.
const PAGES: u64 = 1 << 16;

/// Rows of one file, at most; a PyTorch of 2024 has some three million.
const ROWS: usize = 1 << 23;

/// The numbers of [`Rule::NONE`] and of [`UNSUPPORTED`] among the rules of a file.
const NOTHING: u16 = 0;
const NO_ROOM: u16 = 1;

/// How often something was met: rows before equal ones were joined, and bytes of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows.
    pub rows: u64,
    /// Bytes of code that they are about.
    pub bytes: u64,
}

impl Tally {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The rows of a file. Pages and rows are numbered from the file's own first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRows {
    base: u32,
    pages: Vec<Page>,
    rows: Vec<Row>,
    rules: Vec<Rule>,
    lacks: BTreeMap<Lack, Tally>,
}

impl FileRows {
    /// Reads a file's frame descriptions: those that the process uses, or else those for debuggers.
    ///
    /// # Errors
    /// When it has none, or they are not those of an honest file.
    pub fn of(file: &CodeFile) -> Result<Self> {
        if let Some(bytes) = file.frames() {
            let table = FrameTable::of(&bytes);
            if table.functions().len() > 0 {
                return Self::of_table(&table);
            }
        }
        match file.debug_frames() {
            Some(bytes) => Self::of_table(&FrameTable::of_debug(&bytes)),
            None => Err(Error::failed("it has no frame descriptions (.eh_frame, .debug_frame)")),
        }
    }

    /// From descriptions that were found.
    ///
    /// # Errors
    /// When they describe nothing, or too much.
    pub fn of_table<'b, S>(table: &FrameTable<'b, S>) -> Result<Self>
    where
        S: UnwindSection<EndianSlice<'b, LittleEndian>>,
    {
        let mut builder = Builder::new();
        let honest = table.each_row(|range, row| {
            let (rule, lack) = rule::of(row, table.section());
            if let Some(lack) = lack {
                builder.lack(lack, &range);
            }
            builder.push(range, rule);
        });
        if honest { builder.finish() } else { Err(Error::failed("its frame descriptions overlap")) }
    }

    /// From stretches of code, by address.
    ///
    /// # Errors
    /// As [`FileRows::of_table`].
    pub fn of_stretches(stretches: impl IntoIterator<Item = (Range<u64>, Rule)>) -> Result<Self> {
        let mut builder = Builder::new();
        for (range, rule) in stretches {
            builder.push(range, rule);
        }
        builder.finish()
    }

    /// The same rows, those of these addresses marked as the evaluator's.
    ///
    /// # Errors
    /// As [`FileRows::of_table`].
    pub fn with_evaluator(&self, parts: &[Range<u64>]) -> Result<Self> {
        let mut parts = parts.to_vec();
        parts.sort_by_key(|part| part.start);
        let mut marked = Vec::new();
        for (stretch, rule) in self.stretches().filter(|(_, rule)| *rule != Rule::NONE) {
            let mut from = stretch.start;
            for part in &parts {
                let (start, end) = (part.start.max(from), part.end.min(stretch.end));
                if start < end {
                    marked.extend([(from..start, rule), (start..end, rule.of_evaluator())]);
                    from = end;
                }
            }
            marked.push((from..stretch.end, rule));
        }
        Ok(Self { lacks: self.lacks.clone(), ..Self::of_stretches(marked)? })
    }

    /// The rule of the instruction that the byte at this address belongs to; [`Rule::NONE`] where nothing is said.
    #[must_use]
    pub fn rule_at(&self, vaddr: u64) -> Rule {
        let rows = self.page_at(vaddr).map(|page| self.page_rows(page)).unwrap_or_default();
        let after = rows.partition_point(|row| row.low() <= vaddr as u16);
        rows.get(after.wrapping_sub(1)).map_or(Rule::NONE, |row| self.rule(*row))
    }

    /// All stretches with the same rule by address, without the ends of what is described; a stretch ends with its page.
    pub fn stretches(&self) -> impl Iterator<Item = (Range<u64>, Rule)> + '_ {
        self.pages.iter().zip(u64::from(self.base)..).flat_map(move |(page, number)| {
            let start = number << PAGE_BITS;
            let rows = self.page_rows(*page);
            let ends = rows.iter().skip(1).map(move |row| start + u64::from(row.low()));
            let ends = ends.chain([start + (1 << PAGE_BITS)]);
            rows.iter().zip(ends).map(move |(row, end)| (start + u64::from(row.low())..end, self.rule(*row)))
        })
    }

    /// The file's first page: the address of its first code without the lowest [`PAGE_BITS`] bits.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// The pages; the rows of each are counted from the first of the file.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// The rows; rules are numbered as in [`FileRows::rules`].
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The distinct rules. The first is [`Rule::NONE`].
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the rules lack, and how often.
    #[must_use]
    pub const fn lacks(&self) -> &BTreeMap<Lack, Tally> {
        &self.lacks
    }

    /// Bytes of memory that they take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages.len() * size_of::<Page>()
            + self.rows.len() * size_of::<Row>()
            + self.rules.len() * size_of::<Rule>()
    }

    fn page_at(&self, vaddr: u64) -> Option<Page> {
        let page = (vaddr >> PAGE_BITS).checked_sub(self.base.into())?;
        self.pages.get(usize::try_from(page).ok()?).copied()
    }

    fn page_rows(&self, page: Page) -> &[Row] {
        let first = page.first() as usize;
        self.rows.get(first..first + page.rows() as usize).unwrap_or_default()
    }

    fn rule(&self, row: Row) -> Rule {
        self.rules.get(usize::from(row.rule())).copied().unwrap_or(Rule::NONE)
    }
}

/// Takes stretches of code by address, and puts them into pages at last.
struct Builder {
    /// From which address on which rule holds; no two neighbours have the same.
    list: Vec<(u64, u16)>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    lacks: BTreeMap<Lack, Tally>,
    /// Behind the last stretch.
    end: u64,
}

impl Builder {
    fn new() -> Self {
        let rules = vec![Rule::NONE, UNSUPPORTED];
        let numbers = rules.iter().copied().zip(0..).collect();
        Self { list: Vec::new(), rules, numbers, lacks: BTreeMap::new(), end: 0 }
    }

    fn lack(&mut self, lack: Lack, range: &Range<u64>) {
        let bytes = range.end - range.start;
        self.lacks.entry(lack).or_default().add(Tally { rows: 1, bytes });
    }

    /// The rule of the next stretch; what lies between it and the one before has none.
    fn push(&mut self, range: Range<u64>, rule: Rule) {
        if range.is_empty() || range.start < self.end || self.list.len() > ROWS {
            return;
        }
        if range.start > self.end {
            self.begin(self.end, NOTHING);
        }
        let number = self.number(rule, &range);
        self.begin(range.start, number);
        self.end = range.end;
    }

    fn begin(&mut self, vaddr: u64, number: u16) {
        if self.list.last().map_or(NOTHING, |(_, before)| *before) != number {
            self.list.push((vaddr, number));
        }
    }

    /// The number of a rule; that of the unsupported one where a file has more rules than numbers.
    fn number(&mut self, rule: Rule, range: &Range<u64>) -> u16 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.rules.len()) else {
            self.lack(Lack::Rules, range);
            return NO_ROOM;
        };
        self.rules.push(rule);
        self.numbers.insert(rule, number);
        number
    }

    /// Puts what was pushed into pages.
    fn finish(mut self) -> Result<FileRows> {
        if self.list.len() > ROWS {
            return Err(Error::failed(format!("it has more than {ROWS} unwind rows")));
        }
        self.begin(self.end, NOTHING);
        let Some(((first, _), (last, _))) = self.list.first().zip(self.list.last()) else {
            return Err(Error::failed("its frame descriptions are of no code"));
        };
        let (base, last) = (first >> PAGE_BITS, last >> PAGE_BITS);
        let Some(base) = u32::try_from(base).ok().filter(|_| last - base < PAGES) else {
            return Err(Error::failed("its code is spread over more than 4 GiB"));
        };
        let mut made =
            FileRows { base, pages: Vec::new(), rows: Vec::new(), rules: self.rules, lacks: self.lacks };
        let mut list = self.list.into_iter().peekable();
        let mut number = NOTHING;
        for page in base.into()..=last {
            let first = made.rows.len();
            let inside = |(vaddr, _): &(u64, u16)| *vaddr >> PAGE_BITS == page;
            if list.peek().is_none_or(|(vaddr, _)| *vaddr != page << PAGE_BITS) {
                made.rows.push(Row::new(0, number));
            }
            while let Some((vaddr, next)) = list.next_if(inside) {
                made.rows.push(Row::new(vaddr as u16, next));
                number = next;
            }
            if made.rows[first..] == [Row::new(0, NOTHING)] {
                made.rows.truncate(first);
            }
            made.pages.push(Page::new(first as u32, (made.rows.len() - first) as u32));
        }
        Ok(made)
    }
}
