//! The table of `unshed ps` as JSON.

use serde::Serialize;

use super::home::Home;
use crate::error::{Context, Result};

/// One CPython process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRow {
    /// Process id as unshed sees it.
    pub pid: u32,
    /// `3.11.7`.
    pub python: String,
    /// How it was linked: `shared` or `static`.
    pub build: String,
    /// Hooks would see every block.
    pub complete: bool,
    /// Why they would, or would not.
    pub reason: String,
    /// Arguments.
    pub command: Vec<String>,
    /// Where it lives.
    #[serde(flatten)]
    pub home: Home,
}

/// One JSON array, and a line end.
///
/// # Errors
/// None that these rows could cause.
pub fn write(rows: &[ProcessRow]) -> Result<String> {
    let mut text = serde_json::to_string_pretty(rows).context("the processes as JSON")?;
    text.push('\n');
    Ok(text)
}
