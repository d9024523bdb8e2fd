//! The search against the plainest one, in tables that are honest and in tables that are not.

use super::*;
use proptest::prelude::*;

/// Tables in plain lists.
#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) modules: Vec<Module>,
    pub(crate) pages: Vec<Page>,
    pub(crate) rows: Vec<Row>,
    pub(crate) rules: Vec<Rule>,
}

impl Tables for Plain {
    fn module(&self, place: u32) -> Option<Module> {
        self.modules.get(place as usize).copied()
    }
    fn page(&self, place: u32) -> Option<Page> {
        self.pages.get(place as usize).copied()
    }
    fn row(&self, place: u32) -> Option<Row> {
        self.rows.get(place as usize).copied()
    }
    fn rule(&self, number: u16) -> Option<Rule> {
        self.rules.get(usize::from(number)).copied()
    }
}

#[test]
fn a_rule_comes_out_as_it_went_in() {
    let rule = Rule::new(Cfa::AtRbp, -1, Rbp::AtCfa, -2).of_evaluator();
    assert_eq!((rule.cfa(), rule.rbp()), (Cfa::AtRbp as u8, Rbp::AtCfa as u8));
    assert_eq!((rule.cfa_offset() as i64, rule.rbp_offset() as i64), (-8, -16));
    assert!(rule.is_evaluator() && !Rule::NONE.is_evaluator());
    let found = rule.found_in(MAX_PAGES - 1);
    assert_eq!((found.file(), found.cfa(), found.rbp()), (u64::from(MAX_PAGES) - 1, rule.cfa(), rule.rbp()));
    assert_eq!((found.cfa_offset() as i64, found.rbp_offset() as i64), (-8, -16));
    assert!(found.is_evaluator() && rule.file() == 0 && found.bare() == rule);
}

#[test]
fn a_view_comes_out_as_it_went_in() {
    let view = View::new(7, 2048, 150);
    assert_eq!((view.generation(), view.first(), view.count()), (7, 2048, 150));
}

proptest! {
    /// Against the plainest search: the last row at or below the address, in the module that holds it.
    #[test]
    fn the_search_finds_what_a_scan_finds(
        starts in proptest::collection::btree_set(0u64..64, 0..20),
        lows in proptest::collection::btree_set(1u16..200, 0..60),
        address in 0u64..(70 << PAGE_BITS),
    ) {
        let mut tables = Plain { rules: vec![Rule::NONE], ..Plain::default() };
        tables.rows.push(Row::new(0, 0));
        for (number, low) in (1u16..).zip(&lows) {
            tables.rules.push(Rule::new(Cfa::Rsp, number as i16, Rbp::Same, 0));
            tables.rows.push(Row::new(*low, number));
        }
        tables.pages.push(Page::new(0, tables.rows.len() as u32));
        let size = 1 << PAGE_BITS;
        tables.modules = starts
            .iter()
            .map(|start| Module { start: start * size, end: start * size + 150, delta: 0u64.wrapping_sub(start * size), pages: 1, ..Module::default() })
            .collect();
        let view = View::new(1, 0, tables.modules.len() as u16);
        let module = tables.modules.iter().find(|module| module.start <= address && address < module.end);
        let expected = match module {
            None => Err(Missing::Module),
            Some(module) => {
                let low = address - module.start;
                let number = lows.iter().filter(|at| u64::from(**at) <= low).count();
                if number == 0 { Err(Missing::Row) } else { Ok(tables.rules[number]) }
            }
        };
        prop_assert_eq!(find(&tables, view, address), expected);
    }

    #[test]
    fn hostile_tables_never_panic(pages: Vec<u64>, rows: Vec<u32>, rules: Vec<u64>, modules: Vec<(u64, u64, u64, u32, u32, u32)>, view: u64, address: u64) {
        let modules = modules.into_iter().map(|(start, end, delta, page_base, first_page, pages)| Module { start, end, delta, page_base, first_page, pages, reserved: 0 });
        let tables = Plain {
            modules: modules.collect(),
            pages: pages.into_iter().map(Page).collect(),
            rows: rows.into_iter().map(Row).collect(),
            rules: rules.into_iter().map(Rule).collect(),
        };
        let _ = find(&tables, View(view), address);
    }
}
