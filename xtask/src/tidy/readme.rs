//! What README.md promises to list: every way to lose an event, every dependency.

use super::Finding;

/// Every loss code stands in a table of the README.
pub(crate) fn losses(readme: &str, loss_rs: &str) -> Vec<Finding> {
    let codes = loss_rs.lines().filter_map(loss_code);
    missing(readme, codes, "the loss", "tracer-common/src/loss.rs")
}

/// Every dependency of the workspace stands in a table of the README.
pub(crate) fn dependencies(readme: &str, manifest: &str) -> Vec<Finding> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    let entries = section.take_while(|line| !line.starts_with('['));
    let names = entries.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let foreign = names.filter(|name| !name.starts_with('#') && !name.starts_with("tracer-"));
    missing(readme, foreign, "the dependency", "Cargo.toml")
}

fn missing<'a>(readme: &str, names: impl Iterator<Item = &'a str>, what: &str, list: &str) -> Vec<Finding> {
    let rows: Vec<&str> = readme.lines().filter(|line| line.trim_start().starts_with('|')).collect();
    let listed = |name: &str| rows.iter().any(|row| row.split(is_separator).any(|word| word == name));
    let absent = names.filter(|name| !listed(name));
    absent
        .map(|name| Finding::error("README.md", 1, format!("no table row names {what} `{name}` of {list}")))
        .collect()
}

fn is_separator(c: char) -> bool {
    !(c.is_alphanumeric() || c == '_' || c == '-')
}

/// The code in a row such as `RingFull = 6, "ring_full", "stacks …";`.
fn loss_code(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().split_once(" = ")?;
    let (row, rest) = rest.split_once(", \"")?;
    let is_row = name.chars().all(char::is_alphanumeric) && row.parse::<u32>().is_ok();
    if is_row { rest.split('"').next() } else { None }
}
