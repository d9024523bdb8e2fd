//! Real interpreters for the tests: found on this machine, started with a script that says when it is ready.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The pyenv CPython 3.11 of this machine, a shared build with pure wrappers.
pub(crate) fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let versions = std::fs::read_dir(root.join("versions")).ok()?.flatten().map(|entry| entry.path());
    let is_3_11 =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("3.11"));
    let mut found: Vec<PathBuf> = versions.filter(is_3_11).map(|path| path.join("bin/python3.11")).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop()
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

impl Script {
    pub(crate) fn start(python: &Path, text: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(python)
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
