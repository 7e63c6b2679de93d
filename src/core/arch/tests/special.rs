//! Operations that a few families need, compiled and run.

use super::*;
use crate::core::arch::tape::{Op, Special};

fn special(text: &str) -> Special {
    let program = compile_text(&format!("arch mine from llama\nMLP(x):\n  y = {text}\n  return MLP0(x)\n\nMLP0(x):\n  return down_proj(silu(gate_proj(x)) * up_proj(x))\n")).unwrap();
    let of = |op: &Op| if let Op::Special(s) = op { Some(s.clone()) } else { None };
    program.instrs.iter().find_map(|i| of(&i.op)).unwrap()
}

#[test]
fn arguments_reach_the_tape() {
    assert_eq!(special("broadcast_heads(heads(x, 1), 4)"), Special::BroadcastHeads { n: 4 });
    assert_eq!(special("position_axis(x, 1)"), Special::PositionAxis { start: 1 });
    assert_eq!(special("reshape(x, [4, -1])"), Special::Reshape { shape: vec![4, -1] });
    assert_eq!(special("tile(heads(x, 2), [1, 2, 1, 1])"), Special::Tile { reps: vec![1, 2, 1, 1] });
    assert_eq!(special("is_start(x)"), Special::IsStart);
    let Special::Alibi { slopes } = special("alibi(x, 4)") else { panic!() };
    assert_eq!(slopes, [0.25, 0.0625, 0.015625, 0.00390625]);
}

#[test]
fn slopes_of_heads_that_are_no_power_of_two_come_from_between() {
    // Press et al. 2022, appendix A.1: 12 heads take the 8 of 8 heads and every other one of 16.
    let Special::Alibi { slopes } = special("alibi(x, 12)") else { panic!() };
    let eight: Vec<f64> = (1..=8).map(|j| 0.5f64.powi(j)).collect();
    let between: Vec<f64> = [0.5, 1.5, 2.5, 3.5].iter().map(|j| 0.5f64.powf(*j)).collect();
    let expected: Vec<f64> = eight.into_iter().chain(between).collect();
    assert!(slopes.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-15), "{slopes:?}");
}

#[test]
fn static_functions_give_numbers() {
    // erfinv(0.9) from tables: 1.163087153676674.
    let config = "n = erfinv(0.9)\n  m = bf16(33.941125)\n  s = alibi_slopes(2)\n  u = len(set([1, 2, 1]))";
    let text = format!(
        "arch mine from llama\nconfig:\n  {config}\nMain(ids):\n  model: Trunk\n  lm_head: unembed('model.embed_tokens')\n  return lm_head(model(ids)) * n * m * s[1] * u\n"
    );
    let program = compile_text(&text).unwrap();
    let numbers: Vec<f64> = program
        .instrs
        .iter()
        .filter_map(|i| match &i.op {
            Op::Binary(_, _, crate::core::arch::tape::Operand::Number(n)) => Some(*n),
            _ => None,
        })
        .collect();
    let expected = [1.163087153676674, 34.0, 0.00390625, 2.0];
    assert!(numbers.len() == 4 && numbers.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{numbers:?}");
}

#[test]
fn a_matrix_for_each_head_is_checked() {
    let text = "arch mine from llama\nAttention(x):\n  embed_q: multilinear\n  q = heads(q_proj(x), n_heads)\n  k = heads(k_proj(x), n_kv)\n  v = heads(v_proj(x), n_kv)\n  z = attend(embed_q(q), k, v)\n  return o_proj(merge(z))\n";
    let with = |shape: &[usize]| {
        let mut shapes = shapes();
        for i in 0..2 {
            shapes.insert(format!("model.layers.{i}.self_attn.embed_q.weight"), shape.to_vec());
        }
        elaborate(&Description::parse(text, "mine").unwrap(), &normalise(config()).unwrap(), &shapes)
    };
    assert!(with(&[4, 8, 8]).is_ok());
    let e = with(&[4, 8, 6]).unwrap_err();
    assert!(e.message().contains("its input has 8 features"), "{e}");
    let e = with(&[8, 8]).unwrap_err();
    assert!(e.message().contains("needs [heads, rows, columns]"), "{e}");
}
