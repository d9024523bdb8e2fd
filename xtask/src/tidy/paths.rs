//! The paths that a file's code names, `use` groups taken apart: `use crate::{a, b::c}` names `crate::a` and `crate::b::c`.

use super::source::Source;

/// A path and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl Path {
    /// Whether the path begins so.
    pub(crate) fn starts_with(&self, start: &[&str]) -> bool {
        self.segments.len() >= start.len() && start.iter().zip(&self.segments).all(|(a, b)| a == b)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Join,
    Open,
    Close,
    Comma,
    Other,
}

/// All paths in a file's code, test code left out.
pub(crate) fn of_product(source: &Source) -> Vec<Path> {
    let tokens: Vec<(usize, Token)> = source
        .product()
        .flat_map(|(line, code)| tokens(code).into_iter().map(move |token| (line, token)))
        .collect();
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match tokens[at].1 {
            Token::Word(_) => path(&tokens, at, &[], &mut paths),
            // `::std::fs` and `<T as Trait>::name` go on from something we have seen, or from the root.
            _ => at + 1,
        };
    }
    paths
}

/// Reads the path at `at` (a word), appends what it names, and returns where it ends.
fn path(tokens: &[(usize, Token)], mut at: usize, before: &[String], paths: &mut Vec<Path>) -> usize {
    let mut segments = before.to_vec();
    let line = tokens[at].0;
    while let Some((_, Token::Word(word))) = tokens.get(at) {
        segments.push(word.clone());
        at += 1;
        if tokens.get(at).map(|(_, token)| token) != Some(&Token::Join) {
            break;
        }
        at += 1;
        if tokens.get(at).map(|(_, token)| token) == Some(&Token::Open) {
            return group(tokens, at + 1, &segments, paths);
        }
    }
    paths.push(Path { line, segments });
    at
}

/// Reads the inside of a `use` group and returns where it ends.
fn group(tokens: &[(usize, Token)], mut at: usize, before: &[String], paths: &mut Vec<Path>) -> usize {
    while let Some((_, token)) = tokens.get(at) {
        at = match token {
            Token::Close => return at + 1,
            Token::Word(_) => path(tokens, at, before, paths),
            _ => at + 1,
        };
    }
    at
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (token, length) = match first {
            _ if word > 0 => (Some(Token::Word(rest[..word].to_owned())), word),
            ':' if rest.starts_with("::") => (Some(Token::Join), 2),
            '{' => (Some(Token::Open), 1),
            '}' => (Some(Token::Close), 1),
            ',' => (Some(Token::Comma), 1),
            _ => ((!first.is_whitespace()).then_some(Token::Other), first.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}
