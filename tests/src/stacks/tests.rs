//! The judge is judged: it must refuse each way in which a stack can be wrong.

use super::*;

fn wanted(kind: &str, function: &str, line: u32, inlined: bool) -> Wanted {
    let native = kind == "native";
    let file = if native { "/x/leaks.c" } else { "/x/app.py" };
    Wanted {
        kind: kind.to_owned(),
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
        module: native.then(|| "leaks.so".to_owned()),
        inlined,
        direct: false,
    }
}

/// A helper inlined into a function of an extension that Python calls, through another function of the extension.
fn row() -> Row {
    let stack = vec![
        wanted("native", "helper", 3, true),
        wanted("native", "outer", 8, false),
        wanted("python", "key", 2, false),
        wanted("native", "through", 20, false),
        wanted("python", "main", 5, false),
    ];
    let above = Some("PyDict_New".to_owned());
    Row { name: "a dict".to_owned(), stack, blocks: 7, bytes: 448, above, cut: false }
}

fn frame(wanted: &Wanted) -> Frame {
    Frame {
        kind: wanted.kind.clone(),
        function: wanted.function.clone(),
        file: wanted.file.clone(),
        line: wanted.line,
        module: wanted.module.clone(),
        inlined: wanted.inlined,
        module_path: None,
        module_offset: None,
        module_address: None,
        build_id: None,
        unnamed: None,
    }
}

/// A function of the interpreter.
fn libpython(function: &str) -> Frame {
    let mut frame = frame(&wanted("native", function, 1, false));
    (frame.file, frame.line, frame.module) = (None, None, Some("libpython3.11.so.1.0".to_owned()));
    frame
}

/// The row as `--native full` shows it.
fn full() -> Vec<Frame> {
    let own: Vec<Frame> = row().stack.iter().map(frame).collect();
    let mut stack = vec![libpython("gc_alloc"), libpython("PyDict_New")];
    stack.extend_from_slice(&own[..2]);
    stack.push(libpython("cfunction_vectorcall"));
    stack.push(own[2].clone());
    stack.push(libpython("PyObject_CallOneArg"));
    stack.extend_from_slice(&own[3..]);
    stack.push(libpython("Py_RunMain"));
    stack
}

fn is_shown(stack: &[Frame], native: Native) -> bool {
    row().in_mode(native).shown_by(stack, native).is_ok()
}

#[test]
fn right_stacks_are_right() {
    assert!(is_shown(&full(), Native::Full));
    let own: Vec<Frame> = row().stack.iter().map(frame).collect();
    let python: Vec<Frame> = own.iter().filter(|frame| frame.kind == "python").cloned().collect();
    assert!(is_shown(&python, Native::Off));
    let leaf = [&full()[..5], &python].concat();
    assert!(is_shown(&leaf, Native::Leaf));
}

#[test]
fn each_missing_frame_of_the_truth_is_missed() {
    for at in [1, 2, 3, 5, 7, 8] {
        let mut stack = full();
        let missing = stack.remove(at);
        assert!(!is_shown(&stack, Native::Full), "{} is not missed", missing.place());
    }
}

#[test]
fn a_wrong_line_function_module_or_inlining_is_seen() {
    let spoil: [fn(&mut Frame); 5] = [
        |frame| frame.line = Some(4),
        |frame| frame.file = None,
        |frame| frame.function.push('s'),
        |frame| frame.module = None,
        |frame| frame.inlined = !frame.inlined,
    ];
    for at in [2, 3, 7] {
        for (number, spoil) in spoil.iter().enumerate() {
            let mut stack = full();
            spoil(&mut stack[at]);
            assert!(
                !is_shown(&stack, Native::Full),
                "frame {at}, spoilt in way {number}, is taken for right"
            );
        }
    }
}

#[test]
fn frames_where_none_may_be_are_seen() {
    // Behind an inlined function, and behind the innermost Python frame of a leaf.
    let mut stack = full();
    stack.insert(3, libpython("list_append"));
    assert!(!is_shown(&stack, Native::Full));
    assert!(!is_shown(&full(), Native::Leaf));
    assert!(!is_shown(&full(), Native::Off));
}

#[test]
fn c_between_python_frames_that_call_each_other_directly_is_seen() {
    let mut row = row();
    row.stack.remove(3);
    let mut stack = full();
    stack.remove(7);
    assert!(row.shown_by(&stack, Native::Full).is_ok());
    row.stack[3].direct = true;
    assert!(row.shown_by(&stack, Native::Full).is_err());
    stack.remove(6);
    assert!(row.shown_by(&stack, Native::Full).is_ok());
    row.stack[3].direct = false;
    assert!(row.shown_by(&stack, Native::Full).is_err());
}

#[test]
fn a_threads_stack_ends_in_the_c_library() {
    let mut row = row();
    row.stack.truncate(2);
    let start = Frame { module: Some("libc.so.6".to_owned()), ..libpython("start_thread") };
    let stack = [&full()[..4], &[start]].concat();
    assert!(row.shown_by(&stack, Native::Leaf).is_ok());
    assert!(row.shown_by(&stack[..4], Native::Leaf).is_err(), "the thread begins nowhere");
    let other = [&stack[..], &[frame(&wanted("native", "more", 9, false))]].concat();
    assert!(row.shown_by(&other, Native::Leaf).is_err(), "a frame of the extension too many");
}

#[test]
fn a_cut_row_has_the_function_that_holds_the_inlined_one_and_then_python() {
    let row = row().cut().in_mode(Native::Full);
    let names: Vec<&str> = row.stack.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(names, ["outer", "key", "main"]);
    let mut stack = full();
    stack.retain(|frame| ["PyDict_New", "outer", "key", "main"].contains(&frame.function.as_str()));
    (stack[1].file, stack[1].line) = (None, None);
    assert!(row.shown_by(&stack, Native::Full).is_ok());
    stack.insert(2, libpython("cfunction_vectorcall"));
    assert!(row.shown_by(&stack, Native::Full).is_err(), "a frame beyond the cut");
}

#[test]
fn functions_of_cpp_may_have_their_arguments() {
    let named = |function: &str| is_named(&libpython(function), "vault::Box::put");
    assert!(named("vault::Box::put") && named("vault::Box::put(long)"));
    assert!(!named("vault::Box::puts(long)") && !named("vault::Box"));
}
