//! Captures that are whole, cut, damaged, foreign and hostile.

use proptest::prelude::*;

use super::*;
use crate::report::fixture;
use crate::report::sampling::{Sampling, SiteErrors, SumErrors};

fn capture(story: &Story) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(story, &mut bytes).unwrap();
    bytes
}

fn error(bytes: &[u8]) -> String {
    read(&mut &bytes[..]).unwrap_err().to_string()
}

#[test]
fn a_story_is_read_as_it_was_written() {
    let story = fixture::story();
    let bytes = capture(&story);
    assert!(bytes.starts_with(b"unshed.capture/1\n\x1f\x8b"));
    assert_eq!(read(&mut bytes.as_slice()).unwrap(), story);
    assert_eq!(bytes, capture(&story), "the same bytes each time");
}

#[test]
fn what_is_no_capture_is_called_so() {
    for bytes in [
        &b""[..],
        b"\x7fELF",
        b"{\"schema\":1}\n",
        b"unshed.capture/x\n",
        b"unshed.capture/+1\n",
        b"unshed.capture/0\n",
    ] {
        let error = error(bytes);
        assert!(error.starts_with("this is not an unshed capture\n"), "{bytes:?}: {error}");
    }
}

#[test]
fn a_newer_version_is_called_so() {
    let expected = "the capture is of version 2, and this unshed reads version 1\nread it with the unshed that wrote it, or a newer one";
    assert_eq!(error(b"unshed.capture/2\nwhatever"), expected);
}

#[test]
fn every_cut_is_noticed() {
    let bytes = capture(&fixture::story());
    for length in 1..bytes.len() {
        assert!(error(&bytes[..length]).starts_with("the capture is cut short\n"), "{length} bytes");
    }
}

#[test]
fn damage_is_noticed() {
    assert!(
        error(b"unshed.capture/1\nno gzip, but long enough to look").starts_with("the capture is damaged: ")
    );
    let mut longer = capture(&fixture::story());
    longer.push(b'\n');
    assert!(error(&longer).starts_with("the capture is damaged: bytes follow its end"));
    let mut foreign = b"unshed.capture/1\n".to_vec();
    let mut packed = GzEncoder::new(&mut foreign, Compression::default());
    packed.write_all(b"{\"target\":{}}").unwrap();
    packed.finish().unwrap();
    assert!(error(&foreign).starts_with("the capture is damaged: missing field"), "{}", error(&foreign));
}

#[test]
fn a_bomb_is_refused() {
    let story = fixture::story();
    let length = serde_json::to_vec(&story).unwrap().len() as u64;
    let bytes = capture(&story);
    assert!(read_bounded(&mut bytes.as_slice(), length + 1).is_ok());
    for limit in [0, 1, length / 2, length - 1, length] {
        let error = read_bounded(&mut bytes.as_slice(), limit).unwrap_err().to_string();
        assert!(error.starts_with("the capture unpacks to more than "), "{limit}: {error}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_an_error(bytes: Vec<u8>) {
        prop_assert!(read(&mut bytes.as_slice()).is_err());
        let mut after_magic = b"unshed.capture/1\n".to_vec();
        after_magic.extend(bytes);
        prop_assert!(read(&mut after_magic.as_slice()).is_err());
    }

    #[test]
    fn one_changed_bit_never_tells_another_story(at: prop::sample::Index, bit in 0u8..8) {
        let story = fixture::story();
        let mut bytes = capture(&story);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // Bits of gzip's header that say who packed it may change; the story may not.
        if let Ok(read) = read(&mut bytes.as_slice()) {
            prop_assert_eq!(read, story);
        }
    }
}

/// A frame as captures had it before native frames had places.
#[test]
fn older_captures_are_still_read() {
    let older =
        r#"{"kind":"native","function":"f","file":null,"line":null,"module":"libfoo.so","inlined":false}"#;
    let frame: crate::symbol::Frame = serde_json::from_str(older).unwrap();
    assert_eq!((frame.place.as_ref(), frame.unnamed.as_ref()), (None, None));
    assert_eq!(serde_json::to_string(&frame).unwrap(), older, "what is not known is not written");
}

#[test]
fn a_native_frame_is_captured_with_its_place() {
    let frame = fixture::nameless();
    let text = serde_json::to_value(&frame).unwrap();
    assert_eq!(text["module_path"], "/opt/app/lib/libfast.so");
    assert_eq!(
        (text["module_offset"].as_u64(), text["module_address"].as_u64()),
        (Some(0x2c3f), Some(0x3c3f))
    );
    assert_eq!(text["build_id"], "6b1c0f2e4d5a69788796a5b4c3d2e1f00f1e2d3c");
    assert_eq!(serde_json::from_value::<crate::symbol::Frame>(text).unwrap(), frame);
}

/// A story as captures had it before there were samples: the new fields are not written where they say nothing, so this is its shape.
#[test]
fn captures_without_samples_are_still_read() {
    let story = fixture::story();
    let text = serde_json::to_string(&story).unwrap();
    assert!(["\"sampl", "\"survivors\":", "_error\""].iter().all(|word| !text.contains(word)), "{text}");
    assert_eq!(serde_json::from_str::<Story>(&text).unwrap(), story);
}

#[test]
fn errors_stand_beside_what_they_belong_to() {
    let sums = SumErrors { live_bytes: 12.5, live_blocks: 3.0, ..SumErrors::default() };
    let mut story = fixture::story();
    story.totals.errors = Some(sums);
    story.sites[0].errors = Some(SiteErrors { sums, growth_bytes_per_second: 0.25 });
    (story.sites[0].samples, story.sites[0].survivors) = (Some(40), Some(31));
    story.sampling =
        Some(Sampling { windows: 312, fell_back: Some("why".to_owned()), ..Sampling::default() });
    let value = serde_json::to_value(&story).unwrap();
    assert_eq!(
        (&value["totals"]["live_bytes_error"], &value["totals"]["errors"]),
        (&12.5.into(), &serde_json::Value::Null)
    );
    let site = &value["sites"][0];
    for (name, error) in
        [("live_bytes", 12.5), ("live_blocks", 3.0), ("freed_bytes", 0.0), ("growth_bytes_per_second", 0.25)]
    {
        assert_eq!(site[format!("{name}_error")], error, "{name}");
    }
    assert_eq!(value["sites"][1].get("live_bytes_error"), None);
    let mut bytes = Vec::new();
    write(&story, &mut bytes).unwrap();
    assert_eq!(read(&mut bytes.as_slice()).unwrap(), story);
}
