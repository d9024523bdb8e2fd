//! A program of `programs/load/` with gdb attached to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tracer_user::target::process::Process;
use unshed_tests::harness::{Gdb, Scratch, Target};
use unshed_tests::interpreters::{Interpreter, any_supported};

use super::agree::Tally;
use super::walker::Walker;

/// The program, gdb and our walk.
pub(super) struct Load {
    gdb: Gdb,
    walker: Walker,
    // Killed after gdb, and before its extension is removed.
    _target: Target,
    _extension: Scratch,
}

impl Load {
    /// Starts a program and attaches gdb.
    pub(super) fn start(interpreter: &Interpreter, program: &str) -> Self {
        let extension = Scratch::default();
        build_extension(&format!("{program}.py"), &extension);
        let mut command = Command::new(&interpreter.path);
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PYTHON")) {
            command.env_remove(variable);
        }
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", extension.path(""))
            .arg(folder().join(format!("{program}.py")));
        let target = Target::start(command, program);
        let gdb = Gdb::attach(target.pid());
        let process = Process::open(target.pid()).expect("it is there and ours");
        Self { gdb, walker: Walker::new(process), _target: target, _extension: extension }
    }

    /// Lets it run, stops it, and compares all of its threads.
    pub(super) fn compare_at_a_random_moment(&mut self, tally: &mut Tally) {
        self.gdb.run_a_moment();
        self.walker.look_around();
        for thread in self.gdb.threads() {
            let walked = self.walker.walk(thread);
            tally.add(thread, &walked, |address| self.walker.describe(address));
        }
    }

    pub(super) fn end(self) {
        self.gdb.detach();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("walk/programs/load")
}

/// Compiles the extension that a program names in its `# builds:` line, if it has one, without frame pointers, as distributions do. One build serves all
/// interpreters: within a minor version the ABI does not change.
fn build_extension(program: &str, out: &Scratch) {
    let text = std::fs::read_to_string(folder().join(program)).expect("the program can be read");
    let Some(source) = text.lines().find_map(|line| line.strip_prefix("# builds: ")) else { return };
    let headers = any_supported().ask("import sysconfig; print(sysconfig.get_paths()['include'])");
    let mut compiler = Command::new(if source.ends_with(".c") { "gcc" } else { "g++" });
    compiler.args(["-O2", "-g", "-Wall", "-fomit-frame-pointer", "-shared", "-fPIC", "-I", &headers]);
    compiler.arg(folder().join(source)).arg("-o");
    compiler.arg(out.path(source).with_extension("so"));
    let output = compiler
        .output()
        .unwrap_or_else(|error| panic!("cannot run the compiler ({error}): apt-get install build-essential"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{source} does not compile:\n{said}");
}
