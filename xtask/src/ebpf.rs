//! `ebpf`: builds the kernel half, for this machine or for another processor, and prints where the object is.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{bpf_build, run};

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let processor = match args {
        [] => std::env::consts::ARCH,
        [flag, processor] if flag == "--processor" => processor,
        _ => bail!("`ebpf` takes only --processor and one of {}", bpf_build::PROCESSORS.join(", ")),
    };
    let object = object(processor)?;
    println!("{}", object.display());
    Ok(())
}

/// Builds the object; the same call as in `tracer-user/build.rs`.
fn object(processor: &str) -> Result<PathBuf> {
    run::say(format!("building the eBPF object for {processor} …"));
    let folder = if processor == std::env::consts::ARCH { "bpf" } else { "bpf-other" };
    bpf_build::build(&run::root(), &run::target_dir().join(folder), processor).map_err(anyhow::Error::msg)
}
