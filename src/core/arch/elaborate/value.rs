//! What an expression can be worth: static values, which vanish when the model is loaded, and tensors, which are slots.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::core::arch::ast::Arg;
use crate::core::arch::tape::Slot;

/// A value during elaboration. Lists are shared, so copying one is cheap.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<Vec<Value>>),
    Map(Rc<BTreeMap<String, Value>>),
    Slot(Slot),
    Module(Rc<Module>),
}

/// A submodule that a call runs.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub path: String,
    /// A kind, a block's name, or `path`: a path that only becomes a linear when it is called.
    pub kind: String,
    pub args: Rc<Vec<(Option<String>, Value)>>,
    pub optional: bool,
    pub index: Option<i64>,
    /// The arguments as declared, for messages.
    pub written: Arc<Vec<Arg>>,
}

/// Arguments as evaluated: positional ones, then named ones.
pub(super) struct Given<'a> {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
    /// What was written, for messages.
    pub written: &'a [Arg],
}

impl Value {
    pub fn text(s: &str) -> Value {
        Value::Text(s.into())
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Rc::new(items))
    }

    pub fn from_json(v: &Json) -> Value {
        match v {
            Json::Null => Value::None,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => Value::Int(i),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Value::text(s),
            Json::Array(list) => Value::list(list.iter().map(Value::from_json).collect()),
            Json::Object(map) => {
                Value::Map(Rc::new(map.iter().map(|(k, v)| (k.clone(), Value::from_json(v))).collect()))
            }
        }
    }

    /// The value as JSON, `budget` bounding how much is copied.
    pub fn to_json(&self, budget: &mut usize) -> Option<Json> {
        *budget = budget.checked_sub(1)?;
        Some(match self {
            Value::None => Json::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => (*i).into(),
            Value::Float(f) => (*f).into(),
            Value::Text(t) => (&**t).into(),
            Value::List(list) => Json::Array(list.iter().map(|v| v.to_json(budget)).collect::<Option<_>>()?),
            Value::Map(map) => {
                let entries = map.iter().map(|(k, v)| Some((k.clone(), v.to_json(budget)?)));
                Json::Object(entries.collect::<Option<_>>()?)
            }
            Value::Slot(_) | Value::Module(_) => return None,
        })
    }

    /// Whether it counts as true, as in Python.
    pub fn truth(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Text(t) => !t.is_empty(),
            Value::List(l) => !l.is_empty(),
            Value::Map(m) => !m.is_empty(),
            Value::Slot(_) | Value::Module(_) => true,
        }
    }

    /// The number it is; true and false are none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// The whole number it is; 9.0 is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(*f as i64),
            _ => None,
        }
    }

    /// A short description for messages.
    pub fn shown(&self) -> String {
        match self {
            Value::None => "none".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => format!("{f:?}"),
            Value::Text(t) if t.len() > 40 => format!("a text of {} bytes", t.len()),
            Value::Text(t) => format!("'{t}'"),
            Value::List(l) if l.is_empty() => "an empty list".to_owned(),
            Value::List(l) => format!("a list of {}", l.len()),
            Value::Map(_) => "an object".to_owned(),
            Value::Slot(_) => "a tensor".to_owned(),
            Value::Module(m) => format!("the module '{}'", m.path),
        }
    }
}
