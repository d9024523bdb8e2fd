//! C and Python frames as one stack, in the order in which the program called them. Pure: two lists in, one order out.
//!
//! Python code has no C frames of its own: the evaluator (`_PyEval_EvalFrameDefault`) has one for each call from C, and a call from Python to Python stays inside it. So the evaluator's
//! C frame stands for the Python frames from the innermost that is not placed yet up to and including the next one that was called from C, and is itself left out.
//! The walk over the C stack and the walk along `previous` meet the same calls in the same order; they are laid side by side from the innermost on, because
//! what makes them differ lies further out (another C stack, another thread state), or is known by its mark.
//!
//! Whether an allocation can be hit while the two do not fit was read in CPython 3.11's `Python/ceval.c`, `Objects/genobject.c` and `Python/frame.c`:
//!
//! * They fit while the evaluator begins and ends: nothing allocates before `cframe.current_frame = frame` in the prologue of `_PyEval_EvalFrameDefault`, nor after
//!   `tstate->cframe = cframe.previous` (`RETURN_VALUE`, `YIELD_VALUE`, `RETURN_GENERATOR`, `exit_unwind`). The recursion check comes between the two.
//! * They fit while arguments are bound: `_PyEvalFramePushAndInit` makes `*args`, `**kwargs` and error messages before the frame is linked; the caller is the innermost frame then.
//! * They fit while variables are cleared: `pop_frame` unlinks a frame only when `_PyFrame_Clear`, and so each `__del__`, is done; `_PyEval_Vector` clears the frame that C called when
//!   both the evaluator's C frame and the Python frame are gone. A `__del__` is a call from C like any other.
//! * They fit in generators and coroutines that are resumed: `gen_send_ex2` calls the evaluator anew for each, so each one's frame is marked as called from C.
//! * They fit in `exec`, `import`, callbacks and trace functions, which enter through `_PyEval_Vector`, and in frames that have not begun (`_PyFrame_IsIncomplete`), which the walk keeps.
//! * They do **not** fit in `_gen_throw`: a generator that waits for another one (`yield from`, `await`) and is thrown into is linked as a frame while the exception goes to the inner one, by
//!   C code alone. No evaluator runs it, but it still has the mark of its last call. Every cancelled asyncio task passes here. It stands at the `YIELD_VALUE` that suspended it; so does,
//!   run by an evaluator, a generator in which the exception is being raised, and one whose trace function is told of that yield. How those are told apart: [`Mark::Suspended`].
//!   Held against the C stack of CPython 3.11.7 at 1,300 allocations of a program that throws into generators all the time (the `_PyCFrame` of each call lies in the C frame of its
//!   evaluator): all are paired right, as `ENTRY` alone would pair 878.
//! * They do **not** fit where the C stack has more than this thread state: code run by a greenlet begins a new chain of Python frames on a C stack that goes on, and so does another
//!   interpreter's thread state. Evaluators are left over at the outer end ([`Misfit::EvaluatorsLeft`]).
//! * They do **not** fit where C code has switched to a stack of its own (fibers): Python frames are left over at the outer end ([`Misfit::FramesLeft`]).
//! * From 3.12 on, `RETURN_VALUE` unlinks a frame before it clears it: an evaluator can be the innermost C frame of a `__del__` without a Python frame. Its shim frame is met by the walk
//!   and tells so ([`Mark::Shim`]).

use tracer_common::native::EVALUATOR;

/// What a Python frame says of the evaluator that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was called by the next Python frame, without C code in between; or no evaluator runs it.
    Inner,
    /// C code called the evaluator for it: the outermost Python frame of that call.
    Entry,
    /// As [`Mark::Entry`], but it stands at the instruction that suspended it: either an evaluator runs it, or an exception passes through it to an inner generator. Of such frames
    /// in a row only the innermost can be run. Where both walks are whole, the evaluators that are left for such rows say how many are; else a row is taken for run if it begins the stack.
    Suspended,
    /// No Python frame, but a call of the evaluator that has none at this moment. It never comes out.
    Shim,
}

impl Mark {
    /// The mark of a frame: whether it was called from C ([`tracer_common::frame::PyFrame::ENTRY`]), and whether it stands at the instruction that suspends a generator.
    #[must_use]
    pub const fn of(entry: bool, suspended: bool) -> Self {
        match (entry, suspended) {
            (true, true) => Self::Suspended,
            (true, false) => Self::Entry,
            (false, _) => Self::Inner,
        }
    }
}

/// How the walk over the C frames ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeEnd {
    /// At the outermost frame.
    Whole,
    /// At the first evaluator, which is not in the list: no more was wanted.
    Leaf,
    /// Before that: too deep, unknown code, an unreadable page.
    Cut,
}

/// The two walks of one stack, innermost frames first.
#[derive(Clone, Copy, Debug)]
pub struct Walks<'a> {
    /// Addresses in C code; those of the evaluator with the bit [`EVALUATOR`].
    pub native: &'a [u64],
    /// How that walk ended.
    pub native_end: NativeEnd,
    /// A mark for each Python frame.
    pub python: &'a [Mark],
    /// The walk over the Python frames reached the outermost one. False also when the thread ran no Python code that could be seen.
    pub python_whole: bool,
}

/// A frame, by its index in its own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Index in [`Walks::native`].
    Native(usize),
    /// Index in [`Walks::python`].
    Python(usize),
}

/// How the two walks do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The C stack was cut; Python frames come after it.
    CutInside,
    /// The C stack was cut; all Python frames had been placed.
    CutOutside,
    /// Both were whole, but calls of the evaluator had no Python frames.
    EvaluatorsLeft,
    /// The C stack was whole, but Python frames were left.
    FramesLeft,
}

impl Misfit {
    /// What the reader of the stack must know.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::CutInside => {
                "the C stack could not be followed to its end: C frames between the Python frames are missing"
            }
            Self::CutOutside => "the C stack could not be followed to its end: its outer frames are missing",
            Self::EvaluatorsLeft => {
                "the outer C frames ran Python code of another greenlet or thread state, which is missing"
            }
            Self::FramesLeft => "the outer Python frames ran on another C stack (a fiber), which is missing",
        }
    }
}

/// One stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// Every C frame that is not the evaluator's, and every Python frame, once each and in the order of its list; innermost first.
    pub order: Vec<Piece>,
    /// How the two do not fit, if they do not.
    pub misfit: Option<Misfit>,
}

/// Makes one stack of the two. Takes time in proportion to their lengths, whatever is in them.
#[must_use]
pub fn splice(walks: &Walks<'_>) -> Spliced {
    let mut order = Vec::with_capacity(walks.native.len() + walks.python.len());
    let mut python = Marks { marks: walks.python, next: 0, rows_run: rows_run(walks) };
    let mut empty_calls = false;
    for (at, address) in walks.native.iter().enumerate() {
        if address & EVALUATOR == 0 {
            order.push(Piece::Native(at));
        } else if !python.take_call(&mut order) {
            empty_calls = true;
        }
    }
    let left = python.take_all(&mut order);
    let misfit = match walks.native_end {
        NativeEnd::Leaf => None,
        NativeEnd::Cut if left => Some(Misfit::CutInside),
        NativeEnd::Cut => Some(Misfit::CutOutside),
        NativeEnd::Whole if left => Some(Misfit::FramesLeft),
        NativeEnd::Whole if empty_calls && walks.python_whole => Some(Misfit::EvaluatorsLeft),
        NativeEnd::Whole => None,
    };
    Spliced { order, misfit }
}

/// How many rows of suspended frames begin with one that an evaluator runs: the innermost rows.
fn rows_run(walks: &Walks<'_>) -> usize {
    if walks.native_end != NativeEnd::Whole || !walks.python_whole {
        return usize::from(walks.python.first() == Some(&Mark::Suspended));
    }
    let evaluators = walks.native.iter().filter(|address| **address & EVALUATOR != 0).count();
    let sure = walks.python.iter().filter(|mark| matches!(mark, Mark::Entry | Mark::Shim)).count();
    evaluators.saturating_sub(sure)
}

/// The Python frames that have not been placed.
struct Marks<'a> {
    marks: &'a [Mark],
    next: usize,
    /// Rows of suspended frames, of those that have not been placed, whose innermost frame is run by an evaluator.
    rows_run: usize,
}

impl Marks<'_> {
    /// Places the frames of one call of the evaluator; false when nothing is left for it.
    fn take_call(&mut self, order: &mut Vec<Piece>) -> bool {
        let begin = self.next;
        while let Some(&mark) = self.marks.get(self.next) {
            let ends = self.ends_call(mark);
            if mark != Mark::Shim {
                order.push(Piece::Python(self.next));
            }
            self.next += 1;
            if ends {
                break;
            }
        }
        self.next > begin
    }

    /// Whether the next frame is the outermost of its call of the evaluator.
    fn ends_call(&mut self, mark: Mark) -> bool {
        let inner = self.next.checked_sub(1).and_then(|inner| self.marks.get(inner));
        match mark {
            Mark::Inner => false,
            Mark::Entry | Mark::Shim => true,
            Mark::Suspended => {
                let run = self.rows_run > 0 && inner != Some(&Mark::Suspended);
                self.rows_run -= usize::from(run);
                run
            }
        }
    }

    /// Places all that are left; false when there were none.
    fn take_all(&mut self, order: &mut Vec<Piece>) -> bool {
        let before = order.len();
        while self.take_call(order) {}
        order.len() > before
    }
}

#[cfg(test)]
mod tests;
