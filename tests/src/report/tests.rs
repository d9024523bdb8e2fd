//! The checks check.

use serde_json::{Value, json};

use super::Report;

/// The example of DESIGN §5, with numbers that agree.
fn example() -> Value {
    json!({"schema": "unshed.report/1",
        "target": {"pid": 1, "python": "3.11.7", "executable": "/usr/bin/python3", "host": "here"},
        "engine": "trace", "seconds": 10.0, "cost": {"hits": 0, "target_cpu_fraction": 0.0},
        "totals": {"allocated_bytes": 64, "allocated_blocks": 2, "freed_bytes": 32, "freed_blocks": 1, "live_bytes": 32,
            "live_blocks": 1, "rss_start_bytes": 0, "rss_end_bytes": 0},
        "losses": [{"code": "block_map_full", "count": 0, "meaning": "…"}],
        "sites": [{"live_bytes": 32, "live_blocks": 1, "allocated_bytes": 64, "allocated_blocks": 2, "freed_blocks": 1,
            "growth_bytes_per_second": 0.0, "verdict": "leak", "types": [{"name": "int", "blocks": 1}],
            "stack": [
                {"kind": "native", "function": "leak_new_reference", "file": "cPyRefs.c", "line": 149,
                    "module": "cPyRefs.so", "inlined": false},
                {"kind": "python", "function": "handler", "file": "/app/app.py", "line": 12, "module": null,
                    "inlined": false}]}]})
}

#[test]
fn the_example_of_the_design_is_a_report() {
    let report = Report::parse(&example().to_string());
    assert_eq!(
        report.sites[0].python().map(super::Frame::place),
        Some("handler (/app/app.py:12)".to_owned())
    );
    assert_eq!(report.loss("block_map_full"), 0);
}

#[test]
#[should_panic(expected = "blocks allocated and freed + live: 2 ≠ 3")]
fn totals_that_do_not_balance_are_found() {
    let mut wrong = example();
    wrong["totals"]["live_blocks"] = json!(2);
    drop(Report::parse(&wrong.to_string()));
}

#[test]
#[should_panic(expected = "the sites' live_bytes and their sum: 31 ≠ 32")]
fn sites_that_do_not_add_up_are_found() {
    let mut wrong = example();
    wrong["sites"][0]["live_bytes"] = json!(31);
    drop(Report::parse(&wrong.to_string()));
}

#[test]
#[should_panic(expected = "the report is not what DESIGN §5 promises")]
fn a_negative_number_is_found() {
    let mut wrong = example();
    wrong["totals"]["freed_blocks"] = json!(-1);
    drop(Report::parse(&wrong.to_string()));
}

#[test]
#[should_panic(expected = "missing field `losses`")]
fn a_missing_field_is_found() {
    let mut wrong = example();
    wrong.as_object_mut().expect("a report is an object").remove("losses");
    drop(Report::parse(&wrong.to_string()));
}

/// The same story with estimates.
fn sampled() -> Value {
    let mut report = example();
    report["engine"] = json!("sample");
    report["sampling"] = json!({"budget_percent": 1.0, "windows": 3, "open_seconds": 0.006, "open_share": 0.0006, "longest_window_ms": 2.0,
        "births": 2, "candidates": 1, "looks": 4, "own_cpu_fraction": 0.002, "rss_bytes_max": 30_000_000});
    let site = report["sites"][0].as_object_mut().expect("a site is an object");
    for name in ["live_bytes_error", "live_blocks_error", "growth_bytes_per_second_error"] {
        site.insert(name.to_owned(), json!(0.5));
    }
    site.extend([("samples".to_owned(), json!(2)), ("survivors".to_owned(), json!(1))]);
    report
}

#[test]
fn estimates_are_a_report_whose_sums_are_rounded() {
    let mut report = sampled();
    report["sites"][0]["live_bytes"] = json!(32);
    report["totals"]["live_bytes"] = json!(33);
    assert_eq!(Report::parse(&report.to_string()).sites[0].samples, Some(2));
}

#[test]
#[should_panic(expected = "errors: ")]
fn an_estimate_without_its_error_is_found() {
    let mut wrong = sampled();
    wrong["sites"][0].as_object_mut().expect("a site is an object").remove("live_blocks_error");
    drop(Report::parse(&wrong.to_string()));
}

#[test]
#[should_panic(expected = "errors: ")]
fn an_exact_count_with_an_error_is_found() {
    let mut wrong = sampled();
    wrong["engine"] = json!("trace");
    wrong.as_object_mut().expect("a report is an object").remove("sampling");
    drop(Report::parse(&wrong.to_string()));
}

#[test]
#[should_panic(expected = "sampling: None, engine sample")]
fn samples_without_their_circumstances_are_found() {
    let mut wrong = sampled();
    wrong.as_object_mut().expect("a report is an object").remove("sampling");
    drop(Report::parse(&wrong.to_string()));
}
