//! The CPythons that the tests need, by name.

use std::path::PathBuf;

use super::{Interpreter, debian, free_threaded, of_pyenv, others, pyenv_roots};

/// A CPython that the tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// pyenv's of this minor version: a shared library with symbols.
    Pyenv(u8),
    /// Debian 12's own 3.11: one static executable, the allocators inlined.
    Debian,
    /// Debian's of this minor version, in a folder with all that it needs, run by chroot.
    Chroot(u8),
    /// Debian's `libpython` of this minor version, in a C program that embeds it: this machine's own (3.11), or in the folder of [`Self::Chroot`].
    Embedded(u8),
    /// One without the GIL.
    FreeThreaded,
}

impl Which {
    /// All that the tests need.
    pub const ALL: [Self; 12] = [
        Self::Pyenv(8),
        Self::Pyenv(9),
        Self::Pyenv(10),
        Self::Pyenv(11),
        Self::Pyenv(12),
        Self::Pyenv(13),
        Self::Debian,
        Self::Chroot(13),
        Self::Chroot(14),
        Self::Chroot(15),
        Self::Embedded(11),
        Self::FreeThreaded,
    ];

    /// Those of this kind that are here; of pyenv there may be several.
    ///
    /// # Panics
    /// When there is none; the message says how to get it.
    #[must_use]
    pub fn find(self) -> Vec<Interpreter> {
        match self {
            Self::Pyenv(minor) => {
                let (found, roots) = (of_pyenv(&format!("3.{minor}.")), pyenv_roots());
                assert!(
                    !found.is_empty(),
                    "the tests need a CPython 3.{minor} of pyenv, and there is none in {roots:?}: \
                     PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.{minor}"
                );
                found
            }
            Self::Debian => vec![debian().clone()],
            Self::Chroot(minor) => vec![others::chroot(minor)],
            Self::Embedded(minor) => vec![others::embedded(minor)],
            Self::FreeThreaded => vec![free_threaded().clone()],
        }
    }

    /// The library that a C program embeds.
    pub(super) fn library(self) -> Option<PathBuf> {
        let Self::Embedded(minor) = self else { return None };
        Some(format!("/usr/lib/x86_64-linux-gnu/libpython3.{minor}.so.1.0").into())
    }

    /// Where it is from, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Pyenv(_) => "pyenv",
            Self::Debian => "Debian 12",
            Self::Chroot(_) => "Debian sid, in a chroot",
            Self::Embedded(11) => "Debian 12, in a C program",
            Self::Embedded(_) => "Debian sid, in a C program in a chroot",
            Self::FreeThreaded => "Debian's source, free-threaded",
        }
    }
}
