//! Real interpreters for the tests: found on this machine, started with a script that says when it is ready.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The pyenv CPython 3.11 of this machine, a shared build with pure wrappers.
pub(crate) fn shared() -> Option<PathBuf> {
    of_pyenv("3.11")
}

/// The last of pyenv's CPythons of a minor version.
fn of_pyenv(minor: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let versions = std::fs::read_dir(root.join("versions")).ok()?.flatten().map(|entry| entry.path());
    let prefix = format!("{minor}.");
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let found = versions.filter(fits).map(|path| path.join(format!("bin/python{minor}")));
    found.filter(|path| path.is_file()).max()
}

/// Where `cargo xtask pythons` keeps Debian's later CPythons: `$UNSHED_PYTHONS`, or `~/.cache/unshed/pythons`; each folder is the root of a system, and they run by `chroot`.
fn roots() -> PathBuf {
    let told = std::env::var_os("UNSHED_PYTHONS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/unshed/pythons"));
    told.or_else(home).expect("neither UNSHED_PYTHONS nor HOME is set")
}

/// A CPython of this machine, and the minor version that it is of.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    pub(crate) minor: u8,
    /// Within its root.
    pub(crate) path: PathBuf,
    /// It runs in this folder as its root.
    pub(crate) root: Option<PathBuf>,
}

impl std::fmt::Display for Interpreter {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let root = self.root.as_ref().map(|root| root.display().to_string()).unwrap_or_default();
        write!(to, "{root}{}", self.path.display())
    }
}

/// All CPythons of this machine: pyenv's, Debian's own, and its later ones.
pub(crate) fn every() -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = (8..=13)
        .map(|minor| {
            let path = of_pyenv(&format!("3.{minor}"));
            let path = path.unwrap_or_else(|| panic!("a CPython 3.{minor} of pyenv is needed"));
            Interpreter { minor, path, root: None }
        })
        .collect();
    let debian = debian().expect("Debian's own CPython 3.11 is needed");
    found.push(Interpreter { minor: 11, path: debian, root: None });
    found.extend((13..=15).map(|minor| {
        let root = roots().join(format!("3.{minor}"));
        let path = PathBuf::from(format!("/usr/bin/python3.{minor}"));
        let file = root.join(path.strip_prefix("/").unwrap_or(&path));
        assert!(
            file.is_file(),
            "Debian's CPython 3.{minor} is needed, by `cargo xtask pythons`: {}",
            file.display()
        );
        Interpreter { minor, path, root: Some(root) }
    }));
    found
}

/// The one without the GIL, in which there are no pools.
pub(crate) fn free_threaded() -> Interpreter {
    let path = roots().join("3.13t/bin/python3.13t");
    assert!(
        path.is_file(),
        "a free-threaded CPython is needed, by `cargo xtask pythons`: {}",
        path.display()
    );
    Interpreter { minor: 13, path, root: None }
}

/// Debian 12's CPython 3.11, a static build with the allocator inlined.
pub(crate) fn debian() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/bin/python3.11")).filter(|path| path.is_file())
}

/// The shared libraries of all CPythons that pyenv has built here.
pub(crate) fn libraries() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let folders = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("lib"));
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let is_library = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libpython3.") && name.ends_with(".so.1.0")
        })
    };
    let mut found: Vec<PathBuf> = files.map(|entry| entry.path()).filter(is_library).collect();
    found.sort();
    found
}

/// A file that a compiler has made, until it is dropped.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
}

impl Made {
    /// Runs a compiler over a text. `Err` is what it says against it.
    pub(crate) fn by(compiler: &str, flags: &[&str], source: &str) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stem = std::env::temp_dir().join(format!("unshed-made-{}-{number}", std::process::id()));
        let (input, made) = (stem.with_extension("in"), Self { path: stem.with_extension("out") });
        std::fs::write(&input, source).unwrap();
        let ran = Command::new(compiler).args(flags).arg(&input).arg("-o").arg(&made.path).output().unwrap();
        let _ = std::fs::remove_file(&input);
        if ran.status.success() { Ok(made) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A Python that runs a script and talks line by line.
pub(crate) struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// An interpreter that was unpacked with its libraries runs in its own folder.
fn command(python: &Path) -> Command {
    let root = python.parent().and_then(|folder| folder.to_str()?.strip_suffix("/usr/bin"));
    let Some((root, name)) = root.filter(|root| !root.is_empty()).zip(python.file_name()) else {
        return Command::new(python);
    };
    let mut command = Command::new("chroot");
    command.arg(root).arg(Path::new("/usr/bin").join(name));
    command
}

impl Script {
    pub(crate) fn start(python: &Path, text: &str, environment: &[(&str, &str)]) -> Self {
        Self::spawn(&mut command(python), text, environment)
    }

    /// The same with one of [`every`].
    pub(crate) fn on(python: &Interpreter, text: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = match &python.root {
            None => Command::new(&python.path),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(&python.path);
                command
            }
        };
        Self::spawn(&mut command, text, environment)
    }

    fn spawn(command: &mut Command, text: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .args(["-u", "-c", text])
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line, as numbers.
    pub(crate) fn numbers(&mut self) -> Vec<u64> {
        let line = self.line();
        line.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{line:?}"))).collect()
    }

    /// Lets it go on from `input()`.
    pub(crate) fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
