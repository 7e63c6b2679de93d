//! The functions of static values.

use std::cmp::Ordering;

use super::numbers::{MAX_LENGTH, equal, sized};
use super::value::Value;

type Outcome = std::result::Result<Value, String>;

/// Calls the static function `name`; `None` if it is none.
pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    Some(match (name, args) {
        ("int", [x]) => whole(x, f64::trunc),
        ("floor", [x]) => whole(x, f64::floor),
        ("ceil", [x]) => whole(x, f64::ceil),
        ("round", [x]) => whole(x, f64::round_ties_even),
        ("abs", [Value::Int(i)]) => Ok(Value::Int(i.saturating_abs())),
        ("abs", [x]) => float(x, f64::abs),
        ("sqrt_" | "sqrt", [x]) => float(x, f64::sqrt),
        ("log_" | "log", [x]) => float(x, f64::ln),
        ("exp", [x]) => float(x, f64::exp),
        ("isqrt", [x]) => match x.integer() {
            Some(i) if i >= 0 => Ok(Value::Int(i.isqrt())),
            _ => Err(format!("isqrt needs a whole number that is not negative, found {}", x.shown())),
        },
        ("bool", [x]) => Ok(Value::Bool(x.truth())),
        ("str", [x]) => match x {
            Value::Text(_) => Ok(x.clone()),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => Ok(Value::text(&x.shown())),
            _ => Err(format!("str needs a number or text, found {}", x.shown())),
        },
        ("is_list", [x]) => Ok(Value::Bool(matches!(x, Value::List(_)))),
        ("len", [x]) => match x {
            Value::List(l) => Ok(Value::Int(l.len() as i64)),
            Value::Text(t) => Ok(Value::Int(t.chars().count() as i64)),
            Value::Map(m) => Ok(Value::Int(m.len() as i64)),
            _ => Err(format!("len needs a list or text, found {}", x.shown())),
        },
        ("min", _) => extreme(args, Ordering::Less),
        ("max", _) => extreme(args, Ordering::Greater),
        ("range", _) => range(args),
        ("get", [map, key]) => Ok(get(map, key).unwrap_or(Value::None)),
        ("get", [map, key, otherwise]) => Ok(get(map, key).unwrap_or_else(|| otherwise.clone())),
        ("find", [Value::List(l), v]) => place(l, v, false),
        ("last_of", [Value::List(l), v]) => place(l, v, true),
        ("enumerate", [Value::List(l)]) => {
            let pairs = l.iter().enumerate().map(|(i, v)| Value::list(vec![Value::Int(i as i64), v.clone()]));
            Ok(Value::list(pairs.collect()))
        }
        ("zip", _) => zip(args),
        ("ints", [Value::Text(t)]) => {
            let numbers: Result<Vec<Value>, _> = t.split(',').map(|p| p.trim().parse().map(Value::Int)).collect();
            numbers.map(Value::list).map_err(|_| format!("'{t}' is no list of whole numbers"))
        }
        ("find" | "last_of" | "enumerate" | "ints", [x, ..]) => {
            let kind = if name == "ints" { "text" } else { "a list" };
            Err(format!("{name} needs {kind}, found {}", x.shown()))
        }
        _ => return None,
    })
}

fn number(x: &Value) -> std::result::Result<f64, String> {
    match x {
        Value::Text(t) => t.trim().parse().map_err(|_| format!("{} is no number", x.shown())),
        Value::Bool(b) => Ok(f64::from(u8::from(*b))),
        _ => x.number().ok_or_else(|| format!("expected a number, found {}", x.shown())),
    }
}

fn whole(x: &Value, f: fn(f64) -> f64) -> Outcome {
    if let Value::Int(_) = x {
        return Ok(x.clone());
    }
    match Value::Float(f(number(x)?)).integer() {
        Some(i) => Ok(Value::Int(i)),
        None => Err(format!("{} is no whole number", x.shown())),
    }
}

fn float(x: &Value, f: fn(f64) -> f64) -> Outcome {
    let v = f(number(x)?);
    if v.is_finite() { Ok(Value::Float(v)) } else { Err(format!("{} has no such value", x.shown())) }
}

fn extreme(args: &[Value], wanted: Ordering) -> Outcome {
    let items = match args {
        [Value::List(l)] => &l[..],
        _ => args,
    };
    let mut best: Option<(f64, &Value)> = None;
    for v in items {
        let n = number(v)?;
        if best.is_none_or(|(b, _)| n.partial_cmp(&b) == Some(wanted)) {
            best = Some((n, v));
        }
    }
    best.map(|(_, v)| v.clone()).ok_or_else(|| "min and max need at least one value".to_owned())
}

fn range(args: &[Value]) -> Outcome {
    let numbers: Option<Vec<i64>> = args.iter().map(Value::integer).collect();
    let (start, stop, step) = match numbers.as_deref() {
        Some([stop]) => (0, *stop, 1),
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step > 0 => (*start, *stop, *step),
        _ => {
            let found = args.iter().map(Value::shown).collect::<Vec<_>>().join(", ");
            return Err(format!("range needs whole numbers (and a positive step), found {found}"));
        }
    };
    let count = (i128::from(stop) - i128::from(start)).max(0) / i128::from(step);
    sized(count.min(MAX_LENGTH as i128 + 1) as usize)?;
    let values = std::iter::successors(Some(start), |at| at.checked_add(step)).take_while(|at| *at < stop);
    Ok(Value::list(values.map(Value::Int).collect()))
}

fn get(map: &Value, key: &Value) -> Option<Value> {
    match (map, key) {
        (Value::Map(m), Value::Text(k)) => m.get(&**k).filter(|v| !matches!(v, Value::None)).cloned(),
        _ => None,
    }
}

fn place(list: &[Value], v: &Value, last: bool) -> Outcome {
    let mut budget = MAX_LENGTH;
    let mut found = None;
    for (i, x) in list.iter().enumerate() {
        if (last || found.is_none()) && equal(x, v, &mut budget)? {
            found = Some(i as i64);
        }
    }
    found.map(Value::Int).ok_or_else(|| format!("{} is not in the list", v.shown()))
}

fn zip(args: &[Value]) -> Outcome {
    let mut lists = Vec::new();
    for a in args {
        match a {
            Value::List(l) => lists.push(l),
            _ => return Err(format!("zip needs lists, found {}", a.shown())),
        }
    }
    let n = lists.iter().map(|l| l.len()).min().unwrap_or(0);
    Ok(Value::list((0..n).map(|i| Value::list(lists.iter().map(|l| l[i].clone()).collect())).collect()))
}
