//! `ebpf`: builds the kernel half and prints where the object is.

use std::path::PathBuf;

use anyhow::Result;

use crate::{bpf_build, no_arguments, run};

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    no_arguments("ebpf", args)?;
    let object = object()?;
    println!("{}", object.display());
    Ok(())
}

/// Builds the object; the same call as in `tracer-user/build.rs`.
fn object() -> Result<PathBuf> {
    run::say("building the eBPF object …");
    bpf_build::build(&run::root(), &run::target_dir().join("bpf")).map_err(anyhow::Error::msg)
}
