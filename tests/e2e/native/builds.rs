//! Extensions as they are on people's machines: their lines are told wherever their debug information is, and where there is none, what can be
//! known is right.

use std::path::Path;

use unshed_tests::harness::{Build, DebugInfo, build_extension, debug_file, install, named_by_offset};
use unshed_tests::interpreters::{Interpreter, on_each, supported};
use unshed_tests::stacks::{Native, Row, assert_told};

use super::{Case, assert_whole, usual};

/// Asserts that `c_leaks.py` is told with all its lines, its extension built so.
fn told(build: Build) {
    on_each(|interpreter| drop(case(interpreter, build).assert_told_whole()));
}

fn case(interpreter: &Interpreter, build: Build) -> Case<'_> {
    Case { build, ..usual(interpreter, Native::Full) }
}

fn assert_stripped(folder: &Path) {
    let size = |file: &Path| std::fs::metadata(file).map_or(0, |facts| facts.len());
    let (module, whole) = (folder.join("leaks.so"), folder.join("whole/leaks.so"));
    assert!(size(&module) * 2 < size(&whole), "{} is not stripped", module.display());
}

#[test]
fn a_debug_file_beside_it() {
    told(Build::stripped(DebugInfo::Beside));
}

/// Then only the checksum in the debug link tells whether the file is the right one.
#[test]
fn a_debug_file_beside_it_without_a_build_id() {
    let flags: &[&str] = &["-O2", "-g", "-Wl,--build-id=none"];
    told(Build { flags, debug: DebugInfo::Beside });
}

#[test]
fn a_debug_file_in_a_folder_beside_it() {
    told(Build::stripped(DebugInfo::InFolder));
}

#[test]
fn a_debug_file_of_the_system_found_by_build_id() {
    on_each(|interpreter| {
        let build = Build::stripped(DebugInfo::Elsewhere);
        let folder = build_extension(interpreter, "leaks.c", build);
        assert!(debug_file(&folder, "leaks.c").exists(), "{} has no debug file", folder.display());
        let _installed = install(&folder, "leaks.c");
        drop(case(interpreter, build).assert_told_whole());
    });
}

/// The code's own address is not its offset in the file here, so that the one cannot be taken for the other.
#[test]
fn without_any_symbols_offsets_and_python_lines_are_right() {
    on_each(|interpreter| {
        let flags: &[&str] = &["-O2", "-g", "-Wl,-Ttext-segment=0x200000"];
        let build = Build { flags, debug: DebugInfo::Nowhere };
        let folder = build_extension(interpreter, "leaks.c", build);
        assert_stripped(&folder);
        let (output, truth) = case(interpreter, build).told("go", &[]);
        let report = output.report();
        assert_told(&Row::all(&truth), &named_by_offset(&report, &folder, "leaks.c"), Native::Full);
        assert_whole(&report);
    });
}

#[test]
fn with_frame_pointers() {
    told(Build::with(&["-O2", "-g", "-fno-omit-frame-pointer"]));
}

#[test]
fn not_optimised() {
    told(Build::with(&["-O0", "-g"]));
}

#[test]
fn with_and_without_control_flow_protection() {
    told(Build::with(&["-O2", "-g", "-fcf-protection=full"]));
    told(Build::with(&["-O3", "-g", "-fcf-protection=none"]));
}

/// Older compilers, and other linkers' layout: rows in `.debug_frame` only, code and data in one segment, DWARF 4.
#[test]
fn rows_in_debug_frame_only() {
    told(Build::with(&[
        "-O2",
        "-g",
        "-gdwarf-4",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-Wl,-z,noseparate-code",
    ]));
}

/// What distributions and projects choose besides.
#[test]
fn with_other_flags() {
    let flags: [&[&str]; 5] = [
        &["-Os", "-g", "-fno-plt"],
        &["-O2", "-g", "-gz"],
        &["-O2", "-g", "-flto"],
        &["-O2", "-g", "-Wl,--no-eh-frame-hdr", "-Wl,-z,noseparate-code"],
        &["-O3", "-g", "-fuse-ld=gold", "-ffunction-sections", "-fstack-clash-protection"],
    ];
    for (number, flags) in flags.into_iter().enumerate() {
        let interpreter = &supported()[number % supported().len()];
        drop(case(interpreter, Build::with(flags)).assert_told_whole());
    }
}

#[test]
fn of_cpp() {
    on_each(|interpreter| {
        for native in [Native::Leaf, Native::Full] {
            let case = Case { program: "cpp_leaks.py", ..usual(interpreter, native) };
            drop(case.assert_told_whole());
        }
    });
}
