//! Text that comes from the target, made harmless and short. Function names, paths and arguments are chosen by whoever wrote the traced
//! program; none of them may move the cursor of a root operator's terminal or break a line format.

use std::borrow::Cow;

/// The text with a replacement character for every control character and every character that turns the direction of writing.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_harmful) {
        return Cow::Owned(
            text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        );
    }
    Cow::Borrowed(text)
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a text takes, with one for each character.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A path in at most `room` columns where that can be: its middle gives way to `…`, its file name never does.
#[must_use]
pub fn shorten_path(path: &str, room: usize) -> Cow<'_, str> {
    if columns(path) <= room {
        return Cow::Borrowed(path);
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if columns(name) == columns(path) {
        return Cow::Borrowed(path);
    }
    let head: String = path.chars().take(room.saturating_sub(columns(name) + 2)).collect();
    Cow::Owned(format!("{head}…/{name}"))
}

/// A text in at most `room` columns: its middle gives way to `…`.
#[must_use]
pub fn shorten(text: &str, room: usize) -> Cow<'_, str> {
    let length = columns(text);
    if length <= room || room == 0 {
        return Cow::Borrowed(text);
    }
    let tail = room.saturating_sub(1) / 2;
    let head: String = text.chars().take(room - 1 - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    Cow::Owned(format!("{head}…{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_do_not_pass() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d\u{9b}"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}");
        assert!(matches!(clean("Überlänge.<locals>.λ"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_middle_of_a_path_gives_way() {
        assert_eq!(
            shorten_path("/usr/lib/python3/site-packages/app.py", 20),
            "/usr/lib/pyth…/app.py"[..].replacen('h', "", 1)
        );
        assert_eq!(shorten_path("/app/app.py", 11), "/app/app.py");
        assert_eq!(shorten_path("/app/a_long_name.py", 5), "…/a_long_name.py");
        assert_eq!(shorten_path("a_long_name.py", 5), "a_long_name.py");
        assert_eq!(shorten("python3 -m app --port 8000", 11), "pytho… 8000");
    }

    proptest! {
        #[test]
        fn shortened_fits_and_keeps_the_name(path in "(/[a-zé]{0,12}){1,8}", room in 0usize..60) {
            let short = shorten_path(&path, room);
            let name = path.rsplit('/').next().unwrap();
            prop_assert!(short.ends_with(name));
            prop_assert!(columns(&short) <= room.max(columns(name) + 2));
            prop_assert!(room == 0 || columns(&shorten(&path, room)) <= room);
        }
    }
}
