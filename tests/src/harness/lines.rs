//! What a child prints, line by line, read by a thread so that no pipe ever fills up.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The lines of one stream, in order; all that was taken is remembered for the error messages.
#[derive(Debug)]
pub struct Lines {
    incoming: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    seen: String,
}

/// Why there is no next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLine {
    /// The stream has ended.
    Ended,
    /// The deadline has passed.
    Late,
}

impl Lines {
    /// Starts reading.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, incoming) = channel();
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { incoming, reader: Some(reader), seen: String::new() }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// When there is none, and why.
    pub fn next(&mut self, deadline: Duration) -> Result<String, NoLine> {
        let line = self.incoming.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoLine::Late,
            RecvTimeoutError::Disconnected => NoLine::Ended,
        })?;
        self.seen.push_str(&line);
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }

    /// The next line that starts with `prefix`; others are passed over.
    ///
    /// # Errors
    /// When there is none, and why.
    pub fn find(&mut self, prefix: &str, deadline: Duration) -> Result<String, NoLine> {
        let end = Instant::now() + deadline;
        loop {
            let line = self.next(end.saturating_duration_since(Instant::now()))?;
            if line.starts_with(prefix) {
                return Ok(line);
            }
        }
    }

    /// Everything taken so far.
    #[must_use]
    pub fn seen(&self) -> &str {
        &self.seen
    }

    /// Everything up to the end of the stream. To be called when the child has ended; a grandchild that holds the pipe open
    /// is not waited for.
    pub fn rest(&mut self, deadline: Duration) -> &str {
        while self.next(deadline).is_ok() {}
        if let Some(reader) = self.reader.take_if(|reader| reader.is_finished()) {
            reader.join().expect("the reading thread does not panic");
        }
        &self.seen
    }
}
