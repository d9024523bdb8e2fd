//! `setup`: finds what the build needs, installs what is missing, says what it cannot install.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::bpf_build::{self, Compiler, LLVM};
use crate::run::{self, say, works};

/// The bpf-linker that is installed when none fits.
const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// It is compiled for this one too, and has not run there.
const OTHER_TARGET: &str = "aarch64-unknown-linux-gnu";

/// What the tests trace, by the file that tells that it is here, and the Debian package that has it.
const TEST_FILES: [(&str, &str); 5] = [
    ("/usr/bin/python3.11", "python3.11"),
    ("/usr/include/python3.11/Python.h", "python3.11-dev"),
    ("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", "libpython3.11"),
    ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc2"),
    ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
];

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let ci = match args {
        [] => false,
        [flag] if flag == "--ci" => true,
        _ => bail!("`setup` takes only --ci; see `cargo xtask help`"),
    };
    let started = Instant::now();
    build_tools()?;
    if ci {
        ci_tools()?;
    }
    say(format!("setup: everything is here ({:.1} s)", started.elapsed().as_secs_f64()));
    Ok(())
}

/// What every build needs.
pub(crate) fn build_tools() -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("unshed is built on and for x86-64 Linux");
    }
    if !works("rustup", &["--version"]) {
        bail!("rustup is not on PATH; install it from https://rustup.rs and run this again");
    }
    let compiler = compiler()?;
    linker()?;
    say(format!(
        "BPF compiler: toolchain {} (LLVM {LLVM}); bpf-linker: LLVM {LLVM}, the same",
        compiler.toolchain()
    ));
    Ok(())
}

/// A CPython to trace, where there is none.
pub(crate) fn interpreter() -> Result<()> {
    apt_install("a CPython 3.11", &["python3.11"])
}

/// What the tests need besides.
pub(crate) fn test_tools() -> Result<()> {
    if !works("cc", &["--version"]) {
        apt_install("a C compiler for the test extensions", &["build-essential"])?;
    }
    if !works("objdump", &["--version"]) {
        apt_install("objdump, which the planner's tests are held against", &["binutils"])?;
    }
    if !works("gdb", &["--version"]) {
        apt_install("gdb, which the walk along C frames is held against", &["gdb"])?;
    }
    for (file, package) in TEST_FILES {
        if !Path::new(file).exists() {
            apt_install("what the tests trace", &[package])?;
        }
    }
    Ok(())
}

/// What runs other kernels.
pub(crate) fn emulator() -> Result<()> {
    if works("qemu-system-x86_64", &["--version"]) {
        return Ok(());
    }
    apt_install("an emulator", &["qemu-system-x86"])
}

/// What `.ci/run` needs besides.
fn ci_tools() -> Result<()> {
    test_tools()?;
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !works("cargo", &[tool, "--version"]) {
            let mut rustup = Command::new("rustup");
            install(&format!("installing {component}"), rustup.args(["component", "add", component]))?;
        }
    }
    other_processor()?;
    if !works("cargo", &["deny", "--version"]) {
        install("installing cargo-deny", run::cargo().args(["install", "cargo-deny", "--locked"]))?;
    }
    Ok(())
}

/// The standard library for the other processor that unshed is compiled for.
fn other_processor() -> Result<()> {
    let mut rustup = Command::new("rustup");
    let installed = run::output_of(rustup.args(["target", "list", "--installed"]))?;
    if installed.lines().any(|line| line == OTHER_TARGET) {
        return Ok(());
    }
    let what = format!("installing the standard library for {OTHER_TARGET}");
    if let Err(error) = install(&what, Command::new("rustup").args(["target", "add", OTHER_TARGET])) {
        // Nothing but a check that it compiles depends on that, and .ci/run says when it is left out.
        say(format!("{error:#}"));
    }
    Ok(())
}

/// Finds a compiler for the BPF target, or installs Debian's, or adds `rust-src` to rustup's nightly.
fn compiler() -> Result<Compiler> {
    if let Some(found) = Compiler::find() {
        return Ok(found);
    }
    say("no compiler for bpfel-unknown-none yet");
    if run::is_root() && apt_has(&DEBIAN_COMPILER) {
        apt_install("the BPF compiler (Debian's rustc-web)", &DEBIAN_COMPILER)?;
        install(
            "linking it as toolchain bpf",
            Command::new("rustup").args(["toolchain", "link", "bpf", "/usr"]),
        )?;
    } else {
        let nightly = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
        if install("installing rustup's nightly with rust-src", Command::new("rustup").args(nightly)).is_err()
        {
            bail!(
                "no BPF compiler can be had here: install a rustup nightly with rust-src (LLVM {LLVM}), or, as root on \
                 Debian, `apt-get install {}` and `rustup toolchain link bpf /usr`",
                DEBIAN_COMPILER.join(" ")
            );
        }
    }
    match Compiler::find() {
        Some(found) => Ok(found),
        None => bail!(
            "the installed compilers are not of LLVM {LLVM} (nightly: {}, bpf: {}); bpf-linker {LINKER_VERSION} is \
             built for LLVM {LLVM}",
            version_of(Compiler::Nightly),
            version_of(Compiler::Linked)
        ),
    }
}

fn version_of(compiler: Compiler) -> String {
    compiler.llvm().map_or_else(|| "absent".to_owned(), |llvm| format!("LLVM {llvm}"))
}

/// Finds bpf-linker, or builds it against the compiler's LLVM.
fn linker() -> Result<()> {
    if bpf_build::linker().is_some() {
        return Ok(());
    }
    say(format!("no bpf-linker for LLVM {LLVM} yet"));
    let llvm = format!("/usr/lib/llvm-{LLVM}");
    if !Path::new(&llvm).join("bin/llvm-config").is_file() {
        apt_install("LLVM's headers", &[&format!("llvm-{LLVM}-dev")])?;
    }
    if !works("c++", &["--version"]) {
        apt_install("a C++ compiler (bpf-linker links LLVM)", &["g++"])?;
    }
    // Both: llvm-sys reads the second, bpf-linker's build script the first; without it that one takes whatever
    // `llvm-config` PATH has, and looks for libraries in the wrong folder.
    let mut cargo = run::cargo();
    cargo
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", &llvm)
        .env(format!("LLVM_SYS_{LLVM}1_PREFIX"), &llvm);
    install("installing bpf-linker (about two minutes)", &mut cargo)?;
    match bpf_build::linker() {
        Some(_) => Ok(()),
        None => {
            bail!("bpf-linker is installed but does not run with LLVM {LLVM}; try `bpf-linker --version`")
        }
    }
}

/// Whether apt knows all these packages, and they can be installed; its lists are fetched once if it does not. (An image's lists may be old, or lack an archive: the first package may be there,
/// of a version that the others have none for.)
fn apt_has(packages: &[&str]) -> bool {
    let simulate: Vec<&str> = ["install", "--simulate"].iter().chain(packages).copied().collect();
    works("apt-get", &simulate)
        || (works("apt-get", &["--version"])
            && install("fetching apt's package lists", Command::new("apt-get").arg("update")).is_ok()
            && works("apt-get", &simulate))
}

fn apt_install(what: &str, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !run::is_root() {
        bail!(
            "{what} is missing: as root, `apt-get install {names}` (or your system's packages of that kind)"
        );
    }
    if !apt_has(packages) {
        bail!("{what} is missing, and apt cannot install {names}: do it by hand, then run this again");
    }
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    install(&format!("installing {what}: {names}"), &mut apt)
}

/// A step that needs the network.
fn install(what: &str, command: &mut Command) -> Result<()> {
    run::quietly(what, command)
        .context("setup cannot go on; see that the network is there, then run it again")
}
