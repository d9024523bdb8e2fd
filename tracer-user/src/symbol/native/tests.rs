//! A library in all the states that packagers bring it into, and what becomes of its names.

use super::namer::{ROOM, Room};
use super::*;
use crate::symbol::debug_files::DebugFiles;
use crate::symbol::fixture::{self, Folder, by_build_id, code_file, detach, library, named, place, told};

const INLINED: [&str; 2] = ["grow foo.c:7 (inlined)", "exported foo.c:16"];
const HIDDEN: [&str; 1] = ["hidden foo.c:11"];

/// Names that look into a folder and nowhere else.
fn in_folder(folder: &Folder) -> Namer {
    Namer::new(DebugFiles::of_folders(std::slice::from_ref(&folder.0)).unwrap())
}

fn nowhere() -> Namer {
    Namer::new(DebugFiles::default())
}

#[test]
fn debug_information_of_its_own_gives_lines_and_inlined_functions() {
    let folder = library(&[]);
    let mut namer = nowhere();
    assert_eq!(named(&mut namer, &folder, "behind_inlined"), INLINED);
    assert_eq!(named(&mut namer, &folder, "behind_hidden"), HIDDEN);
    let place = place(&folder, "behind_hidden");
    let frame = namer.name(&place).remove(0);
    let of = frame.place.unwrap();
    assert_eq!((of.vaddr, of.offset), (place.vaddr - 1, place.offset - 1));
    assert_eq!(of.path, folder.path("libfoo.so").to_str().unwrap());
    assert_eq!((of.build_id.map(|id| id.len()), frame.module.as_deref()), (Some(40), Some("libfoo.so")));
}

#[test]
fn a_symbol_table_gives_functions_without_lines() {
    let folder = library(&[]);
    fixture::run(&folder.0, "strip", &["--strip-debug", "libfoo.so"]);
    assert_eq!(named(&mut nowhere(), &folder, "behind_hidden"), ["hidden"]);
    assert_eq!(named(&mut nowhere(), &folder, "behind_inlined"), ["exported"]);
}

#[test]
fn a_stripped_library_names_what_it_exports_and_nothing_else() {
    let folder = library(&[]);
    fixture::run(&folder.0, "strip", &["--strip-all", "libfoo.so"]);
    let mut namer = nowhere();
    assert_eq!(named(&mut namer, &folder, "behind_inlined"), ["exported"]);
    let place = place(&folder, "behind_hidden");
    let frame = namer.name(&place).remove(0);
    let id = crate::symbol::hex(place.file.build_id.as_deref().unwrap());
    assert_eq!(frame.function, format!("<libfoo.so+{:#x}>", place.vaddr - 1));
    assert_eq!(frame.unnamed.unwrap(), format!("no symbols in libfoo.so (build id {id})"));
}

#[test]
fn detached_debug_information_is_found_by_build_id() {
    for compress in ["none", "zlib"] {
        let folder = library(&[]);
        detach(&folder, &by_build_id(&folder), compress);
        assert_eq!(named(&mut in_folder(&folder), &folder, "behind_inlined"), INLINED, "{compress}");
        assert_eq!(named(&mut in_folder(&folder), &folder, "behind_hidden"), HIDDEN, "{compress}");
    }
}

#[test]
fn detached_debug_information_is_found_by_the_names_of_a_folder() {
    for name in ["libfoo.so", "libfoo.so.debug"] {
        let (folder, other) = (library(&[]), Folder::new());
        detach(&folder, "apart", "none");
        let whole = format!("{}{}", other.0.display(), folder.path(name).display());
        for place in [other.path(name), whole.into()] {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(folder.path("apart"), &place).unwrap();
            assert_eq!(
                named(&mut in_folder(&other), &folder, "behind_hidden"),
                HIDDEN,
                "{}",
                place.display()
            );
            std::fs::remove_file(place).unwrap();
        }
        assert_ne!(named(&mut in_folder(&other), &folder, "behind_hidden"), HIDDEN);
    }
}

#[test]
fn debug_information_of_another_build_is_not_believed() {
    let (folder, other) = (library(&[]), library(&["-DOTHER", "-O1"]));
    let name = by_build_id(&folder);
    detach(&folder, "apart", "none");
    detach(&other, "apart", "none");
    std::fs::create_dir_all(folder.path(&name).parent().unwrap()).unwrap();
    std::fs::copy(other.path("apart"), folder.path(&name)).unwrap();
    assert!(named(&mut in_folder(&folder), &folder, "behind_hidden")[0].starts_with("<libfoo.so+0x"));
}

#[test]
fn a_debug_link_is_followed_if_the_checksum_is_right() {
    let folder = library(&["-Wl,--build-id=none"]);
    detach(&folder, "foo.debug", "none");
    fixture::run(&folder.0, "objcopy", &["--add-gnu-debuglink=foo.debug", "libfoo.so"]);
    let mut of_our_own = Namer::new(DebugFiles::of_process(std::process::id(), &[]).unwrap());
    assert_eq!(named(&mut of_our_own, &folder, "behind_inlined"), INLINED);
    assert_eq!(named(&mut in_folder(&folder), &folder, "behind_inlined"), INLINED);
    std::fs::create_dir(folder.path(".debug")).unwrap();
    std::fs::rename(folder.path("foo.debug"), folder.path(".debug/foo.debug")).unwrap();
    let mut of_our_own = Namer::new(DebugFiles::of_process(std::process::id(), &[]).unwrap());
    assert_eq!(named(&mut of_our_own, &folder, "behind_hidden"), HIDDEN);
    // One byte more at its end changes nothing but the checksum.
    let mut bytes = std::fs::read(folder.path(".debug/foo.debug")).unwrap();
    bytes.push(0);
    std::fs::write(folder.path(".debug/foo.debug"), bytes).unwrap();
    let frame = in_folder(&folder).name(&place(&folder, "behind_hidden")).remove(0);
    assert_eq!(frame.unnamed.as_deref(), Some("no symbols in libfoo.so (no build id)"));
}

#[test]
fn names_of_cpp_are_demangled() {
    let folder = fixture::library_of_cpp(&[]);
    assert_eq!(named(&mut nowhere(), &folder, "behind_template"), ["pool::Box<long>::keep(long) foo.cpp:6"]);
    detach(&folder, &by_build_id(&folder), "zlib");
    assert_eq!(
        named(&mut in_folder(&folder), &folder, "behind_template"),
        ["pool::Box<long>::keep(long) foo.cpp:6"]
    );
}

#[test]
fn compressed_symbols_that_nobody_reads_do_not_hide_the_exported_ones() {
    let folder = library(&[]);
    fixture::run(&folder.0, "strip", &["--strip-all", "libfoo.so"]);
    std::fs::write(folder.path("xz"), b"\xfd7zXZ\0").unwrap();
    fixture::run(&folder.0, "objcopy", &["--add-section", ".gnu_debugdata=xz", "libfoo.so"]);
    let mut namer = nowhere();
    assert_eq!(named(&mut namer, &folder, "behind_inlined"), ["exported"]);
    assert!(named(&mut namer, &folder, "behind_hidden")[0].starts_with("<libfoo.so+0x"));
}

#[test]
fn a_file_that_is_gone_still_gives_its_names() {
    let folder = library(&[]);
    let places = ["behind_inlined", "behind_hidden"].map(|label| place(&folder, label));
    std::fs::remove_file(folder.path("libfoo.so")).unwrap();
    std::fs::write(folder.path("libfoo.so"), b"another file").unwrap();
    let mut names = NativeNames::start(Options::default());
    let keys: Vec<u64> =
        places.iter().map(|place| names.ask(0x7000_0000 + place.vaddr, Some(place.clone()))).collect();
    let answers = names.finish();
    assert_eq!(
        (told(&answers[&keys[0]]), told(&answers[&keys[1]])),
        (INLINED.map(str::to_owned).to_vec(), HIDDEN.map(str::to_owned).to_vec())
    );
}

#[test]
fn a_file_that_was_overwritten_in_its_place_gives_no_names() {
    let folder = library(&[]);
    let (hidden, inlined) = (place(&folder, "behind_hidden"), place(&folder, "behind_inlined"));
    let mut namer = nowhere();
    assert_eq!(told(&namer.name(&hidden)), HIDDEN);
    // Cut short while it is mapped: touching what is missing would end this process with SIGBUS.
    let file = std::fs::OpenOptions::new().write(true).open(folder.path("libfoo.so")).unwrap();
    file.set_len(0).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    for place in [&hidden, &inlined] {
        let frame = namer.name(place).remove(0);
        let reason = frame.unnamed.unwrap();
        assert!(
            reason.starts_with("overwritten since it was mapped: no symbols in libfoo.so (build id "),
            "{reason}"
        );
        assert_eq!(frame.place.unwrap().vaddr, place.vaddr - 1);
    }
}

#[test]
fn an_address_at_which_two_files_have_been_has_two_answers() {
    let (one, other) = (library(&[]), library(&["-DOTHER"]));
    let mut names = NativeNames::start(Options::default());
    let (first, second) = (place(&one, "behind_hidden"), place(&other, "behind_inlined"));
    assert_eq!(names.ask(0x5000, Some(first.clone())), 0x5000);
    let key = names.ask(0x5000, Some(second));
    assert_ne!(key, 0x5000);
    assert_eq!(names.ask(0x5000, Some(first)), 0x5000, "the same question again");
    assert_eq!(names.ask(0x6000, None), 0x6000);
    let answers = names.finish();
    assert_eq!(
        (told(&answers[&0x5000]), told(&answers[&key])),
        (HIDDEN.map(str::to_owned).to_vec(), INLINED.map(str::to_owned).to_vec())
    );
    assert_eq!(answers[&0x6000][0].unnamed.as_deref(), Some("code that is of no file (made at run time?)"));
    assert_eq!(answers.len(), 3);
}

/// How many mappings this process has of files below a folder.
fn mapped(folder: &Folder) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(folder.0.to_str().unwrap())).count()
}

#[test]
fn few_files_are_mapped_at_a_time() {
    let folder = library(&[]);
    let copies = Folder::new();
    let places: Vec<Place> = (0..40)
        .map(|number| {
            let copy = copies.path(&format!("lib{number}.so"));
            std::fs::copy(folder.path("libfoo.so"), &copy).unwrap();
            Place { file: code_file(&copy), ..place(&folder, "behind_hidden") }
        })
        .collect();
    let bytes = std::fs::metadata(folder.path("libfoo.so")).unwrap().len();
    for (room, most) in [
        (ROOM, ROOM.modules),
        (Room { modules: 3, bytes: u64::MAX }, 3),
        (Room { modules: 8, bytes: 2 * bytes }, 2),
        (Room { modules: 8, bytes: 1 }, 1),
    ] {
        let mut namer = Namer::with_room(DebugFiles::default(), room);
        for place in places.iter().chain(&places) {
            assert_eq!(told(&namer.name(place)), HIDDEN);
            assert!(mapped(&copies) <= most, "{} files are mapped, with {room:?}", mapped(&copies));
            assert!(namer.modules() <= most && namer.bytes() <= room.bytes.max(bytes));
        }
        assert_eq!(mapped(&copies), most, "what fits stays open, with {room:?}");
        drop(namer);
        assert_eq!(mapped(&copies), 0);
    }
}

#[test]
fn damaged_debug_information_does_no_harm() {
    let folder = library(&[]);
    let whole = std::fs::read(folder.path("libfoo.so")).unwrap();
    let of = place(&folder, "behind_hidden");
    // Each round spoils 64 bytes behind the code: symbols, strings, DWARF and section headers in turn.
    for from in (0x2000..whole.len() - 64).step_by(512) {
        let mut bytes = whole.clone();
        bytes[from..from + 64].iter_mut().for_each(|byte| *byte ^= 0xa5);
        std::fs::write(folder.path("spoilt.so"), bytes).unwrap();
        let spoilt = Place { file: code_file(&folder.path("spoilt.so")), ..of.clone() };
        let frames = nowhere().name(&spoilt);
        assert!(
            !frames.is_empty() && frames.iter().all(|frame| !frame.function.is_empty()),
            "{from:#x}: {frames:?}"
        );
    }
}
