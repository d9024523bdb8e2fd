//! What the doctor says, word for word.

use serde_json::Value;

use super::*;

fn point(name: &str, kind: &'static str, hits: u64) -> Point {
    let (address, returns, emulated) = (0x1000 + hits, false, hits != 7);
    Point { name: name.to_owned(), address, kind, returns, emulated, ns_per_hit: 2_000.0, hits }
}

fn kind(kind: &'static str, points: u64, hits: u64, cost_share: f64) -> Kind {
    Kind { kind, points, single_stepped: 0, ns_per_hit: 2_000.4, hits, cost_share }
}

fn counted(hits: u64, slowdown: f64) -> Counted {
    Counted {
        seconds: 0.1,
        cpu_seconds: 0.05,
        hits,
        attach_seconds: 0.01,
        detach_seconds: 0.02,
        ns_per_hit: 2_000.0,
        slowdown,
        slowdown_at_least: slowdown > 30.0,
        slowdown_limit: 2.0,
    }
}

fn examination(counted: Option<Counted>) -> Examination {
    let points = vec![
        point("PyObject_Malloc+62", "allocation fast path", 900),
        point("an_\u{1b}[2J_evil_name", "free fast path", 7),
        point("quiet+0", "function", 0),
    ];
    Examination {
        schema: SCHEMA,
        can_trace: true,
        findings: vec![Finding {
            good: true,
            what: "kernel".to_owned(),
            seen: "6.18: uprobe_multi".to_owned(),
        }],
        process: Some(Process {
            pid: 4711,
            python: "3.11.7".to_owned(),
            complete: true,
            reason: "shared, allocator called".to_owned(),
            kinds: vec![kind("allocation fast path", 1, 900, 0.99), kind("free fast path", 1, 7, 0.01)],
            points,
            not_counted: counted.is_none().then(|| "too old a kernel".to_owned()),
            counted,
        }),
    }
}

#[test]
fn golden() {
    insta::assert_snapshot!(text(&examination(Some(counted(907, 3.44))), false));
}

#[test]
fn golden_every_point() {
    insta::assert_snapshot!(text(&examination(Some(counted(907, 41.2))), true));
}

#[test]
fn an_idle_target_is_told_as_such() {
    let text = text(&examination(Some(counted(0, 1.0))), false);
    assert!(
        text.contains("none; no hits in 100.0 ms, of which it ran for 50.0 ms: measure while it works"),
        "{text}"
    );
}

#[test]
fn what_was_not_measured_says_why() {
    let mut seen = examination(None);
    let said = text(&seen, true);
    assert!(said.contains("`record --exact` now: not measured: too old a kernel"), "{said}");
    if let Some(process) = &mut seen.process {
        process.complete = false;
    }
    let said = text(&seen, false);
    assert!(said.contains("FAIL hooks") && said.contains("1 of 2 checks failed"), "{said}");
}

#[test]
fn without_a_process_there_are_only_findings() {
    let seen = Examination { process: None, ..examination(None) };
    assert_eq!(text(&seen, true), "ok   kernel             6.18: uprobe_multi\nunshed can trace here\n");
}

#[test]
fn the_contract_keeps_its_names() {
    let json: Value = serde_json::from_str(&json(&examination(Some(counted(907, 3.44)))).unwrap()).unwrap();
    assert_eq!(json["schema"], "unshed.doctor/1");
    assert_eq!(json["process"]["points"][0]["hits"], 900);
    assert_eq!(json["process"]["kinds"][0]["cost_share"], 0.99);
    assert_eq!(json["process"]["counted"]["slowdown"], 3.44);
    assert_eq!(json["process"]["counted"]["slowdown_limit"], 2.0);
    for name in ["good", "what", "seen"] {
        assert!(!json["findings"][0][name].is_null(), "{name}");
    }
}

#[test]
fn slowdowns_read_well() {
    let of = [(1.0, false), (3.44, false), (9.96, false), (41.2, true)]
        .map(|(factor, least)| slowdown(factor, least));
    assert_eq!(of, ["1.0x", "3.4x", "10x", "over 41x"]);
}
