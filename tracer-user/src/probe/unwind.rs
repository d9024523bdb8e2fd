//! The unwind tables into the kernel's maps, in an order in which a walk that runs meanwhile never sees half of them.

use std::ops::Range;

use aya::Pod;
use aya::maps::Array;
use tracer_common::config::ProcessState;
use tracer_common::limits::CHUNK_ROWS;
use tracer_common::unwind::{Module, Page, Row, Rule, View};

use crate::error::{Context, Result};
use crate::probe::load::Probes;
use crate::unwind::pack::{Changes, Packed};

impl Probes {
    /// Writes what has changed. What a valid view refers to never becomes another thing (a chunk that is written again has the same rows as before, and more behind
    /// them), so the view comes last; its modules go where the view before has none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write_unwind(&mut self, tables: &Packed, changes: &Changes) -> Result<()> {
        self.write::<Rule>("RULES", &changes.rules, tables.rules(changes.rules.clone()))?;
        self.write::<[Row; CHUNK_ROWS]>("ROWS", &changes.chunks, tables.chunks(changes.chunks.clone()))?;
        self.write::<Page>("PAGES", &changes.pages, tables.pages(changes.pages.clone()))?;
        let first = changes.view.first();
        let places = first..first.saturating_add(changes.modules.len() as u32);
        self.write::<Module>("MODULES", &places, &changes.modules)?;
        self.write::<View>("VIEW", &(0..1), &[changes.view])
    }

    /// The generation of the tables for which the kernel has asked to look again; 0: for none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn asked_generation(&mut self) -> Result<u32> {
        let map: Array<_, ProcessState> = self.typed("PROCESS")?;
        Ok(map.get(&0, 0).context("the process map")?.asked)
    }

    fn write<T: Pod>(&mut self, map: &str, places: &Range<u32>, elements: &[T]) -> Result<()> {
        let mut array: Array<_, T> = self.typed(map)?;
        for (place, element) in places.clone().zip(elements) {
            array.set(place, element, 0).context(map)?;
        }
        Ok(())
    }
}
