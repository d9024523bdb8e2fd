//! A made-up machine whose stacks are known, and what the walk makes of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::unwind::tests::Plain;
use crate::unwind::{Module, Page, Row};

/// Where the code of the tests is mapped, and which address that is in its file.
const CODE: u64 = 0x7f00_0000_0000;
const FILE: u64 = 0x40_0000;
/// The stack pointer at a hit.
const STACK: u64 = 0x7ffd_0000_1000;

/// A machine with words in memory and one module, in which each function has 256 bytes of code and one rule.
#[derive(Default)]
struct Machine {
    words: HashMap<u64, u64>,
    tables: Plain,
}

impl UserMemory for Machine {
    fn word(&self, address: u64) -> Result<u64, Fault> {
        self.words.get(&address).copied().ok_or(Fault)
    }

    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        for (at, word) in (0..u64::from(len / 8)).zip(out.iter_mut()) {
            *word = self.word(address.wrapping_add(at * 8))?;
        }
        Ok(())
    }

    fn text<const WORDS: usize>(&self, _: u64, out: &mut [u64; WORDS]) {
        *out = [0; WORDS];
    }
}

impl Machine {
    /// Functions with these rules.
    fn new(rules: &[Rule]) -> Self {
        let mut tables = Plain { rules: vec![Rule::NONE], ..Plain::default() };
        for (number, rule) in (0u16..).zip(rules) {
            tables.rows.push(Row::new(number * 256, number + 1));
            tables.rules.push(*rule);
        }
        tables.pages.push(Page::new(0, tables.rows.len() as u32));
        let end = CODE + 256 * rules.len() as u64;
        tables.modules.push(Module {
            start: CODE,
            end,
            delta: FILE.wrapping_sub(CODE),
            page_base: (FILE >> 16) as u32,
            first_page: 0,
            pages: 1,
            reserved: 0,
        });
        Self { words: HashMap::new(), tables }
    }

    /// Fills a stretch of the stack with words that are no addresses of code.
    fn fill_stack(&mut self, words: u64) {
        for at in 0..words {
            self.words.entry(STACK + at * 8).or_insert(at);
        }
    }

    fn wish(&self) -> Wish {
        Wish {
            view: View::new(1, 0, self.tables.modules.len() as u16),
            full: true,
            max_depth: MAX_DEPTH as u32,
            replaced: (0, 0),
        }
    }

    fn walk(&self, begin: Begin, wish: Wish) -> Native {
        let mut native = Native::default();
        self.walk_again(begin, wish, &mut native);
        native
    }

    fn walk_again(&self, begin: Begin, wish: Wish, native: &mut Native) {
        let mut window = Window::default();
        native.begin(begin);
        for _ in 0..40 {
            if !native.walk(self, &self.tables, wish, &mut window, 8) {
                return;
            }
        }
        panic!("a walk of {} frames does not end", native.depth);
    }
}

/// An address in a function, as a return address.
fn inside(function: u64) -> u64 {
    CODE + 256 * function + 17
}

/// A walk that begins in function 0 and records from there.
fn at_hit() -> Begin {
    let ip = inside(0) - 1;
    Begin { ip, sp: STACK, rbp: 0x99, caller: ip + 1, ..Begin::default() }
}

const PUSHED_TWO: Rule = Rule::new(Cfa::Rsp, 3, Rbp::Same, 0);
const BOTTOM: Rule = Rule::new(Cfa::Outermost, 0, Rbp::Same, 0);

fn end(native: &Native) -> NativeEnd {
    NativeEnd::from_code(native.end)
}

#[test]
fn frames_come_innermost_first() {
    let mut machine = Machine::new(&[PUSHED_TWO, Rule::new(Cfa::Rsp, 1, Rbp::Same, 0), BOTTOM]);
    machine.fill_stack(100);
    machine.words.insert(STACK + 16, inside(1));
    machine.words.insert(STACK + 24, inside(2));
    let native = machine.walk(at_hit(), machine.wish());
    assert_eq!(
        (end(&native), native.recorded()),
        (NativeEnd::Outermost, &[inside(0), inside(1), inside(2)][..])
    );
}

#[test]
fn a_frame_pointer_is_followed_where_the_rule_says_so_and_restored_on_the_way() {
    // 0 keeps rbp on the stack and uses it for itself; 1 is found by it; 2 by what 1 saved.
    let saves = Rule::new(Cfa::Rsp, 3, Rbp::AtCfa, -2);
    let by_rbp = Rule::new(Cfa::Rbp, 2, Rbp::AtCfa, -2);
    let mut machine = Machine::new(&[saves, by_rbp, by_rbp, BOTTOM]);
    machine.fill_stack(100);
    let frame = |at: u64| STACK + at * 8;
    machine.words.extend([(frame(1), frame(10)), (frame(2), inside(1))]);
    machine.words.extend([(frame(10), frame(40)), (frame(11), inside(2))]);
    machine.words.extend([(frame(40), 0), (frame(41), inside(3))]);
    let native = machine.walk(at_hit(), machine.wish());
    assert_eq!(end(&native), NativeEnd::Outermost);
    assert_eq!(native.recorded(), [inside(0), inside(1), inside(2), inside(3)]);
}

#[test]
fn an_aligned_stack_is_left_by_the_word_that_its_function_saved() {
    let aligned = Rule::new(Cfa::AtRbp, -1, Rbp::AtRbp, 0);
    let mut machine = Machine::new(&[aligned, Rule::new(Cfa::Rbp, 2, Rbp::Same, 0), BOTTOM]);
    machine.fill_stack(100);
    let rbp = STACK + 64;
    machine.words.extend([(rbp - 8, STACK + 200), (rbp, STACK + 400), (STACK + 192, inside(1))]);
    machine.words.insert(STACK + 408, inside(2));
    let native = machine.walk(Begin { rbp, ..at_hit() }, machine.wish());
    assert_eq!(
        (end(&native), native.recorded()),
        (NativeEnd::Outermost, &[inside(0), inside(1), inside(2)][..])
    );
}

#[test]
fn a_stub_of_the_linker_has_pushed_from_a_place_in_it_on() {
    let stub = Rule::new(Cfa::Plt, 11, Rbp::Same, 0);
    let mut machine = Machine::new(&[stub, BOTTOM]);
    machine.fill_stack(100);
    machine.words.insert(STACK, inside(1));
    machine.words.insert(STACK + 8, inside(1) + 1);
    let at = |low: u64| Begin { ip: CODE + 32 + low, ..at_hit() };
    assert_eq!(machine.walk(at(6), machine.wish()).recorded()[1], inside(1));
    assert_eq!(machine.walk(at(11), machine.wish()).recorded()[1], inside(1) + 1);
}

#[test]
fn a_signal_is_stepped_over_to_what_it_interrupted() {
    let signal = Rule::new(Cfa::Signal, 0, Rbp::Same, 0);
    let mut machine = Machine::new(&[PUSHED_TWO, signal, Rule::new(Cfa::Rbp, 2, Rbp::Same, 0), BOTTOM]);
    machine.fill_stack(200);
    machine.words.insert(STACK + 16, inside(1));
    let frame = STACK + 24;
    // The interrupted function was about to run its first instruction, and the handler had a stack of its own, above.
    let other = STACK - 0x800;
    machine.words.extend([(frame + 120, other + 64), (frame + 160, other), (frame + 168, CODE + 512)]);
    machine.words.insert(other + 72, inside(3));
    let native = machine.walk(at_hit(), machine.wish());
    assert_eq!(end(&native), NativeEnd::Outermost);
    assert_eq!(native.recorded(), [inside(0), inside(1), CODE + 513, inside(3)]);
}

#[test]
fn recording_begins_with_who_asked() {
    let mut machine = Machine::new(&[PUSHED_TWO, PUSHED_TWO, BOTTOM]);
    machine.fill_stack(100);
    machine.words.extend([(STACK + 16, inside(1)), (STACK + 40, inside(2))]);
    let begin = Begin { caller: inside(1) + 4, caller_slot: STACK + 16, ..at_hit() };
    let native = machine.walk(begin, machine.wish());
    assert_eq!(
        native.recorded(),
        [inside(1) + 4, inside(2)],
        "as the hit knows the place, from then on as it is walked"
    );
    // A function that has just returned to who asked.
    let begin = Begin { slot: STACK - 8, caller: inside(0), caller_slot: STACK - 8, ..at_hit() };
    assert_eq!(machine.walk(begin, machine.wish()).recorded(), [inside(0), inside(1), inside(2)]);
    // The place is missed: then it comes before all that is found.
    let begin = Begin { caller: 7, caller_slot: STACK + 20, ..at_hit() };
    assert_eq!(machine.walk(begin, machine.wish()).recorded(), [7, inside(2)]);
}

#[test]
fn a_leaf_ends_at_the_evaluator_and_a_full_walk_marks_it() {
    let mut machine = Machine::new(&[PUSHED_TWO, PUSHED_TWO.of_evaluator(), BOTTOM]);
    machine.fill_stack(100);
    machine.words.extend([(STACK + 16, inside(1)), (STACK + 40, inside(2))]);
    let full = machine.walk(at_hit(), machine.wish());
    assert_eq!(full.recorded(), [inside(0), inside(1) | EVALUATOR, inside(2)]);
    let leaf = machine.walk(at_hit(), Wish { full: false, ..machine.wish() });
    assert_eq!((end(&leaf), leaf.recorded()), (NativeEnd::Evaluator, &[inside(0)][..]));
    // An allocation that was inlined into the evaluator itself.
    let begin = Begin { ip: inside(1) - 1, ..at_hit() };
    let leaf = machine.walk(begin, Wish { full: false, ..machine.wish() });
    assert_eq!((end(&leaf), leaf.recorded()), (NativeEnd::Evaluator, &[][..]));
}

#[test]
fn a_return_address_that_a_probe_has_replaced_is_put_back() {
    let mut machine = Machine::new(&[PUSHED_TWO, BOTTOM]);
    machine.fill_stack(100);
    machine.words.insert(STACK + 16, 0x7fff_ffff_e000);
    let wish = Wish { replaced: (STACK + 16, inside(1)), ..machine.wish() };
    assert_eq!(machine.walk(at_hit(), wish).recorded(), [inside(0), inside(1)]);
    assert_eq!(end(&machine.walk(at_hit(), machine.wish())), NativeEnd::NoModule);
}

#[test]
fn every_other_end_has_its_reason() {
    let ends = |rule: Rule| {
        let mut machine = Machine::new(&[rule, Rule::NONE]);
        machine.fill_stack(10);
        machine.words.insert(STACK + 16, inside(1));
        end(&machine.walk(at_hit(), machine.wish()))
    };
    assert_eq!(ends(PUSHED_TWO), NativeEnd::NoRows);
    assert_eq!(ends(Rule::new(Cfa::Rsp, 2, Rbp::Same, 0)), NativeEnd::NoModule);
    assert_eq!(ends(Rule::new(Cfa::Rsp, 40, Rbp::Same, 0)), NativeEnd::Fault);
    // A saved frame pointer that cannot be read may never be needed.
    assert_eq!(ends(Rule::new(Cfa::Rsp, 3, Rbp::AtCfa, -200)), NativeEnd::NoRows);
    assert_eq!(ends(Rule::new(Cfa::AtRsp, 90, Rbp::Same, 0)), NativeEnd::Fault);
    assert_eq!(ends(Rule::new(Cfa::Signal, 0, Rbp::Same, 0)), NativeEnd::Fault);
    assert_eq!(ends(Rule::new(Cfa::Unsupported, 0, Rbp::Same, 0)), NativeEnd::Rule);
    assert_eq!(ends(Rule::new(Cfa::Rsp, 0, Rbp::Same, 0)), NativeEnd::Astray);
    assert_eq!(ends(Rule::new(Cfa::Rbp, -1, Rbp::Same, 0)), NativeEnd::Astray);
    assert_eq!(ends(Rule(u64::MAX)), NativeEnd::Rule);
    // The place of a word that is 0 is the end of a thread's stack.
    assert_eq!(ends(Rule::new(Cfa::Rsp, 1, Rbp::Same, 0)), NativeEnd::Outermost);
}

#[test]
fn a_walk_that_cannot_reach_who_asked_still_names_it() {
    let mut machine = Machine::new(&[Rule::new(Cfa::Unsupported, 0, Rbp::Same, 0)]);
    machine.fill_stack(10);
    let begin = Begin { caller: 77, caller_slot: STACK + 48, ..at_hit() };
    let native = machine.walk(begin, machine.wish());
    assert_eq!((end(&native), native.recorded()), (NativeEnd::Rule, &[77][..]));
}

#[test]
fn endless_stacks_end() {
    let mut machine = Machine::new(&[Rule::new(Cfa::Rsp, 1, Rbp::Same, 0)]);
    for at in 0..1000 {
        machine.words.insert(STACK + at * 8, inside(0));
    }
    let native = machine.walk(at_hit(), Wish { max_depth: 64, ..machine.wish() });
    assert_eq!((end(&native), native.recorded().len()), (NativeEnd::Depth, 64));
    let native = machine.walk(at_hit(), Wish { max_depth: 5000, ..machine.wish() });
    assert_eq!((end(&native), native.recorded().len()), (NativeEnd::Depth, MAX_DEPTH));
}

#[test]
fn a_new_view_forgets_the_rules_of_the_old_one() {
    let mut machine = Machine::new(&[PUSHED_TWO, BOTTOM]);
    machine.fill_stack(100);
    machine.words.extend([(STACK + 16, inside(1)), (STACK + 40, inside(1))]);
    let mut native = machine.walk(at_hit(), machine.wish());
    machine.tables.rules[1] = Rule::new(Cfa::Rsp, 6, Rbp::Same, 0);
    machine.walk_again(at_hit(), machine.wish(), &mut native);
    assert_eq!(native.recorded().len(), 2, "the thread remembers its rules");
    machine.words.remove(&(STACK + 16));
    machine.walk_again(at_hit(), Wish { view: View::new(2, 0, 1), ..machine.wish() }, &mut native);
    assert_eq!(native.recorded(), [inside(0), inside(1)]);
}

proptest! {
    /// Calls of random sizes, some with a frame pointer, come back in their order, whatever the walk before has left in the window's guess.
    #[test]
    fn every_stack_of_calls_is_walked_back(
        calls in proptest::collection::vec((1i16..200, proptest::bool::ANY), 1..100),
        guess in 0u64..20_000,
    ) {
        // Function i has a frame of so many words; one with a frame pointer saves its caller's in the word below its return address.
        let mut rules: Vec<_> = calls.iter().map(|&(words, by_rbp)| {
            if by_rbp { Rule::new(Cfa::Rbp, 2, Rbp::AtCfa, -2) } else { Rule::new(Cfa::Rsp, words + 1, Rbp::Same, 0) }
        }).collect();
        rules.push(BOTTOM);
        let mut machine = Machine::new(&rules);
        let mut sp = STACK;
        let mut places = Vec::new();
        for (number, &(words, by_rbp)) in (1u64..).zip(&calls) {
            let cfa = sp + (words as u64 + 1) * 8;
            machine.words.insert(cfa - 8, inside(number));
            if by_rbp {
                places.push(cfa - 16);
            }
            sp = cfa;
        }
        let mut outer = 0x99;
        for place in places.iter().rev() {
            machine.words.insert(*place, outer);
            outer = *place;
        }
        machine.fill_stack((sp - STACK) / 8);
        let mut native = Native { extent: guess, ..Native::default() };
        machine.walk_again(Begin { rbp: outer, ..at_hit() }, machine.wish(), &mut native);
        let expected: Vec<_> = (0..=calls.len() as u64).map(inside).collect();
        prop_assert_eq!((end(&native), native.recorded()), (NativeEnd::Outermost, &expected[..]));
        // Again, with what it remembers now.
        machine.walk_again(Begin { rbp: outer, ..at_hit() }, machine.wish(), &mut native);
        prop_assert_eq!(native.recorded(), &expected[..]);
    }

    #[test]
    fn hostile_memory_never_panics(words: Vec<u64>, rules: Vec<u64>, sp: u64, rbp: u64, ip: u64, caller_slot: u64) {
        let rules: Vec<_> = rules.into_iter().take(200).map(Rule).collect();
        let mut machine = Machine::new(&rules);
        for (at, word) in (0..).zip(words) {
            machine.words.insert(sp.wrapping_add(at * 8), word);
        }
        let begin = Begin { ip: CODE + ip % 60_000, sp, rbp, slot: 0, caller_slot, caller: 1, seed: 2 };
        machine.walk(begin, machine.wish());
    }
}
