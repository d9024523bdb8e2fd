//! Sizes: a file that is too long has a second room inside; a function that is too long hides its story.

use super::Finding;
use super::source::Source;

const FILE_WARNING: usize = 400;
const FILE_ERROR: usize = 600;
const FUNCTION: usize = 70;
const TEST_FUNCTION: usize = 120;

/// The length of a file.
pub(crate) fn file(name: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().count();
    if lines <= FILE_WARNING {
        return Vec::new();
    }
    let message =
        format!("{lines} lines, over {FILE_WARNING} (refused over {FILE_ERROR}): is there a second room?");
    vec![Finding { warning: lines <= FILE_ERROR, ..Finding::error(name, 1, message) }]
}

/// The length of each function.
pub(crate) fn functions(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in source.code.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let Some(end) = body_end(&source.code, at) else { continue };
        let (lines, most) = (end - at + 1, if source.test[at] { TEST_FUNCTION } else { FUNCTION });
        if lines > most {
            findings.push(Finding::error(
                &source.file,
                at + 1,
                format!("fn {name} has {lines} lines, over {most}"),
            ));
        }
    }
    findings
}

/// The name in `fn name`; the type `fn(…)` has none.
fn function_name(line: &str) -> Option<&str> {
    let at = line.match_indices("fn ").map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    })?;
    let name = line[at + 3..].trim_start();
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(name.len());
    (end > 0).then(|| &name[..end])
}

/// The line on which the body of the function at `start` ends; `None` for a declaration without one.
fn body_end(code: &[String], start: usize) -> Option<usize> {
    let first = code[start].find("fn ")?;
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, line) in code.iter().enumerate().skip(start) {
        for c in line[if at == start { first } else { 0 }..].chars() {
            match c {
                '(' | '[' => others += 1,
                ')' | ']' => others = others.saturating_sub(1),
                '{' => braces += 1,
                '}' => {
                    braces = braces.saturating_sub(1);
                    if braces == 0 {
                        return Some(at);
                    }
                }
                ';' if braces == 0 && others == 0 => return None,
                _ => {}
            }
        }
    }
    None
}
