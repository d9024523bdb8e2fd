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
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    match bpf_build::build(&workspace, &Path::new(&out).join("bpf")) {
        Ok(object) => println!("cargo::rustc-env=UNSHED_PROBES={}", object.display()),
        Err(cause) => println!("cargo::error={cause}"),
    }
}
