//! Interventions in words and in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Intervention;
use super::kind::Kind;
use super::selector::{Positions, Selector};
use crate::error::{Result, err};

/// The JSON form: the kind's fields and the selector's side by side.
#[derive(Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    kind: Kind,
    #[serde(flatten)]
    select: Selector,
}

impl Serialize for Intervention {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        if let Kind::Custom(c) = &self.kind {
            let why = format!("custom intervention '{}' is a function and has no JSON form", c.name());
            return Err(serde::ser::Error::custom(why));
        }
        Flat { kind: self.kind.clone(), select: self.select.clone() }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Intervention {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let object = serde_json::Map::deserialize(d)?;
        known_keys(&object).map_err(serde::de::Error::custom)?;
        let flat = Flat::deserialize(serde_json::Value::Object(object)).map_err(serde::de::Error::custom)?;
        flat.kind.check().map_err(serde::de::Error::custom)?;
        Ok(Intervention { kind: flat.kind, select: flat.select })
    }
}

/// A misspelt key would silently select everything.
fn known_keys(object: &serde_json::Map<String, serde_json::Value>) -> std::result::Result<(), String> {
    let own: &[&str] = match object.get("kind").and_then(|k| k.as_str()) {
        Some("scale") => &["factor"],
        Some("add_vector") => &["vector", "strength"],
        Some("replace_with") => &["value"],
        Some("clamp") => &["low", "high"],
        Some("noise") => &["std", "seed"],
        Some("project_out") => &["direction"],
        Some("set_component") => &["direction", "value"],
        Some("compose") => &["parts"],
        _ => &[],
    };
    let known = |k: &String| {
        ["kind", "rows", "positions", "heads", "neurons"].contains(&k.as_str()) || own.contains(&k.as_str())
    };
    match object.keys().find(|k| !known(k)) {
        Some(k) => Err(format!("unknown key '{k}': expected {}, rows, positions, heads or neurons", own.join(", "))),
        None => Ok(()),
    }
}

impl Intervention {
    /// As JSON: `{"kind": "scale", "factor": 0.5, "positions": [-1]}`. A custom function has none.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| err!(Unsupported, "{e}"))
    }

    /// From JSON; the error says what was expected and where.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| err!(InvalidArgument, "not an intervention: {e}"))
    }
}

impl fmt::Display for Intervention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::ZeroOut => write!(f, "zero_out")?,
            Kind::Scale { factor } => write!(f, "scale({factor})")?,
            Kind::AddVector { vector, strength } => write!(f, "add_vector({vector:?}, {strength})")?,
            Kind::ReplaceWith { value } => write!(f, "replace_with({value:?})")?,
            Kind::Clamp { low, high } => {
                let bound = |b: &Option<f64>| b.map_or("none".to_owned(), |v| v.to_string());
                write!(f, "clamp({}, {})", bound(low), bound(high))?;
            }
            Kind::Noise { std, seed } => write!(f, "noise({std}, seed={seed})")?,
            Kind::ProjectOut { direction } => write!(f, "project_out({direction:?})")?,
            Kind::SetComponent { direction, value } => write!(f, "set_component({direction:?}, {value})")?,
            Kind::Compose { parts } => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                write!(f, "compose({})", parts.join(", "))?;
            }
            Kind::Custom(c) => write!(f, "custom({})", c.name())?,
        }
        let s = &self.select;
        for (name, list) in [("rows", &s.rows), ("heads", &s.heads), ("neurons", &s.neurons)] {
            if let Some(list) = list {
                write!(f, " {name}={list:?}")?;
            }
        }
        match &s.positions {
            None => Ok(()),
            Some(Positions::Same(list)) => write!(f, " positions={list:?}"),
            Some(Positions::ByRow(lists)) => write!(f, " positions={lists:?}"),
        }
    }
}

impl std::str::FromStr for Intervention {
    type Err = crate::error::Error;

    /// The short form of the command line: `zero_out`, `scale(0.5)`, `clamp(-1, 1)`, `noise(0.1, 7)`; or JSON.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::from_json(text);
        }
        let (name, rest) = text.split_once('(').unwrap_or((text, ")"));
        let bad = || {
            err!(
                InvalidArgument,
                "cannot read the intervention '{text}': use zero_out, scale(F), clamp(LOW, HIGH), noise(STD, SEED) or JSON"
            )
        };
        let inner = rest.strip_suffix(')').ok_or_else(bad)?;
        let args: Vec<&str> = inner.split(',').map(str::trim).filter(|a| !a.is_empty()).collect();
        let number = |i: usize| args.get(i).and_then(|a| a.parse::<f64>().ok()).ok_or_else(bad);
        let bound = |i: usize| if args.get(i) == Some(&"none") { Ok(None) } else { number(i).map(Some) };
        let made = match (name.trim(), args.len()) {
            ("zero_out", 0) => Self::zero_out(),
            ("scale", 1) => Self::scale(number(0)?),
            ("clamp", 2) => Self::clamp(bound(0)?, bound(1)?),
            ("noise", 2) => Self::noise(number(0)?, args[1].parse().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        made.kind.check()?;
        Ok(made)
    }
}
