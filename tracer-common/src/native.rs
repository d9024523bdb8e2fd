//! The walk along the C frames, generic over how memory and tables are read: the kernel runs it on a hit, the tests run the very same code against live processes
//! and against `gdb`.
//!
//! A frame is known by three registers: `rip`, `rsp`, `rbp`. The rule of the instruction ([`crate::unwind`]) says where the caller's are (x86-64 psABI, "Stack Unwind
//! Algorithm"). Other registers are not followed: no rule that compilers write for code that calls needs them, after its first instructions.

mod walk;

pub use walk::{Begin, Native, Wish};

/// Set on a recorded address that is the evaluator's. User addresses have at most 57 bits.
pub const EVALUATOR: u64 = 1 << 63;

/// The programs that a hit calls, by their place in the kernel's table of them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Walks C frames; calls itself until they are walked, then the next.
    Native = 0,
    /// Walks the Python frames; calls itself until they are walked, then enters the block into the books.
    Books = 1,
}

impl Stage {
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Which C frames are walked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None.
    Off = 0,
    /// From the probed instruction up to the first frame of the interpreter's evaluator.
    Leaf = 1,
    /// All.
    Full = 2,
}

/// How a walk along C frames ended. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeEnd {
    /// It was not asked for.
    Off = 0,
    /// It goes on.
    Running = 1,
    /// The outermost frame was reached.
    Outermost = 2,
    /// The evaluator was reached, and no more was wanted.
    Evaluator = 3,
    /// There were more frames than asked for.
    Depth = 4,
    /// Code that is of no file that is known: made at run time, or mapped a moment ago.
    NoModule = 5,
    /// The file's unwind tables say nothing of the code.
    NoRows = 6,
    /// The tables say something that is not understood here.
    Rule = 7,
    /// A page of the stack could not be read.
    Fault = 8,
    /// The caller's frame would not have been above its callee's.
    Astray = 9,
}

impl NativeEnd {
    /// The end of a code that crossed the fence; unknown codes read as [`NativeEnd::Astray`].
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Off,
            1 => Self::Running,
            2 => Self::Outermost,
            3 => Self::Evaluator,
            4 => Self::Depth,
            5 => Self::NoModule,
            6 => Self::NoRows,
            7 => Self::Rule,
            8 => Self::Fault,
            _ => Self::Astray,
        }
    }

    /// Why frames are missing, as a clause; `None` where all that were wanted are there.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Off | Self::Outermost | Self::Evaluator => None,
            Self::Running => Some("the walk was not finished"),
            Self::Depth => Some("it is deeper than --max-depth"),
            Self::NoModule => Some("it leads into code of no known file"),
            Self::NoRows => Some("the file's unwind tables do not describe the code"),
            Self::Rule => Some("an unwind rule that unshed does not follow"),
            Self::Fault => Some("a page of it could not be read"),
            Self::Astray => Some("the next frame makes no sense"),
        }
    }
}
