//! A program that has not started: which file will really run, and which libraries its dynamic loader will find for it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::target::elf::Elf;
use crate::target::root::Root;

/// The first line of a script is at most this long for the kernel (`include/uapi/linux/binfmts.h`, `BINPRM_BUF_SIZE`).
const SHEBANG: usize = 256;

/// The most of the dynamic loader's list that is read, in bytes.
const LIST_LIMIT: u64 = 1 << 20;

/// How long the dynamic loader may take to list a program's libraries.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file that a command names: with a slash it is a path, without one it is searched for in `PATH`, as `execvp` does.
///
/// # Errors
/// When no directory of `PATH` has it.
pub(super) fn resolve(command: &Path, environment: &[(OsString, OsString)]) -> Result<PathBuf> {
    if command.as_os_str().as_bytes().contains(&b'/') {
        return Ok(command.to_owned());
    }
    in_search_path(command.as_os_str(), environment)
        .ok_or_else(|| Error::failed(format!("{} is not in PATH", command.display())))
}

/// The file that the kernel will load for `path`: `path` itself, or the interpreter of a script, through `/usr/bin/env` too.
///
/// # Errors
/// When the file cannot be read or the interpreter is not found.
pub(super) fn interpreter_of(path: &Path, environment: &[(OsString, OsString)]) -> Result<PathBuf> {
    let what = format!("cannot read {}", path.display());
    let mut head = Vec::new();
    File::open(path).context(&what)?.take(SHEBANG as u64).read_to_end(&mut head).context(&what)?;
    let Some(line) = head.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next())
    else {
        return Ok(path.to_owned());
    };
    let mut words =
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(OsStr::from_bytes);
    let interpreter = PathBuf::from(words.next().unwrap_or_default());
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return Ok(interpreter);
    }
    let name = words
        .find(|word| !word.as_bytes().starts_with(b"-") && !word.as_bytes().contains(&b'='))
        .unwrap_or_default();
    in_search_path(name, environment).ok_or_else(|| {
        Error::failed(format!("{}: its interpreter {} is not in PATH", path.display(), name.display()))
    })
}

/// The executable file of this name in the directories of `PATH`.
fn in_search_path(name: &OsStr, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let path = &environment.iter().find(|(key, _)| key == "PATH")?.1;
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// A library that a program will load.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its path, as we name it.
    pub path: PathBuf,
    /// A path by which we can open it as long as this value lives.
    pub open: PathBuf,
    /// What `open` leads through where the path is none of ours.
    _held: Option<Arc<File>>,
}

impl Library {
    /// A file that the loader found here, or below another root.
    fn found(path: PathBuf, root: Option<&Root>) -> Option<Self> {
        let Some(root) = root else { return Some(Self { open: path.clone(), path, _held: None }) };
        let inside = path.strip_prefix("/").ok()?;
        let file = root.file(inside)?;
        Some(Self { path: root.prefix.join(inside), open: held_path(&file), _held: Some(Arc::new(file)) })
    }

    /// The last part of its path, or nothing.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// A path to a file that is open here, for as long as it is; for this process alone.
pub(super) fn held_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The libraries that the dynamic loader would load for a program, in its order. It is asked itself, in its trace mode (ld.so(8),
/// `LD_TRACE_LOADED_OBJECTS`), in which it runs no code of the program; where the program has another root directory than we, the loader that is there,
/// of the libraries that are there.
///
/// # Errors
/// When the loader cannot be run or does not answer in time.
pub(super) fn libraries(
    path: &Path,
    elf: &Elf,
    environment: &[(OsString, OsString)],
    root: Option<&Root>,
) -> Result<Vec<Library>> {
    let Some(loader) = elf.interpreter().filter(|_| !elf.needed().is_empty()) else { return Ok(Vec::new()) };
    let what = format!("{loader} cannot list the libraries of {}", path.display());
    let mut command = Command::new(loader);
    match root {
        None => command.arg(path),
        Some(root) => {
            root.enter(&mut command).context(&what)?;
            command.arg(Path::new("/").join(root.inside(path).unwrap_or(path)))
        }
    };
    let mut child = command
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(&what)?;
    let (send, receive) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut list = Vec::new();
            let _ = stdout.take(LIST_LIMIT).read_to_end(&mut list);
            let _ = send.send(list);
        });
    }
    let list = receive.recv_timeout(PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
    let paths = parse_list(&list.context(&what)?);
    Ok(paths.into_iter().filter_map(|path| Library::found(path, root)).collect())
}

/// Lines read `libm.so.6 => /lib/libm.so.6 (0x00007f…)` or `/lib64/ld-linux-x86-64.so.2 (0x00007f…)`.
fn parse_list(list: &[u8]) -> Vec<PathBuf> {
    let path = |line: &[u8]| {
        let line = line.trim_ascii();
        let arrow = line.windows(4).position(|window| window == b" => ").map_or(0, |at| at + 4);
        let end = line.windows(4).rposition(|window| window == b" (0x")?;
        let path = line.get(arrow..end).filter(|path| path.starts_with(b"/"))?;
        Some(PathBuf::from(OsString::from_vec(path.to_vec())))
    };
    list.split(|byte| *byte == b'\n').filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_read() {
        let list = b"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibpython3.11.so.1.0 => /opt/my py/libpython3.11.so.1.0 (0x00007f00)\n\tlibx.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\nnoise";
        let found = parse_list(list);
        assert_eq!(
            found,
            [Path::new("/opt/my py/libpython3.11.so.1.0"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let directory = std::env::temp_dir().join(format!("unshed-program-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let python = file("python9", "\x7fELF");
        let environment = [(OsString::from("PATH"), directory.clone().into_os_string())];
        let resolve = |path: &Path| interpreter_of(path, &environment);
        assert_eq!(resolve(&python).unwrap(), python);
        assert_eq!(resolve(&file("a", "#! /bin/bash -e\ntrue")).unwrap(), Path::new("/bin/bash"));
        assert_eq!(resolve(&file("b", "#!/usr/bin/env -S A=1 python9 -u\n")).unwrap(), python);
        assert!(resolve(&file("c", "#!/usr/bin/env python8\n")).unwrap_err().to_string().contains("python8"));
        assert_eq!(super::resolve(Path::new("python9"), &environment).unwrap(), python);
        assert_eq!(super::resolve(Path::new("./x"), &environment).unwrap(), Path::new("./x"));
        assert!(super::resolve(Path::new("python8"), &environment).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
