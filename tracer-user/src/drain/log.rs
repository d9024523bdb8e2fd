//! The probes' own debug messages (aya-log), for whoever runs with `-vv`.

use aya_log::EbpfLogger;

use crate::error::{Context, Result};
use crate::probe::load::Probes;

/// Writes each message to stderr.
struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("probe: {}", record.args());
    }

    fn flush(&self) {}
}

/// The reader of the messages.
pub struct ProbeMessages(EbpfLogger<ToStderr>);

impl ProbeMessages {
    /// Begins to read.
    ///
    /// # Errors
    /// When the object carries no messages.
    pub fn open(probes: &mut Probes) -> Result<Self> {
        Ok(Self(EbpfLogger::init_with_logger(probes.ebpf(), ToStderr).context("the probes' messages")?))
    }

    /// Prints what has come.
    pub fn print(&mut self) {
        self.0.flush();
    }
}
