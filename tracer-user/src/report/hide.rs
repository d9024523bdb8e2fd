//! A story without the C frames that merely serve: CPython's, its standard library's, the platform's. For who looks for a line, not for how CPython got there.

use std::borrow::Cow;

use super::own::Program;
use super::story::Story;
use crate::symbol::Frame;

/// The story with those frames left out of every stack. A stack that has no other frames keeps its innermost one, so that none becomes empty. The figures stay as they
/// are, and so do the lines that they are summed up by.
pub(super) fn interpreter(story: &Story) -> Cow<'_, Story> {
    let program = Program::of(story);
    if !story.sites.iter().any(|site| site.stack.iter().any(|frame| program.is_own(frame))) {
        return Cow::Borrowed(story);
    }
    let mut shown = story.clone();
    for site in &mut shown.sites {
        hide(program, &mut site.stack);
    }
    Cow::Owned(shown)
}

fn hide(program: Program<'_>, stack: &mut Vec<Frame>) {
    if stack.iter().all(|frame| program.is_own(frame)) {
        stack.truncate(1);
    } else {
        stack.retain(|frame| !program.is_own(frame));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::fixture::{self, native, python};
    use crate::report::lines::lines;

    /// The functions of a stack, hidden and not.
    fn shown(stack: Vec<Frame>) -> Vec<String> {
        let mut story = fixture::story();
        story.sites.truncate(1);
        story.sites[0].stack = stack;
        interpreter(&story).sites[0].stack.iter().map(|frame| frame.function.clone()).collect()
    }

    #[test]
    fn what_serves_goes_and_what_leaks_stays() {
        let lib = "libpython3.11.so.1.0";
        let stack = vec![
            native("PyLong_FromLong", "Objects/longobject.c", 3, lib),
            native("leak", "leak.c", 4, "leak.so"),
            native("cfunction_call", "Objects/methodobject.c", 5, lib),
            python("key", "/app/a.py", 6),
            native("list_sort", "Objects/listobject.c", 7, lib),
            python("main", "/app/a.py", 8),
            native("Py_RunMain", "Modules/main.c", 9, lib),
            native("__libc_start_main", "libc-start.c", 10, "libc.so.6"),
        ];
        assert_eq!(shown(stack), ["leak", "key", "main"]);
    }

    #[test]
    fn no_stack_becomes_empty() {
        let lib = "libpython3.11.so.1.0";
        let stack = vec![
            native("PyMem_RawMalloc", "obmalloc.c", 1, lib),
            native("start_thread", "pthread_create.c", 2, "libc.so.6"),
        ];
        assert_eq!(shown(stack), ["PyMem_RawMalloc"]);
        assert!(shown(Vec::new()).is_empty());
    }

    #[test]
    fn a_story_without_such_frames_is_not_copied() {
        let mut story = fixture::story();
        story.sites.retain(|site| site.stack.iter().all(|frame| frame.module.is_none()));
        assert!(!story.sites.is_empty() && matches!(interpreter(&story), Cow::Borrowed(_)));
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let module = prop_oneof![
            Just("libpython3.11.so.1.0"),
            Just("libc.so.6"),
            Just("_json.cpython-311-x86_64-linux-gnu.so"),
            Just("leak.so"),
        ];
        prop_oneof![
            (0u32..3).prop_map(|line| python("f", "/app/a.py", line)),
            (module, 0u32..3).prop_map(|(module, line)| native("g", "g.c", line, module)),
        ]
    }

    proptest! {
        /// Hiding twice is hiding once, no figure moves, and every arrow points where it did.
        #[test]
        fn nothing_else_changes(stacks in prop::collection::vec(prop::collection::vec(any_frame(), 0..8), 1..6)) {
            let mut story = fixture::story();
            let template = story.sites[0].clone();
            story.sites = stacks.into_iter().map(|stack| super::super::story::Site { stack, ..template.clone() }).collect();
            let once = interpreter(&story);
            prop_assert_eq!(lines(&once), lines(&story));
            prop_assert_eq!(&*interpreter(&once), &*once);
            for (site, whole) in once.sites.iter().zip(&story.sites) {
                prop_assert_eq!(site.stack.is_empty(), whole.stack.is_empty());
            }
        }
    }
}
