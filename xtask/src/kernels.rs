//! `kernels`: what other kernels than this machine's say of the BPF programs, and whether a leak is found on them.
//!
//! Each kernel runs in an emulated machine of its own with a small system that holds the tool, the end-to-end tests and the
//! interpreters of this machine. A verb for developers: it downloads kernels, and needs minutes. Not part of CI.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{self, say};
use crate::{product, python, setup};
use debian::Cache;
use machine::{Outcome, Verdict};
use world::World;

mod cpio;
mod debian;
mod guest;
mod machine;
mod world;

/// The series that are looked at: the long-lived ones that Debian has, and the newest. The first is too old, and says why.
const SERIES: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];
/// The first series that is to accept every program (`bpf_get_attach_cookie` for perf events is of 5.15).
const FIRST: (u32, u32) = (5, 15);
/// Lines of a refusal or of a failed test that are shown below the table.
const SHOWN: usize = 25;

/// What was typed after `kernels`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    series: Vec<String>,
    images: Vec<PathBuf>,
    /// End-to-end tests to run instead of those that fit the kernel.
    tests: Vec<String>,
    /// Only what the verifier says: a minute instead of five for each kernel.
    quick: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|arg| arg == "--guest") {
        return guest::run();
    }
    let options = Options::parse(args)?;
    product::kernel_lets_us()?;
    setup::build_tools()?;
    setup::test_tools()?;
    setup::emulator()?;
    let cache = Cache::open()?;
    let archive = if options.quick { small_archive(&cache)? } else { archive(&cache, &options.tests)? };
    let mut good = true;
    let mut rows = Vec::new();
    for (name, image) in options.kernels(&cache) {
        let outcome = image.and_then(|image| {
            let folder = run::target_dir().join("unshed-kernels").join(&name);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            machine::boot(&name, &image, &archive, &folder)
        });
        let outcome = outcome
            .unwrap_or_else(|error| Outcome { failed: Some(format!("{error:#}")), ..Outcome::default() });
        good &= outcome.is_good();
        rows.push((name, outcome));
    }
    print(&rows);
    if good { Ok(()) } else { bail!("not every kernel from {}.{} on is served; see above", FIRST.0, FIRST.1) }
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let (mut series, mut images, mut tests, mut quick) = (None, Vec::new(), Vec::new(), false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--only" => {
                    let names = args.next().context("--only takes series, as `6.1,6.12`")?;
                    series = Some(names.split(',').map(str::to_owned).collect());
                }
                "--image" => images.push(args.next().context("--image takes a vmlinuz or a package")?.into()),
                "--test" => tests.push(args.next().context("--test takes the whole name of a test")?.clone()),
                "--quick" => quick = true,
                _ => bail!(
                    "`kernels` takes --only SERIES,…, --image FILE, --test NAME and --quick, not {arg:?}"
                ),
            }
        }
        // Whoever gives an image wants to know of that one.
        let all = || if images.is_empty() { SERIES.map(str::to_owned).to_vec() } else { Vec::new() };
        Ok(Self { series: series.unwrap_or_else(all), images, tests, quick })
    }

    /// Name and image of each kernel, as far as it can be had.
    fn kernels(&self, cache: &Cache) -> Vec<(String, Result<PathBuf>)> {
        let series = self.series.iter().map(|series| (series.clone(), cache.image(series)));
        let given = self.images.iter().map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, given(path))
        });
        series.chain(given).collect()
    }
}

/// The image that the user has given, out of its package if it is in one.
fn given(path: &Path) -> Result<PathBuf> {
    if path.extension().is_none_or(|extension| extension != "deb") {
        path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(path.to_path_buf());
    }
    let folder = run::target_dir().join("unshed-kernels/given");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::copy(path, folder.join("given.deb"))
        .with_context(|| format!("cannot read {}", path.display()))?;
    debian::unpack(&folder)?;
    debian::image_in(&folder).with_context(|| format!("no image in {}", path.display()))
}

/// Builds everything, runs the tests here first, and packs what the machines get.
fn archive(cache: &Cache, names: &[String]) -> Result<PathBuf> {
    let unshed = product::build(false)?;
    let tests = tests()?;
    let here = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let chosen = || names.iter().map(String::as_str).collect();
    for test in if names.is_empty() { guest::tests_for(&here) } else { chosen() } {
        // What fails here says nothing about other kernels. And the tests leave the extension behind that they have compiled.
        let mut command = Command::new(&tests);
        command.args([test, "--exact"]).env("UNSHED_BIN", &unshed);
        run::quietly(&format!("{test} on this kernel, {}", here.trim()), &mut command)?;
    }
    let pythons = python::found();
    pack(cache, &World { unshed: &unshed, tests: Some(&tests), names, pythons: &pythons })
}

/// The same without tests.
fn small_archive(cache: &Cache) -> Result<PathBuf> {
    let unshed = product::build(false)?;
    pack(cache, &World { unshed: &unshed, tests: None, names: &[], pythons: &[] })
}

fn pack(cache: &Cache, world: &World<'_>) -> Result<PathBuf> {
    let started = Instant::now();
    let path = cache.folder().join("initramfs.cpio");
    let size = world.archive()?.write(&path)?;
    say(format!("the small system has {} MiB ({:.1} s)", size >> 20, started.elapsed().as_secs_f64()));
    Ok(path)
}

/// Builds the end-to-end tests and returns the path of the program.
fn tests() -> Result<PathBuf> {
    let mut cargo = run::cargo();
    cargo.current_dir(run::root()).args(["test", "--package", "unshed-tests", "--test", "e2e", "--no-run"]);
    run::loudly("building the end-to-end tests", &mut cargo)?;
    let messages = run::output_of(cargo.args(["--quiet", "--message-format=json"]))?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut mine = artifacts.filter(|artifact| artifact["target"]["name"] == "e2e");
    let path = mine.find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    path.context("cargo names no executable of the end-to-end tests")
}

impl Outcome {
    /// Whether it did what it is to do: everything, or, if it is too old, tell why not.
    fn is_good(&self) -> bool {
        let too_old = !self.release.is_empty() && guest::series_of(&self.release) < FIRST;
        let accepted = self.programs.iter().all(|(_, verdict)| matches!(verdict, Verdict::Accepted { .. }));
        let passed = self.tests.iter().all(|(_, passed)| passed.is_ok());
        too_old || (self.failed.is_none() && !self.programs.is_empty() && accepted && passed)
    }
}

fn print(rows: &[(String, Outcome)]) {
    println!("{:28}  {:58}  result", "kernel", "program or test");
    let mut details = Vec::new();
    for (name, outcome) in rows {
        let kernel = if outcome.release.is_empty() { name } else { &outcome.release };
        let mut row = |what: &str, result: &str, detail: Option<&String>| {
            println!("{kernel:28}  {what:58}  {result}");
            details.extend(detail.map(|detail| (kernel.clone(), what.to_owned(), detail.clone())));
        };
        for (program, verdict) in &outcome.programs {
            match verdict {
                Verdict::Accepted { insns, stack } => {
                    row(program, &format!("{insns} instructions, stack {stack}"), None);
                }
                Verdict::Refused(why) => row(program, "REFUSED", Some(why)),
            }
        }
        for (test, result) in &outcome.tests {
            let test = test.rsplit("::").next().unwrap_or(test);
            row(test, if result.is_ok() { "passed" } else { "FAILED" }, result.as_ref().err());
        }
        for complaint in &outcome.complaints {
            row("the kernel's own log", "COMPLAINS", Some(complaint));
        }
        if let Some(why) = &outcome.failed {
            row("the whole", "FAILED", Some(why));
        }
    }
    for (kernel, what, detail) in details {
        println!("\n{kernel}, {what}:");
        let lines: Vec<&str> = detail.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            println!("    {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_image_alone_is_enough() {
        let series = |args: &[&str]| options(args).unwrap().series;
        assert_eq!(series(&[]).len(), SERIES.len());
        assert_eq!(series(&["--only", "6.1,6.12"]), ["6.1", "6.12"]);
        assert_eq!(series(&["--image", "vmlinuz"]), [""; 0]);
        assert_eq!(series(&["--image", "vmlinuz", "--only", "6.1"]), ["6.1"]);
        assert!(options(&["--image"]).is_err());
        assert!(options(&["6.1"]).is_err());
    }

    #[test]
    fn only_a_kernel_that_is_too_old_may_refuse() {
        let refuses = |release: &str| Outcome {
            release: release.to_owned(),
            programs: vec![("on_entry".to_owned(), Verdict::Refused(String::new()))],
            ..Outcome::default()
        };
        assert!(refuses("5.10.0-46-cloud-amd64").is_good());
        assert!(!refuses("5.15.135").is_good());
        assert!(!Outcome::default().is_good());
        let silent = Outcome { release: "6.1.0".to_owned(), ..Outcome::default() };
        assert!(!silent.is_good(), "a kernel that was asked nothing has accepted nothing");
    }
}
