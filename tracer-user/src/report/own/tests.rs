//! Which frame an operator should look at, for each way in which C code comes into a Python process.

use proptest::prelude::*;

use super::*;
use crate::report::fixture;
use crate::symbol::FramePlace;

const SHARED: Program<'static> = Program { interpreter: Some("libpython3.11.so.1.0") };

fn native(function: &str, module: &str) -> Frame {
    Frame {
        kind: FrameKind::Native,
        function: function.to_owned(),
        file: None,
        line: None,
        module: Some(module.to_owned()),
        inlined: false,
        place: None,
        unnamed: None,
    }
}

fn at(file: &str, line: u32, frame: Frame) -> Frame {
    Frame { file: Some(file.to_owned()), line: Some(line), ..frame }
}

fn python(function: &str) -> Frame {
    fixture::python(function, "/app/app.py", 12)
}

/// The function that the arrow points at.
fn pointed<'a>(program: Program<'_>, stack: &'a [Frame]) -> &'a str {
    &stack[program.leaking(stack).unwrap()].function
}

#[test]
fn an_extension_is_pointed_at_behind_the_interpreter() {
    let lib = "libpython3.11.so.1.0";
    let stack = [
        at("Objects/longobject.c", 212, native("PyLong_FromLong", lib)),
        at("cPyRefs.c", 149, native("leak_new_reference", "cPyRefs.cpython-311-x86_64-linux-gnu.so")),
        at("Objects/methodobject.c", 52, native("cfunction_vectorcall_NOARGS", lib)),
        python("handler"),
    ];
    assert_eq!(pointed(SHARED, &stack), "leak_new_reference");
}

#[test]
fn a_stripped_extension_leaks_too() {
    let stack = [
        native("PyDict_New", "python3.11"),
        native("<fast.so+0x1234>", "fast.so"),
        native("<python3.11+0x99>", "python3.11"),
        python("handler"),
    ];
    assert_eq!(pointed(Program { interpreter: Some("python3.11") }, &stack), "<fast.so+0x1234>");
    assert_eq!(pointed(Program { interpreter: None }, &stack), "<fast.so+0x1234>");
}

#[test]
fn builtins_and_the_standard_library_give_way_to_the_python_line() {
    let lib = "libpython3.11.so.1.0";
    let builtin = [native("list_append", lib), native("cfunction_call", lib), python("handler")];
    assert_eq!(pointed(SHARED, &builtin), "handler");
    for module in [
        "_json.cpython-311-x86_64-linux-gnu.so",
        "_pickle.cpython-311-x86_64-linux-gnu.so",
        "array.cpython-311-x86_64-linux-gnu.so",
        "/usr/lib/python3.11/lib-dynload/_anything.cpython-311-x86_64-linux-gnu.so",
    ] {
        let stack = [native("PyUnicode_New", lib), native("scanstring_unicode", module), python("handler")];
        assert_eq!(pointed(SHARED, &stack), "handler", "{module}");
    }
}

#[test]
fn names_like_the_interpreters_are_not_the_interpreter() {
    for module in [
        "python_magic.so",
        "pythonize.cpython-311-x86_64-linux-gnu.so",
        "libpythonic.so",
        "libc-client.so.2007",
        "libcrypto.so.3",
        "_jsonnet.cpython-311-x86_64-linux-gnu.so",
        "/app/site-packages/pysqlite3/_sqlite3.cpython-311-x86_64-linux-gnu.so",
        "uwsgi",
        "",
    ] {
        assert!(!SHARED.is_own(&native("f", module)), "{module}");
    }
}

/// Where the path is known, it decides: a package may bring its own `_sqlite3`.
#[test]
fn a_path_says_more_than_a_name() {
    let module = "_sqlite3.cpython-311-x86_64-linux-gnu.so";
    let lies_in = |folder: &str| {
        let path = format!("{folder}/{module}");
        let place = FramePlace { path, offset: 0x10, vaddr: 0x10, build_id: None };
        SHARED.is_own(&Frame { place: Some(place), ..native("connect", module) })
    };
    assert!(lies_in("/usr/lib/python3.11/lib-dynload"));
    assert!(!lies_in("/app/site-packages/pysqlite3"));
}

#[test]
fn the_platform_serves() {
    for module in [
        "libpython3.11.so.1.0",
        "libpython3.11.so.1.0 (deleted)",
        "/opt/python/lib/libpython3.so",
        "python3.11",
        "/usr/bin/python3.11-dbg",
        "python",
        "libc.so.6",
        "libc-2.31.so",
        "libc.musl-x86_64.so.1",
        "ld-linux-x86-64.so.2",
        "ld-2.31.so",
        "libstdc++.so.6.0.30",
        "libgcc_s.so.1",
        "libgomp-a34b3233.so.1.0.0",
        "libjemalloc.so.2",
        "libtcmalloc_minimal.so.4",
        "libmimalloc.so.2.1",
        "[vdso]",
    ] {
        assert!(SHARED.is_own(&native("f", module)), "{module}");
    }
}

/// What a C++ or Rust library does in headers belongs to the extension's file, and still is nobody's leak.
#[test]
fn inlined_runtimes_give_way_to_their_callers() {
    let module = "engine.cpython-311-x86_64-linux-gnu.so";
    let inlined =
        |file: &str, function: &str| Frame { inlined: true, ..at(file, 7, native(function, module)) };
    let stack = [
        native("operator new(unsigned long)", "libstdc++.so.6"),
        inlined("/usr/include/c++/12/bits/new_allocator.h", "std::__new_allocator<int>::allocate"),
        inlined("/usr/include/c++/12/bits/stl_vector.h", "std::vector<int>::push_back"),
        at("engine.cpp", 40, native("Engine::grow(int)", module)),
        python("handler"),
    ];
    assert_eq!(pointed(SHARED, &stack), "Engine::grow(int)");
    for runtime in [
        "operator new[](unsigned long)",
        "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int>(int&&)",
        "__rust_alloc",
        "alloc::raw_vec::RawVec<T,A>::reserve",
        "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
    ] {
        assert!(SHARED.is_own(&native(runtime, module)), "{runtime}");
    }
    for own in [
        "std::vector<int, std::allocator<int> > make<int>(int)",
        "(anonymous namespace)::grow(std::string)",
        "core::Engine::grow()",
        "grow(std::vector<int>)",
        "operator<<(std::ostream&, Engine)",
        "<engine.so+0x10>",
        "",
    ] {
        assert!(!SHARED.is_own(&native(own, module)), "{own}");
    }
    let rust = at(
        "/rustc/4d91de4e48198da2e33413efdcd9cd2cc0c46688/library/core/src/ops/function.rs",
        250,
        native("call", module),
    );
    assert!(SHARED.is_own(&rust));
}

/// A program with CPython in it, under a name of its own.
#[test]
fn a_host_with_a_built_in_interpreter() {
    let host = Program { interpreter: Some("blender") };
    let stack = |leak: Frame| {
        [
            native("PyList_New", "blender"),
            at("../Objects/listobject.c", 9, native("list_new", "blender")),
            leak,
            python("tick"),
        ]
    };
    let known = stack(at("source/blender/python/bpy_rna.c", 99, native("bpy_make", "blender")));
    assert_eq!(pointed(host, &known), "bpy_make");
    let stripped = stack(native("<blender+0x77>", "blender"));
    assert_eq!(pointed(host, &stripped), "tick", "CPython's own statics look just so");
    assert_eq!(
        pointed(Program { interpreter: None }, &stripped),
        "PyList_New",
        "an old capture does not say"
    );
}

#[test]
fn code_of_no_file_is_pointed_at_only_if_there_is_nothing_else() {
    let made = Frame { module: None, ..native("<0x7f0012345678>", "") };
    assert_eq!(pointed(SHARED, &[made.clone(), python("handler")]), "handler");
    assert_eq!(pointed(SHARED, &[made.clone(), native("write", "libc.so.6")]), "<0x7f0012345678>");
    assert!(!SHARED.is_own(&made), "it is not the interpreter's either");
    assert_eq!(SHARED.leaking(&[]), None);
}

#[test]
fn a_thread_of_c_code_points_at_its_own_function() {
    let stack = [
        native("PyMem_RawMalloc", "libpython3.11.so.1.0"),
        native("worker", "queue.so"),
        native("start_thread", "libc.so.6"),
    ];
    assert_eq!(pointed(SHARED, &stack), "worker");
    assert_eq!(pointed(SHARED, &stack[..1]), "PyMem_RawMalloc");
}

#[test]
fn the_tables_are_sorted() {
    assert!(STANDARD.is_sorted());
    assert!(PLATFORM.is_sorted());
}

proptest! {
    /// Names come from the target: any text will do.
    #[test]
    fn any_name_is_somebodys(function in "[ a-z<>():&*,~ü]{0,40}|\\PC{0,40}", module in "\\PC{0,30}", file in proptest::option::of("\\PC{0,30}")) {
        let frame = Frame { file, ..native(&function, &module) };
        let stack = [frame, python("f")];
        prop_assert!(SHARED.leaking(&stack).is_some());
        prop_assert!(function.contains(qualified(&function)));
    }
}
