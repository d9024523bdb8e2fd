//! Words that must stand in a file, and words that must not.

use super::Finding;
use super::source::Source;

/// What is refused anywhere in the code, and what to do instead.
const BANNED: [(&str, &str); 7] = [
    ("#[allow(", "use #[expect(…, reason = …)]"),
    ("#![allow(", "use #![expect(…, reason = …)]"),
    (", allow(", "use expect(…, reason = …)"),
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "use log"),
    ("#[ignore", "a test that does not run proves nothing"),
];

/// Every module says first what it is for.
pub(crate) fn module_docs(source: &Source) -> Vec<Finding> {
    let first = source.raw.iter().find(|line| !line.trim().is_empty());
    match first {
        Some(line) if line.starts_with("//!") => Vec::new(),
        _ => vec![Finding::error(&source.file, 1, "begin the module with `//!`: what it is for")],
    }
}

/// Every unsafe block and impl says why it is sound, right before it.
pub(crate) fn safety(source: &Source) -> Vec<Finding> {
    let lines = source.code.iter().enumerate().filter(|(_, line)| opens_unsafe(line));
    let bare = lines.filter(|(at, _)| !explained(source, *at));
    bare.map(|(at, _)| {
        Finding::error(&source.file, at + 1, "`unsafe` without a `// SAFETY:` comment before it")
    })
    .collect()
}

fn opens_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let rest = line[at + word.len()..].trim_start();
        let starts = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `unsafe` at the line's end opens its block on the next one.
        starts && (rest.is_empty() || rest.starts_with('{') || rest.starts_with("impl"))
    })
}

/// Looks for the comment on the line itself, or above the statement that the line belongs to.
fn explained(source: &Source, at: usize) -> bool {
    const REASON: &str = "// SAFETY:";
    if source.raw[at].contains(REASON) {
        return true;
    }
    for above in (0..at).rev() {
        let (raw, code) = (source.raw[above].trim(), source.code[above].trim());
        let comment = raw.starts_with("//");
        if comment && raw.contains(REASON) {
            return true;
        }
        // A finished statement or an opened block: what stands above it is about something else.
        if !comment && (raw.is_empty() || code.ends_with([';', '{', '}'])) {
            return false;
        }
    }
    false
}

/// Shortcuts, and exits from anywhere but `main`.
pub(crate) fn banned(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in source.code.iter().enumerate() {
        for (word, instead) in BANNED {
            if line.contains(word) {
                findings.push(Finding::error(&source.file, at + 1, format!("`{word}`: {instead}")));
            }
        }
        if line.contains("process::exit") && !source.file.ends_with("main.rs") {
            findings.push(Finding::error(
                &source.file,
                at + 1,
                "`process::exit` outside main.rs: return an error",
            ));
        }
    }
    findings
}
