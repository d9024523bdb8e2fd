//! The types of what lives: read from the survivors themselves, and told for the whole.

use std::collections::HashMap;

use tracer_common::domain::Domain;

use crate::heap::books::SiteFacts;
use crate::report::story::TypeCount;
use crate::session::subject::Subject;
use crate::symbol::object::{TypeId, TypeNames};
use crate::target::memory::Memory;

/// Survivors whose type is read, at most; reading one takes about 0.3 µs.
const TYPES_READ: usize = 4_000_000;

/// The types of the survivors, per site in the order of `facts`, and how many could not be read because the target is gone.
pub(super) fn of_survivors(subject: &Subject, facts: &[SiteFacts]) -> (Vec<Vec<TypeCount>>, u64) {
    let mut reader = TypeNames::new(Memory::new(subject.process.pid()), subject.layout);
    let mut room = TYPES_READ;
    let mut unread = 0;
    let types = facts
        .iter()
        .map(|site| {
            // Only the object domain holds objects.
            if site.domain != Some(Domain::Object) {
                return Vec::new();
            }
            let read = site.survivors.len().min(room);
            room -= read;
            unread += (site.survivors.len() - read) as u64;
            let mut counts = HashMap::new();
            for id in reader.types(&site.survivors[..read]) {
                *counts.entry(id).or_insert(0u64) += 1;
            }
            if !subject.process.still_same() {
                unread += counts.remove(&None).unwrap_or(0);
            }
            named(counts, &reader)
        })
        .collect();
    (types, unread)
}

/// Counts by type with their names, most frequent first.
fn named(counts: HashMap<Option<TypeId>, u64>, reader: &TypeNames<Memory>) -> Vec<TypeCount> {
    let mut types: Vec<_> = counts
        .into_iter()
        .filter_map(|(id, blocks)| Some(TypeCount { name: reader.name(id?).to_owned(), blocks }))
        .collect();
    types.sort_by(|one, other| other.blocks.cmp(&one.blocks).then_with(|| one.name.cmp(&other.name)));
    types
}

/// Types of samples, scaled up to what lives. Each is rounded with what the ones before it left over, so that their sum is just that.
pub(super) fn scaled(mut types: Vec<TypeCount>, live_blocks: u64, sampled: bool) -> Vec<TypeCount> {
    let read = types.iter().map(|of| u128::from(of.blocks)).sum::<u128>();
    if sampled && read > 0 {
        let (mut seen, mut told) = (0, 0);
        for of in &mut types {
            seen += u128::from(of.blocks);
            let until = u64::try_from(seen * u128::from(live_blocks) / read).unwrap_or(live_blocks);
            (of.blocks, told) = (until - told, until);
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn types_of_samples_sum_to_what_lives(blocks in prop::collection::vec(1_u64..1_000_000, 1..12), live in 0_u64..1 << 50) {
            let read: u64 = blocks.iter().sum();
            let types = blocks.iter().map(|blocks| TypeCount { name: String::new(), blocks: *blocks }).collect();
            let told = scaled(types, live, true);
            prop_assert_eq!(told.iter().map(|of| of.blocks).sum::<u64>(), live);
            for (of, seen) in told.iter().zip(blocks) {
                let share = u128::from(seen) * u128::from(live) / u128::from(read);
                prop_assert!(u128::from(of.blocks).abs_diff(share) <= 1);
            }
        }
    }
}
