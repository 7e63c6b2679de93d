//! The expression half of the parser: precedence climbing by hand, with Python's precedences.

use super::ast::{Arg, Arithmetic, Clause, Comparison, Expr, Form, Kind, Subscript};
use super::lexer::Token;
use super::place::{Pos, Source};
use crate::error::{Error, Result, nearest};

/// Words that are no names.
pub(super) const RESERVED: [&str; 13] =
    ["if", "else", "for", "in", "and", "or", "not", "is", "return", "true", "false", "none", "lambda"];

/// How deep an expression may nest. Every later walk over it recurses at most this deep.
const MAX_HEIGHT: u16 = 64;

/// The tokens of one logical line, being read.
pub(super) struct Line<'a> {
    pub source: &'a Source,
    tokens: Vec<(Token, Pos)>,
    at: usize,
    depth: u16,
}

impl<'a> Line<'a> {
    pub fn new(source: &'a Source, tokens: Vec<(Token, Pos)>) -> Self {
        Line { source, tokens, at: 0, depth: 0 }
    }

    pub fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub fn pos(&self) -> Pos {
        self.tokens[self.at].1
    }

    fn ahead(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    pub fn next(&mut self) -> Token {
        let t = self.tokens[self.at].0.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        t
    }

    pub fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    pub fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == word)
    }

    pub fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.next();
        }
        found
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    /// `expected …, found …` at the current token.
    pub fn expected(&self, what: &str) -> Error {
        self.source.error(self.pos(), format!("expected {what}, found {}", self.peek().shown()))
    }

    pub fn want(&mut self, sign: &str, after: &str) -> Result<()> {
        if self.take(sign) { Ok(()) } else { Err(self.expected(&format!("'{sign}' {after}"))) }
    }

    pub fn end(&self, after: &str) -> Result<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.expected(&format!("the end of the line {after}"))) }
    }

    /// A name that is no reserved word.
    pub fn name(&mut self, what: &str) -> Result<(String, Pos)> {
        let pos = self.pos();
        match self.peek() {
            Token::Name(n) if !RESERVED.contains(&n.as_str()) => {
                let n = n.clone();
                self.next();
                Ok((n, pos))
            }
            Token::Name(n) => {
                Err(self.source.error(pos, format!("expected {what}, found '{n}', which is a word of the language")))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Names with commas between.
    pub fn names(&mut self, what: &str) -> Result<Vec<(String, Pos)>> {
        let mut names = vec![self.name(what)?];
        while self.take(",") {
            names.push(self.name(what)?);
        }
        Ok(names)
    }

    fn node(&self, pos: Pos, kind: Kind) -> Result<Expr> {
        let mut expr = Expr { pos, height: 0, kind };
        let mut below = 0;
        expr.children(&mut |e| below = below.max(e.height));
        expr.height = below + 1;
        if expr.height > MAX_HEIGHT { Err(self.too_deep(pos)) } else { Ok(expr) }
    }

    fn too_deep(&self, pos: Pos) -> Error {
        self.source.error(pos, format!("an expression nested more than {MAX_HEIGHT} deep: name its parts"))
    }

    /// A whole expression.
    pub fn expression(&mut self) -> Result<Expr> {
        // Brackets add no node, so their depth is counted on its own.
        self.depth += 1;
        if self.depth > MAX_HEIGHT {
            return Err(self.too_deep(self.pos()));
        }
        let expr = self.choice();
        self.depth -= 1;
        expr
    }

    fn choice(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let then = self.or()?;
        if !self.take_word("if") {
            return Ok(then);
        }
        let condition = self.or()?;
        if !self.take_word("else") {
            return Err(self.expected("'else' after the condition"));
        }
        let otherwise = self.expression()?;
        self.node(
            pos,
            Kind::Choice { condition: Box::new(condition), then: Box::new(then), otherwise: Box::new(otherwise) },
        )
    }

    fn or(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut left = self.and()?;
        while self.take_word("or") {
            let right = self.and()?;
            left = self.node(pos, Kind::Or(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut left = self.not()?;
        while self.take_word("and") {
            let right = self.not()?;
            left = self.node(pos, Kind::And(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut count = 0;
        while self.take_word("not") {
            count += 1;
        }
        let mut expr = self.comparison()?;
        for _ in 0..count {
            expr = self.node(pos, Kind::Not(Box::new(expr)))?;
        }
        Ok(expr)
    }

    fn comparison(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let left = self.sum()?;
        let mut rest = Vec::new();
        while let Some(op) = self.comparison_sign() {
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() { Ok(left) } else { self.node(pos, Kind::Compare(Box::new(left), rest)) }
    }

    fn comparison_sign(&mut self) -> Option<Comparison> {
        let op = match self.peek() {
            Token::Sign("==") => Comparison::Eq,
            Token::Sign("!=") => Comparison::Ne,
            Token::Sign("<") => Comparison::Lt,
            Token::Sign("<=") => Comparison::Le,
            Token::Sign(">") => Comparison::Gt,
            Token::Sign(">=") => Comparison::Ge,
            Token::Name(n) if n == "in" => Comparison::In,
            Token::Name(n) if n == "is" => {
                self.next();
                return Some(if self.take_word("not") { Comparison::IsNot } else { Comparison::Is });
            }
            Token::Name(n) if n == "not" && matches!(self.ahead(), Token::Name(m) if m == "in") => {
                self.next();
                Comparison::NotIn
            }
            _ => return None,
        };
        self.next();
        Some(op)
    }

    fn sum(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut left = self.product()?;
        loop {
            let op = match self.peek() {
                Token::Sign("+") => Arithmetic::Add,
                Token::Sign("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.next();
            let right = self.product()?;
            left = self.node(pos, Kind::Binary(Box::new(left), op, Box::new(right)))?;
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut left = self.sign()?;
        loop {
            let op = match self.peek() {
                Token::Sign("*") => Arithmetic::Mul,
                Token::Sign("/") => Arithmetic::Div,
                Token::Sign("//") => Arithmetic::FloorDiv,
                Token::Sign("%") => Arithmetic::Mod,
                Token::Sign("@") => Arithmetic::Matmul,
                _ => return Ok(left),
            };
            self.next();
            let right = self.sign()?;
            left = self.node(pos, Kind::Binary(Box::new(left), op, Box::new(right)))?;
        }
    }

    fn sign(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let mut count = 0;
        while self.take("-") {
            count += 1;
        }
        let mut expr = self.power()?;
        for _ in 0..count {
            expr = self.node(pos, Kind::Negate(Box::new(expr)))?;
        }
        Ok(expr)
    }

    fn power(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let base = self.postfix()?;
        if !self.take("**") {
            return Ok(base);
        }
        self.depth += 1;
        if self.depth > MAX_HEIGHT {
            return Err(self.too_deep(pos));
        }
        let exponent = self.sign();
        self.depth -= 1;
        self.node(pos, Kind::Binary(Box::new(base), Arithmetic::Pow, Box::new(exponent?)))
    }

    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.atom()?;
        loop {
            let pos = self.pos();
            if self.take("(") {
                let args = self.arguments()?;
                expr = self.node(expr.pos, Kind::Call(Box::new(expr), args))?;
            } else if self.take("[") {
                let subscripts = self.subscripts()?;
                expr = self.node(pos, Kind::Index(Box::new(expr), subscripts))?;
            } else if self.take(".") {
                let (name, _) = match self.peek().clone() {
                    // A list's element by number, as in a path: `layers.0`.
                    Token::Name(n) => (n, self.next()),
                    _ => return Err(self.expected("a name after '.'")),
                };
                expr = self.node(expr.pos, Kind::Attribute(Box::new(expr), name))?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// Arguments after `(`, up to and with `)`.
    pub fn arguments(&mut self) -> Result<Vec<Arg>> {
        let mut args: Vec<Arg> = Vec::new();
        while !self.take(")") {
            let keyword = match (self.peek(), self.ahead()) {
                (Token::Name(n), Token::Sign("=")) => Some(n.clone()),
                _ => None,
            };
            let pos = self.pos();
            let form = if let Some(k) = keyword {
                self.next();
                self.next();
                if args.iter().any(|a| a.form == Form::Keyword(k.clone())) {
                    return Err(self.source.error(pos, format!("'{k}' is given twice")));
                }
                Form::Keyword(k)
            } else if self.take("*") {
                Form::Spread
            } else {
                Form::Positional
            };
            if form == Form::Positional && args.iter().any(|a| matches!(a.form, Form::Keyword(_))) {
                return Err(self.source.error(pos, "arguments without a name come before those with one"));
            }
            let value = self.expression()?;
            args.push(Arg { form, value });
            if !self.is(")") {
                self.want(",", "or ')' after the argument")?;
            }
        }
        Ok(args)
    }

    fn subscripts(&mut self) -> Result<Vec<Subscript>> {
        let mut out = Vec::new();
        loop {
            out.push(self.subscript()?);
            if self.take("]") {
                return Ok(out);
            }
            self.want(",", "or ']' after the subscript")?;
        }
    }

    fn subscript(&mut self) -> Result<Subscript> {
        if self.take("...") {
            return Ok(Subscript::Ellipsis);
        }
        let start = if self.is(":") { None } else { Some(self.expression()?) };
        if !self.take(":") {
            return start.map(Subscript::At).ok_or_else(|| self.expected("a subscript"));
        }
        let ends = |line: &Self| line.is(":") || line.is("]") || line.is(",");
        let stop = if ends(self) { None } else { Some(self.expression()?) };
        let step = if self.take(":") && !ends(self) { Some(self.expression()?) } else { None };
        Ok(Subscript::Slice(start, stop, step))
    }

    fn atom(&mut self) -> Result<Expr> {
        let pos = self.pos();
        let kind = match self.peek().clone() {
            Token::Int(v) => Kind::Int(v),
            Token::Float(v) => Kind::Float(v),
            Token::Text(t) => Kind::Text(t),
            Token::Name(n) => match n.as_str() {
                "none" => Kind::None,
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "True" | "False" | "None" => {
                    let lower = n.to_lowercase();
                    return Err(self.source.error(pos, format!("expected a value, found '{n}': write '{lower}'")));
                }
                _ if RESERVED.contains(&n.as_str()) => {
                    return Err(self.source.error(pos, format!("expected a value, found '{n}'")));
                }
                _ => Kind::Name(n),
            },
            Token::Sign("(") => {
                self.next();
                let inner = self.expression()?;
                if self.is(",") {
                    return Err(self.source.error(self.pos(), "expected ')', found ',': a list is written [a, b]"));
                }
                self.want(")", "after the expression")?;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.next();
                return self.list(pos);
            }
            Token::Sign("{") => {
                self.next();
                return self.dict(pos);
            }
            _ => return Err(self.expected("a value")),
        };
        self.next();
        self.node(pos, kind)
    }

    fn list(&mut self, pos: Pos) -> Result<Expr> {
        if self.take("]") {
            return self.node(pos, Kind::List(Vec::new()));
        }
        let first = self.expression()?;
        if self.is_word("for") {
            let mut clauses = Vec::new();
            while self.take_word("for") {
                let targets = self.names("a name after 'for'")?.into_iter().map(|(n, _)| n).collect();
                if !self.take_word("in") {
                    return Err(self.expected("'in' after the names"));
                }
                let list = self.or()?;
                let condition = if self.take_word("if") { Some(self.or()?) } else { None };
                clauses.push(Clause { targets, list, condition });
            }
            if clauses.len() > 4 {
                return Err(self.source.error(pos, "a comprehension of more than four 'for': name its parts"));
            }
            self.want("]", "after the comprehension")?;
            return self.node(pos, Kind::Comprehension { item: Box::new(first), clauses });
        }
        let mut items = vec![first];
        while !self.take("]") {
            self.want(",", "or ']' in the list")?;
            if !self.is("]") {
                items.push(self.expression()?);
            }
        }
        self.node(pos, Kind::List(items))
    }

    fn dict(&mut self, pos: Pos) -> Result<Expr> {
        let mut items = Vec::new();
        while !self.take("}") {
            let key = self.expression()?;
            self.want(":", "after the key")?;
            items.push((key, self.expression()?));
            if !self.is("}") {
                self.want(",", "or '}' after the entry")?;
            }
        }
        self.node(pos, Kind::Dict(items))
    }
}

/// `; did you mean 'x'?` or nothing.
pub(super) fn did_you_mean<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, among, 1).first() {
        Some(n) => format!("; did you mean '{n}'?"),
        None => String::new(),
    }
}
