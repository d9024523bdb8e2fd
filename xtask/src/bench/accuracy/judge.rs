//! A report beside the truth. Pure.

use anyhow::{Context, Result};
use serde_json::Value;

use super::service::Truth;

/// The file of the extension that leaks.
const MODULE: &str = "leaks.so";

/// What a report is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// Place of the first true site among the sites, 1 the first; `None` where there is none.
    pub(crate) rank: Option<usize>,
    /// The same among the lines.
    pub(crate) line_rank: Option<usize>,
    /// The verdict on that site.
    pub(crate) verdict: Option<String>,
    /// Growth of all true sites, bytes per second.
    pub(crate) growth: f64,
    /// The half width of its 95 % interval, where the report has one: the sites' errors are independent.
    pub(crate) growth_error: Option<f64>,
    /// The growth of the false site that grows most, bytes per second; 0 where none grows.
    pub(crate) false_growth: f64,
    /// Its innermost Python line, and the verdict on it.
    pub(crate) false_suspect: Option<String>,
    /// False sites that are called a leak.
    pub(crate) false_leaks: usize,
    /// Sites of the report.
    pub(crate) sites: usize,
}

/// Compares a report with the truth. A site is true if one of the true lines, or the true C function, is on its stack: honest work has neither. One that allocates for the leak beside them is left out: it
/// does leak, but is not the place.
///
/// # Errors
/// When it is no report.
pub(crate) fn judge(report: &Value, truth: &Truth) -> Result<Judged> {
    let list = |name: &str| report[name].as_array().with_context(|| format!("the report has no {name}"));
    let (sites, lines) = (list("sites")?, list("lines")?);
    let sites: Vec<&Value> =
        sites.iter().filter(|site| is_true(site, truth) || !is_beside(site, truth)).collect();
    let growth = |site: &Value| site["growth_bytes_per_second"].as_f64().unwrap_or(0.0);
    let rank = sites.iter().position(|site| is_true(site, truth));
    let line_rank = lines.iter().position(|line| is_true_line(line, truth));
    let (right, wrong): (Vec<&Value>, Vec<&Value>) = sites.iter().partition(|site| is_true(site, truth));
    let errors: Option<Vec<f64>> =
        right.iter().map(|site| site["growth_bytes_per_second_error"].as_f64()).collect();
    let worst = wrong.iter().max_by(|one, other| growth(one).total_cmp(&growth(other)));
    let worst = worst.filter(|site| growth(site) > 0.0);
    Ok(Judged {
        rank: rank.map(|at| at + 1),
        line_rank: line_rank.map(|at| at + 1),
        verdict: rank.and_then(|at| sites[at]["verdict"].as_str()).map(str::to_owned),
        growth: right.iter().map(|site| growth(site)).sum(),
        growth_error: errors
            .filter(|errors| !errors.is_empty())
            .map(|errors| errors.iter().map(|error| error * error).sum::<f64>().sqrt()),
        false_growth: worst.map_or(0.0, |site| growth(site)),
        false_suspect: worst.map(|site| described(site)),
        false_leaks: wrong.iter().filter(|site| site["verdict"] == "leak").count(),
        sites: sites.len(),
    })
}

fn is_true(site: &Value, truth: &Truth) -> bool {
    site["stack"].as_array().is_some_and(|stack| stack.iter().any(|frame| is_true_frame(frame, truth)))
}

/// Whether the innermost Python frame is one at which the interpreter allocates for the leak.
fn is_beside(site: &Value, truth: &Truth) -> bool {
    let frames = site["stack"].as_array().map(Vec::as_slice).unwrap_or_default();
    let innermost = frames.iter().find(|frame| frame["kind"] == "python");
    innermost.is_some_and(|frame| truth.beside.iter().any(|place| place.is_of(frame)))
}

/// Whether a frame, a line of the report, or a caller of one is of the truth.
pub(crate) fn is_true_frame(frame: &Value, truth: &Truth) -> bool {
    let is_function = |function: &String| frame["function"] == function.as_str() && frame["module"] == MODULE;
    truth.lines.iter().any(|place| place.is_of(frame)) || truth.c_function.as_ref().is_some_and(is_function)
}

fn is_true_line(line: &Value, truth: &Truth) -> bool {
    let callers = line["callers"].as_array().map(Vec::as_slice).unwrap_or_default();
    is_true_frame(line, truth) || callers.first().is_some_and(|caller| is_true_frame(caller, truth))
}

/// A site in a few words.
fn described(site: &Value) -> String {
    let frames = site["stack"].as_array().map(Vec::as_slice).unwrap_or_default();
    let python = frames.iter().find(|frame| frame["kind"] == "python");
    let verdict = site["verdict"].as_str().unwrap_or("?");
    let Some(frame) = python.or(frames.first()) else { return format!("no frames ({verdict})") };
    let file = frame["file"].as_str().and_then(|file| file.rsplit('/').next()).unwrap_or("?");
    format!("{file}:{} {} ({verdict})", frame["line"], frame["function"].as_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::service::Place;
    use super::*;

    fn python(file: &str, line: u64) -> Value {
        json!({"kind": "python", "function": "f", "file": file, "line": line, "module": null})
    }

    fn native(function: &str) -> Value {
        json!({"kind": "native", "function": function, "file": "x.c", "line": 1, "module": "leaks.so"})
    }

    fn site(verdict: &str, growth: f64, stack: &[Value]) -> Value {
        json!({"verdict": verdict, "growth_bytes_per_second": growth, "growth_bytes_per_second_error": 30.0, "stack": stack})
    }

    fn truth() -> Truth {
        let lines = vec![Place { file: "/a.py".to_owned(), line: 7 }];
        let beside = vec![Place { file: "/a.py".to_owned(), line: 20 }];
        Truth { lines, beside, c_function: Some("mem_out".to_owned()), item_bytes: 1.0, item_blocks: 1.0 }
    }

    #[test]
    fn the_true_line_is_ranked_and_its_sites_summed_up() {
        let sites = [
            site("leak", 900.0, &[python("/a.py", 20)]),
            site("unknown", 90.0, &[python("/b.py", 1), python("/a.py", 20)]),
            site("leak", 500.0, &[python("/lib/json.py", 3), python("/a.py", 7)]),
            site("leak", 40.0, &[native("mem_out")]),
            site("leak", 10.0, &[python("/a.py", 8)]),
        ];
        let lines =
            [json!({"file": "/lib/json.py", "line": 3, "callers": []}), json!({"file": "/a.py", "line": 7})];
        let report = json!({"sites": sites, "lines": lines});
        let judged = judge(&report, &truth()).expect("a report");
        assert_eq!((judged.rank, judged.line_rank), (Some(2), Some(2)));
        assert!((judged.growth - 540.0).abs() < 1e-9);
        assert!(judged.growth_error.is_some_and(|error| (error - 1800.0_f64.sqrt()).abs() < 1e-9));
        assert!((judged.false_growth - 90.0).abs() < 1e-9);
        assert_eq!(judged.false_suspect.as_deref(), Some("b.py:1 f (unknown)"));
        assert_eq!((judged.false_leaks, judged.verdict.as_deref()), (1, Some("leak")));
    }

    #[test]
    fn a_report_that_missed_it_has_no_rank() {
        let report = json!({"sites": [site("churn", -5.0, &[python("/a.py", 8)])], "lines": []});
        let judged = judge(&report, &truth()).expect("a report");
        assert_eq!((judged.rank, judged.line_rank, judged.false_suspect), (None, None, None));
        assert!(judge(&json!({}), &truth()).is_err());
    }

    #[test]
    fn a_line_of_c_code_counts_by_its_worst_caller() {
        let line =
            json!({"file": "/x.c", "line": 1, "function": "g", "callers": [{"file": "/a.py", "line": 7}]});
        let judged = judge(&json!({"sites": [], "lines": [line]}), &truth()).expect("a report");
        assert_eq!(judged.line_rank, Some(1));
    }
}
