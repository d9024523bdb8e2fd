//! Captured stacks, named on another machine.

use proptest::prelude::*;

use super::*;
use crate::symbol::fixture::{Folder, by_build_id, detach, library, place, run, told};

fn python(function: &str) -> Frame {
    Frame {
        kind: FrameKind::Python,
        function: function.to_owned(),
        file: Some("app.py".to_owned()),
        line: Some(3),
        module: None,
        inlined: false,
        place: None,
        unnamed: None,
    }
}

/// The frames of two calls in a library without names, and between Python frames.
fn captured(folder: &Folder) -> Vec<Frame> {
    let mut namer = Namer::new(DebugFiles::default());
    let mut stack = namer.name(&place(folder, "behind_hidden"));
    stack.extend(namer.name(&place(folder, "behind_inlined")));
    stack.extend([python("caller"), python("<module>")]);
    stack
}

#[test]
fn nameless_frames_get_names_and_inlined_functions() {
    let (folder, debug) = (library(&[]), Folder::new());
    detach(&folder, &by_build_id(&folder), "zlib");
    std::fs::rename(folder.path(".build-id"), debug.path(".build-id")).unwrap();
    let mut stack = captured(&folder);
    let before = stack.clone();
    assert_eq!(stack.len(), 4);
    assert!(stack[0].unnamed.is_some() && stack[1].function == "exported" && stack[1].line.is_none());
    // The library itself is not needed.
    drop(folder);
    let mut same = before.clone();
    let found = Renamer::new(std::slice::from_ref(&debug.0)).unwrap().rename([&mut stack, &mut same]);
    assert_eq!(found, 2);
    assert_eq!(stack, same);
    let expected = ["hidden foo.c:11", "grow foo.c:7 (inlined)", "exported foo.c:16"];
    assert_eq!(told(&stack[..3]), expected);
    assert_eq!(stack[3..], before[2..], "Python frames stay as they are");
    assert_eq!(stack[0].place, before[0].place);
    // Once more, and with a folder that knows less: nothing changes.
    let whole = stack.clone();
    run(&debug.0, "sh", &["-c", "strip --strip-debug .build-id/*/*.debug"]);
    for _ in 0..2 {
        Renamer::new(std::slice::from_ref(&debug.0)).unwrap().rename([&mut stack]);
        assert_eq!(stack, whole);
    }
}

#[test]
fn an_inlined_group_is_replaced_as_a_whole() {
    let folder = library(&[]);
    let full = Namer::new(DebugFiles::default()).name(&place(&folder, "behind_inlined"));
    assert_eq!(full.len(), 2);
    let known = HashMap::from([(full[0].place.clone().unwrap(), full.clone())]);
    // What an older unshed, or debug information without lines, may have made of it; the same call twice is a recursion.
    let lineless: Vec<Frame> = full.iter().map(|frame| Frame { line: None, ..frame.clone() }).collect();
    let stack = [lineless.clone(), vec![python("f")], lineless.clone(), lineless].concat();
    let expected = [full.clone(), vec![python("f")], full.clone(), full].concat();
    assert_eq!(renamed(stack, &known), expected);
}

#[test]
fn another_build_and_a_capture_without_build_ids_change_nothing() {
    let (folder, other, bare) =
        (library(&[]), library(&["-DOTHER", "-O1"]), library(&["-Wl,--build-id=none"]));
    for folder in [&folder, &bare] {
        run(&folder.0, "strip", &["--strip-all", "libfoo.so"]);
    }
    for (from, folders) in [(&folder, vec![other.0.clone()]), (&bare, vec![bare.0.clone()])] {
        let mut stack = captured(from);
        let before = stack.clone();
        std::fs::copy(bare.path("whole"), bare.path("libfoo.so.debug")).unwrap();
        assert_eq!(Renamer::new(&folders).unwrap().rename([&mut stack]), 0);
        assert_eq!(stack, before);
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    (any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(0u64..3)).prop_map(
        |(native, inlined, named, place)| Frame {
            kind: if native { FrameKind::Native } else { FrameKind::Python },
            inlined,
            unnamed: (!named).then(|| "no symbols".to_owned()),
            place: place.map(|vaddr| FramePlace {
                path: "/a".to_owned(),
                offset: vaddr,
                vaddr,
                build_id: None,
            }),
            line: None,
            ..python("f")
        },
    )
}

proptest! {
    /// Whatever a capture holds: with nothing known it stays as it is, and frames without a place stay in their order.
    #[test]
    fn no_frame_is_lost(stack in proptest::collection::vec(any_frame(), 0..12)) {
        prop_assert_eq!(renamed(stack.clone(), &HashMap::new()), stack.clone());
        let place = FramePlace { path: "/a".to_owned(), offset: 1, vaddr: 1, build_id: None };
        let better = Frame { line: Some(1), place: Some(place.clone()), ..python("better") };
        let result = renamed(stack.clone(), &HashMap::from([(place.clone(), vec![better])]));
        let rest = |stack: &[Frame]| -> Vec<Frame> {
            stack.iter().filter(|frame| frame.place.as_ref() != Some(&place)).cloned().collect()
        };
        prop_assert_eq!(rest(&result), rest(&stack));
    }
}
