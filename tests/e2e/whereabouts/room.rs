//! Rooms to live in: namespaces with files of their own, laid out so that every name leads to another file outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use unshed_tests::harness::{Build, Scratch, Target, build_extension, program};
use unshed_tests::interpreters::{Interpreter, Which, debian};

/// Namespaces of a target.
#[derive(Debug)]
pub(super) struct Room {
    /// What `unshare` is told.
    flags: &'static [&'static str],
    /// It has files of its own.
    private: bool,
}

const PID: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];
pub(super) const MOUNT: Room = Room { flags: &["--mount"], private: true };
/// What container runtimes do, on the files of the host.
pub(super) const CONTAINER: Room =
    Room { flags: &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"], private: false };
pub(super) const ALL: Room = Room {
    flags: &["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"],
    private: true,
};
pub(super) const ROOMS: &[Room] = &[
    MOUNT,
    Room { flags: &PID, private: true },
    Room { flags: &["--user", "--map-root-user"], private: false },
    ALL,
];

/// An interpreter with its library and an extension, in a folder that has other files under the same names to those outside.
pub(super) struct Place {
    interpreter: Interpreter,
    scratch: Scratch,
    /// Names of what is in it.
    names: Vec<String>,
}

/// Starts a program on an interpreter's own files, in a room.
pub(super) fn start(interpreter: &Interpreter, room: &Room, name: &str) -> Target {
    start_with(interpreter, room, name, &[])
}

/// The same with words on its command line.
pub(super) fn start_with(interpreter: &Interpreter, room: &Room, name: &str, words: &[&str]) -> Target {
    let mut command = Command::new("unshare");
    command.args(room.flags).arg(&interpreter.path);
    clean(&mut command).arg("-S").arg(program(name)).args(words);
    command.env("PYTHONPATH", build_extension(interpreter, "leaks.c", Build::USUAL));
    Target::start_within(command, name).with_inlined(interpreter.inlined)
}

impl Place {
    /// Lays it out: the real files in `real`, in `place` others of their names: another CPython, another build of the extension.
    pub(super) fn new(interpreter: &Interpreter) -> Self {
        let scratch = Scratch::default();
        let mut this = Self { interpreter: interpreter.clone(), scratch, names: Vec::new() };
        for folder in ["real", "place"] {
            fs::create_dir_all(this.scratch.path(folder)).expect("a folder can be made");
        }
        let extension = build_extension(interpreter, "leaks.c", Build::USUAL).join("leaks.so");
        let decoy = build_extension(interpreter, "leaks.c", Build::with(&["-O0"])).join("leaks.so");
        this.add("leaks.so", &extension, &decoy);
        if interpreter.root.is_some() {
            return this;
        }
        let other_python = &Which::Chroot(13).find()[0];
        this.add("python", &interpreter.path, &other_python.outside(&other_python.path));
        if let Some(library) = &interpreter.library {
            let name = library.file_name().expect("a library has a name").to_string_lossy().into_owned();
            let debians = Which::Embedded(11).find()[0].library.clone().expect("it is embedded");
            this.add(&name, library, &debians);
        }
        this
    }

    fn add(&mut self, name: &str, real: &Path, decoy: &Path) {
        for (folder, file) in [("real", real), ("place", decoy)] {
            fs::copy(file, self.scratch.path(folder).join(name))
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", file.display()));
        }
        self.names.push(name.to_owned());
    }

    /// Starts a program in a room, from the files that are only there.
    pub(super) fn start(&self, room: &Room, name: &str, words: &[&str]) -> Target {
        let mut command = Command::new("env");
        self.append(&mut command, room, &program(name).display().to_string(), words);
        Target::start_within(command, name).with_inlined(self.interpreter.inlined)
    }

    /// Appends the command line of that.
    pub(super) fn append(&self, command: &mut Command, room: &Room, script: &str, words: &[&str]) {
        let (place, real) = (self.scratch.arg("place"), self.scratch.arg("real"));
        let folder = if room.private { &place } else { &real };
        let furnish = if room.private {
            format!("mount -t tmpfs none {place} && cp -a {real}/. {place}/ && ")
        } else {
            String::new()
        };
        command.arg("unshare").args(room.flags);
        command.args(["sh", "-c", &format!("{furnish}exec \"$@\""), "sh"]);
        command.arg(Path::new(folder).join("python")).args(["-S", script]).args(words);
        self.furnish(command, Path::new(folder));
    }

    /// Starts a program here from the real files.
    pub(super) fn start_here(&self, name: &str) -> Target {
        let real = self.scratch.path("real");
        let mut command = Command::new(real.join("python"));
        command.arg("-S").arg(program(name));
        self.furnish(&mut command, &real);
        Target::start(command, name).with_inlined(self.interpreter.inlined)
    }

    /// Starts a program below the interpreter's root, in namespaces of its own.
    pub(super) fn start_below_root(&self, name: &str) -> Target {
        let interpreter = &self.interpreter;
        let root = interpreter.root.as_ref().expect("it has a root of its own");
        interpreter.show(program(name).parent().expect("programs are in a folder"));
        // The same name leads to the real extension there, and to another one here.
        let place = self.scratch.path("place");
        let there = interpreter.outside(&place);
        fs::create_dir_all(&there).expect("a folder can be made");
        fs::copy(self.scratch.path("real").join("leaks.so"), there.join("leaks.so"))
            .expect("it can be copied");
        let mut command = Command::new("unshare");
        command.args(CONTAINER.flags).arg("chroot").arg(root).arg(&interpreter.path);
        clean(&mut command).arg(program(name)).env("PYTHONPATH", &place);
        Target::start_within(command, name).with_inlined(interpreter.inlined)
    }

    /// The environment in which the copies find what they need.
    fn furnish(&self, command: &mut Command, folder: &Path) {
        let home = if self.interpreter == *debian() {
            Path::new("/usr")
        } else {
            self.interpreter.path.parent().and_then(Path::parent).expect("it is in a bin folder")
        };
        clean(command).env("PYTHONHOME", home).env("PYTHONPATH", folder).env("LD_LIBRARY_PATH", folder);
    }

    /// The real files that a target has mapped.
    pub(super) fn mapped_by(&self, target: &Target) -> Vec<String> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("the target lives");
        let real = |name: &String| self.scratch.path("real").join(name).display().to_string();
        let mut files: Vec<String> = self.names.iter().map(real).collect();
        files.retain(|file| maps.contains(file));
        files
    }

    /// Gives the real files' names to the others.
    pub(super) fn replace(&self) {
        for (other, name) in self.both() {
            fs::rename(other, name).expect("a file can be renamed");
        }
    }

    /// Removes the real files, and the others.
    pub(super) fn remove(&self) {
        for (other, name) in self.both() {
            fs::remove_file(name).and_then(|()| fs::remove_file(other)).expect("a file can be removed");
        }
    }

    fn both(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let path = |folder: &str, name: &String| self.scratch.path(folder).join(name);
        self.names.iter().map(move |name| (path("place", name), path("real", name)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.interpreter.root.is_some() {
            drop(fs::remove_dir_all(self.interpreter.outside(&self.scratch.path("place"))));
        }
    }
}

/// An environment in which every run is alike.
fn clean(command: &mut Command) -> &mut Command {
    for name in ["PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONDEVMODE", "PYTHONSTARTUP"] {
        command.env_remove(name);
    }
    command.env("PYTHONHASHSEED", "0").env("PYTHONDONTWRITEBYTECODE", "1")
}
