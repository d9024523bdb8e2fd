//! Cargo's missing verbs, one file each: `cargo xtask VERB`.
//!
//! `setup` and `ebpf` make the build possible, `demo` and `test` are what a fresh machine is for, `tidy` and `verifier`
//! keep the house, `bench` measures it, `kernels` tries it on others. stdout is data (reports, tables, paths), stderr is progress.
#![expect(clippy::print_stdout, reason = "the verbs' tables and paths are data for the caller")]

use std::process::ExitCode;

use anyhow::{Result, bail};

mod apt;
mod bench;
mod bpf_build;
mod demo;
mod ebpf;
mod kernels;
mod layouts;
mod matrix;
mod product;
mod python;
mod pythons;
mod run;
mod setup;
pub mod target;
mod test;
mod tidy;
mod verifier;

const USAGE: &str = "usage: cargo xtask VERB

  setup [--ci]        install what the build needs and this machine lacks (--ci: what .ci/run needs, too)
  ebpf                build the kernel half, print the object's path
  demo                trace a bundled leaking service, print the report, draw a flame graph
  test [ARGS…]        run every test; ARGS go to the test runner
  pythons             fetch the interpreters that the tests trace and this machine lacks, list all
  matrix              record a known leak under every interpreter, write what was found into the README
  layouts             the offsets of CPython's structures against real builds and headers
  tidy                check the rules of the house
  verifier [--bless]  instructions and stack of each BPF program against the committed budget
  bench [--runs N] [--only WORKLOAD,…] [--quick]
                      what a trace costs its target, beside other tools, and what a hit costs step by step
  bench overhead [--only WORKLOAD,…] [--rounds N] [--seconds S] [--unshed 'FLAGS'] [--nothing]
                      what a recording takes from its target, and its stalls: whether the budget is kept
  bench accuracy [--only CASE,…] [--seconds 20,60] [--rate N] [--jobs N] [--unshed 'FLAGS'] [--peers CASE,…|none]
                      whether leaks of eighteen causes are found in a busy service, beside other tools
  kernels [--only SERIES,…] [--image FILE]… [--test NAME]… [--quick]
                      what older and newer kernels say of the BPF programs, and whether a leak is found on them";

fn main() -> ExitCode {
    match verb() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verb() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match verb.as_str() {
        "setup" => setup::run(&rest),
        "ebpf" => ebpf::run(&rest),
        "demo" => demo::run(&rest),
        "test" => test::run(&rest),
        "tidy" => tidy::run(&rest),
        "verifier" => verifier::run(&rest),
        "bench" => bench::run(&rest),
        "pythons" => pythons::run(&rest),
        "matrix" => matrix::run(&rest),
        "layouts" => layouts::run(&rest),
        "kernels" => kernels::run(&rest),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such verb: {verb:?}\n{USAGE}"),
    }
}

/// Refuses arguments that a verb does not know.
fn no_arguments(verb: &str, args: &[String]) -> Result<()> {
    match args.first() {
        Some(arg) => bail!("`{verb}` takes no argument {arg:?}; see `cargo xtask help`"),
        None => Ok(()),
    }
}
