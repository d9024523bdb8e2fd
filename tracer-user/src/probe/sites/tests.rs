//! The planner on assembled snippets and on the interpreters of this machine.

use super::*;
use crate::target::fixture::{self, Script};
use crate::target::process::Process;
use Register::{Rbx, Rdi, Rdx, Rsi};
use tracer_common::hook::SizeFrom;

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

fn wish<'a>(live: Option<&'a Process>, domains: &'a [Domain], how: How) -> Wish<'a> {
    Wish { live, domains, ints: false, libc: None, how, purpose: Purpose::Trace }
}

fn no_place_twice(plan: &HookPlan) {
    let key = |point: &Point| (point.file.clone(), point.file_offset, point.returns, point.hook.role);
    let mut places: Vec<_> = plan.points.iter().map(key).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), plan.points.len());
}

/// What holds for every plan by sites, whatever the build.
fn sees_everything(python: &Python, plan: &HookPlan) {
    assert!(plan.completeness.complete, "{}", plan.completeness.reason);
    assert_eq!(plan.counts.allocs, plan.counts.slow_calls);
    assert_eq!(plan.slow_calls.len(), plan.counts.slow_calls as usize);
    let of = |role: Role| plan.points.iter().filter(move |point| point.hook.role == role as u8);
    assert_eq!(of(Role::FastAlloc).count(), plan.counts.allocs as usize);
    assert_eq!(of(Role::FastFree).count(), plan.counts.frees as usize);
    assert_eq!(of(Role::NewPool).count(), 1);
    assert_eq!(of(Role::Finalize).count(), 1);
    assert!(plan.points.iter().all(|point| point.emulated && point.predicted_ns() <= 1_130));
    // A return probe is only where the stack pointer points at the return address.
    for point in plan.points.iter().filter(|point| point.returns) {
        let returns = [Role::Return as u8, Role::NewPoolReturn as u8];
        assert!(returns.contains(&point.hook.role) && point.hook.entry_words == 0);
    }
    for point in &plan.points {
        let runtime = point.vaddr.wrapping_add_signed(i64::from(point.hook.runtime_delta));
        // A return tells nothing: its instruction is wherever the function was called.
        assert_eq!(runtime, if point.returns { point.vaddr } else { python.runtime_vaddr });
    }
    no_place_twice(plan);
}

#[test]
fn a_build_that_calls_its_allocator_is_hooked_at_four_places() {
    let Some(path) = fixture::shared() else { panic!("these tests need a pyenv CPython 3.11") };
    let (_script, process, python) = started(&path, &[]);
    let plan = plan(&python, &wish(Some(&process), &PYTHON, How::Sites)).unwrap();
    sees_everything(&python, &plan);
    // malloc, calloc, realloc; free.
    assert_eq!((plan.counts.allocs, plan.counts.frees), (3, 1));
    assert!(plan.completeness.build.contains("shared, allocator called"), "{}", plan.completeness.build);
    let allocs: Vec<&Point> =
        plan.points.iter().filter(|point| point.hook.role == Role::FastAlloc as u8).collect();
    assert!(
        allocs.iter().all(|point| point.name.starts_with("_PyObject_") && point.hook.size_from == 0),
        "{allocs:#?}"
    );
    // Who asks is who called the allocator, not the allocator.
    assert!(allocs.iter().all(|point| point.hook.caller_from == CallerFrom::Stack as u8));
}

#[test]
fn an_optimised_build_is_hooked_wherever_the_allocator_was_inlined() {
    let Some(path) = fixture::debian() else { panic!("these tests need /usr/bin/python3.11") };
    let (_script, process, python) = started(&path, &[]);
    let begin = std::time::Instant::now();
    let plan = plan(&python, &wish(Some(&process), &PYTHON, How::Sites)).unwrap();
    eprintln!("planned in {:?}: {}", begin.elapsed(), plan.completeness.reason);
    sees_everything(&python, &plan);
    assert!(plan.counts.allocs > 100 && plan.counts.frees > 30, "{:?}", plan.counts);
    assert_eq!(plan.completeness.build, "static, inlined allocator");
    // Both kinds of askers, both outer domains, all ways to know a size.
    let some = |test: &dyn Fn(&Hook) -> bool| {
        plan.points.iter().any(|point| point.hook.role == Role::FastAlloc as u8 && test(&point.hook))
    };
    for caller in [CallerFrom::Here, CallerFrom::Stack] {
        assert!(some(&|hook| hook.caller_from == caller as u8));
    }
    for domain in [Domain::Object, Domain::Mem] {
        assert!(some(&|hook| hook.domain() == domain));
    }
    for size in [SizeFrom::Register, SizeFrom::Constant, SizeFrom::Pool] {
        assert!(some(&|hook| hook.size_from == size as u8));
    }
}

#[test]
fn a_program_that_has_not_started_gets_the_same_plan() {
    for path in [fixture::shared(), fixture::debian()].into_iter().flatten() {
        let (_script, process, python) = started(&path, &[]);
        let cold = Python::of_file(&path, &[]).unwrap();
        let before = plan(&cold, &wish(None, &PYTHON, How::Sites)).unwrap();
        let after = plan(&python, &wish(Some(&process), &PYTHON, How::Sites)).unwrap();
        assert_eq!(before.completeness, after.completeness);
        let places = |plan: &HookPlan| {
            plan.points.iter().map(|point| (point.name.clone(), point.vaddr, point.hook)).collect::<Vec<_>>()
        };
        assert_eq!(places(&before), places(&after));
    }
}

#[test]
fn functions_are_hooked_at_a_cheap_place() {
    let Some(path) = fixture::shared() else { panic!("these tests need a pyenv CPython 3.11") };
    let (_script, process, python) = started(&path, &[]);
    let libc = Image::allocator_of(&process).unwrap();
    let wish = Wish { libc: Some(&libc), ints: true, ..wish(Some(&process), &Domain::ALL, How::Functions) };
    let plan = plan(&python, &wish).unwrap();
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
        let expected = (a as u8, b as u8, 0, true);
        assert_eq!((entry.hook.a, entry.hook.b, entry.hook.entry_words, entry.emulated), expected, "{name}");
        assert_eq!(point(&plan, name, true).vaddr, entry.vaddr);
    }
    // `object` and `mem` share one function; the pointer is its second argument.
    let shared = point(&plan, "_PyObject_Free+3", false);
    assert_eq!((shared.hook.a, shared.hook.domain(), shared.emulated), (Rsi as u8, Domain::Object, true));
    let raw = point(&plan, "_PyMem_RawFree+3", false);
    assert_eq!((raw.hook.a, raw.hook.domain(), raw.emulated), (Rsi as u8, Domain::Raw, true));
    assert!(point(&plan, "Py_FinalizeEx+0", false).emulated);
    assert!(plan.points.iter().all(|point| point.emulated && point.predicted_ns() <= 1_130));
    no_place_twice(&plan);
}

#[test]
fn who_wants_one_domain_of_a_shared_function_gets_its_wrapper() {
    let Some(path) = fixture::shared() else { panic!("these tests need a pyenv CPython 3.11") };
    let (_script, process, python) = started(&path, &[]);
    let plan = plan(&python, &wish(Some(&process), &[Domain::Object], How::Sites)).unwrap();
    assert!(!point(&plan, "PyObject_Free+0", false).emulated);
    let others = |point: &Point| point.name.starts_with("PyLong") || point.name.starts_with("PyMem");
    assert!(!plan.points.iter().any(others) && plan.completeness.complete);
}

#[test]
fn naive_hooks_are_where_everybody_puts_them() {
    let Some(path) = fixture::shared() else { panic!("these tests need a pyenv CPython 3.11") };
    let (_script, process, python) = started(&path, &[]);
    let plan = plan(&python, &wish(Some(&process), &PYTHON, How::Naive)).unwrap();
    assert!(
        !point(&plan, "PyObject_Malloc+0", false).emulated
            && !point(&plan, "PyObject_Free+0", false).emulated
    );
}

#[test]
fn the_loader_lists_the_libraries_of_a_cold_program() {
    let Some(path) = fixture::shared() else { panic!("these tests need a pyenv CPython 3.11") };
    let cold = Python::of_file(&path, &[]).unwrap();
    assert!(cold.libraries.iter().any(|library| library.path.ends_with("libc.so.6")));
    assert!(Image::allocator_among(&cold.libraries).unwrap().elf.symbol("malloc").is_some());
}

#[test]
fn what_stands_before_the_allocator_is_named_and_hooked() {
    for path in [fixture::shared(), fixture::debian()].into_iter().flatten() {
        for (environment, note, servers) in [
            (("PYTHONMALLOC", "debug"), "debug hooks", true),
            (("PYTHONMALLOC", "malloc"), "C library", false),
            (("PYTHONTRACEMALLOC", "1"), "tracemalloc", true),
        ] {
            let (_script, process, python) = started(&path, &[environment]);
            let plan = plan(&python, &wish(Some(&process), &PYTHON, How::Sites)).unwrap();
            assert!(plan.completeness.complete, "{}", plan.completeness.reason);
            assert!(plan.completeness.reason.contains(note), "{}", plan.completeness.reason);
            let object = plan.table.of(Domain::Object).unwrap();
            let hooked = |vaddr: u64| {
                plan.points.iter().any(|point| !point.returns && (vaddr..vaddr + 32).contains(&point.vaddr))
            };
            // The C library's allocator is called from the function itself.
            assert!(object.functions.iter().all(|function| hooked(*function)) || !servers, "{object:#x?}");
        }
    }
}

#[test]
fn samples_see_births_out_of_freelists() {
    for (path, places, hooked) in [(fixture::shared(), 60..80, 20..32), (fixture::debian(), 250..290, 50..80)]
    {
        let Some(path) = path else {
            panic!("these tests need a pyenv CPython 3.11 and /usr/bin/python3.11")
        };
        let (_script, process, python) = started(&path, &[]);
        let wish = Wish { purpose: Purpose::Sample, ..wish(Some(&process), &PYTHON, How::Sites) };
        let plan = plan(&python, &wish).unwrap();
        let births: Vec<&Point> =
            plan.points.iter().filter(|point| point.hook.role == Role::Birth as u8).collect();
        assert!(births.iter().all(|point| point.emulated && !point.returns), "{births:#?}");
        assert_eq!((births.len(), plan.births.lost), (plan.births.hooked as usize, 0));
        assert!(
            places.contains(&plan.births.places) && hooked.contains(&plan.births.hooked),
            "{:?}",
            plan.births
        );
        let name = |function: &str| births.iter().any(|point| point.name.starts_with(function));
        assert!(name("PyFloat_FromDouble+") && name("PyList_New+") && name("PyDict_New+"), "{births:#?}");
        no_place_twice(&plan);
        println!("{} points: {:?}", plan.points.len(), plan.births);
        // Who traces has no use for them.
        let traced = super::plan(&python, &Wish { purpose: Purpose::Trace, ..wish }).unwrap();
        assert_eq!(traced.births, BirthCounts::default());
        assert!(traced.points.iter().all(|point| point.hook.role != Role::Birth as u8));
    }
}
