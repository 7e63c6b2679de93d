//! Distributed alignment search: a subspace that was planted is found, and nothing where there is none.

mod support;

use std::collections::BTreeMap;

use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Array;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::das::{Das, DasOptions, das};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::{Random, Token};
use serde_json::json;

const TABLE: &str = "
arch table

Main(ids):
  table: embedding
  head: linear
  return head(table(ids))
";

const WIDTH: usize = 12;

/// Numbers in a random order of signs and sizes.
fn noise(random: &mut Random) -> f32 {
    random.below(2001) as f32 / 1000.0 - 1.0
}

/// Directions at right angles, of length 1.
fn directions(n: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let mut all: Vec<Vec<f32>> = Vec::new();
    while all.len() < n {
        let mut v: Vec<f32> = (0..WIDTH).map(|_| noise(random)).collect();
        for other in &all {
            let along: f32 = v.iter().zip(other).map(|(a, b)| a * b).sum();
            v.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
        }
        let norm = v.iter().map(|a| a * a).sum::<f32>().sqrt();
        all.push(v.into_iter().map(|a| a / norm).collect());
    }
    all
}

/// Token `4 k + 2 a + b` has the values `a` and `b` of two variables along a direction each, and noise elsewhere. The
/// answers are tokens 0 to 3, by both values. So the truth is known: the variable `a` lies along the first direction.
fn planted() -> (Model, Vec<f32>) {
    let mut random = Random::new(11);
    let all = directions(WIDTH, &mut random);
    let tokens = 64;
    let mut table = vec![0.0f32; tokens * WIDTH];
    for t in 0..tokens {
        let row = &mut table[t * WIDTH..(t + 1) * WIDTH];
        let (a, b) = ((t / 2) % 2, t % 2);
        let mut add = |d: &[f32], s: f32| row.iter_mut().zip(d).for_each(|(x, v)| *x += s * v);
        add(&all[0], if a == 1 { 1.0 } else { -1.0 });
        add(&all[1], if b == 1 { 1.0 } else { -1.0 });
        all[2..].iter().for_each(|d| add(d, 1.5 * noise(&mut random)));
    }
    let mut head = vec![0.0f32; tokens * WIDTH];
    for t in 0..4 {
        for i in 0..WIDTH {
            let sign = |bit: usize| if bit == 1 { 3.0 } else { -3.0 };
            head[t * WIDTH + i] = sign(t / 2) * all[0][i] + sign(t % 2) * all[1][i];
        }
    }
    let array = |data: &[f32]| Array::from_slice(data, &[tokens, WIDTH]).unwrap();
    let weights =
        BTreeMap::from([("table.weight".to_owned(), array(&table)), ("head.weight".to_owned(), array(&head))]);
    (Model::from_weights(TABLE, json!({}), weights, &LoadOptions::default()).unwrap(), all[0].clone())
}

/// Pairs of one-token and two-token prompts; the answer has the source's `a` and the base's `b`.
fn pairs(n: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>, Vec<Token>) {
    let mut random = Random::new(3);
    let (mut base, mut source, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let (x, y) = (random.below(64) as u32, random.below(64) as u32);
        let longer = random.below(2) == 0;
        base.push(if longer { vec![9, x] } else { vec![x] });
        source.push(vec![y]);
        answers.push(Token::Id(2 * (y / 2 % 2) + x % 2));
    }
    (base, source, answers)
}

fn options() -> DasOptions {
    DasOptions { site: "table.output".into(), epochs: 30, learning_rate: 0.05, ..DasOptions::default() }
}

fn learn(model: &Model, options: &DasOptions) -> mlxterp::Result<Das> {
    let (base, source, answers) = pairs(120);
    das(model, base, source, &answers, options, &TraceOptions::default(), &mut None)
}

#[test]
fn a_planted_direction_is_found() {
    let (model, truth) = planted();
    let found = learn(&model, &options()).unwrap();
    let cosine: f32 = found.directions.iter().zip(&truth).map(|(a, b)| a * b).sum();
    assert!(cosine.abs() > 0.97, "cosine {cosine}: {found}");
    let held = found.validation.unwrap();
    assert_eq!((held.pairs, found.train.pairs), (30, 90));
    assert!(held.exchanged > 0.95 && held.untouched < 0.75 && held.whole < 0.75, "{found}");
    assert!(found.losses[29] < 0.5 * found.losses[0]);
    assert_eq!(learn(&model, &options()).unwrap().directions, found.directions, "the same seed gives the same");
    // Two directions hold it as well; all of them are the whole state.
    let two = learn(&model, &DasOptions { dimensions: 2, epochs: 60, ..options() }).unwrap();
    let inside: f32 =
        (0..2).map(|k| (0..WIDTH).map(|i| two.directions[i * 2 + k] * truth[i]).sum::<f32>().powi(2)).sum();
    assert!(inside > 0.95, "{inside} of the direction lies in the two");
    let all = learn(&model, &DasOptions { dimensions: WIDTH, epochs: 1, ..options() }).unwrap();
    let held = all.validation.unwrap();
    assert_eq!(held.exchanged, held.whole);
}

#[test]
fn mistakes_are_told() {
    let (model, _) = planted();
    let told = |o: DasOptions| learn(&model, &o).unwrap_err().message().to_owned();
    assert!(told(DasOptions { site: "nothing".into(), ..options() }).contains("no site 'nothing'"));
    assert!(told(DasOptions { dimensions: 0, ..options() }).contains("0 directions"));
    assert!(told(DasOptions { dimensions: 99, ..options() }).contains("99 directions"));
    assert!(told(DasOptions { learning_rate: f64::NAN, ..options() }).contains("learning rate"));
    assert!(told(DasOptions { validation: 1.0, ..options() }).contains("validation"));
    assert!(told(DasOptions { position: mlxterp::utils::Position::At(1), ..options() }).contains("no position 1"));
    assert!(told(DasOptions { position: mlxterp::utils::Position::Mean, ..options() }).contains("one position"));
    assert!(told(DasOptions { learning_rate: 1e38, ..options() }).contains("smaller learning rate"));
    let (base, source, answers) = pairs(4);
    let short = das(&model, base, source[1..].to_vec(), &answers, &options(), &TraceOptions::default(), &mut None);
    assert!(short.unwrap_err().message().contains("4 base prompts, 3 sources, 4 answers"));
    let (base, source, _) = pairs(12);
    let given = json!({"base": base, "source": source, "answers": vec![1; 12], "site": "table.output", "epochs": 2});
    let found = run(&model, "das", Call::new(given)).unwrap();
    assert!(found.figure().contains("exchanged") && found.arrays().unwrap()[0].1.shape() == [12, 1]);
}
