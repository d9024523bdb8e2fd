//! Rows against gimli's own evaluation of the same descriptions, on a made-up machine: registers and memory are hashes of their names, so that a rule that takes
//! the wrong register, offset or word gives another value.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, LittleEndian, Location,
    ParsedEhFrameHdr, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value, X86_64,
};
use object::{Object, ObjectSection};
use proptest::prelude::*;
use tracer_common::unwind::{Cfa, Rbp, Rule, find};

use super::Unwinder;
use super::cache::{Cache, Key};
use super::pack::Limits;
use super::rows::FileRows;
use crate::target::elf::Elf;
use crate::target::fixture;
use crate::target::frame_table::{FrameTable, Row};
use crate::target::modules::{CodeFile, Modules};
use crate::target::process::Process;
use crate::target::python::Python;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Registers and memory before an instruction runs.
#[derive(Clone, Copy, Debug)]
struct Machine {
    pc: u64,
    seed: u64,
}

impl Machine {
    fn hash(self, of: u64) -> u64 {
        let mixed = (of ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
    }

    fn register(self, register: Register) -> u64 {
        if register == X86_64::RA { self.pc } else { self.hash(u64::from(register.0)) }
    }

    fn memory(self, address: u64) -> u64 {
        self.hash(address.rotate_left(17))
    }

    fn at(self, register: Register, offset: u64) -> u64 {
        self.register(register).wrapping_add(offset)
    }
}

/// The CFA, the return address and the caller's `rbp`; the last `None` if it is lost.
type Caller = (u64, u64, Option<u64>);

/// What a rule of ours gives, as its documentation in `tracer_common::unwind` says; `None` for an outermost frame.
fn by_rule(rule: Rule, machine: Machine) -> Option<Caller> {
    let kind = rule.cfa();
    let offset = rule.cfa_offset();
    let cfa = match kind {
        _ if kind == Cfa::Rsp as u8 => machine.at(X86_64::RSP, offset),
        _ if kind == Cfa::Rbp as u8 => machine.at(X86_64::RBP, offset),
        _ if kind == Cfa::AtRsp as u8 => machine.memory(machine.at(X86_64::RSP, offset)),
        _ if kind == Cfa::AtRbp as u8 => machine.memory(machine.at(X86_64::RBP, offset)),
        _ if kind == Cfa::Plt as u8 => {
            let pushed = machine.pc % 16 >= offset / 8;
            machine.at(X86_64::RSP, if pushed { 16 } else { 8 })
        }
        _ if kind == Cfa::Signal as u8 => {
            let word = |offset| machine.memory(machine.at(X86_64::RSP, offset));
            return Some((word(160), word(168), Some(word(120))));
        }
        _ => return None,
    };
    let rbp = match rule.rbp() {
        kind if kind == Rbp::Same as u8 => Some(machine.register(X86_64::RBP)),
        kind if kind == Rbp::AtCfa as u8 => Some(machine.memory(cfa.wrapping_add(rule.rbp_offset()))),
        kind if kind == Rbp::AtRbp as u8 => Some(machine.memory(machine.at(X86_64::RBP, rule.rbp_offset()))),
        _ => None,
    };
    Some((cfa, machine.memory(cfa.wrapping_sub(8)), rbp))
}

/// What gimli's row gives.
fn by_row(row: &Row, frames: &EhFrame<Bytes<'_>>, machine: Machine) -> Option<Caller> {
    let cfa = match *row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => machine.at(register, offset.cast_unsigned()),
        CfaRule::Expression(expression) => evaluate(expression, frames, machine, None),
    };
    let register = |register| match row.register(register) {
        None | Some(RegisterRule::SameValue) => Some(machine.register(register)),
        Some(RegisterRule::Undefined) => None,
        Some(RegisterRule::Offset(offset)) => Some(machine.memory(cfa.wrapping_add_signed(offset))),
        Some(RegisterRule::Expression(expression)) => {
            Some(machine.memory(evaluate(expression, frames, machine, Some(cfa))))
        }
        Some(RegisterRule::ValExpression(expression)) => {
            Some(evaluate(expression, frames, machine, Some(cfa)))
        }
        Some(RegisterRule::ValOffset(offset)) => Some(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::Register(register)) => Some(machine.register(register)),
        Some(other) => panic!("{other:?}"),
    };
    Some((cfa, register(X86_64::RA)?, register(X86_64::RBP)))
}

fn evaluate(
    expression: UnwindExpression<usize>,
    frames: &EhFrame<Bytes<'_>>,
    machine: Machine,
    initial: Option<u64>,
) -> u64 {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut evaluation = expression.get(frames).unwrap().evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().unwrap();
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                evaluation.resume_with_register(Value::Generic(machine.register(register))).unwrap()
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                evaluation.resume_with_memory(Value::Generic(machine.memory(address))).unwrap()
            }
            other => panic!("{other:?}"),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => address,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A file's descriptions, looked up by gimli alone.
struct Oracle<'a> {
    index: ParsedEhFrameHdr<Bytes<'a>>,
    frames: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
}

impl<'a> Oracle<'a> {
    fn new(file: &object::File<'a>) -> Self {
        let section = |name| file.section_by_name(name).unwrap();
        let (index, frames) = (section(".eh_frame_hdr"), section(".eh_frame"));
        let bases = BaseAddresses::default().set_eh_frame_hdr(index.address()).set_eh_frame(frames.address());
        let index = EhFrameHdr::new(index.data().unwrap(), LittleEndian).parse(&bases, 8).unwrap();
        Self { index, frames: EhFrame::new(frames.data().unwrap(), LittleEndian), bases }
    }

    /// What gimli says of an address; `Err` if nothing describes it.
    fn caller(
        &self,
        machine: Machine,
        context: &mut UnwindContext<usize>,
    ) -> Result<Option<Caller>, gimli::Error> {
        let table = self.index.table().unwrap();
        let common = EhFrame::cie_from_offset;
        let row = table.unwind_info_for_address(&self.frames, &self.bases, context, machine.pc, common)?;
        Ok(by_row(row, &self.frames, machine))
    }
}

impl Oracle<'_> {
    /// Where any row of any function begins or ends.
    fn borders(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let mut context = UnwindContext::new();
        let mut entries = self.frames.entries(&self.bases);
        while let Some(entry) = entries.next().unwrap() {
            let gimli::CieOrFde::Fde(partial) = entry else { continue };
            let description = partial.parse(EhFrame::cie_from_offset).unwrap();
            found.push(description.end_address());
            let mut rows = description.rows(&self.frames, &self.bases, &mut context).unwrap();
            while let Some(row) = rows.next_row().unwrap() {
                found.push(row.start_address());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Compares one address; says whether a rule of ours had to be looked at.
    fn check(&self, rows: &FileRows, pc: u64, context: &mut UnwindContext<usize>, path: &Path) -> Seen {
        let machine = Machine { pc, seed: pc.rotate_right(7) };
        let rule = rows.rule_at(pc);
        let expected = self.caller(machine, context);
        let what = || format!("{} {pc:#x}: {rule:?}", path.display());
        let Ok(expected) = expected else {
            assert_eq!(rule, Rule::NONE, "{}", what());
            return Seen::Gap;
        };
        if rule.cfa() == Cfa::Unsupported as u8 {
            return Seen::Unsupported;
        }
        let found = by_rule(rule, machine);
        match (found, expected) {
            (None, None) => assert_eq!(rule.cfa(), Cfa::Outermost as u8, "{}", what()),
            (Some((cfa, ra, None)), Some((same_cfa, same_ra, _))) => {
                assert_eq!((cfa, ra), (same_cfa, same_ra), "{}", what());
                return Seen::Lost;
            }
            _ => assert_eq!(found, expected, "{}", what()),
        }
        Seen::Same
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Gap,
    Same,
    /// The same but for `rbp`, which a rule of ours does not know.
    Lost,
    Unsupported,
}

/// The files of this machine that the processes map that are traced most.
fn real_files() -> Vec<PathBuf> {
    let shared = fixture::shared();
    let library = shared.as_ref().map(|path| path.with_file_name("../lib/libpython3.11.so.1.0"));
    let extension = shared.map(|path| {
        path.with_file_name("../lib/python3.11/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so")
    });
    let system = ["libc.so.6", "libstdc++.so.6", "libffi.so.8", "ld-linux-x86-64.so.2"];
    let system = system.map(|name| Some(Path::new("/lib/x86_64-linux-gnu").join(name)));
    let files = [library, extension, fixture::debian()].into_iter().chain(system);
    files.flatten().filter(|path| path.is_file()).collect()
}

/// A file of this machine, and its rows.
struct Real {
    path: PathBuf,
    bytes: Vec<u8>,
    rows: FileRows,
}

static REAL: OnceLock<Vec<Real>> = OnceLock::new();

impl Real {
    fn open(path: PathBuf) -> Self {
        let rows = FileRows::of(&CodeFile::of_file(&path).unwrap()).unwrap();
        Self { bytes: std::fs::read(&path).unwrap(), path, rows }
    }
}

#[test]
fn rows_agree_with_gimli_at_every_border() {
    let files = real_files();
    assert!(files.len() >= 2, "{files:?}");
    for Real { path, bytes, rows } in files.into_iter().map(Real::open) {
        let object = object::File::parse(&*bytes).unwrap();
        let oracle = Oracle::new(&object);
        let mut context = UnwindContext::new();
        let borders = oracle.borders();
        let mut seen = [0; 4];
        for pc in borders.iter().flat_map(|border| [border - 1, *border, border + 1]) {
            seen[oracle.check(&rows, pc, &mut context, &path) as usize] += 1;
        }
        assert!(seen[Seen::Same as usize] > borders.len(), "{}: {seen:?}", path.display());
        let outside = seen[Seen::Unsupported as usize] + seen[Seen::Lost as usize];
        assert!(outside <= 64, "{}: {seen:?} {:?}", path.display(), rows.lacks());
    }
}

/// A process's tables as the kernel will have them: every border of every file that this process has mapped, at its own address.
#[test]
fn the_tables_say_what_the_rows_say() {
    let own = Process::open(std::process::id()).unwrap();
    let mut modules = Modules::default();
    modules.refresh(&own).unwrap();
    let limits = Limits { modules: 64, pages: 4096, rows: 1 << 20, rules: 4096 };
    let mut unwinder = Unwinder::new(limits, None);
    let changes = unwinder.update(&modules);
    assert_eq!(unwinder.facts().without, []);
    let mut checked = 0;
    for module in modules.list() {
        let rows = FileRows::of(&module.file).unwrap();
        for (stretch, _) in rows.stretches() {
            for vaddr in [stretch.start, stretch.end - 1] {
                let address = vaddr.wrapping_sub(module.vaddr).wrapping_add(module.start);
                if (module.start..module.end).contains(&address) {
                    let found = find(unwinder.tables(), changes.view, address).unwrap_or_default();
                    assert_eq!(found.bare(), rows.rule_at(vaddr), "{} {vaddr:#x}", module.file.name());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 10_000, "{checked}");
}

proptest! {
    /// Any addresses inside and outside of functions.
    #[test]
    fn rows_agree_with_gimli_anywhere(pcs in prop::collection::vec(any::<prop::sample::Index>(), 64)) {
        let real = REAL.get_or_init(|| real_files().into_iter().map(Real::open).collect());
        let mut context = UnwindContext::new();
        for real in real {
            let object = object::File::parse(&*real.bytes).unwrap();
            let oracle = Oracle::new(&object);
            let text = object.section_by_name(".text").unwrap();
            for pc in &pcs {
                let pc = text.address() + pc.index(text.size() as usize) as u64;
                oracle.check(&real.rows, pc, &mut context, &real.path);
            }
        }
    }

    /// Whatever stands in the descriptions: no panic, and rows only of code.
    #[test]
    fn broken_descriptions_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..64),
    ) {
        let mut bytes = std::fs::read("/bin/true").unwrap();
        let object = object::File::parse(&*bytes).unwrap();
        let frames = object.section_by_name(".eh_frame").unwrap().file_range().unwrap();
        for (at, value) in changes {
            bytes[frames.0 as usize + at.index(frames.1 as usize)] = value;
        }
        let elf = Elf::parse(bytes).unwrap();
        if let Ok(rows) = FileRows::of_table(&FrameTable::new(&elf)) {
            for (stretch, rule) in rows.stretches().filter(|(_, rule)| *rule != Rule::NONE) {
                prop_assert!(elf.is_code(stretch.start) && elf.is_code(stretch.end - 1));
                prop_assert_eq!(rows.rule_at(stretch.start), rule);
            }
        }
    }
}

/// A live interpreter: its evaluator is marked, and the library that it loads later is appended.
#[test]
fn a_live_interpreter_has_its_evaluator_and_what_it_loads_later() {
    let script = "print(1)\ninput()\nimport _ctypes\nprint(2)\ninput()";
    for path in [fixture::shared(), fixture::debian()].into_iter().flatten() {
        let mut python = fixture::Script::start(&path, script, &[]);
        assert_eq!(python.line(), "1");
        let process = Process::open(python.pid()).unwrap();
        let image = Python::find(&process).unwrap().image;
        let mut modules = Modules::default();
        modules.refresh(&process).unwrap();
        let limits = Limits { modules: 256, pages: 4096, rows: 1 << 20, rules: 4096 };
        let mut unwinder = Unwinder::new(limits, Some(&image));
        let first = unwinder.update(&modules);
        let evaluator = |unwinder: &Unwinder, view, vaddr: u64| {
            let address = image.bias.unwrap().wrapping_add(vaddr);
            find(unwinder.tables(), view, address).unwrap_or_default().is_evaluator()
        };
        let parts = unwinder.facts().evaluator.clone();
        assert!(!parts.is_empty(), "{}", path.display());
        for part in &parts {
            let at = [part.start - 1, part.start, part.end - 1, part.end];
            let marked = at.map(|vaddr| evaluator(&unwinder, first.view, vaddr));
            assert_eq!(marked, [false, true, true, false], "{} {part:x?}", path.display());
        }
        let files = unwinder.facts().files;
        python.go_on();
        assert_eq!(python.line(), "2");
        assert!(modules.refresh(&process).unwrap());
        let second = unwinder.update(&modules);
        assert!(unwinder.facts().files > files && unwinder.facts().without.is_empty());
        assert_eq!((second.pages.start, second.rules.start), (first.pages.end, first.rules.end));
        assert!(!second.pages.is_empty() && second.modules.len() > first.modules.len());
        assert!(evaluator(&unwinder, second.view, parts[0].start));
        let loaded = modules.list().iter().find(|module| module.file.name().contains("_ctypes")).unwrap();
        let found = (loaded.start..loaded.end).filter(|at| find(unwinder.tables(), second.view, *at).is_ok());
        assert!(found.count() > 1000, "{}", path.display());
    }
}

#[test]
fn a_file_is_read_once_for_all_processes() {
    let own = Process::open(std::process::id()).unwrap();
    let mut modules = Modules::default();
    modules.refresh(&own).unwrap();
    let limits = Limits { modules: 64, pages: 4096, rows: 1 << 20, rules: 4096 };
    let cache = Arc::new(Mutex::new(Cache::new(64 << 20)));
    let mut one = Unwinder::sharing(limits, None, Arc::clone(&cache));
    one.update(&modules);
    let known = |cache: &Mutex<Cache>| {
        let mut cache = cache.lock().unwrap();
        modules.list().iter().map(|module| cache.get(&Key::of(&module.file)).unwrap().unwrap()).collect()
    };
    let before: Vec<Arc<FileRows>> = known(&cache);
    let mut other = Unwinder::sharing(limits, None, Arc::clone(&cache));
    other.update(&modules);
    assert!(before.iter().zip(known(&cache)).all(|(one, other)| Arc::ptr_eq(one, &other)));
    assert_eq!(one.facts(), other.facts());
}
