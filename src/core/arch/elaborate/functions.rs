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
        ("erfinv", [x]) => match x.number() {
            Some(v) if v > -1.0 && v < 1.0 => Ok(Value::Float(erfinv(v))),
            _ => Err(format!("erfinv needs a number between -1 and 1, found {}", x.shown())),
        },
        ("bf16", [x]) => float(x, |v| f64::from(half::bf16::from_f64(v).to_f32())),
        ("alibi_slopes", [x]) => match x.integer() {
            Some(n) if (1..1 << 16).contains(&n) => {
                Ok(Value::list(alibi_slopes(n as usize).into_iter().map(Value::Float).collect()))
            }
            _ => Err(format!("alibi_slopes needs a number of heads, found {}", x.shown())),
        },
        // As a list without repetitions, in the order of the first occurrences.
        ("set", [Value::List(l)]) => {
            let mut out: Vec<Value> = Vec::new();
            for v in l.iter() {
                if out.len() > 1024 {
                    return Some(Err("a set of more than 1024".to_owned()));
                }
                let mut budget = 1 << 16;
                if !out.iter().any(|o| equal(o, v, &mut budget).unwrap_or(false)) {
                    out.push(v.clone());
                }
            }
            Ok(Value::list(out))
        }
        ("list", [Value::List(l)]) => Ok(Value::List(l.clone())),
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

/// The slopes of attention with linear biases: `2^(-8 j / n)` for a power of two, the rest from between those of twice
/// as many heads (Press et al. 2022).
pub(super) fn alibi_slopes(n: usize) -> Vec<f64> {
    let of_power = |p: usize| (1..=p).map(move |j| (-8.0 * j as f64 / p as f64).exp2());
    let power = if n.is_power_of_two() { n } else { n.next_power_of_two() / 2 };
    of_power(power).chain(of_power(2 * power).step_by(2)).take(n).collect()
}

/// The inverse of the error function, by Newton's method from Winitzki's approximation.
fn erfinv(y: f64) -> f64 {
    let a = 0.147;
    let log = (1.0 - y * y).ln();
    let part = 2.0 / (std::f64::consts::PI * a) + log / 2.0;
    let mut x = ((part * part - log / a).sqrt() - part).sqrt().copysign(y);
    for _ in 0..4 {
        x -= (erf(x) - y) / (2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp());
    }
    x
}

/// The error function by its Taylor series, whose terms shrink fast enough for the arguments that matter here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() && n < 400.0 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    2.0 / std::f64::consts::PI.sqrt() * sum
}
