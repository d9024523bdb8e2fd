//! The first bytes of `_PyRuntime` in an interpreter's file.

use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

/// So many bytes, or as many as its section has; `None` where there is no `_PyRuntime`, or none with debug offsets.
pub(super) fn runtime(path: &Path, len: u64) -> Result<Option<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Ok(file) = object::File::parse(&*bytes) else { return Ok(None) };
    let Some(symbol) = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("_PyRuntime")) else {
        return Ok(None);
    };
    let inside = |section: &object::Section<'_, '_>| {
        symbol.address().checked_sub(section.address()).is_some_and(|at| at < section.size())
    };
    let Some(section) = file.sections().find(inside) else { return Ok(None) };
    let data = section.data().with_context(|| format!("cannot read {}", path.display()))?;
    let from = usize::try_from(symbol.address() - section.address())?;
    let Some(tail) = data.get(from..) else { return Ok(None) };
    let head = tail[..tail.len().min(usize::try_from(len)?)].to_vec();
    let told = crate::target::layout::debug_offsets::free_threaded(&head).is_some();
    Ok(told.then_some(head))
}
