//! Which room of the loader may import which: the data goes one way (DESIGN §1).

use super::Finding;
use super::paths;
use super::source::Source;

/// A room, and the rooms it may name besides itself. Rooms that are not listed are free: `cli` and `session` drive all.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("error", &[]),
    ("target", &["error"]),
    ("kernel", &["error"]),
    ("unwind", &["target", "error"]),
    ("probe", &["target", "kernel", "unwind", "error"]),
    // The maps are read where `probe` keeps them: in the loaded object.
    ("drain", &["heap", "probe", "kernel", "error"]),
    ("heap", &[]),
    ("symbol", &["target", "error"]),
    ("report", &["heap", "symbol", "error"]),
];

/// The room that only `main`, `lib` and `session` may look back into.
const FIRST: &str = "cli";

/// Checks the directions of a file's imports.
pub(crate) fn rooms(source: &Source) -> Vec<Finding> {
    let Some(file) = source.file.strip_prefix("tracer-user/src/") else { return Vec::new() };
    let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some((_, may)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else { return Vec::new() };
    let depth = file.split('/').count() - usize::from(file.ends_with("/mod.rs"));
    let mut findings = Vec::new();
    for path in paths::of_product(source) {
        let Some(named) = room_named(&path.segments, depth) else { continue };
        let known = named == FIRST || named == "session" || MAY_IMPORT.iter().any(|(name, _)| *name == named);
        if known && named != room && !may.contains(&named) {
            let message = format!("`{room}` must not import `{named}`; {}", allowed(may));
            findings.push(Finding::error(&source.file, path.line, message));
        }
    }
    findings
}

/// The first-level module that a path names, by `crate::` or by enough `super::`. `depth` is the file's own.
fn room_named(segments: &[String], depth: usize) -> Option<&str> {
    let ups = segments.iter().take_while(|segment| *segment == "super").count();
    let from_top = segments.first().is_some_and(|first| first == "crate" || first == "tracer_user");
    let at = if from_top {
        1
    } else if ups > 0 && ups == depth {
        ups
    } else {
        return None;
    };
    segments.get(at).map(String::as_str)
}

fn allowed(may: &[&str]) -> String {
    if may.is_empty() { "it imports no other room".to_owned() } else { format!("only {}", may.join(", ")) }
}
