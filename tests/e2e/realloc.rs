//! `realloc` in all its cases: what lives at the end is what the containers hold.

use unshed_tests::interpreters::on_each;

use crate::record;

#[test]
fn lists_bytearrays_and_dicts_that_grow_and_shrink_hold_what_is_reported() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "realloc_heavy.py", &[]);
        let functions = ["work_lists", "work_arrays", "work_dicts"];
        let mine = |function: &str| functions.contains(&function);
        let sites =
            report.sites.iter().filter(|site| site.python().is_some_and(|frame| mine(&frame.function)));
        let live: u64 = sites.map(|site| site.live_bytes).sum();
        truth.assert_live_bytes(live, &format!("live bytes of {functions:?}\n{}", report.worst()));
        assert_eq!(
            report.loss("address_reborn"),
            0,
            "a moved block's old address was not given up\n{}",
            report.worst()
        );
    });
}
