//! Names for machine code that a report could not name, from the file as it was before it was stripped, by binutils' own tool: whether the
//! offsets that the report tells are the right ones.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSegment};

use super::extension::{build_id, module_name, whole};
use crate::report::{Frame, Report};

/// The report with its nameless frames of a stripped extension named. `folder` is what `build_extension` returned.
///
/// # Panics
/// When a frame of the extension has a name, or does not say where it is and why it has none.
#[must_use]
pub fn named_by_offset(report: &Report, folder: &Path, source: &str) -> Report {
    let (module, whole) = (module_name(source), whole(folder, source));
    let (file, id) = (folder.join(&module), build_id(&whole));
    let names = Names { segments: segments(&file), whole: &whole, module: &module };
    let mut report = report.clone();
    let mut known: HashMap<u64, Vec<Frame>> = HashMap::new();
    for site in &mut report.sites {
        let stack = std::mem::take(&mut site.stack);
        for frame in stack {
            if frame.module.as_deref() != Some(&module) {
                site.stack.push(frame);
                continue;
            }
            let offset = assert_nameless(&frame, &file, &id);
            assert_eq!(frame.module_address, Some(names.address(offset)), "{frame:?}");
            site.stack.extend(known.entry(offset).or_insert_with(|| names.at(offset)).iter().cloned());
        }
    }
    assert!(!known.is_empty(), "no frame is of {module}\n{}", report.worst());
    report
}

/// Asserts that a frame tells all that can be told without symbols, and returns its offset.
fn assert_nameless(frame: &Frame, file: &Path, id: &str) -> u64 {
    let module = file.file_name().expect("it was joined from one").to_string_lossy();
    let (path, reason) = (file.display().to_string(), frame.unnamed.as_deref().unwrap_or_default());
    assert!(
        frame.function.starts_with(&format!("<{module}+0x")),
        "a stripped function has a name: {frame:?}"
    );
    assert_eq!((&frame.file, frame.line, frame.inlined), (&None, None, false), "{frame:?}");
    assert_eq!(frame.module_path, Some(path), "{frame:?}");
    assert_eq!(frame.build_id.as_deref(), Some(id), "{frame:?}");
    assert!(
        reason.contains("no symbols") && reason.contains(id),
        "why it has no name is not told: {frame:?}"
    );
    frame.module_offset.unwrap_or_else(|| panic!("where it is is not told: {frame:?}"))
}

/// Where the code of a file is: file offset, length, the file's own address.
fn segments(file: &Path) -> Vec<(u64, u64, u64)> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    let elf = object::File::parse(bytes.as_slice()).expect("the linker writes ELF files");
    let place = |segment: object::Segment<'_, '_>| {
        let (offset, length) = segment.file_range();
        (offset, length, segment.address())
    };
    elf.segments().map(place).collect()
}

/// The file that knows.
struct Names<'a> {
    segments: Vec<(u64, u64, u64)>,
    whole: &'a Path,
    module: &'a str,
}

impl Names<'_> {
    /// The file's own address of a file offset.
    fn address(&self, offset: u64) -> u64 {
        let inside = |&&(from, length, _): &&(u64, u64, u64)| (from..from + length).contains(&offset);
        let segment = self.segments.iter().find(inside);
        let &(from, _, address) = segment
            .unwrap_or_else(|| panic!("{offset:#x} is not an offset of mapped bytes of {}", self.module));
        offset - from + address
    }

    /// The functions at a file offset, innermost first.
    fn at(&self, offset: u64) -> Vec<Frame> {
        let said = self.ask(self.address(offset));
        let lines: Vec<&str> = said.lines().collect();
        let chunks = lines.chunks_exact(2);
        assert!(chunks.remainder().is_empty() && !lines.is_empty(), "addr2line says {said:?}");
        let last = chunks.len() - 1;
        chunks.enumerate().map(|(at, pair)| self.frame(pair[0], pair[1], at != last)).collect()
    }

    fn ask(&self, address: u64) -> String {
        let mut tool = Command::new("addr2line");
        let output = tool
            .args(["--functions", "--inlines", "--demangle", "--exe"])
            .arg(self.whole)
            .arg(format!("{address:#x}"));
        let output = output.output().expect("addr2line is part of binutils: apt-get install binutils");
        assert!(output.status.success(), "{tool:?} fails: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A frame of a function and `FILE:LINE (discriminator 2)`.
    fn frame(&self, function: &str, place: &str, inlined: bool) -> Frame {
        let place = place.split(" (").next().unwrap_or_default();
        let (file, line) = place.rsplit_once(':').unwrap_or((place, ""));
        Frame {
            kind: "native".to_owned(),
            function: function.to_owned(),
            file: Some(file.to_owned()),
            line: line.parse().ok(),
            module: Some(self.module.to_owned()),
            inlined,
            module_path: None,
            module_offset: None,
            module_address: None,
            build_id: None,
            unnamed: None,
        }
    }
}
