//! Structures as a compiler has described them in a file's debug information (DWARF, versions 4 and 5).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId,
    UnitOffset,
};
use object::{Object, ObjectSection};

use super::fields::{Fact, Facts};

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Unit<'d> = gimli::Unit<Slice<'d>>;
type Entry<'d> = DebuggingInformationEntry<Slice<'d>>;

/// Types that stand for another, at most: a `typedef` of a `typedef` of a `const` structure.
const ALIASES: usize = 16;
/// Structures without a name in structures without a name, at most.
const NESTED: usize = 8;

/// The sections of a file, unpacked.
pub(super) struct Data<'b>(DwarfSections<Cow<'b, [u8]>>);

impl<'b> Data<'b> {
    pub(super) fn of(bytes: &'b [u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let load = |id: SectionId| -> Result<Cow<'b, [u8]>> {
            let section = file.section_by_name(id.name());
            Ok(section.map(|section| section.uncompressed_data()).transpose()?.unwrap_or_default())
        };
        Ok(Self(DwarfSections::load(load)?))
    }
}

/// Whether a file has debug information.
pub(super) fn is_in(path: &Path) -> Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(object::File::parse(&*bytes).is_ok_and(|file| file.section_by_name(".debug_info").is_some()))
}

/// The structures of a file that were asked for.
pub(super) struct Types<'d> {
    dwarf: Dwarf<Slice<'d>>,
    units: Vec<Unit<'d>>,
    structures: HashMap<String, (usize, UnitOffset)>,
    constants: HashMap<String, u64>,
}

impl<'d> Types<'d> {
    /// Finds the structures with these names, or that `typedef` calls so, and all constants of enumerations.
    pub(super) fn of(data: &'d Data<'_>, wanted: &HashSet<&str>) -> Result<Self> {
        let dwarf = data.0.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut this =
            Self { dwarf, units: Vec::new(), structures: HashMap::new(), constants: HashMap::new() };
        let mut headers = this.dwarf.units();
        while let Some(header) = headers.next()? {
            let unit = this.dwarf.unit(header)?;
            this.take(unit, wanted)?;
        }
        Ok(this)
    }

    /// Takes what one unit has at its top.
    fn take(&mut self, unit: Unit<'d>, wanted: &HashSet<&str>) -> Result<()> {
        let mut tree = unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let offset = entry.offset();
            let tag = entry.tag();
            if tag == gimli::DW_TAG_enumeration_type {
                let mut values = child.children();
                while let Some(value) = values.next()? {
                    self.constant(&unit, value.entry());
                }
                continue;
            }
            let is_whole = entry.attr_value(gimli::DW_AT_declaration).is_none();
            if !matches!(tag, gimli::DW_TAG_structure_type | gimli::DW_TAG_typedef) || !is_whole {
                continue;
            }
            let Some(name) = self.name(&unit, entry).filter(|name| wanted.contains(name.as_str())) else {
                continue;
            };
            // A `typedef` may be of a structure that this unit only declares.
            if structure(&unit, offset).is_some() {
                self.structures.entry(name).or_insert((self.units.len(), offset));
            }
        }
        self.units.push(unit);
        Ok(())
    }

    fn constant(&mut self, unit: &Unit<'d>, entry: &Entry<'d>) {
        let value = entry.attr(gimli::DW_AT_const_value);
        let value = value.and_then(|attr| attr.udata_value().or_else(|| attr.sdata_value()?.try_into().ok()));
        if let (Some(name), Some(value)) = (self.name(unit, entry), value) {
            self.constants.entry(name).or_insert(value);
        }
    }

    fn name(&self, unit: &Unit<'d>, entry: &Entry<'d>) -> Option<String> {
        let name = self.dwarf.attr_string(unit, entry.attr_value(gimli::DW_AT_name)?).ok()?;
        Some(name.to_string_lossy().into_owned())
    }

    /// The bit at which a member begins, and its type.
    fn member(
        &self,
        unit: &Unit<'d>,
        of: UnitOffset,
        name: &str,
        nested: usize,
    ) -> Option<(u64, UnitOffset)> {
        let mut tree = unit.entries_tree(Some(structure(unit, of)?)).ok()?;
        let mut members = tree.root().ok()?.children();
        while let Ok(Some(member)) = members.next() {
            let entry = member.entry();
            let Some(kind) = type_of(entry) else { continue };
            let at = bit_of(entry);
            match self.name(unit, entry) {
                Some(known) if known == name => return Some((at, kind)),
                // What it has itself is reached as if it were ours.
                None if nested > 0 => {
                    if let Some((inside, kind)) = self.member(unit, kind, name, nested - 1) {
                        return Some((at + inside, kind));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The bit at which the member at the end of a path begins.
    fn bit(&self, structure: &str, path: &str) -> Option<u64> {
        let (unit, mut kind) = *self.structures.get(structure)?;
        let unit = self.units.get(unit)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (at, next) = self.member(unit, kind, name, NESTED)?;
            (bits, kind) = (bits + at, next);
        }
        Some(bits)
    }

    fn size(&self, name: &str) -> Option<u64> {
        let (unit, offset) = *self.structures.get(name)?;
        let unit = self.units.get(unit)?;
        unit.entry(structure(unit, offset)?).ok()?.attr(gimli::DW_AT_byte_size)?.udata_value()
    }
}

impl Facts for Types<'_> {
    fn fact(&self, fact: Fact) -> Option<u64> {
        match fact {
            Fact::Offset(structure, path) => self.bit(structure, path).map(|bits| bits / 8),
            Fact::Bit(structure, path, within) => {
                Some(self.bit(structure, path)?.checked_sub(self.bit(structure, within)?)?)
            }
            Fact::Size(structure) => self.size(structure),
            Fact::Constant(name) => self.constants.get(name).copied(),
        }
    }
}

/// The structure or union that a type is, behind its other names; only where it is described.
fn structure(unit: &Unit<'_>, offset: UnitOffset) -> Option<UnitOffset> {
    let mut at = offset;
    for _ in 0..ALIASES {
        let entry = unit.entry(at).ok()?;
        if matches!(entry.tag(), gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type) {
            return entry.attr_value(gimli::DW_AT_declaration).is_none().then_some(at);
        }
        at = type_of(&entry)?;
    }
    None
}

fn type_of(entry: &Entry<'_>) -> Option<UnitOffset> {
    match entry.attr_value(gimli::DW_AT_type)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}

/// A member of a union says nothing.
fn bit_of(entry: &Entry<'_>) -> u64 {
    let number = |name| entry.attr(name).and_then(gimli::Attribute::udata_value);
    let bytes = number(gimli::DW_AT_data_member_location).unwrap_or(0);
    if let Some(bits) = number(gimli::DW_AT_data_bit_offset) {
        return bytes * 8 + bits;
    }
    // Before DWARF 5 a bit field is told from the highest bit of its unit of storage down.
    let old = |size: u64| Some(size * 8 - number(gimli::DW_AT_bit_offset)? - number(gimli::DW_AT_bit_size)?);
    bytes * 8 + number(gimli::DW_AT_byte_size).and_then(old).unwrap_or(0)
}
