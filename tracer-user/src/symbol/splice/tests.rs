//! The order of mixed stacks: by hand for each way in which C and Python call each other, and at random.

use proptest::prelude::*;

use super::*;

/// A stack as the program sees it, in words: C functions as they are, `eval` for a call of the evaluator, Python functions in the words behind it: `name` was
/// called by the next, `name!` was called from C, `shim` is 3.12's.
struct Told<'a> {
    native: Vec<&'a str>,
    python: Vec<&'a str>,
}

impl Told<'_> {
    fn splice(&self, native_end: NativeEnd, python_whole: bool) -> (Vec<String>, Option<Misfit>) {
        let native: Vec<u64> =
            self.native.iter().map(|name| if *name == "eval" { EVALUATOR | 0x40 } else { 0x10 }).collect();
        let mark = |name: &&str| match *name {
            "shim" => Mark::Shim,
            name => Mark::of(name.ends_with('!'), name.ends_with("~!")),
        };
        let python: Vec<Mark> = self.python.iter().map(mark).collect();
        let walks = Walks { native: &native, native_end, python: &python, python_whole };
        let Spliced { order, misfit } = splice(&walks);
        let name = |piece: Piece| match piece {
            Piece::Native(at) => self.native[at].to_owned(),
            Piece::Python(at) => self.python[at].trim_end_matches(['!', '~']).to_owned(),
        };
        (order.into_iter().map(name).collect(), misfit)
    }
}

/// Lays two walks, written as words, side by side.
fn spliced(native: &str, native_end: NativeEnd, python: &str) -> (String, Option<Misfit>) {
    let told =
        Told { native: native.split_whitespace().collect(), python: python.split_whitespace().collect() };
    let (names, misfit) = told.splice(native_end, true);
    (names.join(" "), misfit)
}

#[track_caller]
fn assert_whole(native: &str, python: &str, expected: &str) {
    assert_eq!(spliced(native, NativeEnd::Whole, python), (expected.to_owned(), None));
}

#[test]
fn leaf_is_c_and_then_python() {
    let leaf = |native, python| spliced(native, NativeEnd::Leaf, python);
    assert_eq!(
        leaf("PyLong_FromLong leak", "handler main!"),
        ("PyLong_FromLong leak handler main".to_owned(), None)
    );
    // The evaluator itself allocates: it is the first C frame, and not recorded.
    assert_eq!(leaf("", "handler key! main!"), ("handler key main".to_owned(), None));
    assert_eq!(leaf("", ""), (String::new(), None));
}

#[test]
fn calls_from_python_to_python_share_an_evaluator() {
    assert_whole(
        "leak cfunction_call eval vector run_main main",
        "helper handler main!",
        "leak cfunction_call helper handler main vector run_main main",
    );
    assert_whole("eval vector", "helper main!", "helper main vector");
}

#[test]
fn c_calls_back_into_python() {
    assert_whole(
        "leak eval function_vectorcall list_sort eval vector",
        "key! inner main!",
        "leak key function_vectorcall list_sort inner main vector",
    );
    assert_whole(
        "new_list eval vectorcall map_next list_extend eval vector main",
        "lambda! load main!",
        "new_list lambda vectorcall map_next list_extend load main vector main",
    );
}

/// `_PyFrame_Clear` runs `__del__` while the frame that is cleared is still linked; when `_PyEval_Vector` clears it, both of its frames are gone.
#[test]
fn finalizers() {
    assert_whole(
        "dict_new eval vectorcall slot_tp_finalize frame_clear eval vector",
        "__del__! returning main!",
        "dict_new __del__ vectorcall slot_tp_finalize frame_clear returning main vector",
    );
    assert_whole(
        "dict_new eval vectorcall slot_tp_finalize frame_clear PyEval_Vector list_sort eval vector",
        "__del__! main!",
        "dict_new __del__ vectorcall slot_tp_finalize frame_clear PyEval_Vector list_sort main vector",
    );
}

#[test]
fn generators_and_coroutines_have_an_evaluator_each() {
    assert_whole(
        "eval gen_send_ex2 gen_iternext eval gen_send_ex2 eval vector",
        "inner! outer! main!",
        "inner gen_send_ex2 gen_iternext outer gen_send_ex2 main vector",
    );
    assert_whole(
        "leak eval gen_send_ex2 PyIter_Send eval gen_send_ex2 task_step eval vector",
        "read handle! task! run_once loop!",
        "leak read handle gen_send_ex2 PyIter_Send task gen_send_ex2 task_step run_once loop vector",
    );
}

/// `_gen_throw` links the outer generators (`~`: suspended) without an evaluator. Taken as run by one, they would move `main` behind `vector`.
#[test]
fn a_thrown_exception_passes_through_generators_that_no_evaluator_runs() {
    assert_whole(
        "leak eval gen_send_ex gen_throw_ gen_throw_ gen_throw eval vector",
        "inner! middle~! outer~! helper main!",
        "leak inner gen_send_ex gen_throw_ gen_throw_ gen_throw middle outer helper main vector",
    );
    assert_whole(
        "new_exception gen_throw_ gen_throw_ gen_throw eval vector",
        "middle~! outer~! main!",
        "new_exception gen_throw_ gen_throw_ gen_throw middle outer main vector",
    );
}

/// Until it has found its handler, the generator that the exception went to stands at its `YIELD_VALUE`, too; that is when its traceback is made.
#[test]
fn a_generator_in_which_an_exception_is_raised_is_run() {
    assert_whole(
        "new_traceback eval gen_send_ex gen_throw_ gen_throw_ gen_throw eval vector",
        "thrown~! middle~! outer~! helper main!",
        "new_traceback thrown gen_send_ex gen_throw_ gen_throw_ gen_throw middle outer helper main vector",
    );
    assert_whole(
        "new_traceback eval gen_close eval vector",
        "closed~! main!",
        "new_traceback closed gen_close main vector",
    );
    // A trace function in it, and a trace function that is told of a yield.
    assert_whole(
        "new_int eval call_trace eval gen_send_ex gen_throw_ gen_throw eval vector",
        "trace! thrown~! outer~! main!",
        "new_int trace call_trace thrown gen_send_ex gen_throw_ gen_throw outer main vector",
    );
    assert_whole(
        "new_int eval call_trace eval gen_iternext eval vector",
        "trace! yielding~! main!",
        "new_int trace call_trace yielding gen_iternext main vector",
    );
}

/// Where the evaluators cannot be counted, the innermost frame is taken for run and others for passed through: making the traceback, and the handler, allocate most.
#[test]
fn suspended_frames_of_a_cut_stack() {
    let cut = |native, python| spliced(native, NativeEnd::Cut, python).0;
    assert_eq!(
        cut("new_traceback eval gen_send_ex gen_throw_ eval", "thrown~! outer~! main!"),
        "new_traceback thrown gen_send_ex gen_throw_ outer main"
    );
    assert_eq!(
        cut("new_list eval gen_send_ex gen_throw_ eval call", "thrown! outer~! main!"),
        "new_list thrown gen_send_ex gen_throw_ outer main call"
    );
}

#[test]
fn recursion_of_c_and_python() {
    assert_whole(
        "leak eval call repr eval call repr eval call repr eval vector",
        "f! g f! g f! main!",
        "leak f call repr g f call repr g f call repr main vector",
    );
    assert_whole("a eval a eval a eval a", "p! p! p!", "a p a p a p a");
}

#[test]
fn shims_are_calls_of_the_evaluator_without_a_frame() {
    assert_whole(
        "dict_new eval slot_tp_finalize frame_clear eval vectorcall sort eval vector",
        "__del__! shim main!",
        "dict_new __del__ slot_tp_finalize frame_clear vectorcall sort main vector",
    );
}

#[test]
fn a_thread_without_python() {
    assert_whole("leak worker start_thread clone", "", "leak worker start_thread clone");
    let told = Told { native: vec!["write", "eval", "vector", "eval", "main"], python: vec![] };
    let without_the_gil = told.splice(NativeEnd::Whole, false);
    assert_eq!(without_the_gil, (["write", "vector", "main"].map(str::to_owned).to_vec(), None));
}

#[test]
fn a_cut_c_stack_says_where_frames_are_missing() {
    let cut = |native, python| spliced(native, NativeEnd::Cut, python);
    assert_eq!(
        cut("leak eval sort", "key! helper main!"),
        ("leak key sort helper main".to_owned(), Some(Misfit::CutInside))
    );
    assert_eq!(cut("leak", "key! main!"), ("leak key main".to_owned(), Some(Misfit::CutInside)));
    assert_eq!(
        cut("leak eval vector", "helper main!"),
        ("leak helper main vector".to_owned(), Some(Misfit::CutOutside))
    );
}

#[test]
fn a_cut_python_stack_leaves_the_outer_c_frames() {
    let told =
        Told { native: vec!["leak", "eval", "sort", "eval", "vector", "main"], python: vec!["key!", "f"] };
    let (names, misfit) = told.splice(NativeEnd::Whole, false);
    assert_eq!((names.join(" "), misfit), ("leak key sort f vector main".to_owned(), None));
}

#[test]
fn other_stacks_at_the_outer_end_move_nothing() {
    let greenlet =
        spliced("leak eval call g_initialstub eval vector main", NativeEnd::Whole, "handler worker!");
    assert_eq!(
        greenlet,
        ("leak handler worker call g_initialstub vector main".to_owned(), Some(Misfit::EvaluatorsLeft))
    );
    let fiber = spliced("leak eval call fiber_start", NativeEnd::Whole, "callback! resume main!");
    assert_eq!(fiber, ("leak callback call fiber_start resume main".to_owned(), Some(Misfit::FramesLeft)));
}

/// A call of the program: a C function, or the evaluator with its Python frames.
#[derive(Clone, Debug)]
enum Call {
    C,
    /// Marks of its frames.
    Evaluator(Vec<Mark>),
}

fn any_calls() -> impl Strategy<Value = Vec<Call>> {
    let evaluator = (0usize..5).prop_map(|inner| {
        Call::Evaluator(std::iter::repeat_n(Mark::Inner, inner).chain([Mark::Entry]).collect())
    });
    let shim = Just(Call::Evaluator(vec![Mark::Shim]));
    prop::collection::vec(prop_oneof![3 => Just(Call::C), 2 => evaluator, 1 => shim], 0..40)
}

/// Calls of all kinds, and one exception at most that was thrown into generators: they are passed through, and the last one may still stand at its `YIELD_VALUE`.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    (any_calls(), 0usize..40, 0usize..4, any::<bool>()).prop_map(|(mut calls, at, passed, raising)| {
        if let Some(Call::Evaluator(thrower)) = calls.get_mut(at) {
            thrower.splice(0..0, std::iter::repeat_n(Mark::Suspended, passed));
            if raising {
                calls.splice(at..at, [Call::Evaluator(vec![Mark::Suspended]), Call::C]);
            }
        }
        calls
    })
}

/// What the two walks of these calls would see, and the stack that they come from.
fn walked(calls: &[Call]) -> (Vec<u64>, Vec<Mark>, Vec<Piece>) {
    let (mut native, mut python, mut stack) = (Vec::new(), Vec::new(), Vec::new());
    for call in calls {
        match call {
            Call::C => {
                stack.push(Piece::Native(native.len()));
                native.push(0x1000);
            }
            Call::Evaluator(marks) => {
                native.push(EVALUATOR | 0x2000);
                for &mark in marks {
                    if mark != Mark::Shim {
                        stack.push(Piece::Python(python.len()));
                    }
                    python.push(mark);
                }
            }
        }
    }
    (native, python, stack)
}

/// The indices of one kind in an order.
fn of_kind(order: &[Piece]) -> (Vec<usize>, Vec<usize>) {
    let native =
        order.iter().filter_map(|piece| if let Piece::Native(at) = piece { Some(*at) } else { None });
    let python =
        order.iter().filter_map(|piece| if let Piece::Python(at) = piece { Some(*at) } else { None });
    (native.collect(), python.collect())
}

fn any_mark() -> impl Strategy<Value = Mark> {
    prop_oneof![Just(Mark::Inner), Just(Mark::Entry), Just(Mark::Suspended), Just(Mark::Shim)]
}

fn any_end() -> impl Strategy<Value = NativeEnd> {
    prop_oneof![Just(NativeEnd::Whole), Just(NativeEnd::Leaf), Just(NativeEnd::Cut)]
}

proptest! {
    #[test]
    fn the_stack_comes_back(calls in calls()) {
        let (native, python, stack) = walked(&calls);
        let walks = Walks { native: &native, native_end: NativeEnd::Whole, python: &python, python_whole: true };
        prop_assert_eq!(splice(&walks), Spliced { order: stack, misfit: None });
    }

    /// Up to the cut nothing changes; behind it, what is known follows.
    #[test]
    fn a_cut_c_stack_loses_only_what_was_cut(calls in any_calls(), cut in 0usize..40) {
        let (native, python, stack) = walked(&calls);
        let kept = cut.min(native.len());
        let walks = Walks { native: &native[..kept], native_end: NativeEnd::Cut, python: &python, python_whole: true };
        let Spliced { order, misfit } = splice(&walks);
        let expected: Vec<Piece> =
            stack.iter().copied().filter(|piece| !matches!(piece, Piece::Native(at) if *at >= kept)).collect();
        prop_assert_eq!(order, expected);
        prop_assert!(matches!(misfit, Some(Misfit::CutInside | Misfit::CutOutside)));
    }

    #[test]
    fn a_cut_python_stack_loses_only_what_was_cut(calls in any_calls(), cut in 0usize..100) {
        let (native, python, stack) = walked(&calls);
        let kept = cut.min(python.len());
        let walks = Walks { native: &native, native_end: NativeEnd::Whole, python: &python[..kept], python_whole: false };
        let expected: Vec<Piece> =
            stack.iter().copied().filter(|piece| !matches!(piece, Piece::Python(at) if *at >= kept)).collect();
        prop_assert_eq!(splice(&walks), Spliced { order: expected, misfit: None });
    }

    #[test]
    fn every_frame_comes_out_once_and_in_order(
        native in prop::collection::vec(any::<u64>(), 0..60),
        native_end in any_end(),
        python in prop::collection::vec(any_mark(), 0..60),
        python_whole: bool,
    ) {
        let order = splice(&Walks { native: &native, native_end, python: &python, python_whole }).order;
        let plain = native.iter().enumerate().filter(|(_, address)| **address & EVALUATOR == 0);
        let frames = python.iter().enumerate().filter(|(_, mark)| **mark != Mark::Shim);
        let expected = (plain.map(|(at, _)| at).collect(), frames.map(|(at, _)| at).collect());
        prop_assert_eq!(of_kind(&order), expected);
    }
}
