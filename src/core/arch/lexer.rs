//! Text to tokens, one logical line at a time: brackets continue lines, `#` starts a comment.
//!
//! The parser asks for a line when it knows what kind it is, because weight rules hold regular expressions that are no
//! tokens of this language.

use super::place::{Pos, Source};
use crate::error::Result;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// An operator, a bracket or punctuation.
    Sign(&'static str),
    /// The end of the logical line.
    End,
}

/// Longest first, so that `**` is not read as two `*`.
const SIGNS: [&str; 28] = [
    "...", "**", "//", "==", "!=", "<=", ">=", "->", "(", ")", "[", "]", "{", "}", ",", ":", "=", "<", ">", "+", "-",
    "*", "/", "%", "@", ".", "?", ";",
];

/// Longest name.
const MAX_NAME: usize = 128;
/// Longest logical line, in tokens.
const MAX_TOKENS: usize = 4096;

impl Token {
    /// How a message names it.
    pub fn shown(&self) -> String {
        match self {
            Token::Name(n) => format!("'{n}'"),
            Token::Int(v) => format!("the number {v}"),
            Token::Float(v) => format!("the number {v}"),
            Token::Text(t) => format!("the text '{t}'"),
            Token::Sign(s) => format!("'{s}'"),
            Token::End => "the end of the line".to_owned(),
        }
    }
}

/// A physical line that is neither blank nor all comment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Physical<'a> {
    pub number: u32,
    pub indent: usize,
    /// Without the indentation.
    pub text: &'a str,
}

/// The lines of a file that say something.
pub(super) fn physical_lines<'a>(source: &Source, text: &'a str) -> Result<Vec<Physical<'a>>> {
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let body = line.trim_start_matches(' ').trim_end();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start_matches(' ').len();
        let number = i as u32 + 1;
        if body.starts_with('\t') {
            return Err(source.error(Pos::new(number, indent + 1), "expected spaces before the text, found a tab"));
        }
        lines.push(Physical { number, indent, text: body });
    }
    Ok(lines)
}

/// Tokens of the logical line that starts at `lines[at]`, and the index of the line after it.
pub(super) fn tokens(source: &Source, lines: &[Physical<'_>], at: usize) -> Result<(Vec<(Token, Pos)>, usize)> {
    let mut out = Vec::new();
    let mut open: Vec<(&'static str, Pos)> = Vec::new();
    let mut next = at;
    while let Some(line) = lines.get(next) {
        next += 1;
        scan(source, line, &mut out, &mut open)?;
        if open.is_empty() {
            break;
        }
    }
    if let Some((bracket, pos)) = open.last() {
        return Err(source.error(*pos, format!("'{bracket}' is never closed")));
    }
    let end = lines[next - 1];
    out.push((Token::End, Pos::new(end.number, end.indent + end.text.chars().count() + 1)));
    Ok((out, next))
}

fn scan(
    source: &Source,
    line: &Physical<'_>,
    out: &mut Vec<(Token, Pos)>,
    open: &mut Vec<(&'static str, Pos)>,
) -> Result<()> {
    let mut rest = line.text;
    let mut column = line.indent + 1;
    loop {
        let skipped = rest.len() - rest.trim_start().len();
        column += rest[..skipped].chars().count();
        rest = &rest[skipped..];
        let Some(first) = rest.chars().next() else { return Ok(()) };
        if first == '#' {
            return Ok(());
        }
        let pos = Pos::new(line.number, column);
        if out.len() >= MAX_TOKENS {
            return Err(source.error(pos, format!("a line of more than {MAX_TOKENS} tokens: name its parts")));
        }
        let (token, length) = one(source, rest, first, pos)?;
        if let Token::Sign(s) = token {
            match s {
                "(" | "[" | "{" => open.push((s, pos)),
                ")" | "]" | "}" => match open.pop() {
                    Some((o, _)) if closes(o) == s => {}
                    Some((o, at)) => {
                        let message =
                            format!("expected '{}' for the '{o}' of line {}, found '{s}'", closes(o), at.line);
                        return Err(source.error(pos, message));
                    }
                    None => return Err(source.error(pos, format!("'{s}' closes nothing"))),
                },
                _ => {}
            }
        }
        column += rest[..length].chars().count();
        rest = &rest[length..];
        out.push((token, pos));
    }
}

fn closes(open: &str) -> &'static str {
    match open {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

/// The token at the start of `rest` and its length in bytes.
fn one(source: &Source, rest: &str, first: char, pos: Pos) -> Result<(Token, usize)> {
    let count = |f: fn(char) -> bool| rest.find(|c: char| !f(c)).unwrap_or(rest.len());
    if first.is_ascii_alphabetic() || first == '_' {
        let n = count(|c| c.is_ascii_alphanumeric() || c == '_');
        if n > MAX_NAME {
            return Err(source.error(pos, format!("a name of {n} letters: at most {MAX_NAME}")));
        }
        return Ok((Token::Name(rest[..n].to_owned()), n));
    }
    if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return number(rest).map_err(|m| source.error(pos, m));
    }
    if first == '\'' || first == '"' {
        let Some(n) = rest[1..].find(first) else {
            return Err(
                source.error(pos, format!("expected {first} at the end of the text, found the end of the line"))
            );
        };
        return Ok((Token::Text(rest[1..=n].to_owned()), n + 2));
    }
    match SIGNS.iter().find(|s| rest.starts_with(**s)) {
        Some(s) => Ok((Token::Sign(s), s.len())),
        None => Err(source.error(pos, format!("'{first}' means nothing here"))),
    }
}

fn number(rest: &str) -> std::result::Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let digits = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    let mut n = digits(0);
    let mut float = false;
    // `1:` and `1...` are no fractions.
    if bytes.get(n) == Some(&b'.') && bytes.get(n + 1) != Some(&b'.') {
        float = true;
        n = digits(n + 1);
    }
    if matches!(bytes.get(n), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(n + 1), Some(b'+' | b'-')));
        let end = digits(n + 1 + sign);
        if end == n + 1 + sign {
            return Err(format!("expected digits after '{}'", &rest[..n + 1 + sign]));
        }
        float = true;
        n = end;
    }
    let text = &rest[..n];
    let token = match (float, text.parse::<i64>()) {
        (false, Ok(v)) => Token::Int(v),
        _ => match text.parse::<f64>() {
            Ok(v) if v.is_finite() => Token::Float(v),
            _ => return Err(format!("the number {text} is too large")),
        },
    };
    Ok((token, n))
}
