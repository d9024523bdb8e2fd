//! Errors as values: what went wrong, why, and what to do next, in one or two lines; the kind decides the exit code.

use std::fmt;

/// What class of failure this is. The exit codes are a contract (README, "Exit codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything that has no code of its own: exit code 1.
    Failed,
    /// The command line asks for something that cannot be: exit code 2.
    Usage,
    /// The target is gone, is no CPython, or is of a version or build that is not supported: exit code 4.
    Target,
    /// The kernel does not let us: exit code 77.
    Privilege,
}

impl Kind {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Target => 4,
            Self::Privilege => 77,
        }
    }
}

/// A failure: the thing and the cause in `message`, the next step in `next`.
///
/// ```
/// use tracer_user::error::{Error, Kind};
/// let error = Error::new(Kind::Target, "process 4711 does not exist").next("list the Pythons of this host with `unshed ps`");
/// assert_eq!(error.to_string(), "process 4711 does not exist\nlist the Pythons of this host with `unshed ps`");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    next: Option<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure that names the thing and the cause. One line, no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), next: None }
    }

    /// A failure without a code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Adds the next step, one line.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Says first what the failure is about: "`what`: …".
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The class of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next {
            Some(next) => write!(out, "{}\n{next}", self.message),
            None => out.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to a foreign error.
pub trait Context<T> {
    /// Turns the error into a [`Kind::Failed`] that reads "`what`: `cause`".
    ///
    /// # Errors
    /// The error itself, with its context.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Error::failed(format!("{what}: {cause}")))
    }
}
