//! What is opened where, with folders that are laid out to lead astray.

use std::os::unix::fs::symlink;

use super::*;
use crate::symbol::fixture::{Folder, by_build_id, detach, library, run};

/// A root directory as if it were another process's.
fn closed(folder: &Folder) -> Root {
    Root::closed(&folder.0).unwrap()
}

#[test]
fn links_below_another_root_do_not_lead_out_of_it() {
    let folder = Folder::new();
    std::fs::write(folder.path("inside"), "inside").unwrap();
    symlink("/inside", folder.path("absolute")).unwrap();
    symlink("/etc/passwd", folder.path("out")).unwrap();
    symlink("../../../../../../etc/passwd", folder.path("up")).unwrap();
    symlink("/proc/self/fd/0", folder.path("magic")).unwrap();
    let (root, ours) = (closed(&folder), Root::open(&folder.0).unwrap());
    assert!(root.file(Path::new("absolute")).is_some());
    for name in ["out", "up", "magic"] {
        assert!(root.file(Path::new(name)).is_none(), "{name}");
    }
    assert!(ours.file(Path::new("out")).is_some() && ours.file(Path::new("absolute")).is_none());
}

#[test]
fn only_regular_files_are_opened_and_nothing_hangs() {
    let folder = Folder::new();
    run(&folder.0, "mkfifo", &["fifo"]);
    std::fs::write(folder.path("empty"), "").unwrap();
    std::fs::create_dir(folder.path("folder")).unwrap();
    for name in ["fifo", "empty", "folder", "none"] {
        assert!(closed(&folder).file(Path::new(name)).is_none(), "{name}");
    }
}

#[test]
fn paths_outside_the_root_are_not_looked_for() {
    let mut root = closed(&Folder::new());
    root.prefix = PathBuf::from("/srv/chroot");
    assert_eq!(root.inside(Path::new("/srv/chroot/usr/lib/a.so")), Some(Path::new("usr/lib/a.so")));
    for path in ["/usr/lib/a.so", "/srv/chroot/../a.so", "/srv/chroot", "a.so"] {
        assert_eq!(root.inside(Path::new(path)), None, "{path}");
    }
}

#[test]
fn a_captured_path_does_not_lead_out_of_a_folder() {
    let wanted = |path| Wanted { path: Path::new(path), build_id: None, link: None, itself: None };
    assert!(below_folder(&wanted("/../../etc/a.so")).is_empty());
    let paths = below_folder(&wanted("/opt/a.so"));
    let names: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "a.so.debug",
        "a.so",
        "opt/a.so.debug",
        "opt/a.so",
        "usr/lib/debug/opt/a.so.debug",
        "usr/lib/debug/opt/a.so",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_debug_file_is_looked_for_as_gdb_does() {
    let root = closed(&Folder::new());
    let link = DebugLink { name: "a.debug".to_owned(), crc: 1 };
    let id = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let wanted =
        Wanted { path: Path::new("/opt/a.so"), build_id: Some(&id), link: Some(&link), itself: None };
    let paths: Vec<PathBuf> = below_root(&root, &wanted).collect();
    let expected = [
        "usr/lib/debug/.build-id/01/23456789abcdef.debug",
        "opt/a.debug",
        "opt/.debug/a.debug",
        "usr/lib/debug/opt/a.debug",
    ];
    assert_eq!(paths, expected.map(PathBuf::from));
    let short = Wanted { build_id: Some(&id[..4]), ..wanted };
    assert_eq!(below_root(&root, &short).count(), 3);
}

#[test]
fn debug_information_is_preferred_to_a_mere_symbol_table() {
    let folder = library(&[]);
    let name = by_build_id(&folder);
    detach(&folder, &name, "none");
    std::fs::copy(folder.path("whole"), folder.path("libfoo.so.debug")).unwrap();
    run(&folder.0, "strip", &["--strip-debug", &name]);
    let sections = Sections::read(&File::open(folder.path("libfoo.so")).unwrap()).unwrap();
    let path = folder.path("libfoo.so");
    let wanted = Wanted { path: &path, build_id: sections.build_id.as_deref(), link: None, itself: None };
    let files = DebugFiles::of_folders(std::slice::from_ref(&folder.0)).unwrap();
    assert!(files.find(&wanted).unwrap().dwarf);
    std::fs::remove_file(folder.path("libfoo.so.debug")).unwrap();
    assert!(!files.find(&wanted).unwrap().dwarf);
    assert!(DebugFiles::of_folders(&[folder.path("no-such")]).is_err());
}
