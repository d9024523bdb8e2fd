//! One module with all that can name it: itself, and the file with its debug information, each tried in turn.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use blazesym::symbolize::source::{self, Source};
use blazesym::symbolize::{Input, Reason, Sym, Symbolized, Symbolizer};

use super::exported::Exported;
use super::frames::{Call, holds};
use crate::symbol::Frame;
use crate::symbol::debug_files::{DebugFiles, Found, Sections, Wanted};
use crate::target::modules::CodeFile;

/// A source that fails so often is not asked again: opening broken debug information anew for each address would take for ever.
const FAILURES: u32 = 4;

/// A module to be named.
#[derive(Clone, Debug)]
pub(in crate::symbol) struct Module {
    /// Its path in the target's mount namespace.
    pub(in crate::symbol) path: PathBuf,
    /// Its build id.
    pub(in crate::symbol) build_id: Option<Vec<u8>>,
    /// The file itself, where it is at hand.
    pub(in crate::symbol) own: Option<Arc<CodeFile>>,
}

/// A file that blazesym reads, by a path that only this process can use.
struct Names {
    path: PathBuf,
    /// Its debug information is read, else only its symbol tables.
    dwarf: bool,
    failures: Cell<u32>,
}

/// What names one module.
pub(in crate::symbol) struct Opened {
    /// One for each module, because it maps every file that it meets and keeps it mapped: when this goes, the mappings go. `None` when blazesym has
    /// panicked over the files.
    symbolizer: Option<Symbolizer>,
    sources: Vec<Names>,
    exported: OnceCell<Option<Exported>>,
    module: Module,
    found: Option<Found>,
    /// Bytes of the files.
    pub(in crate::symbol) bytes: u64,
}

impl Opened {
    /// Looks for the module's debug information, unless it carries it itself, and makes ready; nothing is read of it yet.
    pub(in crate::symbol) fn open(module: Module, debug_files: &DebugFiles) -> Self {
        let own_path = module.own.as_ref().map(|file| file.open_path());
        let own_file = own_path.as_ref().and_then(|path| File::open(path).ok());
        let sections = own_file.as_ref().and_then(Sections::read).unwrap_or_default();
        let facts = own_file.as_ref().and_then(|file| file.metadata().ok());
        let wanted = Wanted {
            path: &module.path,
            build_id: module.build_id.as_deref(),
            link: sections.link.as_ref(),
            itself: facts.as_ref().map(|facts| (facts.dev(), facts.ino())),
        };
        let found = if sections.dwarf { None } else { debug_files.find(&wanted) };
        let found_bytes =
            found.as_ref().and_then(|found| found.file.metadata().ok()).map_or(0, |facts| facts.len());
        let found_path = found
            .as_ref()
            .map(|found| (PathBuf::from(format!("/proc/self/fd/{}", found.file.as_raw_fd())), found.dwarf));
        let names = |path: &PathBuf, dwarf| Names { path: path.clone(), dwarf, failures: Cell::new(0) };
        let debug = found_path.iter().filter(|(_, dwarf)| *dwarf).map(|(path, _)| names(path, true));
        let own_debug = own_path.iter().filter(|_| sections.dwarf).map(|path| names(path, true));
        let tables = found_path.iter().map(|(path, _)| path).chain(&own_path).map(|path| names(path, false));
        Self {
            sources: debug.chain(own_debug).chain(tables).collect(),
            symbolizer: Some(Symbolizer::builder().enable_auto_reload(false).build()),
            exported: OnceCell::new(),
            bytes: facts.map_or(0, |facts| facts.len()).saturating_add(found_bytes),
            module,
            found,
        }
    }

    /// Whether anything can name the module.
    pub(in crate::symbol) fn has_names(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether this is about that file.
    pub(in crate::symbol) fn is_of(&self, module: &Module) -> bool {
        match (&self.module.own, &module.own) {
            (Some(one), Some(other)) => one.identity() == other.identity(),
            (None, None) => (&self.module.path, &self.module.build_id) == (&module.path, &module.build_id),
            _ => false,
        }
    }

    /// The frames of a call, innermost first; one frame that says why where it has no name. Hostile files may make blazesym panic: then the whole
    /// module stays without names.
    pub(in crate::symbol) fn frames(&mut self, call: &Call) -> Vec<Frame> {
        let named = catch_unwind(AssertUnwindSafe(|| self.named(call))).unwrap_or_else(|_| {
            self.symbolizer = None;
            Err(DAMAGED)
        });
        named.unwrap_or_else(|reason| vec![call.nameless(reason)])
    }

    fn named(&self, call: &Call) -> Result<Vec<Frame>, &'static str> {
        let symbolizer = self.symbolizer.as_ref().ok_or(DAMAGED)?;
        let vaddr = call.place.vaddr;
        let mut reason = "no symbols";
        for names in self.sources.iter().filter(|names| names.failures.get() < FAILURES) {
            match names.look_up(symbolizer, vaddr) {
                Ok(symbol) if symbol.name.is_empty() => {
                    // Debug information that dwz has shared among packages gives lines but no names.
                    let tables = self.sources.iter().filter(|names| !names.dwarf);
                    let other = tables.filter_map(|names| names.look_up(symbolizer, vaddr).ok()).next();
                    let name = other.map(|symbol| symbol.name.into_owned());
                    return name.map(|name| call.frames(&symbol, Some(&name))).ok_or("no symbol there");
                }
                Ok(symbol) => return Ok(call.frames(&symbol, None)),
                Err(why) => reason = why,
            }
        }
        self.exported(vaddr).map(|name| vec![call.frame(&name, None, false)]).ok_or(reason)
    }

    /// The name in the table of exported symbols, for files whose tables blazesym refuses (those with `.gnu_debugdata`, which wants liblzma).
    fn exported(&self, vaddr: u64) -> Option<String> {
        let path = self.module.own.as_ref()?.open_path();
        if !self.sources.iter().any(|names| !names.dwarf && names.path == path && names.failures.get() > 0) {
            return None;
        }
        let table = self.exported.get_or_init(|| Exported::read(&File::open(path).ok()?));
        table.as_ref()?.name(vaddr).map(str::to_owned)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { module, found, bytes, .. } = self;
        out.debug_struct("Opened")
            .field("module", module)
            .field("found", found)
            .field("bytes", bytes)
            .finish_non_exhaustive()
    }
}

/// Why a module has no names that a library could not stomach.
const DAMAGED: &str = "damaged symbols";

impl Names {
    /// The symbol that holds an address of the file, or why there is none.
    fn look_up<'a>(&self, symbolizer: &'a Symbolizer, vaddr: u64) -> Result<Sym<'a>, &'static str> {
        let mut file = source::Elf::new(&self.path);
        file.debug_syms = self.dwarf;
        match symbolizer.symbolize_single(&Source::Elf(file), Input::VirtOffset(vaddr)) {
            Ok(Symbolized::Sym(symbol)) if holds(&symbol, vaddr) => Ok(symbol),
            Ok(Symbolized::Unknown(Reason::MissingSyms)) => Err("no symbols"),
            Ok(_) => Err("no symbol there"),
            Err(_) => {
                self.failures.set(self.failures.get() + 1);
                Err("no readable symbols")
            }
        }
    }
}
