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
    // One folder for every profile and for clippy: cargo locks it, and the object is the same.
    match bpf_build::build(&workspace, &workspace.join("target/bpf")) {
        Ok(object) => println!("cargo::rustc-env=UNSHED_PROBES={}", object.display()),
        Err(cause) => println!("cargo::error={cause}"),
    }
}
