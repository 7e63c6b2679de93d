//! What a description's text says, before anything is known of a checkpoint.

use std::fmt;
use std::sync::Arc;

use super::place::{Pos, Source};

/// An expression. `height` bounds every recursion over it.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub pos: Pos,
    pub height: u16,
    pub kind: Kind,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `[item for targets in list if condition]`, with one `for` or several.
    Comprehension {
        item: Box<Expr>,
        clauses: Vec<Clause>,
    },
    /// `then if condition else otherwise`
    Choice {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Box<Expr>, Arithmetic, Box<Expr>),
    /// `a < b <= c`
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Call(Box<Expr>, Vec<Arg>),
    Index(Box<Expr>, Vec<Subscript>),
    Attribute(Box<Expr>, String),
}

/// `for targets in list if condition`
#[derive(Clone, Debug)]
pub(super) struct Clause {
    pub targets: Vec<String>,
    pub list: Expr,
    pub condition: Option<Expr>,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    pub form: Form,
    pub value: Expr,
}

/// How an argument is given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Positional,
    Keyword(String),
    /// `*list`
    Spread,
}

#[derive(Clone, Debug)]
pub(super) enum Subscript {
    At(Expr),
    Slice(Option<Expr>, Option<Expr>, Option<Expr>),
    Ellipsis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
    Matmul,
}

impl Arithmetic {
    pub fn sign(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Sub => "-",
            Arithmetic::Mul => "*",
            Arithmetic::Div => "/",
            Arithmetic::FloorDiv => "//",
            Arithmetic::Mod => "%",
            Arithmetic::Pow => "**",
            Arithmetic::Matmul => "@",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Is,
    IsNot,
}

impl Comparison {
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Eq => "==",
            Comparison::Ne => "!=",
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
            Comparison::In => "in",
            Comparison::NotIn => "not in",
            Comparison::Is => "is",
            Comparison::IsNot => "is not",
        }
    }
}

/// A line of a block that does something.
#[derive(Clone, Debug)]
pub(super) struct Stmt {
    pub pos: Pos,
    pub kind: StmtKind,
}

#[derive(Clone, Debug)]
pub(super) enum StmtKind {
    Let(Vec<(String, Pos)>, Expr),
    Return(Vec<Expr>),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    For(Vec<String>, Expr, Vec<Stmt>),
}

/// A declared submodule.
#[derive(Clone, Debug)]
pub(super) struct Decl {
    pub pos: Pos,
    /// May be dotted (`attn.attention`); calls name its last part.
    pub path: String,
    pub optional: bool,
    pub count: Option<Arc<Expr>>,
    pub kind: String,
    pub kind_pos: Pos,
    pub args: Arc<Vec<Arg>>,
}

/// A function with a path.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub source: Source,
    pub pos: Pos,
    pub name: String,
    pub params: Vec<String>,
    pub decls: Vec<Decl>,
    pub body: Vec<Stmt>,
    /// Names bound inside a loop and outside too: carried from turn to turn, hence no hooks.
    pub carried: Vec<String>,
}

/// `name = expr` of the `config:` section.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub source: Source,
    pub value: Arc<Expr>,
}

impl Expr {
    /// Calls `f` on this expression and all inside it.
    pub fn walk<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        f(self);
        self.children(&mut |e| e.walk(f));
    }

    /// Calls `f` on each direct part.
    pub fn children<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            Kind::List(items) => items.iter().for_each(f),
            Kind::Dict(items) => items.iter().for_each(|(k, v)| {
                f(k);
                f(v);
            }),
            Kind::Comprehension { item, clauses } => {
                f(item);
                for clause in clauses {
                    f(&clause.list);
                    clause.condition.iter().for_each(&mut *f);
                }
            }
            Kind::Choice { condition, then, otherwise } => {
                f(condition);
                f(then);
                f(otherwise);
            }
            Kind::And(a, b) | Kind::Or(a, b) | Kind::Binary(a, _, b) => {
                f(a);
                f(b);
            }
            Kind::Not(a) | Kind::Negate(a) | Kind::Attribute(a, _) => f(a),
            Kind::Compare(a, rest) => {
                f(a);
                rest.iter().for_each(|(_, e)| f(e));
            }
            Kind::Call(callee, args) => {
                f(callee);
                args.iter().for_each(|a| f(&a.value));
            }
            Kind::Index(a, subscripts) => {
                f(a);
                for s in subscripts {
                    match s {
                        Subscript::At(e) => f(e),
                        Subscript::Slice(x, y, z) => [x, y, z].into_iter().flatten().for_each(&mut *f),
                        Subscript::Ellipsis => {}
                    }
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Expr {
    /// The expression as text that reads back as itself: every operator in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::None => f.write_str("none"),
            Kind::Bool(b) => write!(f, "{b}"),
            Kind::Int(v) => write!(f, "{v}"),
            Kind::Float(v) => write!(f, "{v:?}"),
            Kind::Text(t) => {
                let quote = if t.contains('\'') { '"' } else { '\'' };
                write!(f, "{quote}{t}{quote}")
            }
            Kind::Name(n) => f.write_str(n),
            Kind::List(items) => write!(f, "[{}]", join(items)),
            Kind::Dict(items) => {
                let items: Vec<String> = items.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                write!(f, "{{{}}}", items.join(", "))
            }
            Kind::Comprehension { item, clauses } => {
                write!(f, "[{item}")?;
                for clause in clauses {
                    write!(f, " for {} in {}", clause.targets.join(", "), clause.list)?;
                    if let Some(c) = &clause.condition {
                        write!(f, " if {c}")?;
                    }
                }
                f.write_str("]")
            }
            Kind::Choice { condition, then, otherwise } => write!(f, "({then} if {condition} else {otherwise})"),
            Kind::And(a, b) => write!(f, "({a} and {b})"),
            Kind::Or(a, b) => write!(f, "({a} or {b})"),
            Kind::Not(a) => write!(f, "(not {a})"),
            Kind::Negate(a) => write!(f, "(-{a})"),
            Kind::Binary(a, op, b) => write!(f, "({a} {} {b})", op.sign()),
            Kind::Compare(a, rest) => {
                write!(f, "({a}")?;
                for (op, e) in rest {
                    write!(f, " {} {e}", op.sign())?;
                }
                f.write_str(")")
            }
            Kind::Call(callee, args) => write!(f, "{callee}({})", join(args)),
            Kind::Index(a, subscripts) => write!(f, "{a}[{}]", join(subscripts)),
            Kind::Attribute(a, name) => write!(f, "{a}.{name}"),
        }
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Positional => write!(f, "{}", self.value),
            Form::Keyword(k) => write!(f, "{k}={}", self.value),
            Form::Spread => write!(f, "*{}", self.value),
        }
    }
}

impl fmt::Display for Subscript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |e: &Option<Expr>| e.as_ref().map_or_else(String::new, Expr::to_string);
        match self {
            Subscript::At(e) => write!(f, "{e}"),
            Subscript::Slice(a, b, None) => write!(f, "{}:{}", part(a), part(b)),
            Subscript::Slice(a, b, c) => write!(f, "{}:{}:{}", part(a), part(b), part(c)),
            Subscript::Ellipsis => f.write_str("..."),
        }
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
