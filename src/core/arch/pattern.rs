//! Patterns over tensor names: `*` is anything, `{e}` a number, `{a,b}` one of; groups are `\1`, `\2`….

use fancy_regex::{Expander, Regex};

use crate::error::{Result, err};

/// A compiled pattern or regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// A whole-name pattern.
    pub fn new(text: &str) -> std::result::Result<Self, String> {
        let mut out = String::from("^");
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let mut used = c.len_utf8();
            match c {
                '*' => out.push_str("(.*?)"),
                '{' => {
                    let Some(end) = rest.find('}') else { return Err(format!("'{{' is never closed in '{text}'")) };
                    used = end + 1;
                    match &rest[1..end] {
                        "e" => out.push_str(r"(?<e>\d+)"),
                        list => {
                            let parts: Vec<_> = list.split(',').map(|p| fancy_regex::escape(p.trim())).collect();
                            out.push_str(&format!("({})", parts.join("|")));
                        }
                    }
                }
                _ => out.push_str(&fancy_regex::escape(&rest[..used])),
            }
            rest = &rest[used..];
        }
        out.push('$');
        Self::regex(&out)
    }

    /// A regular expression, found anywhere in the name.
    pub fn regex(text: &str) -> std::result::Result<Self, String> {
        Regex::new(text).map(Pattern).map_err(|e| format!("'{text}' is no regular expression: {e}"))
    }

    pub fn matches(&self, name: &str) -> Result<bool> {
        self.0.is_match(name).map_err(|e| failed(name, &e))
    }

    /// `template` with the groups of the match put in, if `name` matches.
    pub fn expand(&self, name: &str, template: &str) -> Result<Option<String>> {
        let captures = self.0.captures(name).map_err(|e| failed(name, &e))?;
        Ok(captures.map(|c| Expander::python().expansion(template, &c)))
    }

    /// The number that a `{e}` group matched.
    pub fn number(&self, name: &str) -> Result<Option<usize>> {
        let captures = self.0.captures(name).map_err(|e| failed(name, &e))?;
        Ok(captures.and_then(|c| c.name("e")?.as_str().parse().ok()))
    }

    /// Every match in `name` replaced.
    pub fn replace(&self, name: &str, template: &str) -> Result<String> {
        let mut out = String::new();
        let mut from = 0;
        for captures in self.0.captures_iter(name) {
            let captures = captures.map_err(|e| failed(name, &e))?;
            let Some(whole) = captures.get(0) else { continue };
            out.push_str(&name[from..whole.start()]);
            out.push_str(&Expander::python().expansion(template, &captures));
            from = whole.end();
        }
        out.push_str(&name[from..]);
        Ok(out)
    }
}

fn failed(name: &str, e: &fancy_regex::Error) -> crate::error::Error {
    err!(Description, "a weight rule's pattern on the tensor '{name}': {e}")
}
