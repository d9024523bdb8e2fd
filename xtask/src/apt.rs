//! apt with package sources, lists and a cache of its own: what it does changes nothing of this machine's, and its configuration and
//! what it runs after an update (docker's images clean the cache then) are left out, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, works};

/// Debian's mirror.
pub(crate) const MIRROR: &str = "http://deb.debian.org";
/// The keys with which Debian signs its releases.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of our own.
#[derive(Debug)]
pub(crate) struct Apt {
    /// Its root folder.
    root: PathBuf,
    /// Its `sources.list`.
    sources: String,
    /// For packages of another processor: Debian's name for it.
    processor: Option<&'static str>,
}

impl Apt {
    /// With this root folder and these sources.
    pub(crate) const fn new(root: PathBuf, sources: String) -> Self {
        Self { root, sources, processor: None }
    }

    /// The same for packages of another processor.
    pub(crate) fn of_processor(self, name: &'static str) -> Self {
        Self { processor: Some(name), ..self }
    }

    /// Where it keeps packages that `install --download-only` fetched.
    pub(crate) fn archives(&self) -> PathBuf {
        self.root.join("var/cache/apt/archives")
    }

    /// One of its programs. The lists are fetched the first time, and when the sources are others than then.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let sources = self.root.join("etc/apt/sources.list");
        if std::fs::read_to_string(&sources).is_ok_and(|text| text == self.sources) {
            return Ok(self.configured(program));
        }
        if !works("apt-get", &["--version"]) || !Path::new(KEYRING).exists() {
            bail!("Debian's packages are fetched with apt and {KEYRING}, and one of them is not here");
        }
        for folder in
            ["etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"]
        {
            let folder = self.root.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(self.root.join("var/lib/dpkg/status"), "")?;
        std::fs::write(self.configuration(), self.text()?)?;
        std::fs::write(&sources, &self.sources)?;
        let update =
            run::quietly("fetching Debian's package lists", self.configured("apt-get").arg("update"));
        if update.is_err() {
            std::fs::remove_file(&sources)?;
        }
        update?;
        Ok(self.configured(program))
    }

    fn configured(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("APT_CONFIG", self.configuration()).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    }

    fn configuration(&self) -> PathBuf {
        self.root.join("etc/apt/unshed.conf")
    }

    /// How this machine reaches archives (its proxies), and everything else of our own.
    fn text(&self) -> Result<String> {
        let network = run::output_of(Command::new("apt-config").args(["dump", "Acquire"]))?;
        let root = self.root.display();
        // As root apt would hand downloads to its own user, who may not write here. Lists have a last day, but a mirror that stands
        // still is as good a source of old kernels and interpreters: whose they are is told by the signatures.
        let processor = self.processor.map_or_else(String::new, |name| {
            format!("APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n")
        });
        Ok(format!(
            "{network}{processor}Dir \"{root}\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\n"
        ))
    }
}
