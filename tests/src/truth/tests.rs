//! The checks check.

use serde_json::{Value, json};

use super::{Leak, Truth, size_class};
use crate::report::Report;

/// A leak of ten blocks of 52 bytes.
fn leak() -> Leak {
    let row = json!({"function": "f", "file": "/a.py", "line": 1, "blocks": 10, "sizes": [[52, 10]], "type": "bytes"});
    serde_json::from_value(row).expect("this is a row of a truth")
}

/// A report of one site at that line, whose blocks are said to have so many bytes together.
fn report(domain: &str, bytes: u64) -> Report {
    let site: Value = json!({"live_bytes": bytes, "live_blocks": 10, "allocated_bytes": bytes, "allocated_blocks": 10,
        "freed_blocks": 0, "growth_bytes_per_second": 0.0, "verdict": "leak", "types": [], "domain": domain,
        "stack": [{"kind": "python", "function": "f", "file": "/a.py", "line": 1, "module": null, "inlined": false}]});
    let all = json!({"schema": "unshed.report/1",
        "target": {"pid": 1, "python": "3.11.7", "executable": "/usr/bin/python3", "host": "here"},
        "engine": "trace", "seconds": 1.0, "cost": {"hits": 0, "target_cpu_fraction": 0.0},
        "totals": {"allocated_bytes": bytes, "allocated_blocks": 10, "freed_bytes": 0, "freed_blocks": 0,
            "live_bytes": bytes, "live_blocks": 10, "rss_start_bytes": 0, "rss_end_bytes": 0},
        "losses": [{"code": "block_map_full", "count": 0, "meaning": "…"}], "sites": [site]});
    Report::parse(&all.to_string())
}

#[test]
fn size_classes_are_pymallocs() {
    for (asked, class) in [(0, 16), (1, 16), (16, 16), (17, 32), (52, 64), (511, 512), (512, 512), (513, 513)]
    {
        assert_eq!(size_class(asked), class, "{asked} asked");
    }
}

#[test]
fn what_was_asked_is_right_on_every_build() {
    leak().assert_exactly_told_by(&report("object", 520), false);
    leak().assert_exactly_told_by(&report("object", 520), true);
}

#[test]
fn the_size_class_is_right_where_allocators_are_inlined() {
    leak().assert_exactly_told_by(&report("mem", 640), true);
}

#[test]
#[should_panic(expected = "neither the sizes asked")]
fn the_size_class_is_wrong_elsewhere() {
    leak().assert_told_by(&report("object", 640), false);
}

#[test]
#[should_panic(expected = "neither the sizes asked")]
fn the_size_class_is_wrong_of_what_is_not_pymallocs() {
    leak().assert_told_by(&report("raw", 640), true);
}

#[test]
#[should_panic(expected = "neither the sizes asked")]
fn something_between_is_wrong() {
    leak().assert_told_by(&report("object", 600), true);
}

#[test]
#[should_panic(expected = "live bytes seen")]
fn another_number_of_bytes_is_not_exact() {
    let mut leak = leak();
    leak.sizes.push((52, 1));
    leak.assert_exactly_told_by(&report("object", 520), true);
}

#[test]
#[should_panic(expected = "10 seen, but 11 true")]
fn another_number_of_blocks_is_wrong() {
    let mut leak = leak();
    leak.blocks = 11;
    leak.assert_told_by(&report("object", 520), true);
}

#[test]
fn live_bytes_lie_between_what_was_asked_and_its_classes() {
    let mut truth = Truth::parse(json!({"leaks": [], "live_bytes": 1000, "given_bytes": 1200}));
    truth.assert_live_bytes(1005, "");
    truth.inlined = true;
    truth.assert_live_bytes(1150, "");
}

#[test]
#[should_panic(expected = "1150 seen")]
fn size_classes_are_no_live_bytes_where_sizes_are_known() {
    Truth::parse(json!({"leaks": [], "live_bytes": 1000, "given_bytes": 1200})).assert_live_bytes(1150, "");
}
