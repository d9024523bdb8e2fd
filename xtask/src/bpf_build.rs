//! Builds the kernel half. Uses std only, because `tracer-user/build.rs` includes this very file to embed the object.
//!
//! Two compilers can make BPF code: a rustup nightly that has `rust-src` (it compiles `core` itself), or a rustup
//! toolchain named `bpf`, linked to a compiler that comes with a prebuilt `core` for `bpfel-unknown-none` (Debian's).
//! bpf-linker reads the compiler's bitcode, so both must be of the same LLVM.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The LLVM of compiler and linker, by its major version.
pub(crate) const LLVM: u32 = 22;

/// The processors whose registers the probes know (`tracer-ebpf/src/registers`).
pub(crate) const PROCESSORS: [&str; 2] = ["x86_64", "aarch64"];

const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "unshed-probes";
const NEXT: &str = "run `cargo xtask setup`";

/// A compiler that can make BPF code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// The toolchain `bpf`, linked to a compiler with a prebuilt `core`.
    Linked,
}

impl Compiler {
    /// Its name for rustup.
    pub(crate) const fn toolchain(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Linked => "bpf",
        }
    }

    /// The first one that this machine has.
    pub(crate) fn find() -> Option<Self> {
        let installed = lines_of(Command::new("rustup").args(["toolchain", "list"]));
        [Self::Nightly, Self::Linked]
            .into_iter()
            .filter(|compiler| installed.iter().any(|line| line.starts_with(compiler.toolchain())))
            .find(|compiler| compiler.has_core() && compiler.llvm() == Some(LLVM))
    }

    fn has_core(self) -> bool {
        match self {
            Self::Nightly => {
                let list = ["component", "list", "--toolchain", self.toolchain(), "--installed"];
                lines_of(Command::new("rustup").args(list)).iter().any(|component| component == "rust-src")
            }
            Self::Linked => lines_of(clean(&mut Command::new("rustc")).args(["+bpf", "--print", "sysroot"]))
                .first()
                .is_some_and(|root| Path::new(root).join("lib/rustlib").join(TARGET).is_dir()),
        }
    }

    /// The major version of the LLVM inside the compiler.
    pub(crate) fn llvm(self) -> Option<u32> {
        let version = lines_of(clean(&mut Command::new("rustc")).args([plus(self), "-vV".to_owned()]));
        let llvm = version.iter().find_map(|line| line.strip_prefix("LLVM version: "))?;
        llvm.split('.').next()?.parse().ok()
    }
}

/// Builds the probes for a processor, by rustc's name for it, and returns the path of the object. cargo's own messages go to stderr.
///
/// # Errors
/// One line that names the cause and the next step.
pub(crate) fn build(workspace_root: &Path, target_dir: &Path, processor: &str) -> Result<PathBuf, String> {
    if !PROCESSORS.contains(&processor) {
        return Err(format!("there are no probes for {processor}, only for {}", PROCESSORS.join(" and ")));
    }
    let compiler =
        Compiler::find().ok_or_else(|| format!("no compiler for the BPF target is installed; {NEXT}"))?;
    let linker = linker().ok_or_else(|| format!("bpf-linker for LLVM {LLVM} is not installed; {NEXT}"))?;
    let flags = [&format!("--cfg=bpf_target_arch=\"{processor}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"];

    let mut cargo = Command::new("cargo");
    clean(&mut cargo)
        .current_dir(workspace_root.join("tracer-ebpf"))
        .arg(plus(compiler))
        .args(["build", "--release", "--locked", "--target", TARGET, "--bin", PROGRAM, "--target-dir"])
        .arg(target_dir)
        .env("RUSTC_BOOTSTRAP", "1") // aya-ebpf uses `asm_experimental_arch`.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .stdout(Stdio::null());
    if compiler == Compiler::Nightly {
        cargo.args(["-Z", "build-std=core"]);
    }
    let status = cargo.status().map_err(|cause| format!("cargo cannot be started: {cause}; {NEXT}"))?;
    if !status.success() {
        return Err(format!("the eBPF build failed with {status}; its messages are above"));
    }
    let object = target_dir.join(TARGET).join("release").join(PROGRAM);
    if object.is_file() { Ok(object) } else { Err(format!("the eBPF build left no {}", object.display())) }
}

/// bpf-linker, if it is there, runs and is linked to our LLVM.
pub(crate) fn linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let homes = cargo_home.into_iter().chain(home).map(|home| home.join("bin"));
    std::env::split_paths(&path).chain(homes).map(|folder| folder.join("bpf-linker")).find(|file| {
        file.is_file() && !lines_of(Command::new(file).arg("--version")).is_empty() && fits(file)
    })
}

/// Whether the linker loads our LLVM (`libLLVM.so.22.1`, `libLLVM-22.so`). One that has it linked in statically does not
/// say which, and gets the benefit of the doubt.
fn fits(linker: &Path) -> bool {
    let libraries = lines_of(Command::new(linker).env("LD_TRACE_LOADED_OBJECTS", "1"));
    match libraries.iter().find_map(|line| line.trim_start().strip_prefix("libLLVM")) {
        Some(rest) => {
            let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.starts_with(&LLVM.to_string())
        }
        None => true,
    }
}

fn plus(compiler: Compiler) -> String {
    format!("+{}", compiler.toolchain())
}

/// Takes away what the cargo above us has set for its own target, compiler and flags.
fn clean(command: &mut Command) -> &mut Command {
    let keep =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_", "CARGO_BUILD_JOBS"];
    let foreign = |name: &str| {
        (name.starts_with("CARGO") && !keep.iter().any(|kept| name.starts_with(kept)))
            || ["RUSTC", "RUSTFLAGS", "RUSTDOC", "RUSTUP_TOOLCHAIN", "__CARGO", "CLIPPY_ARGS", "MAKEFLAGS"]
                .iter()
                .any(|start| name.starts_with(start))
            || ["TARGET", "HOST", "PROFILE", "OUT_DIR", "OPT_LEVEL", "DEBUG"].contains(&name)
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    command
}

/// What a command prints; nothing if it cannot run or fails.
fn lines_of(command: &mut Command) -> Vec<String> {
    match command.stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}
