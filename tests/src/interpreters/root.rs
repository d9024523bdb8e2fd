//! Running something in a folder that is its root, as in a container.

use std::ffi::CString;
use std::fs;
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Has a command begin in a root folder; its path is looked up there.
pub(super) fn enter(command: &mut Command, root: &Path) {
    let folder = CString::new(root.as_os_str().as_bytes()).expect("a path has no zero byte");
    // SAFETY: two system calls on the child's own attributes; they take no lock and allocate nothing, and the strings live as long as the closure.
    unsafe {
        command.pre_exec(move || {
            if libc::chroot(folder.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0 {
                return Err(Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Copies a folder; what is there already and the same is left alone, so that those who run it are not disturbed.
pub(super) fn copy(from: &Path, to: &Path) {
    let told = |what: &str, error: Error| -> ! { panic!("cannot {what} {}: {error}", to.display()) };
    fs::create_dir_all(to).unwrap_or_else(|error| told("make", error));
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("cannot list {}: {error}", from.display()))
    {
        let entry = entry.expect("an entry can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            let bytes = fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            if !fs::read(&to).is_ok_and(|there| there == bytes) {
                write(&to, &bytes).unwrap_or_else(|error| told("copy into", error));
            }
        }
    }
}

/// Writes a file in one step: another test may read the old one meanwhile.
fn write(to: &Path, bytes: &[u8]) -> Result<(), Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = to.with_extension(format!("{}-{number}", std::process::id()));
    fs::write(&unfinished, bytes)?;
    fs::rename(unfinished, to)
}
