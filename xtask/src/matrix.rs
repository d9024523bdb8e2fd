//! `matrix`: records a known leak under every interpreter and writes what was found into the README: each row is what a test has seen.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::run::{self, say};
use crate::{no_arguments, test};

/// Which tests fill it.
const TESTS: &str = "test(/^matrix::/)";
/// Around the table in the README.
const BEGIN: &str = "<!-- matrix: written by `cargo xtask matrix` -->";
const END: &str = "<!-- end of matrix -->";
/// The columns: what they are called, and the field of a test's row.
const COLUMNS: [(&str, &str); 9] = [
    ("CPython", "version"),
    ("from", "from"),
    ("linked", "linked"),
    ("hooks complete", "hooks"),
    ("Python frames", "frames"),
    ("exact counts", "exact"),
    ("truth table", "truth"),
    ("C lines", "c_lines"),
    ("sampling", "sampling"),
];

/// Runs the verb. The table is written whether or not all is well; the verb fails as the tests do.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("matrix", args)?;
    let folder = run::target_dir().join("matrix");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let tested = test::with_rows(&folder, &["-E".to_owned(), TESTS.to_owned()]);
    let rows = rows(&folder)?;
    if rows.is_empty() {
        return tested.and_then(|()| bail!("no test has left a row in {}", folder.display()));
    }
    let readme = run::root().join("README.md");
    let text =
        std::fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    std::fs::write(&readme, replaced(&text, &table(&rows))?)?;
    say(format!("{}: {} interpreters", readme.display(), rows.len()));
    tested
}

/// What the tests left, in the order of versions.
fn rows(folder: &Path) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let text = std::fs::read_to_string(entry?.path())?;
        parts.push(serde_json::from_str(&text).context("a test's row is no JSON")?);
    }
    Ok(joined(parts))
}

/// Several tests tell of one interpreter: their cells make one row.
fn joined(parts: Vec<Map<String, Value>>) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let same = |row: &Value, part: &Map<String, Value>| {
        ["version", "from", "linked"].iter().all(|field| row.get(field) == part.get(*field))
    };
    for part in parts {
        match rows.iter_mut().find(|row| same(row, &part)).and_then(Value::as_object_mut) {
            Some(row) => row.extend(part),
            None => rows.push(part.into()),
        }
    }
    rows.sort_by_key(|row| (numbers(&cell(row, "version")), cell(row, "from"), cell(row, "linked")));
    rows
}

/// 3.10.13 is later than 3.9.18.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().unwrap_or_default()).collect()
}

fn cell(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or("not tried").replace('|', "\\|")
}

fn table(rows: &[Value]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let head = line(COLUMNS.map(|(name, _)| name.to_owned()).to_vec());
    let rule = format!("|{}\n", "---|".repeat(COLUMNS.len()));
    let body = rows.iter().map(|row| line(COLUMNS.map(|(_, field)| cell(row, field)).to_vec()));
    [head, rule].into_iter().chain(body).collect()
}

/// The README with another table.
fn replaced(readme: &str, table: &str) -> Result<String> {
    let (before, rest) =
        readme.split_once(BEGIN).with_context(|| format!("README.md has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_lines_and_only_the_table_changes() {
        let row = serde_json::json!({"version": "3.9.18", "from": "pyenv", "hooks": "a|b"});
        let table = table(&[row]);
        assert_eq!(
            table.lines().last(),
            Some(
                "| 3.9.18 | pyenv | not tried | a\\|b | not tried | not tried | not tried | not tried | not tried |"
            )
        );
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&readme, &table).unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\n{table}\n{END}\nafter\n"));
        assert_eq!(replaced(&new, &table).unwrap(), new);
        assert!(replaced("no table", &table).is_err());
    }

    #[test]
    fn cells_of_one_interpreter_make_one_row() {
        let part = |version: &str, field: &str| {
            let cells = [("version", version), (field, "yes")];
            cells.map(|(field, cell)| (field.to_owned(), Value::from(cell))).into_iter().collect()
        };
        let rows = joined(vec![part("3.10.1", "exact"), part("3.9.1", "exact"), part("3.10.1", "sampling")]);
        let rows: Vec<_> =
            rows.iter().map(|row| ["version", "exact", "sampling"].map(|field| cell(row, field))).collect();
        assert_eq!(rows, [["3.9.1", "yes", "not tried"], ["3.10.1", "yes", "yes"]]);
    }

    #[test]
    fn versions_are_numbers() {
        assert!(numbers("3.10.13") > numbers("3.9.18") && numbers("3.15.2") > numbers("3.15"));
    }
}
