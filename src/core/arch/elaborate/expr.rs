//! Expressions: static parts are computed, tensor parts become instructions.

use super::numbers;
use super::value::Value;
use super::{Elaborator, Scope, config_error};
use crate::core::arch::ast::{Clause, Comparison, Expr, Kind, Subscript};
use crate::core::arch::place::Pos;
use crate::error::Result;

impl Elaborator<'_> {
    /// The value of an expression.
    pub(super) fn eval(&mut self, e: &Expr, scope: &mut Scope) -> Result<Value> {
        self.step(1, scope, e.pos)?;
        self.enter(scope, e.pos)?;
        let value = self.eval_kind(e, scope);
        self.leave();
        value
    }

    fn eval_kind(&mut self, e: &Expr, scope: &mut Scope) -> Result<Value> {
        Ok(match &e.kind {
            Kind::None => Value::None,
            Kind::Bool(b) => Value::Bool(*b),
            Kind::Int(i) => Value::Int(*i),
            Kind::Float(f) => Value::Float(*f),
            Kind::Text(t) => Value::text(t),
            Kind::Name(n) => return self.name(n, scope, e.pos),
            Kind::List(items) => {
                let items = items.iter().map(|i| self.eval(i, scope)).collect::<Result<_>>()?;
                Value::list(items)
            }
            Kind::Dict(items) => {
                let mut map = std::collections::BTreeMap::new();
                for (k, v) in items {
                    match self.eval(k, scope)? {
                        Value::Text(key) => map.insert(key.to_string(), self.eval(v, scope)?),
                        other => {
                            let message = format!("expected text as a key, found {}", other.shown());
                            return Err(scope.source.error(k.pos, message));
                        }
                    };
                }
                Value::Map(map.into())
            }
            Kind::Comprehension { item, clauses } => return self.comprehension(item, clauses, scope),
            Kind::Choice { condition, then, otherwise } => {
                let branch = if self.test(condition, scope)? { then } else { otherwise };
                return self.eval(branch, scope);
            }
            Kind::And(a, b) => {
                let left = self.eval(a, scope)?;
                return if self.known(&left, a, scope)? { self.eval(b, scope) } else { Ok(left) };
            }
            Kind::Or(a, b) => {
                let left = self.eval(a, scope)?;
                return if self.known(&left, a, scope)? { Ok(left) } else { self.eval(b, scope) };
            }
            Kind::Not(a) => Value::Bool(!self.test(a, scope)?),
            Kind::Negate(a) => match self.eval(a, scope)? {
                Value::Slot(s) => return self.unary(crate::core::arch::tape::Unary::Neg, s, scope, e.pos),
                Value::Int(i) => Value::Int(i.saturating_neg()),
                Value::Float(f) => Value::Float(-f),
                other => return Err(self.blame(e, scope, format!("cannot negate {}", other.shown()))),
            },
            Kind::Binary(a, op, b) => {
                let (left, right) = (self.eval(a, scope)?, self.eval(b, scope)?);
                if matches!(left, Value::Slot(_)) || matches!(right, Value::Slot(_)) {
                    return self.arithmetic(left, *op, right, e, scope);
                }
                let value = numbers::arithmetic(&left, *op, &right).map_err(|m| self.blame(e, scope, m))?;
                self.step(size(&value), scope, e.pos)?;
                value
            }
            Kind::Compare(first, rest) => return self.comparison(e, first, rest, scope),
            Kind::Call(callee, args) => return self.call(callee, args, scope),
            Kind::Index(of, subscripts) => {
                let of_value = self.eval(of, scope)?;
                return self.subscript(of_value, subscripts, e, scope);
            }
            Kind::Attribute(of, key) => match self.eval(of, scope)? {
                Value::Module(m) => self.sub_path(&m, key),
                Value::Map(m) => m.get(key).cloned().unwrap_or(Value::None),
                Value::None => Value::None,
                other => return Err(self.blame(e, scope, format!("{} has no '{key}'", other.shown()))),
            },
        })
    }

    fn name(&mut self, name: &str, scope: &Scope, pos: Pos) -> Result<Value> {
        if let Some(v) = scope.names.get(name) {
            return Ok(v.clone());
        }
        match name {
            "i" => Ok(scope.index.map_or(Value::None, Value::Int)),
            _ => self.setting(name, scope, pos),
        }
    }

    /// A mistake in an expression's values; names the keys of config.json behind it, if there are any.
    pub(super) fn blame(&self, e: &Expr, scope: &Scope, message: String) -> crate::error::Error {
        let keys = self.keys_behind(e, scope);
        let message = match &scope.entry {
            Some(entry) => format!("{entry}: {message}"),
            None => message,
        };
        config_error(scope, e.pos, message, &keys)
    }

    /// A condition: known when the model is loaded.
    pub(super) fn test(&mut self, e: &Expr, scope: &mut Scope) -> Result<bool> {
        let v = self.eval(e, scope)?;
        self.known(&v, e, scope)
    }

    fn known(&self, v: &Value, e: &Expr, scope: &Scope) -> Result<bool> {
        match v {
            Value::Slot(_) => {
                let message =
                    "a condition must be known when the model is loaded, but this one is a tensor (use where)";
                Err(scope.source.error(e.pos, message))
            }
            other => Ok(other.truth()),
        }
    }

    fn comparison(&mut self, e: &Expr, first: &Expr, rest: &[(Comparison, Expr)], scope: &mut Scope) -> Result<Value> {
        let mut left = self.eval(first, scope)?;
        for (op, right) in rest {
            let right = self.eval(right, scope)?;
            let identity = matches!(op, Comparison::Is | Comparison::IsNot);
            if !identity && (matches!(left, Value::Slot(_)) || matches!(right, Value::Slot(_))) {
                return self.tensor_comparison(left, *op, right, e, scope);
            }
            self.step(length(&left) + length(&right), scope, e.pos)?;
            if !numbers::compare(&left, *op, &right).map_err(|m| self.blame(e, scope, m))? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn comprehension(&mut self, item: &Expr, clauses: &[Clause], scope: &mut Scope) -> Result<Value> {
        let targets: Vec<&String> = clauses.iter().flat_map(|c| &c.targets).collect();
        let shadowed: Vec<_> = targets.iter().map(|t| scope.names.get(*t).cloned()).collect();
        let mut out = Vec::new();
        let result = self.clauses(item, clauses, scope, &mut out);
        for (target, old) in targets.into_iter().zip(shadowed) {
            match old {
                Some(v) => scope.names.insert(target.clone(), v),
                None => scope.names.remove(target),
            };
        }
        result.map(|()| Value::list(out))
    }

    fn clauses(&mut self, item: &Expr, clauses: &[Clause], scope: &mut Scope, out: &mut Vec<Value>) -> Result<()> {
        let Some((clause, inner)) = clauses.split_first() else {
            out.push(self.eval(item, scope)?);
            return Ok(());
        };
        let list = match self.eval(&clause.list, scope)? {
            Value::List(l) => l,
            other => {
                let message = format!("expected a list to go through, found {}", other.shown());
                return Err(self.blame(&clause.list, scope, message));
            }
        };
        for v in list.iter() {
            bind_targets(&clause.targets, v, scope, clause.list.pos)?;
            let wanted = match &clause.condition {
                Some(c) => self.test(c, scope)?,
                None => true,
            };
            if wanted {
                self.clauses(item, inner, scope, out)?;
            }
        }
        Ok(())
    }

    fn subscript(&mut self, of: Value, subscripts: &[Subscript], e: &Expr, scope: &mut Scope) -> Result<Value> {
        if let Value::Slot(s) = of {
            return self.index(s, subscripts, e, scope);
        }
        let [only] = subscripts else {
            return Err(self.blame(e, scope, format!("{} takes one subscript", of.shown())));
        };
        match only {
            Subscript::Ellipsis => Err(self.blame(e, scope, format!("'...' needs a tensor, found {}", of.shown()))),
            Subscript::At(key) => {
                let key = self.eval(key, scope)?;
                self.step(length(&of), scope, e.pos)?;
                element(&of, &key).map_err(|m| self.blame(e, scope, m))
            }
            Subscript::Slice(a, b, c) => {
                let mut bound = |x: &Option<Expr>| match x {
                    None => Ok(None),
                    Some(x) => match self.eval(x, scope)? {
                        Value::None => Ok(None),
                        v => match v.integer() {
                            Some(i) => Ok(Some(i)),
                            None => Err(self.blame(x, scope, format!("expected a whole number, found {}", v.shown()))),
                        },
                    },
                };
                let (a, b, c) = (bound(a)?, bound(b)?, bound(c)?.unwrap_or(1));
                let Value::List(l) = &of else {
                    return Err(self.blame(e, scope, format!("expected a list to slice, found {}", of.shown())));
                };
                if c < 1 {
                    return Err(scope.source.error(e.pos, "a slice's step must be positive"));
                }
                let n = l.len() as i64;
                let clamp = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n) as usize;
                let (a, b) = (clamp(a.unwrap_or(0)), clamp(b.unwrap_or(n)));
                self.step(b.saturating_sub(a), scope, e.pos)?;
                Ok(Value::list(l[a..b.max(a)].iter().step_by(c as usize).cloned().collect()))
            }
        }
    }
}

/// Binds loop names to an element.
pub(super) fn bind_targets(targets: &[String], v: &Value, scope: &mut Scope, pos: Pos) -> Result<()> {
    if let [only] = targets {
        scope.names.insert(only.clone(), v.clone());
        return Ok(());
    }
    match v {
        Value::List(parts) if parts.len() == targets.len() => {
            for (t, p) in targets.iter().zip(parts.iter()) {
                scope.names.insert(t.clone(), p.clone());
            }
            Ok(())
        }
        other => Err(scope.source.error(pos, format!("{} names for {}", targets.len(), other.shown()))),
    }
}

/// Steps that making a value costs, so that the memory of all of them is bounded.
pub(super) fn size(v: &Value) -> usize {
    match v {
        Value::List(l) => l.len(),
        Value::Text(t) => t.len() / 8,
        _ => 0,
    }
}

/// Work that a value's size stands for; 64 elements or letters are one step.
pub(super) fn length(v: &Value) -> usize {
    match v {
        Value::List(l) => l.len() / 64,
        Value::Text(t) => t.len() / 64,
        _ => 0,
    }
}

/// `x[k]`; a scalar's element is the scalar, which lets one description serve uniform and patterned models.
fn element(of: &Value, key: &Value) -> std::result::Result<Value, String> {
    let place = |n: usize| match key.integer() {
        Some(i) => {
            let at = if i < 0 { i + n as i64 } else { i };
            usize::try_from(at)
                .ok()
                .filter(|a| *a < n)
                .ok_or_else(|| format!("there is no element {i} in {}", of.shown()))
        }
        None => Err(format!("expected a whole number as subscript, found {}", key.shown())),
    };
    match of {
        Value::List(l) => Ok(l[place(l.len())?].clone()),
        Value::Text(t) => {
            let letters: Vec<char> = t.chars().collect();
            Ok(Value::text(&letters[place(letters.len())?].to_string()))
        }
        Value::Map(m) => match key {
            Value::Text(k) => m.get(&**k).cloned().ok_or_else(|| format!("the object has no key '{k}'")),
            _ => Ok(of.clone()),
        },
        other => Ok(other.clone()),
    }
}
