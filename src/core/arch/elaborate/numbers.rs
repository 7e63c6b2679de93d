//! Arithmetic and comparison of static values, as in Python.

use super::value::Value;
use crate::core::arch::ast::{Arithmetic, Comparison};

/// Longest list or text that arithmetic may make.
pub(super) const MAX_LENGTH: usize = 1 << 20;

type Outcome<T> = std::result::Result<T, String>;

/// `a op b`
pub(super) fn arithmetic(a: &Value, op: Arithmetic, b: &Value) -> Outcome<Value> {
    use Value::{Float, Int, List, Text};
    let cannot = || Err(format!("cannot compute {} {} {}", a.shown(), op.sign(), b.shown()));
    match (a, op, b) {
        (List(x), Arithmetic::Add, List(y)) => {
            sized(x.len() + y.len())?;
            Ok(Value::list(x.iter().chain(y.iter()).cloned().collect()))
        }
        (Text(x), Arithmetic::Add, Text(y)) => {
            sized(x.len() + y.len())?;
            Ok(Value::text(&format!("{x}{y}")))
        }
        (List(x), Arithmetic::Mul, n) | (n, Arithmetic::Mul, List(x)) => match n.integer() {
            Some(n) => {
                let n = n.max(0) as usize;
                sized(x.len().saturating_mul(n))?;
                Ok(Value::list(x.iter().cloned().cycle().take(x.len() * n).collect()))
            }
            None => cannot(),
        },
        (Int(x), _, Int(y)) => integers(*x, op, *y),
        _ => match (a.number(), b.number()) {
            (Some(x), Some(y)) => match op {
                Arithmetic::Add => Ok(Float(x + y)),
                Arithmetic::Sub => Ok(Float(x - y)),
                Arithmetic::Mul => Ok(Float(x * y)),
                Arithmetic::Pow => finite(x.powf(y), a, b),
                Arithmetic::Matmul => cannot(),
                _ if y == 0.0 => Err(format!("{} {} 0 is a division by zero", a.shown(), op.sign())),
                Arithmetic::Div => Ok(Float(x / y)),
                Arithmetic::FloorDiv => Ok(Float((x / y).floor())),
                Arithmetic::Mod => Ok(Float(x - y * (x / y).floor())),
            },
            _ => cannot(),
        },
    }
}

fn integers(x: i64, op: Arithmetic, y: i64) -> Outcome<Value> {
    let (fx, fy) = (x as f64, y as f64);
    let zero = || Err(format!("{x} {} 0 is a division by zero", op.sign()));
    let checked = |v: Option<i64>| v.map(Value::Int).ok_or_else(|| format!("{x} {} {y} is too large", op.sign()));
    match op {
        Arithmetic::Add => checked(x.checked_add(y)),
        Arithmetic::Sub => checked(x.checked_sub(y)),
        Arithmetic::Mul => checked(x.checked_mul(y)),
        Arithmetic::Div if y == 0 => zero(),
        Arithmetic::Div => Ok(Value::Float(fx / fy)),
        Arithmetic::FloorDiv | Arithmetic::Mod if y == 0 => zero(),
        // Floor division rounds down and the remainder takes the divisor's sign.
        Arithmetic::FloorDiv => checked(x.checked_div_euclid(y).map(|q| if y < 0 && x % y != 0 { q - 1 } else { q })),
        Arithmetic::Mod => checked(x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r })),
        Arithmetic::Pow if y < 0 => finite(fx.powf(fy), &Value::Int(x), &Value::Int(y)),
        Arithmetic::Pow => checked(u32::try_from(y).ok().and_then(|y| x.checked_pow(y))),
        Arithmetic::Matmul => Err("'@' multiplies tensors, not numbers".to_owned()),
    }
}

fn finite(v: f64, a: &Value, b: &Value) -> Outcome<Value> {
    if v.is_finite() { Ok(Value::Float(v)) } else { Err(format!("{} ** {} is no number", a.shown(), b.shown())) }
}

/// Refuses lists and texts that only an attack would make.
pub(super) fn sized(n: usize) -> Outcome<()> {
    if n > MAX_LENGTH { Err(format!("a list or text of {n}: at most {MAX_LENGTH}")) } else { Ok(()) }
}

/// `a op b`
pub(super) fn compare(a: &Value, op: Comparison, b: &Value) -> Outcome<bool> {
    let order = |a: &Value, b: &Value| match (a, b) {
        (Value::Text(x), Value::Text(y)) => Ok(x.partial_cmp(y)),
        _ => match (a.number(), b.number()) {
            (Some(x), Some(y)) => Ok(x.partial_cmp(&y)),
            _ => Err(format!("cannot compare {} {} {}", a.shown(), op.sign(), b.shown())),
        },
    };
    let mut budget = MAX_LENGTH;
    Ok(match op {
        Comparison::Eq => equal(a, b, &mut budget)?,
        Comparison::Ne => !equal(a, b, &mut budget)?,
        Comparison::Is | Comparison::IsNot => {
            let same = match (a, b) {
                (Value::None, Value::None) => true,
                (Value::Bool(x), Value::Bool(y)) => x == y,
                (Value::Slot(x), Value::Slot(y)) => x == y,
                _ => false,
            };
            same == (op == Comparison::Is)
        }
        Comparison::In | Comparison::NotIn => {
            let found = match (a, b) {
                (_, Value::None) => false,
                (_, Value::List(l)) => {
                    let mut found = false;
                    for v in l.iter() {
                        found = found || equal(a, v, &mut budget)?;
                    }
                    found
                }
                (Value::Text(x), Value::Text(y)) => y.contains(&**x),
                (Value::Text(k), Value::Map(m)) => m.contains_key(&**k),
                _ => return Err(format!("cannot look for {} in {}", a.shown(), b.shown())),
            };
            found == (op == Comparison::In)
        }
        Comparison::Lt => order(a, b)?.is_some_and(|o| o.is_lt()),
        Comparison::Le => order(a, b)?.is_some_and(|o| o.is_le()),
        Comparison::Gt => order(a, b)?.is_some_and(|o| o.is_gt()),
        Comparison::Ge => order(a, b)?.is_some_and(|o| o.is_ge()),
    })
}

/// Equality; `budget` bounds the work on lists that share their parts.
pub(super) fn equal(a: &Value, b: &Value, budget: &mut usize) -> Outcome<bool> {
    *budget = budget.checked_sub(1).ok_or("the values compared are too large")?;
    let as_number = |v: &Value| match v {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => v.number(),
    };
    Ok(match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Text(x), Value::Text(y)) => x == y,
        (Value::List(x), Value::List(y)) => {
            let mut same = x.len() == y.len();
            for (x, y) in x.iter().zip(y.iter()) {
                same = same && equal(x, y, budget)?;
            }
            same
        }
        (Value::Map(x), Value::Map(y)) => {
            let mut same = x.len() == y.len();
            for ((k, x), (l, y)) in x.iter().zip(y.iter()) {
                same = same && k == l && equal(x, y, budget)?;
            }
            same
        }
        (Value::Slot(x), Value::Slot(y)) => x == y,
        _ => matches!((as_number(a), as_number(b)), (Some(x), Some(y)) if x == y),
    })
}
