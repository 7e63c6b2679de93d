//! The arguments of a kind: from its declaration, or from the call.

use super::value::{Given, Module, Value};
use super::{Elaborator, Scope};
use crate::core::arch::ast::Form;
use crate::core::arch::place::Pos;
use crate::core::arch::signatures;
use crate::error::{Error, ErrorKind, Result};

/// What a kind was given.
pub(super) struct KindArgs<'a> {
    pub m: &'a Module,
    pub kind: &'a str,
    pub call: &'a Given<'a>,
    pub scope: &'a Scope,
    pub pos: Pos,
}

impl KindArgs<'_> {
    fn place(&self, name: &str) -> Option<usize> {
        signatures::kind(self.kind)?.params.iter().position(|p| *p == name)
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        if let Some((_, v)) = self.call.named.iter().find(|(k, _)| k == name) {
            return Some(v.clone());
        }
        let named = self.m.args.iter().find(|(k, _)| k.as_deref() == Some(name));
        let positional = || self.m.args.get(self.place(name)?).filter(|(k, _)| k.is_none());
        named.or_else(positional).map(|(_, v)| v.clone())
    }

    /// A mistake in an argument; names the keys of config.json behind its declaration.
    pub fn fault(&self, e: &Elaborator<'_>, name: &str, message: &str) -> Error {
        let written = &self.m.written;
        let named = written.iter().find(|a| a.form == Form::Keyword(name.to_owned()));
        let positional = || written.get(self.place(name)?).filter(|a| a.form == Form::Positional);
        let message = format!("the {} '{}': {message}", self.kind, self.m.path);
        let Some(arg) = named.or_else(positional) else {
            return self.scope.source.error_of(ErrorKind::Description, self.pos, message);
        };
        let declared = Scope::new(self.scope.source.clone(), "", None);
        e.blame(&arg.value, &declared, message)
    }

    pub fn number(&self, e: &Elaborator<'_>, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None | Some(Value::None) => Ok(None),
            Some(v) => match v.number().filter(|n| n.is_finite()) {
                Some(n) => Ok(Some(n)),
                None => Err(self.fault(e, name, &format!("'{name}' must be a number, found {}", v.shown()))),
            },
        }
    }

    pub fn whole(&self, e: &Elaborator<'_>, name: &str) -> Result<Option<usize>> {
        match self.number(e, name)? {
            None => Ok(None),
            Some(n) if n >= 1.0 && n.fract() == 0.0 && n < 1e6 => Ok(Some(n as usize)),
            Some(n) => Err(self.fault(e, name, &format!("'{name}' must be a whole number, found {n}"))),
        }
    }

    /// The number added to the variance.
    pub fn eps(&self, e: &Elaborator<'_>, otherwise: Option<f64>) -> Result<f64> {
        match self.number(e, "eps")?.or(otherwise) {
            Some(eps) if (0.0..1.0).contains(&eps) => Ok(eps),
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |v| v.to_string());
                Err(self.fault(e, "eps", &format!("'eps' must be a number from 0 to 1, found {found}")))
            }
        }
    }
}
