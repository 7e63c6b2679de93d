//! Calls: a module, a block, an operation, a static function, or a linear that the checkpoint has.

use std::rc::Rc;
use std::sync::Arc;

use super::expr::{length, size};
use super::value::{Given, Module, Value};
use super::{Elaborator, Scope, functions, join};
use crate::core::arch::ast::{Arg, Expr, Form, Kind};
use crate::core::arch::expressions::did_you_mean;
use crate::core::arch::place::Pos;
use crate::core::arch::signatures;
use crate::core::arch::tape::Module as TreeNode;
use crate::error::{ErrorKind, Result};

impl Elaborator<'_> {
    pub(super) fn call(&mut self, callee: &Expr, args: &[Arg], scope: &mut Scope) -> Result<Value> {
        let pos = callee.pos;
        if let Kind::Attribute(of, name) = &callee.kind
            && let Some(block) = self.arch.and_then(|a| a.blocks.get(name)).cloned()
        {
            let Value::Module(m) = self.eval(of, scope)? else {
                return Err(scope.source.error(pos, format!("expected a module before '.{name}'")));
            };
            let (given, _) = self.arguments(args, scope)?;
            return self.block(&block, &m.path, given.positional, given.named, m.index);
        }
        let Kind::Name(name) = &callee.kind else {
            let target = self.eval(callee, scope)?;
            let Value::Module(m) = target else {
                return Err(scope.source.error(pos, format!("{} cannot be called", target.shown())));
            };
            let (given, since) = self.arguments(args, scope)?;
            return self.call_module(&m, given, since, scope, pos);
        };
        if name == "has" {
            return self.has_module(args, scope, pos);
        }
        match scope.names.get(name).cloned() {
            Some(Value::Module(m)) => {
                let (given, since) = self.arguments(args, scope)?;
                return self.call_module(&m, given, since, scope, pos);
            }
            Some(other) if !matches!(other, Value::None) => {
                return Err(scope.source.error(pos, format!("'{name}' is {} and cannot be called", other.shown())));
            }
            _ => {}
        }
        if let Some(block) = self.arch.and_then(|a| a.blocks.get(name)).cloned() {
            let (given, _) = self.arguments(args, scope)?;
            let path = scope.path.clone();
            return self.block(&block, &path, given.positional, given.named, scope.index);
        }
        if let Some(signature) = signatures::op(name) {
            if !signature.available {
                return Err(self.unavailable("op", name, scope, pos));
            }
            let (given, _) = self.arguments(args, scope)?;
            let tensors = given.positional.iter().chain(given.named.iter().map(|(_, v)| v));
            if !tensors.clone().any(|v| matches!(v, Value::Slot(_))) {
                let cost = given.positional.iter().map(length).sum();
                self.step(cost, scope, pos)?;
                if let Some(result) = functions::call(name, &given.positional) {
                    let value = result.map_err(|m| self.blame_args(args, scope, pos, m))?;
                    self.step(4 * size(&value), scope, pos)?;
                    return Ok(value);
                }
            }
            return self.operation(name, signature, given, scope, pos);
        }
        self.undeclared(name, args, scope, pos)
    }

    /// A name that nothing declares: a linear, if the checkpoint has its weight.
    fn undeclared(&mut self, name: &str, args: &[Arg], scope: &mut Scope, pos: Pos) -> Result<Value> {
        let path = join(&scope.path, name);
        if !self.has(&path) {
            let children = self.tensors.keys().filter_map(|k| {
                let rest = if scope.path.is_empty() { k } else { k.strip_prefix(&scope.path)?.strip_prefix('.')? };
                rest.split('.').next()
            });
            let mut known: Vec<&str> = signatures::op_names();
            known.extend(children.take(4096));
            known.dedup();
            let hint = did_you_mean(name, known);
            let message = format!("'{name}' is no operation, and the checkpoint has no tensor '{path}.weight'{hint}");
            return Err(self.lacks(format!("{path}.weight"), scope, pos, message));
        }
        let module = Module {
            path,
            kind: "linear".to_owned(),
            args: Rc::new(Vec::new()),
            optional: false,
            index: scope.index,
            written: Arc::default(),
        };
        let (given, since) = self.arguments(args, scope)?;
        self.call_module(&module, given, since, scope, pos)
    }

    pub(super) fn unavailable(&self, what: &str, name: &str, scope: &Scope, pos: Pos) -> crate::error::Error {
        scope.source.error_of(ErrorKind::Unsupported, pos, format!("{what} '{name}' is not available in this version"))
    }

    fn blame_args(&self, args: &[Arg], scope: &Scope, pos: Pos, message: String) -> crate::error::Error {
        match args.first() {
            Some(arg) => self.blame(&arg.value, scope, message),
            None => scope.source.error(pos, message),
        }
    }

    /// Evaluates arguments; also the number of the first slot that they made.
    fn arguments<'b>(&mut self, args: &'b [Arg], scope: &mut Scope) -> Result<(Given<'b>, u32)> {
        let since = self.next_slot();
        let mut given = Given { positional: Vec::new(), named: Vec::new(), written: args };
        for arg in args {
            let value = self.eval(&arg.value, scope)?;
            match &arg.form {
                Form::Positional => given.positional.push(value),
                Form::Keyword(k) => given.named.push((k.clone(), value)),
                Form::Spread => match value {
                    Value::List(l) => given.positional.extend(l.iter().cloned()),
                    other => {
                        let message = format!("expected a list after '*', found {}", other.shown());
                        return Err(scope.source.error(arg.value.pos, message));
                    }
                },
            }
        }
        Ok((given, since))
    }

    /// `has(name)`: whether the checkpoint has tensors there.
    fn has_module(&mut self, args: &[Arg], scope: &mut Scope, pos: Pos) -> Result<Value> {
        let [arg] = args else { return Err(scope.source.error(pos, "'has' takes one name")) };
        let path = match &arg.value.kind {
            Kind::Name(n) => match scope.names.get(n) {
                Some(Value::Module(m)) => m.path.clone(),
                _ => join(&scope.path, n),
            },
            _ => match self.eval(&arg.value, scope)? {
                Value::Text(t) => join(&scope.path, &t),
                Value::Module(m) => m.path.clone(),
                other => {
                    let message = format!("expected a module's name, found {}", other.shown());
                    return Err(scope.source.error(arg.value.pos, message));
                }
            },
        };
        Ok(Value::Bool(self.has(&path)))
    }

    /// `module.name`
    pub(super) fn sub_path(&self, m: &Module, name: &str) -> Value {
        Value::Module(Rc::new(Module {
            path: join(&m.path, name),
            kind: "path".to_owned(),
            args: Rc::new(Vec::new()),
            optional: false,
            index: m.index,
            written: Arc::default(),
        }))
    }

    /// Runs a module: its input and its output are sites.
    pub(super) fn call_module(
        &mut self,
        m: &Module,
        mut given: Given<'_>,
        since: u32,
        scope: &mut Scope,
        pos: Pos,
    ) -> Result<Value> {
        if m.optional && !self.has(&m.path) {
            return match given.positional.into_iter().next() {
                Some(first) => Ok(first),
                None => Err(scope.source.error(pos, format!("'{}' needs an argument", m.path))),
            };
        }
        let kind = if m.kind == "path" { "linear" } else { &m.kind };
        let known = signatures::kind(kind);
        if known.is_some_and(|s| !s.available) {
            return Err(self.unavailable("kind", kind, scope, pos));
        }
        self.tree_node(&m.path, kind);
        if let Some(Value::Slot(s)) = given.positional.first() {
            let input = self.name_slot(&format!("{}.input", m.path), *s, since);
            given.positional[0] = Value::Slot(input);
        }
        let since = self.next_slot();
        let result = if known.is_some() {
            self.leaf(m, kind, given, scope, pos)?
        } else {
            let Some(block) = self.arch.and_then(|a| a.blocks.get(kind)).cloned() else {
                return Err(scope.source.error(pos, format!("there is no block '{kind}'")));
            };
            let own = m.args.iter().filter_map(|(k, v)| Some((k.clone()?, v.clone())));
            let named = own.chain(given.named).collect();
            self.block(&block, &m.path, given.positional, named, m.index)?
        };
        let site = format!("{}.output", m.path);
        Ok(match result {
            Value::Slot(s) => Value::Slot(self.name_slot(&site, s, since)),
            Value::List(l) => match l.first() {
                Some(Value::Slot(s)) => {
                    let mut list = l.to_vec();
                    list[0] = Value::Slot(self.name_slot(&site, *s, since));
                    Value::list(list)
                }
                _ => Value::List(l),
            },
            other => other,
        })
    }

    fn tree_node(&mut self, path: &str, kind: &str) {
        if !self.modules.insert(path.to_owned()) {
            return;
        }
        let kind = match kind {
            "linear" | "unembed" => "Linear",
            "embedding" => "Embedding",
            "rmsnorm" => "RmsNorm",
            "layernorm" => "LayerNorm",
            "rotary" => "Rope",
            "switch" => "Switch",
            "conv" => "Conv",
            "opaque" => "Opaque",
            block => block,
        };
        let node = TreeNode { path: path.to_owned(), kind: kind.to_owned(), tensors: Vec::new() };
        self.program.modules.push(node);
    }
}
