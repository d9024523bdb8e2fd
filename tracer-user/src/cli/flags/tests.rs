//! What is taken from the command line, and what is refused.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Flags::command().debug_assert();
}

#[test]
fn durations_have_units() {
    assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
    assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    for wrong in ["", "s", "-1", "1y", "0", "1e99", "nan", "inf"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_limit_of_the_slowdown_is_a_factor_of_an_exact_trace() {
    let typed = |more: &[&str]| {
        let args = [&["unshed", "record", "-p", "1"], more].concat();
        let Verb::Record(record) = Flags::try_parse_from(args).ok()?.verb else { return None };
        Some(record.max_slowdown)
    };
    assert_eq!(typed(&["--exact"]), Some(None));
    assert_eq!(typed(&["--exact", "--max-slowdown", "1.5"]), Some(Some(1.5)));
    assert_eq!(typed(&["--exact", "--max-slowdown", "inf"]), Some(Some(f64::INFINITY)));
    for wrong in [&["--exact", "--max-slowdown"][..], &["--max-slowdown", "3"]] {
        assert_eq!(typed(wrong), None);
    }
    for wrong in ["0.9", "0", "-1", "nan", "", "2x"] {
        assert_eq!(typed(&["--exact", "--max-slowdown", wrong]), None, "{wrong}");
    }
}

#[test]
fn a_target_is_required_and_only_one() {
    assert!(Flags::try_parse_from(["unshed", "record"]).is_err());
    assert!(Flags::try_parse_from(["unshed", "record", "-p", "1", "--", "python3"]).is_err());
    assert!(Flags::try_parse_from(["unshed", "record", "-p", "0"]).is_err());
    assert!(Flags::try_parse_from(["unshed", "record", "--", "python3", "-c", "1"]).is_ok());
}

/// What `record -p 1` and more words are taken for.
fn record(more: &[&str]) -> Option<Record> {
    let args = [&["unshed", "record", "-p", "1"], more].concat();
    let Verb::Record(record) = Flags::try_parse_from(args).ok()?.verb else { return None };
    Some(record)
}

#[test]
fn budgets_are_percent_of_a_core() {
    let typed = |percent: &str| record(&["--budget", percent])?.budget;
    assert_eq!(record(&[]).unwrap().budget, None);
    assert_eq!(["1", "0.01", "100", "2.5%"].map(typed), [Some(1.0), Some(0.01), Some(100.0), Some(2.5)]);
    for wrong in ["0", "0.009", "101", "-1", "nan", "inf", "", "%", "1 %"] {
        assert_eq!(typed(wrong), None, "{wrong}");
    }
}

#[test]
fn windows_are_short() {
    let typed = |text: &str| record(&["--window", text])?.window;
    let ms = |ms: f64| Some(Duration::from_secs_f64(ms / 1e3));
    assert_eq!(["2", "0.1", "20ms", "500us"].map(typed), [ms(2.0), ms(0.1), ms(20.0), ms(0.5)]);
    for wrong in ["0", "0.09", "21", "1s", "50us", "nan", "", "ms"] {
        assert_eq!(typed(wrong), None, "{wrong}");
    }
}

#[test]
fn engines_do_not_mix() {
    for right in [
        &["--exact", "--ints", "--older", "1s"][..],
        &["--watch"],
        &["--when", "growing", "--budget", "2", "--window", "1", "--older", "1s"],
    ] {
        assert!(record(right).is_some(), "{right:?}");
    }
    for wrong in [
        &["--exact", "--watch"][..],
        &["--exact", "--budget", "1"],
        &["--exact", "--window", "1"],
        &["--exact", "--when", "now"],
        &["--watch", "--budget", "1"],
        &["--watch", "--window", "1"],
        &["--watch", "--when", "now"],
        &["--watch", "--older", "1s"],
        &["--watch", "--ints"],
        &["--watch", "--max-slowdown", "3"],
        &["--ints", "--budget", "1"],
        &["--max-slowdown", "3", "--window", "1"],
        &["--max-slowdown", "3", "--when", "now"],
    ] {
        assert!(record(wrong).is_none(), "{wrong:?}");
    }
}
