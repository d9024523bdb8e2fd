//! One door per dependency, and rooms without a clock or files. A decision table: who may name what.

use super::Finding;
use super::paths::{self, Path};
use super::source::Source;

/// Crates of the loader, and the files (by how their path under `tracer-user/src/` begins) that may name them.
const DOORS: [(&str, &[&str]); 12] = [
    ("aya", &["probe/", "drain/", "kernel.rs"]),
    ("aya_obj", &["probe/", "kernel.rs"]),
    ("aya_log", &["probe/", "drain/"]),
    ("blazesym", &["symbol/native"]),
    ("hdrhistogram", &["heap/spread"]),
    ("tokio", &["main.rs", "session", "drain/ring"]),
    ("serde_json", &["report/"]),
    ("inferno", &["report/flame"]),
    ("iced_x86", &["probe/sites", "probe/code", "unwind/evaluator"]),
    ("yaxpeax_arch", &["probe/code/aarch64"]),
    ("yaxpeax_arm", &["probe/code/aarch64"]),
    ("gimli", &["target/frame_table", "unwind/"]),
];

/// Files that only compute: what they need of the world is handed to them.
const PURE: [&str; 10] = [
    "probe/code/",
    "unwind/rule",
    "unwind/rows",
    "unwind/pack",
    "unwind/cache",
    "unwind/evaluator",
    "heap/",
    "report/",
    "symbol/lines",
    "symbol/splice",
];
const WORLD: [&[&str]; 5] = [
    &["std", "fs"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["Instant"],
    &["SystemTime"],
];

/// Checks a file of the loader against both tables.
pub(crate) fn doors(source: &Source) -> Vec<Finding> {
    let Some(file) = source.file.strip_prefix("tracer-user/src/") else { return Vec::new() };
    let mut findings = Vec::new();
    for path in paths::of_product(source) {
        findings
            .extend(wrong_door(file, &path).map(|message| Finding::error(&source.file, path.line, message)));
        findings.extend(impure(file, &path).map(|message| Finding::error(&source.file, path.line, message)));
    }
    findings
}

fn wrong_door(file: &str, path: &Path) -> Option<String> {
    let (name, rooms) = DOORS.iter().find(|(name, _)| path.starts_with(&[name]))?;
    // `aya` alone may be a variable's name; a crate is named to reach into it, or in a `use`.
    let inside = rooms.iter().any(|room| file.starts_with(room));
    let reaches = path.segments.len() > 1;
    (reaches && !inside).then(|| format!("`{name}` is for {} only", rooms.join(", ")))
}

fn impure(file: &str, path: &Path) -> Option<String> {
    let pure = PURE.iter().any(|room| file.starts_with(room));
    let world = WORLD.iter().find(|world| path.starts_with(world))?;
    pure.then(|| format!("`{}` in a pure module: let the caller hand it in", world.join("::")))
}
