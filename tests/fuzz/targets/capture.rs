//! Capture files: whatever a stranger sends, `unshed report` reads it or says what is wrong, and what it has read it can print.
//!
//! The first byte chooses: even, the rest is the file; odd, the rest is the text inside, which is packed first, because no
//! mutation survives gzip's checksum.

#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use tracer_user::report::{Format, Style, archive, write};

const STYLE: Style = Style { color: true, width: 100, top: 10, hide_interpreter: true };

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let file = if choice % 2 == 0 { rest.to_vec() } else { packed(rest) };
    let Ok(story) = archive::read(&mut file.as_slice()) else { return };
    for format in [Format::Text, Format::Json, Format::Folded, Format::Svg] {
        let mut out = Vec::new();
        if let Err(cause) = write(format, &story, &STYLE, &mut out) {
            panic!("a story that was read cannot be printed as {format:?}: {cause}");
        }
    }
    let mut again = Vec::new();
    archive::write(&story, &mut again).expect("what was read can be written");
    let read = archive::read(&mut again.as_slice()).expect("what was written can be read");
    // All but the four kinds of fractions: serde_json reads the last bit of a float as it likes.
    assert_eq!((read.target, read.hooks, read.totals), (story.target, story.hooks, story.totals));
    assert_eq!((read.sites.len(), read.losses), (story.sites.len(), story.losses));
});

/// The file with this text inside.
fn packed(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(b"unshed.capture/1\n".to_vec(), Compression::fast());
    packed.write_all(text).expect("a vector takes everything");
    packed.finish().expect("a vector takes everything")
}
