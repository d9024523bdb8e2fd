//! The recordings, walked where there is no process.

use tracer_common::frame::PyFrame;
use tracer_common::walk::WalkEnd;
use tracer_user::symbol::code::CodeNames;
use tracer_user::target::recorded::Recorded;

use crate::expected::{Pair, all};
use crate::look::{Seen, look};
use crate::recorder::{Recorder, regions_of};

/// Walks a recording.
pub(crate) fn replay(pair: &Pair, memory: &Recorded, max_depth: u32) -> Seen {
    look(memory, pair.layout(), pair.expected.runtime, pair.expected.ident, max_depth)
        .unwrap_or_else(|_| panic!("{}: the thread is not in the recording", pair.name))
}

/// The memory of a recording.
pub(crate) fn memory_of(pair: &Pair) -> Recorded {
    Recorded::load(&pair.memory).unwrap_or_else(|error| panic!("{}: {error}", pair.name))
}

#[test]
fn every_recording_gives_its_frames() {
    for pair in all() {
        let seen = replay(&pair, &memory_of(&pair), u32::MAX);
        let end = if pair.expected.truncated { WalkEnd::Truncated } else { WalkEnd::Complete };
        assert_eq!((seen.end, seen.named.len()), (end, pair.expected.frames.len()), "{}", pair.name);
        for (at, (told, named)) in pair.expected.frames.iter().zip(&seen.named).enumerate() {
            assert!(told.is(&named.frame), "{}, frame {at}: {told:?}, not {:?}", pair.name, named.frame);
        }
    }
}

#[test]
fn a_walk_may_be_cut_anywhere() {
    for pair in all() {
        let memory = memory_of(&pair);
        let whole = replay(&pair, &memory, u32::MAX);
        for depth in 0..whole.frames.len() {
            let cut = replay(&pair, &memory, depth as u32);
            assert_eq!(cut.end, WalkEnd::Truncated, "{} at depth {depth}", pair.name);
            assert_eq!(cut.frames, whole.frames[..depth], "{} at depth {depth}", pair.name);
        }
    }
}

#[test]
fn a_recording_holds_no_byte_that_nobody_reads() {
    for pair in all() {
        let recorder = Recorder::new(memory_of(&pair));
        look(&recorder, pair.layout(), pair.expected.runtime, pair.expected.ident, u32::MAX)
            .expect("the thread is there");
        assert_eq!(regions_of(&recorder.recorded().save()), regions_of(&pair.memory), "{}", pair.name);
    }
}

#[test]
fn a_thread_that_runs_no_python_has_no_frames() {
    for pair in all() {
        // The list of threads is only recorded up to the thread that was looked for.
        let stranger = look(&memory_of(&pair), pair.layout(), pair.expected.runtime, u64::MAX, u32::MAX);
        assert!(!stranger.is_ok_and(|seen| !seen.frames.is_empty()), "{}", pair.name);
    }
}

#[test]
fn a_new_tenant_of_an_address_lends_it_no_name() {
    for pair in all() {
        let memory = memory_of(&pair);
        let seen = replay(&pair, &memory, u32::MAX);
        let mut names = CodeNames::new(memory, pair.layout());
        for frame in &seen.frames {
            let dead = PyFrame { fingerprint: frame.fingerprint ^ 1, ..*frame };
            assert!(names.name(&dead).gone, "{}: {dead:?} has a name", pair.name);
            assert!(!names.name(frame).gone, "{}: {frame:?} has none", pair.name);
        }
    }
}
