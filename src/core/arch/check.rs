//! What can be said of a description before it meets a checkpoint: names bound once, arguments that exist.

use std::collections::HashSet;
use std::sync::Arc;

use super::ast::{Arg, Block, Expr, Form, Kind, Stmt, StmtKind};
use super::description::Description;
use super::expressions::did_you_mean;
use super::place::{Pos, Source};
use super::signatures::{self, Signature};
use crate::error::Result;

/// Checks the blocks that this file brings (`own`), and notes their loop-carried names.
pub(super) fn check(d: &mut Description, own: &[String]) -> Result<()> {
    for name in own {
        let mut block = (*d.blocks[name]).clone();
        let carried = Names::of(&block)?;
        block.carried = carried;
        for decl in &block.decls {
            let source = &block.source;
            if let Some(s) = signatures::kind(&decl.kind) {
                arguments(source, &decl.kind, decl.kind_pos, s, &decl.args)?;
            } else if !d.blocks.contains_key(&decl.kind) {
                let known = signatures::kind_names().into_iter().chain(d.blocks.keys().map(String::as_str));
                let mut known: Vec<&str> = known.collect();
                known.sort_unstable();
                let hint = did_you_mean(&decl.kind, known);
                let message = format!("expected a kind or a block of this description, found '{}'{hint}", decl.kind);
                return Err(source.error(decl.kind_pos, message));
            }
        }
        let mut result = Ok(());
        let bound = bound_names(&block);
        each_expr(&block.body, &mut |e| {
            if result.is_ok() {
                result = call(d, &block, &bound, e);
            }
        });
        result?;
        d.blocks.insert(name.clone(), Arc::new(block));
    }
    for entry in d.config.values() {
        let mut result = Ok(());
        entry.value.walk(&mut |e| {
            if let (Ok(()), Kind::Call(callee, args)) = (&result, &e.kind)
                && let Kind::Name(n) = &callee.kind
            {
                result = match signatures::op(n) {
                    Some(s) => arguments(&entry.source, n, callee.pos, s, args),
                    None => {
                        let hint = did_you_mean(n, signatures::STATIC);
                        Err(entry.source.error(callee.pos, format!("expected a function, found '{n}'{hint}")))
                    }
                };
            }
        });
        result?;
    }
    Ok(())
}

/// Every name that a block binds, by whatever means: calling one is not calling the operation of that name.
fn bound_names(block: &Block) -> HashSet<String> {
    let mut names: HashSet<String> = block.params.iter().cloned().collect();
    names.extend(block.decls.iter().filter_map(|d| d.path.rsplit('.').next()).map(str::to_owned));
    each_stmt(&block.body, &mut |s| {
        if let StmtKind::For(targets, ..) = &s.kind {
            names.extend(targets.iter().cloned());
        }
    });
    each_expr(&block.body, &mut |e| {
        if let Kind::Comprehension { clauses, .. } = &e.kind {
            names.extend(clauses.iter().flat_map(|c| c.targets.iter().cloned()));
        }
    });
    names
}

fn call(d: &Description, block: &Block, bound: &HashSet<String>, e: &Expr) -> Result<()> {
    let Kind::Call(callee, args) = &e.kind else { return Ok(()) };
    let target = match &callee.kind {
        Kind::Name(n) if bound.contains(n) => return Ok(()),
        Kind::Name(n) => n,
        Kind::Attribute(_, n) => n,
        _ => return Ok(()),
    };
    if let Some(b) = d.blocks.get(target) {
        for arg in args {
            match &arg.form {
                Form::Keyword(k) if !b.params.contains(k) => {
                    let hint = did_you_mean(k, b.params.iter().map(String::as_str));
                    let message = format!("the block '{target}' has no parameter '{k}'{hint}");
                    return Err(block.source.error(arg.value.pos, message));
                }
                _ => {}
            }
        }
        let spread = args.iter().any(|a| a.form == Form::Spread);
        if args.len() > b.params.len() && !spread {
            let (has, given) = (b.params.len(), args.len());
            let message = format!("the block '{target}' takes {has} arguments, found {given}");
            return Err(block.source.error(callee.pos, message));
        }
    } else if let (Kind::Name(n), Some(s)) = (&callee.kind, signatures::op(target)) {
        arguments(&block.source, n, callee.pos, s, args)?;
    }
    Ok(())
}

/// Checks number and names of the arguments of an operation or a kind.
fn arguments(source: &Source, name: &str, pos: Pos, s: &Signature, args: &[Arg]) -> Result<()> {
    if !s.available || args.iter().any(|a| a.form == Form::Spread) {
        return Ok(());
    }
    let mut given: Vec<&str> = Vec::new();
    let mut positional = 0;
    for arg in args {
        match &arg.form {
            Form::Keyword(k) => match s.params.iter().find(|p| **p == k) {
                Some(p) if given.contains(p) => {
                    return Err(source.error(arg.value.pos, format!("'{k}' of '{name}' is given twice")));
                }
                Some(p) => given.push(p),
                None => {
                    let hint = did_you_mean(k, s.params.iter().copied());
                    let takes = if s.params.is_empty() { "none".to_owned() } else { s.params.join(", ") };
                    let message = format!("'{name}' has no argument '{k}' (it takes: {takes}){hint}");
                    return Err(source.error(arg.value.pos, message));
                }
            },
            _ => {
                if let (false, Some(p)) = (s.variadic, s.params.get(positional)) {
                    given.push(p);
                }
                positional += 1;
            }
        }
    }
    if !s.variadic && positional > s.params.len() {
        let most = s.params.len();
        return Err(source.error(pos, format!("'{name}' takes at most {most} arguments, found {positional}")));
    }
    if s.variadic && positional == 0 {
        return Err(source.error(pos, format!("'{name}' needs at least one argument, found none")));
    }
    if let Some(missing) = s.params[..s.required].iter().find(|p| !given.contains(p)) {
        return Err(source.error(pos, format!("'{name}' needs its argument '{missing}'")));
    }
    Ok(())
}

fn each_stmt<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for s in body {
        f(s);
        match &s.kind {
            StmtKind::If(_, a, b) => {
                each_stmt(a, f);
                each_stmt(b, f);
            }
            StmtKind::For(_, _, b) => each_stmt(b, f),
            StmtKind::Let(..) | StmtKind::Return(_) => {}
        }
    }
}

fn each_expr<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Expr)) {
    each_stmt(body, &mut |s| match &s.kind {
        StmtKind::Let(_, e) | StmtKind::If(e, ..) | StmtKind::For(_, e, _) => e.walk(f),
        StmtKind::Return(list) => list.iter().for_each(|e| e.walk(f)),
    });
}

/// The names a block binds.
struct Names<'a> {
    block: &'a Block,
    outside: HashSet<&'a str>,
    in_loops: HashSet<&'a str>,
    /// Names that hold `none` so far.
    defaults: HashSet<&'a str>,
    carried: Vec<String>,
}

impl<'a> Names<'a> {
    /// Refuses a name bound twice; gives those that a loop carries.
    fn of(block: &'a Block) -> Result<Vec<String>> {
        let outside = block.params.iter().map(String::as_str).collect();
        let mut names =
            Names { block, outside, in_loops: HashSet::new(), defaults: HashSet::new(), carried: Vec::new() };
        for decl in &block.decls {
            let name = decl.path.rsplit('.').next().unwrap_or_default();
            if !names.outside.insert(name) {
                return Err(block
                    .source
                    .error(decl.pos, format!("'{name}' is bound already: give this one another name")));
            }
        }
        names.statements(&block.body, false)?;
        Ok(names.carried)
    }

    fn statements(&mut self, body: &'a [Stmt], in_loop: bool) -> Result<()> {
        for s in body {
            match &s.kind {
                // A default for the case that no branch binds the name.
                StmtKind::Let(targets, e) if !in_loop && matches!((&e.kind, &targets[..]), (Kind::None, [_])) => {
                    self.defaults.insert(&targets[0].0);
                }
                StmtKind::Let(targets, _) => {
                    for (name, pos) in targets.iter().filter(|(n, _)| n != "_") {
                        self.bind(name, *pos, in_loop)?;
                    }
                }
                StmtKind::Return(_) => {}
                StmtKind::If(_, a, b) => {
                    // Only one branch is taken, so both may bind a name.
                    let before = (self.outside.clone(), self.in_loops.clone());
                    self.statements(a, in_loop)?;
                    let after = (self.outside.clone(), self.in_loops.clone());
                    (self.outside, self.in_loops) = before;
                    self.statements(b, in_loop)?;
                    self.outside.extend(after.0);
                    self.in_loops.extend(after.1);
                }
                StmtKind::For(_, _, b) => self.statements(b, true)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, name: &'a str, pos: Pos, in_loop: bool) -> Result<()> {
        if in_loop {
            if self.outside.contains(name) || self.defaults.contains(name) {
                self.carried.push(name.to_owned());
            }
            self.in_loops.insert(name);
            return Ok(());
        }
        if self.in_loops.contains(name) || !self.outside.insert(name) {
            let message = format!("'{name}' is bound already: a name means one value, give this one another name");
            return Err(self.block.source.error(pos, message));
        }
        Ok(())
    }
}
