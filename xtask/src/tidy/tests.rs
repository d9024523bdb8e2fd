//! A violating snippet for every rule, beside one that keeps it.

use super::source::Source;
use super::{Finding, doors, readme, rooms, size, words};

/// The lines on which a rule finds something.
fn lines(rule: fn(&Source) -> Vec<Finding>, file: &str, text: &str) -> Vec<usize> {
    rule(&Source::new(file, text)).iter().map(|finding| finding.line).collect()
}

fn none() -> Vec<usize> {
    Vec::new()
}

#[test]
fn long_files_are_warned_of_then_refused() {
    assert_eq!(size::file("a.rs", &"x\n".repeat(400)), []);
    assert!(size::file("a.rs", &"x\n".repeat(401))[0].warning);
    assert!(size::file("a.rs", &"x\n".repeat(600))[0].warning);
    assert!(!size::file("a.rs", &"x\n".repeat(601))[0].warning);
}

#[test]
fn long_functions_are_refused_and_tests_have_more_room() {
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(lines(size::functions, "a.rs", &function(70)), none());
    assert_eq!(lines(size::functions, "a.rs", &function(71)), [1]);
    let tests = |lines| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(lines));
    assert_eq!(lines(size::functions, "a.rs", &tests(120)), none());
    assert_eq!(lines(size::functions, "a.rs", &tests(121)), [3]);
    assert_eq!(lines(size::functions, "tests/e2e/a.rs", &function(120)), none());
}

#[test]
fn braces_in_literals_and_signatures_do_not_confuse_the_count() {
    let calls = "    g();\n".repeat(69);
    let text =
        format!("fn f(a: [u8; 4], b: &'a str) {{\n    let s = (\"}}\", '}}', r#\"}}\"#); // }}\n{calls}}}\n");
    assert_eq!(lines(size::functions, "a.rs", &text), [1]);
    let declared =
        format!("trait T {{\n    fn f(&self, a: [u8; 4]);\n{}}}\n", "    const X: u8;\n".repeat(90));
    assert_eq!(lines(size::functions, "a.rs", &declared), none());
    assert_eq!(lines(size::functions, "a.rs", &format!("type F = fn (u8);\n{calls}{calls}")), none());
}

#[test]
fn modules_begin_with_their_purpose() {
    assert_eq!(lines(words::module_docs, "a.rs", "\n//! What it is for.\nuse a;\n"), none());
    assert_eq!(lines(words::module_docs, "a.rs", "// Not a doc.\nuse a;\n"), [1]);
    assert_eq!(lines(words::module_docs, "a.rs", "use a;\n//! Too late.\n"), [1]);
}

#[test]
fn unsafe_needs_its_reason_right_before_it() {
    let bare = "fn f() {\n    let a = unsafe { g() };\n}\n";
    assert_eq!(lines(words::safety, "a.rs", bare), [2]);
    assert_eq!(lines(words::safety, "a.rs", "unsafe impl Send for A {}\n"), [1]);
    assert_eq!(lines(words::safety, "a.rs", "let a =\n    unsafe\n    { g() };\n"), [2]);
    let far = "// SAFETY: about h.\nh();\nlet a = unsafe { g() };\n";
    assert_eq!(lines(words::safety, "a.rs", far), [3]);
}

#[test]
fn unsafe_with_its_reason_passes() {
    let explained = "// SAFETY: g is sound,\n// as its doc says.\n#[cold]\nlet a = unsafe { g() };\n";
    assert_eq!(lines(words::safety, "a.rs", explained), none());
    let continued = "// SAFETY: g is sound.\nlet a: u8 =\n    unsafe { g() };\n";
    assert_eq!(lines(words::safety, "a.rs", continued), none());
    assert_eq!(
        lines(words::safety, "a.rs", "// unsafe { }\nlet s = \"unsafe {\";\nunsafe fn f() {}\n"),
        none()
    );
}

#[test]
fn shortcuts_are_refused_in_code_only() {
    for text in ["#[allow(dead_code)]", "#![allow(x)]", "todo!()", "unimplemented!()", "dbg!(a)", "#[ignore]"]
    {
        assert_eq!(lines(words::banned, "a.rs", text), [1], "{text}");
    }
    assert_eq!(lines(words::banned, "a.rs", "#[cfg_attr(test, allow(x))]"), [1]);
    assert_eq!(
        lines(words::banned, "a.rs", "// todo!()\nlet a = \"dbg!\";\n#[expect(x, reason = \"y\")]"),
        none()
    );
}

#[test]
fn only_main_exits() {
    assert_eq!(lines(words::banned, "tracer-user/src/cli/mod.rs", "std::process::exit(1);"), [1]);
    assert_eq!(lines(words::banned, "tracer-user/src/main.rs", "std::process::exit(1);"), none());
}

#[test]
fn every_dependency_has_its_door() {
    for (krate, inside) in [
        ("aya", "probe/load.rs"),
        ("aya", "drain/blocks.rs"),
        ("aya_obj", "probe/load.rs"),
        ("aya_log", "probe/load.rs"),
        ("blazesym", "symbol/native.rs"),
        ("hdrhistogram", "heap/spread.rs"),
        ("tokio", "main.rs"),
        ("tokio", "session.rs"),
        ("tokio", "drain/ring.rs"),
        ("serde_json", "report/json.rs"),
        ("inferno", "report/flame.rs"),
        ("iced_x86", "probe/sites.rs"),
    ] {
        let text = format!("use {krate}::Thing;\n");
        assert_eq!(lines(doors::doors, &format!("tracer-user/src/{inside}"), &text), none(), "{krate}");
        assert_eq!(lines(doors::doors, "tracer-user/src/target/mod.rs", &text), [1], "{krate}");
    }
}

#[test]
fn doors_are_found_in_groups_and_expressions_but_not_in_tests() {
    let file = "tracer-user/src/heap/site.rs";
    assert_eq!(lines(doors::doors, file, "fn f() {\n    let a = tokio::spawn(g());\n}\n"), [2]);
    assert_eq!(
        lines(doors::doors, file, "use {\n    std::fmt,\n};\nuse serde_json::{\n    Value,\n};\n"),
        [5]
    );
    assert_eq!(lines(doors::doors, file, "let aya = 1;\nuse aya_ebpf::A;\nuse crate::aya::B;\n"), none());
    assert_eq!(
        lines(doors::doors, file, "#[cfg(test)]\nmod tests {\n    use serde_json::Value;\n}\n"),
        none()
    );
}

#[test]
fn pure_modules_have_no_clock_and_no_files() {
    for text in [
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "use std::time::{Duration, Instant};",
        "std::fs::read(p);",
    ] {
        for file in ["heap/site.rs", "report/table.rs", "symbol/lines.rs", "symbol/splice.rs"] {
            assert_eq!(
                lines(doors::doors, &format!("tracer-user/src/{file}"), text),
                [1],
                "{text} in {file}"
            );
        }
        assert_eq!(lines(doors::doors, "tracer-user/src/session.rs", text), none());
    }
    let tests = "#[cfg(test)]\nuse std::fs;\nfn f(d: std::time::Duration) {}\n";
    assert_eq!(lines(doors::doors, "tracer-user/src/heap/site.rs", tests), none());
}

#[test]
fn imports_go_one_way() {
    for (file, bad) in [
        ("heap/site.rs", "crate::error::Error"),
        ("report/json.rs", "crate::target::Process"),
        ("report/json.rs", "crate::{heap::Site, drain::Ring}"),
        ("drain/ring.rs", "crate::symbol::Frame"),
        ("kernel.rs", "crate::probe::load::Probes"),
        ("symbol/code.rs", "crate::drain::Ring"),
        ("probe/load.rs", "crate::symbol::Frame"),
        ("target/elf.rs", "crate::session::Session"),
        ("probe/load.rs", "crate::cli::plan::Plan"),
        ("probe/load.rs", "super::super::heap::Site"),
        ("error.rs", "crate::heap::Site"),
    ] {
        let found = lines(rooms::rooms, &format!("tracer-user/src/{file}"), &format!("use {bad};\n"));
        assert_eq!(found, [1], "{file}: {bad}");
    }
}

#[test]
fn imports_the_right_way_pass() {
    for (file, good) in [
        ("heap/site.rs", "tracer_common::site::SiteTotals"),
        ("heap/site.rs", "crate::heap::snapshot::Books"),
        ("heap/site.rs", "super::snapshot::Books"),
        ("report/json.rs", "crate::{heap::Site, symbol::Frame, error::Result}"),
        ("drain/ring.rs", "crate::heap::snapshot::Books"),
        ("drain/books.rs", "crate::probe::load::Probes"),
        ("probe/multi.rs", "crate::kernel::Loaded"),
        ("symbol/code.rs", "crate::target::memory::Memory"),
        ("session.rs", "crate::{cli::plan::Plan, target, probe, drain, heap, symbol, report}"),
        ("cli/mod.rs", "crate::session::run"),
    ] {
        let found = lines(rooms::rooms, &format!("tracer-user/src/{file}"), &format!("use {good};\n"));
        assert_eq!(found, none(), "{file}: {good}");
    }
}

#[test]
fn the_readme_lists_losses_and_dependencies() {
    let losses = "losses! {\n    RingFull = 6, \"ring_full\", \"stacks\";\n    A = 7, \"ring\", \"x\";\n}\n";
    let manifest = "[workspace.dependencies]\ntracer-common = { path = \"x\" }\n# why\naya = \"1\"\naya-log = \"1\"\n\n[profile.dev]\nx = 1\n";
    let readme = "ring in prose\n| `ring_full` | stacks |\n| [`aya-log`](x) | logs |\n";
    let found: Vec<String> =
        readme::losses(readme, losses).into_iter().map(|finding| finding.message).collect();
    assert_eq!(found, ["no table row names the loss `ring` of tracer-common/src/loss.rs"]);
    let found: Vec<String> = readme::dependencies(readme, manifest).into_iter().map(|f| f.message).collect();
    assert_eq!(found, ["no table row names the dependency `aya` of Cargo.toml"]);
}
