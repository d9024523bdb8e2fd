//! The contract with other programs: `unshed.report/1`. A story is the contract's own shape, so this only adds the schema's name;
//! the golden file is what keeps a careless renaming in `story` or `symbol` from reaching a reader. All sites are in it.

use std::io::{BufWriter, Write};

use serde::Serialize;

use super::lines::{Line, lines};
use super::story::Story;
use crate::error::{Context, Result};

/// The name and version of the contract. Fields are only ever added to it.
pub const SCHEMA: &str = "unshed.report/1";

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    #[serde(flatten)]
    story: &'a Story,
    /// The sites again, summed up by line.
    lines: Vec<Line>,
}

/// Writes the story as one indented JSON document, with a newline at the end.
///
/// # Errors
/// When the writer fails.
pub fn write(story: &Story, out: &mut dyn Write) -> Result<()> {
    let what = "cannot write the JSON report";
    let mut out = BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, &Report { schema: SCHEMA, story, lines: lines(story) })
        .context(what)?;
    out.write_all(b"\n").and_then(|()| out.flush()).context(what)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::fixture;

    fn written() -> String {
        let mut bytes = Vec::new();
        write(&fixture::story(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// What samples add: an error beside each figure, of the whole, of a site and of a line.
    #[test]
    fn golden_sampled() {
        let mut story = fixture::sampled();
        story.sites.truncate(1);
        let mut bytes = Vec::new();
        write(&story, &mut bytes).unwrap();
        let report: Value = serde_json::from_slice(&bytes).unwrap();
        let shown = json!({"engine": report["engine"], "sampling": report["sampling"], "totals": report["totals"],
            "site": report["sites"][0], "line": report["lines"][0]});
        insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
    }

    #[test]
    fn golden() {
        insta::assert_snapshot!(written());
    }

    /// `DESIGN.md` §5, word for word. Every field in it must be in what is written, with a value of the same kind.
    #[test]
    fn every_field_of_the_contract_is_there() {
        let contract = json!({"schema":"unshed.report/1",
         "target":{"pid":1,"python":"3.11.7","executable":"…","host":"…"},
         "engine":"trace","seconds":10.0,
         "cost":{"hits":0,"target_cpu_fraction":0.0},
         "totals":{"allocated_bytes":0,"allocated_blocks":0,"freed_bytes":0,"freed_blocks":0,"live_bytes":0,"live_blocks":0,"rss_start_bytes":0,"rss_end_bytes":0},
         "losses":[{"code":"block_map_full","count":0,"meaning":"…"}],
         "sites":[{"live_bytes":0,"live_blocks":0,"allocated_bytes":0,"allocated_blocks":0,"freed_blocks":0,"growth_bytes_per_second":0.0,
           "verdict":"leak","types":[{"name":"int","blocks":0}],
           "stack":[{"kind":"native","function":"leak_new_reference","file":"cPyRefs.c","line":149,"module":"cPyRefs.so","inlined":false},
                    {"kind":"python","function":"handler","file":"/app/app.py","line":12,"module":null,"inlined":false}]}]});
        let report: Value = serde_json::from_str(&written()).unwrap();
        assert_eq!(report["schema"], contract["schema"]);
        assert_holds(&contract, &report, "$");
        assert_eq!(report["sites"][0]["stack"][0], contract["sites"][0]["stack"][0]);
        assert_eq!(report["sites"][0]["stack"][1], contract["sites"][0]["stack"][1]);
    }

    fn assert_holds(contract: &Value, report: &Value, path: &str) {
        match (contract, report) {
            (Value::Object(fields), Value::Object(found)) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    assert_holds(
                        value,
                        found.get(name).unwrap_or_else(|| panic!("{path} is missing")),
                        &path,
                    );
                }
            }
            (Value::Array(items), Value::Array(found)) => {
                for (at, item) in items.iter().enumerate() {
                    assert_holds(item, &found[at], &format!("{path}[{at}]"));
                }
            }
            (Value::Number(one), Value::Number(other)) => assert_eq!(one.is_f64(), other.is_f64(), "{path}"),
            (Value::String(_), Value::String(_))
            | (Value::Bool(_), Value::Bool(_))
            | (Value::Null, Value::Null) => {}
            _ => panic!("{path} is {report}"),
        }
    }
}
