//! The capture file: the whole story, so that `unshed report` can tell it again on any machine.
//!
//! A line `unshed.capture/1`, then the story as JSON in one gzip member, and nothing after it. The line says what the file is before anything is
//! unpacked; gzip's checksum says that it is whole.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::story::Story;
use crate::error::{Context, Error, Result};

/// What every capture starts with; the version and a newline follow.
const MAGIC: &[u8] = b"unshed.capture/";
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Bytes of the first line at most.
const LINE_BYTES: u64 = 32;
/// Unpacked bytes at most: a small file must not fill the memory of who reads it.
const UNPACKED_BYTES: u64 = 1 << 30;

/// Writes a capture.
///
/// # Errors
/// When the writer fails.
pub fn write(story: &Story, out: &mut dyn Write) -> Result<()> {
    let what = "cannot write the capture";
    out.write_all(MAGIC).and_then(|()| writeln!(out, "{VERSION}")).context(what)?;
    let mut packed = GzEncoder::new(std::io::BufWriter::new(out), Compression::default());
    serde_json::to_writer(&mut packed, story).context(what)?;
    packed.finish().and_then(|mut out| out.flush()).context(what)
}

/// Reads a capture.
///
/// # Errors
/// When the bytes are no capture, are of a newer version, are cut short or damaged, or unpack to more than 1 GiB.
pub fn read(input: &mut dyn Read) -> Result<Story> {
    read_bounded(input, UNPACKED_BYTES)
}

fn read_bounded(input: &mut dyn Read, unpacked_bytes: u64) -> Result<Story> {
    let mut input = BufReader::new(input);
    first_line(&mut input)?;
    let mut unpacked = BufReader::new(GzDecoder::new(&mut input).take(unpacked_bytes));
    let story = serde_json::from_reader(&mut unpacked);
    let exhausted = unpacked.get_ref().limit() == 0;
    match story {
        _ if exhausted => {
            let message = format!("the capture unpacks to more than {}", super::units::bytes(unpacked_bytes));
            Err(Error::failed(message)
                .next("unshed writes no such captures; it is damaged or was made to do harm"))
        }
        Err(cause) => Err(damaged(&cause)),
        Ok(_) if !input.fill_buf().context("cannot read the capture")?.is_empty() => {
            Err(Error::failed("the capture is damaged: bytes follow its end")
                .next("copy it again, or record again"))
        }
        Ok(story) => Ok(story),
    }
}

/// Reads the first line and nothing more.
fn first_line(input: &mut impl BufRead) -> Result<()> {
    let mut line = Vec::new();
    input.take(LINE_BYTES).read_until(b'\n', &mut line).context("cannot read the capture")?;
    let not_a_capture = || {
        Error::failed("this is not an unshed capture")
            .next("captures are written by `unshed record -o NAME.unshed`")
    };
    if line.len() < MAGIC.len() && MAGIC.starts_with(&line) && !line.is_empty() {
        return Err(cut_short());
    }
    let version = line.strip_prefix(MAGIC).ok_or_else(not_a_capture)?;
    let Some(version) = version.strip_suffix(b"\n") else {
        return Err(if (line.len() as u64) < LINE_BYTES { cut_short() } else { not_a_capture() });
    };
    // Only digits: `parse` takes a sign as well.
    let digits =
        std::str::from_utf8(version).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(version) if version > VERSION => {
            let message =
                format!("the capture is of version {version}, and this unshed reads version {VERSION}");
            Err(Error::failed(message).next("read it with the unshed that wrote it, or a newer one"))
        }
        _ => Err(not_a_capture()),
    }
}

fn cut_short() -> Error {
    Error::failed("the capture is cut short")
        .next("copy it again; if the recording was killed while it wrote, record again")
}

fn damaged(cause: &serde_json::Error) -> Error {
    if cause.io_error_kind() == Some(ErrorKind::UnexpectedEof) {
        return cut_short();
    }
    // The position in the unpacked text means nothing to who holds the file; what was wrong may.
    Error::failed(format!("the capture is damaged: {cause}")).next("copy it again, or record again")
}

#[cfg(test)]
mod tests;
