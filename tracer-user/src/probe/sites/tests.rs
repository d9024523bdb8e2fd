//! The planner on assembled snippets and on the interpreters of this machine.

use super::*;
use crate::target::fixture::{self, Script};
use crate::target::process::Process;
use Register::{Rbx, Rdi, Rdx, Rsi};

fn spot(code: &[u8], wanted: &[Register]) -> (u64, Vec<Register>, u8, bool) {
    let spot = first_emulated(code, 0x1000, wanted).unwrap();
    (spot.offset, spot.arguments, spot.pushed_words, spot.emulated)
}

#[test]
fn the_first_emulated_instruction_is_taken() {
    // mov rsi, rdi; test rdi, rdi; js +0x10
    assert_eq!(spot(&[0x48, 0x89, 0xfe, 0x48, 0x85, 0xff, 0x78, 0x10], &[Rdi]), (6, vec![Rdi], 0, true));
    // endbr64; test rsi, rsi; je +0x14
    let endbr = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x85, 0xf6, 0x74, 0x14];
    assert_eq!(spot(&endbr, &[Rdi, Rsi]), (7, vec![Rdi, Rsi], 0, true));
    // sub rsp, 8; test rdi, rdi; js near
    let reserve = [0x48, 0x83, 0xec, 8, 0x48, 0x85, 0xff, 0x0f, 0x88, 0, 1, 0, 0];
    assert_eq!(spot(&reserve, &[Rdi]), (7, vec![Rdi], 1, true));
    // push r13
    assert_eq!(spot(&[0x41, 0x55, 0xc3], &[Rdi, Rdx]), (0, vec![Rdi, Rdx], 0, true));
    // mov rdi, rsi; jmp near: both hold it, its own is named
    assert_eq!(spot(&[0x48, 0x89, 0xf7, 0xe9, 0, 0, 0, 0], &[Rsi]), (3, vec![Rsi], 0, true));
    // mov rbx, rdi; xor edi, edi; call near
    assert_eq!(spot(&[0x48, 0x89, 0xfb, 0x31, 0xff, 0xe8, 0, 0, 0, 0], &[Rdi]), (5, vec![Rbx], 0, true));
}

#[test]
fn what_cannot_be_emulated_in_time_is_stepped_at_the_entry() {
    let stepped = (0, vec![Rdi], 0, false);
    // mov rsi, rdi; mov rdi, [rip]; jmp [rip]: the wrapper of free
    let wrapper = [0x48, 0x89, 0xfe, 0x48, 0x8b, 0x3d, 0, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0];
    assert_eq!(spot(&wrapper, &[Rdi]), stepped);
    // xor edi, edi; je: the argument is lost
    assert_eq!(spot(&[0x31, 0xff, 0x74, 0], &[Rdi]), stepped);
    // mov ebx, edi is no copy; mov dil, 1 loses it; push
    assert_eq!(spot(&[0x89, 0xfb, 0x40, 0xb7, 1, 0x55], &[Rdi]), stepped);
    // data16 je: rejected by the kernel; data16 push: not emulated
    assert_eq!(spot(&[0x66, 0x74, 0, 0xc3], &[Rdi]), stepped);
    assert_eq!(spot(&[0x66, 0x55, 0xc3], &[Rdi]), stepped);
    // and rsp, -16; push rbp: the entry's stack pointer cannot be told
    assert_eq!(spot(&[0x48, 0x83, 0xe4, 0xf0, 0x55], &[Rdi]), stepped);
    // test rdi, rdi; je out; dec rdi; jmp back to the start: more than one hit per call
    assert_eq!(spot(&[0x48, 0x85, 0xff, 0x74, 5, 0x48, 0xff, 0xcf, 0xeb, 0xf6, 0xc3], &[Rdi]), stepped);
    // pop and ret end the straight line
    assert_eq!(spot(&[0xc3, 0x55], &[Rdi]), stepped);
    assert_eq!(first_emulated(&[], 0, &[Rdi]), None);
    assert_eq!(first_emulated(&[0x06], 0, &[Rdi]), None);
}

proptest::proptest! {
    #[test]
    fn hostile_code_never_panics(code: Vec<u8>, vaddr: u64) {
        let _ = first_emulated(&code, vaddr, &[Rdi, Rsi]);
        let _ = wrapper::decode(&code, vaddr);
    }
}

const IDLE: &str = "print('READY'); input()";

fn started(python: &std::path::Path, environment: &[(&str, &str)]) -> (Script, Process, Python) {
    let mut script = Script::start(python, IDLE, environment);
    assert_eq!(script.line(), "READY");
    let process = Process::open(script.pid()).unwrap();
    let python = Python::find(&process).unwrap();
    (script, process, python)
}

fn point<'a>(plan: &'a HookPlan, name: &str, returns: bool) -> &'a Point {
    let found = plan.points.iter().find(|point| point.name == name && point.returns == returns);
    found.unwrap_or_else(|| panic!("no {name} in {:#?}", plan.points))
}

const PYTHON: [Domain; 3] = [Domain::Object, Domain::Mem, Domain::Raw];

#[test]
fn a_build_with_pure_wrappers_is_hooked_completely_and_cheaply() {
    let Some(python) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let (script, process, python) = started(&python, &[]);
    let memory = Memory::new(script.pid());
    let libc = Image::allocator_of(&process).unwrap();
    let plan = plan(&python, Some(&memory), &Domain::ALL, true, Some(&libc)).unwrap();
    let build = "shared, pure wrappers".to_owned();
    assert_eq!(plan.completeness, Completeness { complete: true, reason: build.clone(), build });
    for (name, a, b) in [
        ("PyObject_Malloc+6", Rdi, Rdi),
        ("PyObject_Calloc+3", Rdi, Rsi),
        ("PyObject_Realloc+6", Rdi, Rsi),
        ("PyMem_Malloc+6", Rdi, Rdi),
        ("PyMem_RawMalloc+6", Rdi, Rdi),
        ("PyLong_FromLong+0", Rdi, Rdi),
        ("malloc+0", Rdi, Rdi),
        ("calloc+0", Rdi, Rsi),
        ("posix_memalign+7", Rdi, Rdx),
    ] {
        let entry = point(&plan, name, false);
        assert_eq!(
            (entry.hook.a, entry.hook.b, entry.hook.pushed_words, entry.emulated),
            (a, b, 0, true),
            "{name}"
        );
        assert_eq!(point(&plan, name, true).vaddr, entry.vaddr);
    }
    // `object` and `mem` share one function; the pointer is its second argument.
    let shared = point(&plan, "_PyObject_Free+3", false);
    assert_eq!((shared.hook.a, shared.hook.domain, shared.emulated), (Rsi, Domain::Object, true));
    let raw = point(&plan, "_PyMem_RawFree+3", false);
    assert_eq!((raw.hook.a, raw.hook.domain, raw.emulated), (Rsi, Domain::Raw, true));
    assert!(point(&plan, "Py_FinalizeEx+0", false).emulated);
    assert!(plan.points.iter().all(|point| point.emulated && point.predicted_ns() <= 1_130));
    for point in plan.points.iter().filter(|point| point.hook.domain != Domain::Libc) {
        let slot = point.vaddr.wrapping_add_signed(i64::from(point.hook.tstate_delta));
        assert_eq!(Some(slot), python.tstate_slot_vaddr());
        assert_eq!(point.file_offset, point.vaddr, "this file's code lies at its own addresses");
    }
    let mut places: Vec<_> =
        plan.points.iter().map(|point| (&point.file, point.file_offset, point.returns)).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), plan.points.len());
}

#[test]
fn a_shared_free_serves_only_those_who_chose_all_that_use_it() {
    let Some(path) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let (script, _, python) = started(&path, &[]);
    let memory = Memory::new(script.pid());
    let object = plan(&python, Some(&memory), &[Domain::Object], false, None).unwrap();
    assert!(!point(&object, "PyObject_Free+0", false).emulated);
    assert!(
        object
            .points
            .iter()
            .all(|point| !point.name.starts_with("PyLong") && !point.name.starts_with("PyMem"))
    );
    // The same interpreter before it has started: the table comes from the file.
    let cold = Python::of_file(&path, &[]).unwrap();
    let before = plan(&cold, None, &PYTHON, false, None).unwrap();
    let after = plan(&python, Some(&memory), &PYTHON, false, None).unwrap();
    assert!(before.points.iter().all(|point| point.emulated) && before.completeness == after.completeness);
    let places = |plan: &HookPlan| {
        plan.points.iter().map(|point| (point.name.clone(), point.vaddr)).collect::<Vec<_>>()
    };
    assert_eq!(places(&before), places(&after));
    assert!(cold.libraries.iter().any(|path| path.ends_with("libc.so.6")));
    assert!(Image::allocator_among(&cold.libraries).unwrap().elf.symbol("malloc").is_some());
}

#[test]
fn what_stands_between_wrapper_and_allocator_is_named() {
    let Some(path) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    for (environment, note) in [
        (("PYTHONMALLOC", "debug"), "debug hooks"),
        (("PYTHONMALLOC", "malloc"), "C library"),
        (("PYTHONTRACEMALLOC", "1"), "tracemalloc"),
    ] {
        let (script, _, python) = started(&path, &[environment]);
        let memory = Memory::new(script.pid());
        let plan = plan(&python, Some(&memory), &PYTHON, false, None).unwrap();
        assert!(
            plan.completeness.complete && plan.completeness.reason.contains(note),
            "{:?}",
            plan.completeness
        );
        let frees: Vec<&str> = plan
            .points
            .iter()
            .filter(|point| point.hook.role == Role::Free)
            .map(|point| point.name.as_str())
            .collect();
        match environment.1 {
            "malloc" => assert_eq!(frees, ["_PyMem_RawFree+3"]),
            _ => assert_eq!(frees, ["PyObject_Free+0", "PyMem_Free+0", "PyMem_RawFree+0"]),
        }
    }
}

#[test]
fn an_optimised_build_is_known_to_be_incomplete() {
    let Some(path) = fixture::debian() else { return eprintln!("skipped: no /usr/bin/python3.11") };
    let (script, _, python) = started(&path, &[]);
    let memory = Memory::new(script.pid());
    let begin = std::time::Instant::now();
    let plan = plan(&python, Some(&memory), &PYTHON, true, None).unwrap();
    eprintln!("planned in {:?}: {}", begin.elapsed(), plan.completeness.reason);
    assert!(!plan.completeness.complete && plan.completeness.reason.contains("PGO/LTO"));
    assert_eq!(plan.completeness.build, "static, inlined allocator");
    assert!(!plan.completeness.reason.contains('\n'));
    for point in plan.points.iter().filter(|point| point.returns) {
        assert_eq!(point.hook.pushed_words, 0);
    }
}
