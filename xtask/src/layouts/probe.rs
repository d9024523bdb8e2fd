//! A file that names CPython's structures and constants, compiled against its headers: its debug information is read like that of a build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run;

/// The file.
const SOURCE: &str = include_str!("probe.c");

/// What a compiler has made, until it is dropped.
pub(super) struct Made(PathBuf);

impl Made {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // It lies in the temporary folder and is small.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Compiles it against a folder of headers. Debian keeps `pyconfig.h` beside that, in a folder of the machine's.
pub(super) fn compiled(folder: &Path, minor: u8, free_threaded: bool) -> Result<Made> {
    let stem = format!("unshed-layouts-{}-{minor}-{free_threaded}", std::process::id());
    let (input, output) = (std::env::temp_dir().join(format!("{stem}.c")), std::env::temp_dir().join(&stem));
    std::fs::write(&input, SOURCE)?;
    let mut command = Command::new("gcc");
    // Linked, so that what one part of it says of another is filled in; nothing that it names is there.
    command.args(["-g", "-O0", "-w", "-shared", "-nostdlib", "-fPIC", "-fno-eliminate-unused-debug-types"]);
    command.args(["-DPy_BUILD_CORE=1", "-I"]).arg(folder).arg("-I").arg(folder.join("internal"));
    if let (Some(above), Some(name)) = (folder.parent(), folder.file_name()) {
        // Debian's own `pyconfig.h` includes that of the machine by its path below `include`.
        command.arg("-I").arg(above).arg("-I").arg(above.join("x86_64-linux-gnu").join(name));
    }
    if free_threaded {
        command.arg("-DPy_GIL_DISABLED=1");
    }
    let result = run::output_of(command.arg("-o").arg(&output).arg(&input));
    let made = Made(output);
    std::fs::remove_file(&input)?;
    result.map(|_| made)
}
