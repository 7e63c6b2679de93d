//! JSON as Python's `json.dumps` writes it: chat templates are compared byte for byte.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The arguments of `json.dumps` that templates use.
#[derive(Default)]
pub(super) struct Style {
    pub indent: Option<usize>,
    /// Between items, and between key and value.
    pub separators: Option<(String, String)>,
    /// Everything outside ASCII as `\uXXXX`.
    pub ascii: bool,
    pub sorted: bool,
}

/// The text of a value.
pub(super) fn dumps(value: &Value, style: &Style) -> String {
    let item = if style.indent.is_some() { "," } else { ", " };
    let (item, key) = style.separators.as_ref().map_or((item, ": "), |(i, k)| (i, k));
    let mut writer = Writer { style, item, key, out: String::new() };
    writer.value(value, 0);
    writer.out
}

struct Writer<'a> {
    style: &'a Style,
    item: &'a str,
    key: &'a str,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(list) if !list.is_empty() => {
                self.out.push('[');
                for (i, v) in list.iter().enumerate() {
                    self.between(i, depth + 1);
                    self.value(v, depth + 1);
                }
                self.line(depth);
                self.out.push(']');
            }
            Value::Object(fields) if !fields.is_empty() => {
                self.out.push('{');
                for (i, (k, v)) in self.in_order(fields).into_iter().enumerate() {
                    self.between(i, depth + 1);
                    self.string(k);
                    self.out.push_str(self.key);
                    self.value(v, depth + 1);
                }
                self.line(depth);
                self.out.push('}');
            }
            // Null, booleans, numbers and what is empty look the same in both.
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn in_order<'v>(&self, fields: &'v Map<String, Value>) -> Vec<(&'v String, &'v Value)> {
        let mut all: Vec<_> = fields.iter().collect();
        if self.style.sorted {
            all.sort_by_key(|(k, _)| *k);
        }
        all
    }

    fn between(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(self.item);
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.style.ascii && (c as u32) > 0x7E) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
