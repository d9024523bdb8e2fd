//! Frames out of what blazesym says of a place: what is believed, how a place without a name is called, and why it has none.

use blazesym::symbolize::{CodeInfo, Sym};

use crate::symbol::{Frame, FrameKind, FramePlace, file_name};

/// Characters of a function's name or a path that are kept: the names of C++ templates can be longer than anybody reads.
const NAME: usize = 1024;

/// A call in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::symbol) struct Call {
    /// Where it is.
    pub(in crate::symbol) place: FramePlace,
}

impl Call {
    /// The frame of a call without a name, and why it has none.
    pub(in crate::symbol) fn nameless(&self, reason: &str) -> Frame {
        let module = file_name(&self.place.path);
        Frame {
            unnamed: Some(self.reason(reason)),
            ..self.frame(&format!("<{module}+{:#x}>", self.place.vaddr), None, false)
        }
    }

    fn reason(&self, reason: &str) -> String {
        let module = file_name(&self.place.path);
        match &self.place.build_id {
            Some(id) => format!("{reason} in {module} (build id {id})"),
            None => format!("{reason} in {module} (no build id)"),
        }
    }

    /// The frames of a symbol: the functions that the compiler inlined at the call, innermost first, then the one that holds the code, by `name` if its
    /// own is empty.
    pub(in crate::symbol) fn frames(&self, symbol: &Sym<'_>, name: Option<&str>) -> Vec<Frame> {
        // blazesym gives the outermost first. Names that dwz has moved into a file shared by several packages it does not find.
        let inlined = symbol.inlined.iter().rev().map(|inlined| match &*inlined.name {
            "" => Frame {
                unnamed: Some(self.reason("the debug information names no inlined function")),
                ..self.frame("<inlined>", inlined.code_info.as_ref(), true)
            },
            name => self.frame(name, inlined.code_info.as_ref(), true),
        });
        let own = if symbol.name.is_empty() { name.unwrap_or_default() } else { &symbol.name };
        inlined.chain([self.frame(own, symbol.code_info.as_deref(), false)]).collect()
    }

    pub(in crate::symbol) fn frame(
        &self,
        function: &str,
        info: Option<&CodeInfo<'_>>,
        inlined: bool,
    ) -> Frame {
        Frame {
            kind: FrameKind::Native,
            function: bounded(function),
            file: info.map(|info| bounded(&info.to_path().to_string_lossy())),
            // DWARF's line 0 is code that no line stands for.
            line: info.and_then(|info| info.line).filter(|line| *line > 0),
            module: Some(file_name(&self.place.path).to_owned()),
            inlined,
            place: Some(self.place.clone()),
            unnamed: None,
        }
    }
}

/// Whether a symbol can hold an address. Most of what does not is caught by blazesym itself; this is what it lets pass:
///
/// * a symbol of the full table without a size, which it takes for everything up to the next one: only hand-written assembly has such;
/// * a function of the debug information at address 0: the linker has thrown it away, and what reaches far enough covers others' code.
///
/// A function in several parts (hot and cold) has debug information without one address, which blazesym gives as 0, without a size.
pub(in crate::symbol) fn holds(symbol: &Sym<'_>, vaddr: u64) -> bool {
    match symbol.size {
        Some(size) => symbol.addr > 0 && symbol.addr <= vaddr && vaddr - symbol.addr < size as u64,
        None => symbol.addr == 0 && symbol.code_info.is_some(),
    }
}

/// The frame of code that no file holds.
pub(in crate::symbol) fn of_no_file(address: u64) -> Frame {
    Frame {
        kind: FrameKind::Native,
        function: format!("<{:#x}>", address.saturating_sub(1)),
        file: None,
        line: None,
        module: None,
        inlined: false,
        place: None,
        unnamed: Some("code that is of no file (made at run time?)".to_owned()),
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nameless_call_says_where_it_is_and_why_it_has_no_name() {
        let place = |build_id: Option<&str>| FramePlace {
            path: "/opt/lib/libfoo.so".to_owned(),
            offset: 0x234,
            vaddr: 0x1234,
            build_id: build_id.map(str::to_owned),
        };
        let frame = Call { place: place(Some("0123abcd")) }.nameless("no symbols");
        assert_eq!((frame.function.as_str(), frame.line, frame.file), ("<libfoo.so+0x1234>", None, None));
        assert_eq!(frame.unnamed.as_deref(), Some("no symbols in libfoo.so (build id 0123abcd)"));
        assert_eq!(
            (frame.module.as_deref(), frame.place),
            (Some("libfoo.so"), Some(place(Some("0123abcd"))))
        );
        let frame = Call { place: place(None) }.nameless("no symbols");
        assert_eq!(frame.unnamed.as_deref(), Some("no symbols in libfoo.so (no build id)"));
        assert_eq!(of_no_file(0x1001).function, "<0x1000>");
    }

    #[test]
    fn endless_names_have_an_end() {
        assert_eq!(bounded(&"é".repeat(5000)).chars().count(), NAME + 1);
        assert_eq!(bounded("f"), "f");
    }
}
