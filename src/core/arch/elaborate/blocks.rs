//! Blocks and statements.

use std::rc::Rc;
use std::sync::Arc;

use super::value::{Module, Value};
use super::{Elaborator, Scope, expr, join};
use crate::core::arch::ast::{Block, Decl, Expr, Form, Stmt, StmtKind};
use crate::core::arch::place::Pos;
use crate::core::arch::signatures;
use crate::core::arch::tape::{Layout, Op};
use crate::error::Result;

use super::Step;
use super::slots::SlotInfo;

/// Most elements of a declared list, and so most layers.
const MAX_LIST: i64 = 4096;
/// Longest path of a declared module.
const MAX_PATH: usize = 512;

impl Elaborator<'_> {
    /// Runs a block at a path.
    pub(super) fn block(
        &mut self,
        block: &Arc<Block>,
        path: &str,
        args: Vec<Value>,
        named: Vec<(String, Value)>,
        index: Option<i64>,
    ) -> Result<Value> {
        let mut scope = Scope::new(block.source.clone(), path, index);
        scope.carried.clone_from(&block.carried);
        for p in &block.params {
            scope.names.insert(p.clone(), Value::None);
        }
        scope.names.extend(block.params.iter().cloned().zip(args));
        scope.names.extend(named);
        self.enter(&scope, block.pos)?;
        for decl in &block.decls {
            self.declare(decl, &mut scope)?;
        }
        let value = self.statements(&block.body, &mut scope)?;
        self.leave();
        Ok(value.unwrap_or(Value::None))
    }

    fn declare(&mut self, decl: &Decl, scope: &mut Scope) -> Result<()> {
        let path = join(&scope.path, &decl.path);
        let name = decl.path.rsplit('.').next().unwrap_or_default().to_owned();
        let value = if decl.kind == "param" {
            self.parameter(decl, &path, scope)?
        } else if let Some(count) = &decl.count {
            let n = self.count(count, scope)?;
            let outer = scope.index;
            let mut list = Vec::new();
            for j in 0..n {
                scope.index = Some(j);
                list.push(self.module(decl, format!("{path}.{j}"), scope)?);
            }
            scope.index = outer;
            Value::list(list)
        } else {
            self.module(decl, path, scope)?
        };
        scope.names.insert(name, value);
        Ok(())
    }

    fn count(&mut self, e: &Expr, scope: &mut Scope) -> Result<i64> {
        let v = self.eval(e, scope)?;
        match v.integer() {
            Some(n) if (0..=MAX_LIST).contains(&n) => Ok(n),
            _ => {
                let message = format!("expected a number of modules from 0 to {MAX_LIST}, found {}", v.shown());
                Err(self.blame(e, scope, message))
            }
        }
    }

    fn module(&mut self, decl: &Decl, path: String, scope: &mut Scope) -> Result<Value> {
        // A kind of a later version says so when it is called, not when it is declared.
        self.step(8, scope, decl.pos)?;
        if path.len() > MAX_PATH {
            return Err(scope.source.error(decl.pos, format!("a path of more than {MAX_PATH} letters")));
        }
        let available = signatures::kind(&decl.kind).is_none_or(|s| s.available);
        let mut args = Vec::new();
        for arg in decl.args.iter().filter(|_| available) {
            let value = self.eval(&arg.value, scope)?;
            let name = match &arg.form {
                Form::Keyword(k) => Some(k.clone()),
                _ => None,
            };
            args.push((name, value));
        }
        Ok(Value::Module(Rc::new(Module {
            path,
            kind: decl.kind.clone(),
            args: Rc::new(args),
            optional: decl.optional,
            index: scope.index,
            written: decl.args.clone(),
        })))
    }

    /// A declared tensor.
    fn parameter(&mut self, decl: &Decl, path: &str, scope: &Scope) -> Result<Value> {
        if let Some(s) = self.params.get(path) {
            return Ok(Value::Slot(*s));
        }
        let Some(id) = self.tensor(path) else {
            if decl.optional {
                return Ok(Value::None);
            }
            let message = format!(
                "the checkpoint has no tensor '{path}', which is declared here (write '{}?' if it may be missing)",
                decl.path
            );
            return Err(self.lacks(path.to_owned(), scope, decl.pos, message));
        };
        let width = self.tensors.get(path).and_then(|s| s.last()).copied();
        let step = Step { op: Op::Param(id), inputs: Vec::new() };
        let slot = self.emit(step, vec![SlotInfo::of(Layout::Other).width(width)], path, scope, decl.pos)?[0];
        self.params.insert(path.to_owned(), slot);
        self.add_hook(path, slot);
        Ok(Value::Slot(slot))
    }

    /// Runs statements; the value is that of a `return` met on the way.
    fn statements(&mut self, body: &[Stmt], scope: &mut Scope) -> Result<Option<Value>> {
        for s in body {
            match &s.kind {
                StmtKind::Let(targets, e) => self.bind(targets, e, scope, s.pos)?,
                StmtKind::Return(values) => {
                    let mut list = values.iter().map(|e| self.eval(e, scope)).collect::<Result<Vec<_>>>()?;
                    return Ok(Some(if list.len() == 1 { list.remove(0) } else { Value::list(list) }));
                }
                StmtKind::If(condition, then, otherwise) => {
                    let branch = if self.test(condition, scope)? { then } else { otherwise };
                    if let Some(v) = self.statements(branch, scope)? {
                        return Ok(Some(v));
                    }
                }
                StmtKind::For(names, list, inner) => {
                    let items = match self.eval(list, scope)? {
                        Value::List(l) => l,
                        other => {
                            let message = format!("expected a list to go through, found {}", other.shown());
                            return Err(self.blame(list, scope, message));
                        }
                    };
                    for v in items.iter() {
                        self.step(1, scope, s.pos)?;
                        expr::bind_targets(names, v, scope, s.pos)?;
                        if let Some(v) = self.statements(inner, scope)? {
                            return Ok(Some(v));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// `a, b = expr`: every tensor gets the name as a site of its own, unless a loop carries it.
    fn bind(&mut self, targets: &[(String, Pos)], e: &Expr, scope: &mut Scope, pos: Pos) -> Result<()> {
        let since = self.next_slot();
        let value = self.eval(e, scope)?;
        let values = match (&value, targets.len()) {
            (_, 1) => vec![value],
            (Value::List(l), n) if l.len() == n => l.to_vec(),
            (other, n) => {
                let found = match other {
                    Value::List(l) => format!("{} values", l.len()),
                    other => other.shown(),
                };
                return Err(scope.source.error(pos, format!("{n} names for {found}")));
            }
        };
        for ((name, _), value) in targets.iter().zip(values) {
            let value = match value {
                Value::Slot(s) if name != "_" && !scope.carried.contains(name) => {
                    let site = join(&scope.path, name);
                    Value::Slot(self.name_slot(&site, s, since))
                }
                other => other,
            };
            scope.names.insert(name.clone(), value);
        }
        Ok(())
    }
}
