//! Weight rules: what the `weights:` section may say about a checkpoint's tensors.

use super::ast::Expr;
use super::expressions::{Line, did_you_mean};
use super::lexer::{Physical, tokens};
use super::pattern::Pattern;
use super::place::{Pos, Source};
use crate::error::Result;

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub(super) struct RuleLine {
    pub source: Source,
    pub pos: Pos,
    pub rule: Rule,
    /// `if …`
    pub condition: Option<Expr>,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// Forgets the rules so far, the parent's too.
    Clear,
    Drop(Vec<Pattern>),
    /// Drops what has a number (`{e}`) from this one on.
    DropFrom(Vec<Pattern>, Expr),
    Rename(Pattern, String),
    Transpose(Vec<Pattern>),
    Squeeze(Vec<Pattern>),
    /// Adds a number to vectors.
    Add(f64, Vec<Pattern>),
    /// Torch's convolution layout to MLX's, unless it is that already.
    ConvLayout(Vec<Pattern>),
    /// Rows divided by their length.
    UnitRows(Vec<Pattern>),
    /// Experts' tensors into one, by their number.
    Stack(Pattern, String),
    /// One tensor into two along an axis.
    Halve {
        from: Pattern,
        to: [String; 2],
        axis: i64,
        form: Form,
    },
    Move(Pattern, String, Form),
    /// The first axis becomes two, of which the first has this length.
    Unflatten(Pattern, String, Expr, Form),
    /// The two halves of a fused expert matrix, along axis 1; names replace the last two parts.
    SplitExperts(Pattern, [String; 2]),
    /// The two factors of multi-head latent attention's up-projection.
    MlaSplit(Pattern, [String; 2]),
}

/// How a tensor is read before it is moved or halved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    /// Even and odd elements instead of first and second half.
    pub interleaved: bool,
    /// Swap the last two axes.
    pub transposed: bool,
    /// Bytes as 32-bit words, last two axes joined.
    pub view32: bool,
}

const VERBS: [&str; 14] = [
    "drop",
    "rename",
    "transpose",
    "squeeze",
    "add",
    "stack",
    "halve",
    "move",
    "unflatten",
    "conv_layout",
    "mla_split",
    "split_experts",
    "unit_rows",
    "clear",
];

/// An expression at the end of a rule; `before` letters stand in front of it.
fn expression(source: &Source, line: &Physical<'_>, before: usize, text: &str) -> Result<Expr> {
    let part = Physical { number: line.number, indent: before, text };
    let mut words = Line::new(source, tokens(source, &[part], 0)?.0);
    let e = words.expression()?;
    words.end("after the expression")?;
    Ok(e)
}

/// Reads one rule.
pub(super) fn parse_rule(source: &Source, line: &Physical<'_>) -> Result<RuleLine> {
    let text = line.text.split(" #").next().unwrap_or_default().trim_end();
    let (text, condition) = match text.rsplit_once(" if ") {
        None => (text, None),
        Some((rule, condition)) => {
            (rule, Some(expression(source, line, line.indent + rule.chars().count() + 4, condition)?))
        }
    };
    let column = |part: &str| {
        let offset = (part.as_ptr() as usize).saturating_sub(line.text.as_ptr() as usize).min(line.text.len());
        Pos::new(line.number, line.indent + line.text[..offset].chars().count() + 1)
    };
    let pos = column(text);
    let (verb, body) = text.split_once(' ').unwrap_or((text, ""));
    let body = body.trim();
    if !VERBS.contains(&verb) {
        let hint = did_you_mean(verb, VERBS);
        let message = format!("expected a weight rule ({}), found '{verb}'{hint}", VERBS.join(", "));
        return Err(source.error(pos, message));
    }
    if body.is_empty() && verb != "clear" {
        return Err(source.error(pos, format!("expected a pattern after '{verb}', found the end of the line")));
    }
    let pattern = |p: &str| Pattern::new(p.trim()).map_err(|m| source.error(column(p), m));
    // A comma inside `{a,b}` has no space after it.
    let patterns = |list: &str| list.split(", ").map(pattern).collect::<Result<Vec<_>>>();
    let arrow = || match body.split_once("->") {
        Some((a, b)) if !a.trim().is_empty() && !b.trim().is_empty() => Ok((a.trim(), b.trim())),
        _ => Err(source.error(column(body), format!("expected 'from -> to' after '{verb}', found '{body}'"))),
    };
    let two = |list: &str| match list.split(',').map(str::trim).collect::<Vec<_>>()[..] {
        [a, b] if !a.is_empty() && !b.is_empty() => Ok([a.to_owned(), b.to_owned()]),
        _ => Err(source.error(pos, format!("expected two names after '->', found '{list}'"))),
    };
    let form = |options: &[&str]| {
        let mut form = Form::default();
        for o in options {
            match *o {
                "interleaved" => form.interleaved = true,
                "t" => form.transposed = true,
                "view32" => form.view32 = true,
                other => {
                    let hint = did_you_mean(other, ["interleaved", "t", "view32"]);
                    let message = format!("expected 'interleaved', 't' or 'view32' after 'by', found '{other}'{hint}");
                    return Err(source.error(column(body), message));
                }
            }
        }
        Ok(form)
    };
    let rule = match verb {
        "clear" if !body.is_empty() => {
            return Err(
                source.error(column(body), format!("expected the end of the line after 'clear', found '{body}'"))
            );
        }
        "clear" => Rule::Clear,
        "drop" => match body.rsplit_once(" from ") {
            None => Rule::Drop(patterns(body)?),
            Some((list, first)) if list.contains("{e}") => {
                Rule::DropFrom(patterns(list)?, expression(source, line, column(first).column as usize - 1, first)?)
            }
            Some((list, _)) => {
                return Err(source.error(column(list), format!("expected {{e}} for the number, found '{list}'")));
            }
        },
        "transpose" => Rule::Transpose(patterns(body)?),
        "squeeze" => Rule::Squeeze(patterns(body)?),
        "conv_layout" => Rule::ConvLayout(patterns(body)?),
        "unit_rows" => Rule::UnitRows(patterns(body)?),
        "add" => {
            let (number, rest) = body.split_once(' ').unwrap_or((body, ""));
            match number.parse::<f64>() {
                Ok(v) if v.is_finite() && !rest.is_empty() => Rule::Add(v, patterns(rest)?),
                _ => return Err(source.error(column(body), format!("expected 'add NUMBER pattern', found '{text}'"))),
            }
        }
        "rename" => {
            let (from, to) = arrow()?;
            Rule::Rename(Pattern::regex(from).map_err(|m| source.error(column(from), m))?, to.to_owned())
        }
        "stack" => {
            let (from, to) = arrow()?;
            if !from.contains("{e}") {
                return Err(
                    source.error(column(from), format!("expected {{e}} for the expert's number, found '{from}'"))
                );
            }
            Rule::Stack(pattern(from)?, to.to_owned())
        }
        "split_experts" | "mla_split" => {
            let (from, to) = arrow()?;
            let (from, to) = (pattern(from)?, two(to)?);
            if verb == "mla_split" { Rule::MlaSplit(from, to) } else { Rule::SplitExperts(from, to) }
        }
        "unflatten" => {
            let (from, to) = arrow()?;
            let Some((to, by)) = to.split_once(" by ") else {
                let message = format!("expected 'by LENGTH' at the end of 'unflatten', found '{body}'");
                return Err(source.error(column(body), message));
            };
            let (length, options) = by.strip_suffix(" t").map_or((by, &[][..]), |length| (length, &["t"][..]));
            let length = expression(source, line, column(length).column as usize - 1, length)?;
            Rule::Unflatten(pattern(from)?, to.trim().to_owned(), length, form(options)?)
        }
        "move" => {
            let (from, to) = arrow()?;
            let (to, options) = to.split_once(" by ").unwrap_or((to, ""));
            let options: Vec<&str> = options.split_whitespace().collect();
            Rule::Move(pattern(from)?, to.trim().to_owned(), form(&options)?)
        }
        _ => {
            let (from, to) = arrow()?;
            let Some((to, options)) = to.split_once(" by ") else {
                return Err(
                    source.error(column(body), format!("expected 'by AXIS' at the end of 'halve', found '{body}'"))
                );
            };
            let options: Vec<&str> = options.split_whitespace().collect();
            match options.split_first().map(|(axis, rest)| (axis.parse(), rest)) {
                Some((Ok(axis), rest)) => Rule::Halve { from: pattern(from)?, to: two(to)?, axis, form: form(rest)? },
                _ => return Err(source.error(column(body), "expected an axis (a whole number) after 'by'")),
            }
        }
    };
    Ok(RuleLine { source: source.clone(), pos, rule, condition })
}
