//! The line half of the parser: header, sections, blocks, statements.

use super::ast::{Block, Decl, Entry, Stmt, StmtKind};
use super::expressions::{Line, did_you_mean};
use super::lexer::{Physical, Token, physical_lines, tokens};
use super::place::{Pos, Source};
use super::rules::{RuleLine, parse_rule};
use crate::error::{Result, bail};

/// Most lines of an `if` inside a `for` inside an `if`….
const MAX_NESTING: usize = 16;
/// Largest description, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// A file as written, parents not yet merged in.
#[derive(Debug)]
pub(super) struct File {
    pub source: Source,
    pub name: String,
    pub parent: Option<(String, Pos)>,
    /// `wraps INNER under PATH`
    pub wraps: Option<(String, String, Pos)>,
    pub types: Vec<String>,
    pub config: Vec<(String, Entry)>,
    pub rules: Vec<RuleLine>,
    pub roles: Vec<(String, String, Pos)>,
    pub blocks: Vec<Block>,
}

/// Reads a description's text; `name` is what messages call it.
pub(super) fn parse_file(text: &str, name: &str) -> Result<File> {
    if text.len() > MAX_TEXT {
        bail!(Description, "{name}: a description of {} bytes: at most {MAX_TEXT} are read", text.len());
    }
    let source = Source::new(name);
    let lines = physical_lines(&source, text)?;
    let Some(first) = lines.first().copied() else {
        bail!(Description, "{name} line 1, column 1: expected 'arch NAME', found an empty file");
    };
    let mut parser = Parser { source, lines, at: 1 };
    let mut file = parser.header(first)?;
    while parser.at < parser.lines.len() {
        parser.section(&mut file)?;
    }
    Ok(file)
}

/// The model types of a description: its first line alone is read.
pub(super) fn model_types(text: &str, name: &str) -> Result<Vec<String>> {
    let says = |line: &&str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    parse_file(text.lines().find(says).unwrap_or_default(), name).map(|file| file.types)
}

struct Parser<'a> {
    source: Source,
    lines: Vec<Physical<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// `arch NAME [from PARENT] [wraps INNER under PATH] [for TYPE, …]`
    fn header(&self, line: Physical<'a>) -> Result<File> {
        let text = line.text.split(" #").next().unwrap_or_default();
        let mut words = text.split_whitespace().map(|w| {
            let offset = w.as_ptr() as usize - line.text.as_ptr() as usize;
            (w, Pos::new(line.number, line.indent + line.text[..offset].chars().count() + 1))
        });
        let end = Pos::new(line.number, line.indent + line.text.chars().count() + 1);
        let start = Pos::new(line.number, line.indent + 1);
        match words.next() {
            Some(("arch", _)) => {}
            other => {
                let found = other.map_or("nothing", |(w, _)| w);
                let message = format!("expected 'arch NAME' on the first line, found '{found}'");
                return Err(self.source.error(start, message));
            }
        }
        let mut word = |what: &str| match words.next() {
            Some((w, pos)) if w.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) => Ok(Some((w, pos))),
            Some((w, pos)) => Err(self.source.error(pos, format!("expected {what}, found '{w}'"))),
            None => Ok(None),
        };
        let missing = |what: &str| self.source.error(end, format!("expected {what}, found the end of the line"));
        let (name, _) = word("the description's name")?.ok_or_else(|| missing("the description's name"))?;
        let mut file = File {
            source: self.source.clone(),
            name: name.to_owned(),
            parent: None,
            wraps: None,
            types: vec![name.to_owned()],
            config: Vec::new(),
            rules: Vec::new(),
            roles: Vec::new(),
            blocks: Vec::new(),
        };
        while let Some((key, pos)) = word("'from', 'wraps' or 'for'")? {
            match key {
                "from" => {
                    let (parent, at) = word("a description's name")?.ok_or_else(|| missing("a parent after 'from'"))?;
                    file.parent = Some((parent.to_owned(), at));
                }
                "wraps" => {
                    let (inner, at) = word("a description's name")?.ok_or_else(|| missing("a name after 'wraps'"))?;
                    match word("'under'")? {
                        Some(("under", _)) => {}
                        Some((w, pos)) => return Err(self.source.error(pos, format!("expected 'under', found '{w}'"))),
                        None => return Err(missing("'under PATH'")),
                    }
                    let (path, _) = word("a path")?.ok_or_else(|| missing("a path after 'under'"))?;
                    file.wraps = Some((inner.to_owned(), path.to_owned(), at));
                }
                "for" => {
                    let types = text.split_once(" for ").map_or("", |(_, t)| t);
                    file.types = types.split(',').map(|t| t.trim().to_owned()).collect();
                    let bad = |t: &String| t.is_empty() || t.contains(char::is_whitespace);
                    if let Some(t) = file.types.iter().find(|t| bad(t)) {
                        let message = format!("expected model types with commas between after 'for', found '{t}'");
                        return Err(self.source.error(pos, message));
                    }
                    break;
                }
                other => {
                    let hint = did_you_mean(other, ["from", "wraps", "for"]);
                    let message = format!("expected 'from', 'wraps' or 'for', found '{other}'{hint}");
                    return Err(self.source.error(pos, message));
                }
            }
        }
        Ok(file)
    }

    fn pos(&self) -> Pos {
        let l = &self.lines[self.at];
        Pos::new(l.number, l.indent + 1)
    }

    fn indented(&self) -> bool {
        self.lines.get(self.at).is_some_and(|l| l.indent > 0)
    }

    fn line(&mut self) -> Result<Line<'_>> {
        let (tokens, next) = tokens(&self.source, &self.lines, self.at)?;
        self.at = next;
        Ok(Line::new(&self.source, tokens))
    }

    fn section(&mut self, file: &mut File) -> Result<()> {
        let line = self.lines[self.at];
        if line.indent > 0 {
            return Err(self.source.error(self.pos(), "this line is indented but belongs to no section"));
        }
        let text = line.text.split('#').next().unwrap_or_default().trim_end();
        match text {
            "config:" => {
                self.at += 1;
                while self.indented() {
                    self.config_entry(file)?;
                }
            }
            "weights:" => {
                self.at += 1;
                while self.indented() {
                    let l = self.lines[self.at];
                    self.at += 1;
                    file.rules.push(parse_rule(&self.source, &l)?);
                }
            }
            "roles:" => {
                self.at += 1;
                while self.indented() {
                    self.role(file)?;
                }
            }
            _ if text.contains('(') => self.block(file)?,
            _ => {
                let hint = did_you_mean(text, ["config:", "weights:", "roles:"]);
                let message = format!("expected config:, weights:, roles: or Block(arguments):, found '{text}'{hint}");
                return Err(self.source.error(self.pos(), message));
            }
        }
        Ok(())
    }

    fn config_entry(&mut self, file: &mut File) -> Result<()> {
        let mut line = self.line()?;
        let (name, pos) = line.name("the name of a config entry")?;
        line.want("=", "after the name")?;
        let value = line.expression()?;
        line.end("after the expression")?;
        if file.config.iter().any(|(n, _)| *n == name) {
            return Err(self.source.error(pos, format!("the config entry '{name}' is there already")));
        }
        file.config.push((name, Entry { source: file.source.clone(), value: value.into() }));
        Ok(())
    }

    /// `ROLE = path`; a path may hold `*`.
    fn role(&mut self, file: &mut File) -> Result<()> {
        let (l, pos) = (self.lines[self.at], self.pos());
        self.at += 1;
        let text = l.text.split('#').next().unwrap_or_default();
        let Some((role, path)) = text.split_once('=') else {
            return Err(self.source.error(pos, format!("expected ROLE = path, found '{}'", text.trim())));
        };
        let (role, path) = (role.trim(), path.trim());
        if !ROLES.contains(&role) {
            let hint = did_you_mean(role, ROLES);
            let message = format!("expected a role ({}), found '{role}'{hint}", ROLES.join(", "));
            return Err(self.source.error(pos, message));
        }
        let letter = |c: char| c.is_ascii_alphanumeric() || "_.*#".contains(c);
        if path.is_empty() || !path.chars().all(letter) {
            return Err(self.source.error(pos, format!("expected a path for the role '{role}', found '{path}'")));
        }
        file.roles.push((role.to_owned(), path.to_owned(), pos));
        Ok(())
    }

    fn block(&mut self, file: &mut File) -> Result<()> {
        let mut line = self.line()?;
        let (name, pos) = line.name("a block's name")?;
        line.want("(", "after the block's name")?;
        let mut params = Vec::new();
        while !line.take(")") {
            let (param, at) = line.name("a parameter's name")?;
            if params.contains(&param) {
                return Err(line.source.error(at, format!("the parameter '{param}' is there already")));
            }
            params.push(param);
            if !line.is(")") {
                line.want(",", "or ')' after the parameter")?;
            }
        }
        line.want(":", "after the block's parameters")?;
        line.end("after ':'")?;
        if let Some(other) = file.blocks.iter().find(|b| b.name == name) {
            let message = format!("the block '{name}' is there already (line {})", other.pos.line);
            return Err(self.source.error(pos, message));
        }
        if !self.indented() {
            return Err(self.source.error(pos, format!("the block '{name}' is empty: indent its lines")));
        }
        let indent = self.lines[self.at].indent;
        let mut decls = Vec::new();
        while self.lines.get(self.at).is_some_and(|l| l.indent == indent) && self.declaration(&mut decls)? {}
        let body = self.statements(indent, 0)?;
        let source = file.source.clone();
        file.blocks.push(Block { source, pos, name, params, decls, body, carried: Vec::new() });
        Ok(())
    }

    /// Reads `a, b?: kind(args)` if the line is one.
    fn declaration(&mut self, decls: &mut Vec<Decl>) -> Result<bool> {
        let (tokens, next) = tokens(&self.source, &self.lines, self.at)?;
        if !is_declaration(&tokens) {
            return Ok(false);
        }
        self.at = next;
        let mut line = Line::new(&self.source, tokens);
        let mut items = Vec::new();
        loop {
            let (mut path, pos) = line.name("a module's name")?;
            while line.take(".") {
                path.push('.');
                path.push_str(&line.name("a name after '.'")?.0);
            }
            let optional = line.take("?");
            let count = if line.take("[") {
                let e = line.expression()?;
                line.want("]", "after the count")?;
                Some(e.into())
            } else {
                None
            };
            items.push((path, pos, optional, count));
            if !line.take(",") {
                break;
            }
        }
        line.want(":", "after the module's name")?;
        let (kind, kind_pos) = line.name("a kind (linear, rmsnorm, …) or a block's name")?;
        let args = if line.take("(") { line.arguments()? } else { Vec::new() };
        line.end("after the kind")?;
        let args = std::sync::Arc::new(args);
        for (path, pos, optional, count) in items {
            let (kind, args) = (kind.clone(), args.clone());
            decls.push(Decl { pos, path, optional, count, kind, kind_pos, args });
        }
        Ok(true)
    }

    fn statements(&mut self, indent: usize, depth: usize) -> Result<Vec<Stmt>> {
        if depth > MAX_NESTING {
            return Err(self.source.error(self.pos(), format!("statements nested more than {MAX_NESTING} deep")));
        }
        let mut out = Vec::new();
        while let Some(l) = self.lines.get(self.at) {
            if l.indent < indent {
                break;
            }
            if l.indent > indent {
                let message = format!("expected {indent} spaces before this line, found {}", l.indent);
                return Err(self.source.error(self.pos(), message));
            }
            out.push(self.statement(indent, depth)?);
        }
        Ok(out)
    }

    fn statement(&mut self, indent: usize, depth: usize) -> Result<Stmt> {
        let pos = self.pos();
        let (tokens, next) = tokens(&self.source, &self.lines, self.at)?;
        if is_declaration(&tokens) {
            return Err(self.source.error(pos, "declarations come before the first statement of a block"));
        }
        self.at = next;
        let source = self.source.clone();
        let mut line = Line::new(&source, tokens);
        if line.take_word("return") {
            let mut values = vec![line.expression()?];
            while line.take(",") {
                values.push(line.expression()?);
            }
            line.end("after the value")?;
            return Ok(Stmt { pos, kind: StmtKind::Return(values) });
        }
        if line.take_word("if") {
            let condition = line.expression()?;
            line.want(":", "after the condition")?;
            line.end("after ':'")?;
            let then = self.inner(indent, depth, pos)?;
            let mut otherwise = Vec::new();
            if self.lines.get(self.at).is_some_and(|l| l.indent == indent && l.text.starts_with("else")) {
                let mut line = self.line()?;
                line.take_word("else");
                line.want(":", "after 'else'")?;
                line.end("after ':'")?;
                otherwise = self.inner(indent, depth, pos)?;
            }
            return Ok(Stmt { pos, kind: StmtKind::If(condition, then, otherwise) });
        }
        if line.take_word("for") {
            let names = line.names("a name after 'for'")?.into_iter().map(|(n, _)| n).collect();
            if !line.take_word("in") {
                return Err(line.expected("'in' after the names"));
            }
            let list = line.expression()?;
            line.want(":", "after the list")?;
            line.end("after ':'")?;
            return Ok(Stmt { pos, kind: StmtKind::For(names, list, self.inner(indent, depth, pos)?) });
        }
        if !matches!(line.peek(), Token::Name(_)) {
            return Err(line.expected("NAME = expression, return, if or for"));
        }
        let names = line.names("a name")?;
        if !line.take("=") {
            return Err(line.expected("'=' after the name (or return, if, for)"));
        }
        let value = line.expression()?;
        line.end("after the expression")?;
        Ok(Stmt { pos, kind: StmtKind::Let(names, value) })
    }

    fn inner(&mut self, indent: usize, depth: usize, pos: Pos) -> Result<Vec<Stmt>> {
        match self.lines.get(self.at) {
            Some(l) if l.indent > indent => {
                let deeper = l.indent;
                self.statements(deeper, depth + 1)
            }
            _ => Err(self.source.error(pos, "expected an indented line after ':', found none")),
        }
    }
}

/// Roles that a description may name.
pub(super) const ROLES: [&str; 30] = [
    "embed",
    "pos_embed",
    "layer",
    "attn",
    "mlp",
    "resid_mid",
    "norm",
    "head",
    "attn_add",
    "mlp_add",
    "mixer_add",
    "attn.input",
    "attn.output",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.z",
    "attn.scores",
    "attn.pattern",
    "attn.result",
    "mlp.input",
    "mlp.output",
    "mlp.gate",
    "mlp.up",
    "mlp.pre",
    "mlp.act",
    "mlp.router",
    "mlp.experts.chosen",
    "mlp.experts.weights",
    "mixer",
];

/// `name[.name][?][[count]], … : kind`: a colon outside brackets before any `=`, and no `if`, `for`, `else`.
fn is_declaration(tokens: &[(Token, Pos)]) -> bool {
    match tokens.first() {
        Some((Token::Name(n), _)) if !matches!(n.as_str(), "if" | "for" | "else" | "return") => {}
        _ => return false,
    }
    let mut depth = 0usize;
    for (t, _) in tokens {
        match t {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => depth = depth.saturating_sub(1),
            Token::Sign("=") if depth == 0 => return false,
            Token::Sign(":") if depth == 0 => return true,
            _ => {}
        }
    }
    false
}
