//! A Rust file as the rules see it: its lines, the same lines without comments and literals, and which are test code.

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the top of the workspace, with `/`.
    pub(crate) file: String,
    /// The lines as written.
    pub(crate) raw: Vec<String>,
    /// The lines with the contents of comments, strings and characters blanked.
    pub(crate) code: Vec<String>,
    /// Which lines are test code.
    pub(crate) test: Vec<bool>,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let code: Vec<String> = blanked(text).lines().map(str::to_owned).collect();
        let test = if is_test_file(file) { vec![true; code.len()] } else { test_lines(&code) };
        Self { file: file.to_owned(), raw: text.lines().map(str::to_owned).collect(), code, test }
    }

    /// The code lines that are not test code, numbered from 1.
    pub(crate) fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.test).enumerate();
        lines.filter(|(_, (_, test))| !**test).map(|(at, (line, _))| (at + 1, line.as_str()))
    }
}

fn is_test_file(file: &str) -> bool {
    file.starts_with("tests/") || file.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
}

/// Marks what stands under `#[cfg(test)]`: an item up to its `;` or to the brace that closes it.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut marks = vec![false; code.len()];
    let mut at = 0;
    while at < code.len() {
        if code[at].trim_start().starts_with("#[cfg(test)]") {
            let end = item_end(code, at);
            marks[at..=end].fill(true);
            at = end;
        }
        at += 1;
    }
    marks
}

/// The line on which the item that begins at `start` ends.
fn item_end(code: &[String], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, line) in code.iter().enumerate().skip(start) {
        for c in line.chars() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, ';' | '}') {
                return at;
            }
        }
    }
    code.len() - 1
}

/// The text with comments and the contents of literals replaced by spaces; line breaks stay.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(first) = rest.chars().next() {
        let length = if after_word && first.is_alphanumeric() { 0 } else { blank_length(rest) };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            after_word = first.is_alphanumeric() || first == '_';
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
            after_word = false;
        }
    }
    out
}

/// The length of the comment or literal that begins here; 0 if none does.
fn blank_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    let prefix = text.chars().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count().min(2);
    let body = &text[prefix..];
    let hashes = body.bytes().take_while(|b| *b == b'#').count();
    if text[..prefix].contains('r') && body[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let open = prefix + hashes + 1;
        return text[open..].find(&close).map_or(text.len(), |at| open + at + close.len());
    }
    if body.starts_with('"') {
        return prefix + closing(body, '"');
    }
    if body.starts_with('\'') && is_character(body) { prefix + closing(body, '\'') } else { 0 }
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match rest {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Where a literal that begins with `quote` ends, escapes considered.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\n'`, not the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}
