//! Builds the probes and tells the crate where the object is, so that the binary carries it. The object is never committed.

use std::path::Path;

#[path = "../xtask/src/bpf_build.rs"]
mod bpf_build;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for watched in
        ["tracer-ebpf/src", "tracer-ebpf/Cargo.toml", "tracer-ebpf/Cargo.lock", "tracer-common/src"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    // For the processor that the loader will run on. One folder for every profile and for clippy: cargo locks it, and the object is the same.
    let processor = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let folder = if processor == std::env::consts::ARCH { "target/bpf" } else { "target/bpf-other" };
    match bpf_build::build(&workspace, &workspace.join(folder), &processor) {
        Ok(object) => println!("cargo::rustc-env=UNSHED_PROBES={}", object.display()),
        Err(cause) => println!("cargo::error={cause}"),
    }
}
