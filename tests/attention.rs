//! Attention tools, on the small model whose circuit is known, on SmolLM2 and on every architecture, against
//! transformers, NumPy and the models' own values.

mod support;

use mlxterp::ErrorKind;
use mlxterp::analysis::attention::*;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::TraceOptions;
use support::*;

fn induction() -> Model {
    Model::load(fixture("induction").to_str().unwrap()).unwrap()
}

fn expected() -> Expected {
    Expected::read(&fixture("attention/expected.safetensors"))
}

/// Rows of ids, padded with -1.
fn rows(expected: &Expected, name: &str) -> Vec<Vec<u32>> {
    let width = expected.shape(name)[1];
    let row = |r: &[f32]| r.iter().filter(|v| **v >= 0.0).map(|v| *v as u32).collect();
    expected.get(name).chunks(width).map(row).collect()
}

/// Equal up to `bound` of the largest number; not a number where the other is none.
fn same(got: &[f32], want: &[f32], bound: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(got.iter().zip(want).all(|(a, b)| a.is_nan() == b.is_nan()), "{what}: not a number in other places");
    let numbers = |x: &[f32]| x.iter().copied().filter(|v| !v.is_nan()).collect::<Vec<_>>();
    assert_close(&numbers(got), &numbers(want), bound, what);
}

#[test]
fn the_induction_model_continues_what_it_was_shown() {
    let model = induction();
    let ids = model.tokenizer().unwrap().encode_prompt(" cat dog moon ship cat dog").unwrap();
    assert_eq!(ids.len(), 7, "one token a word, and <bos>");
    let logits = values(&model.trace(ids).unwrap().last_logits().unwrap());
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
    assert_eq!(model.tokenizer().unwrap().token_to_str(best).unwrap(), " moon");
}

#[test]
fn detection_finds_the_previous_token_head_and_the_induction_head() {
    let model = induction();
    let found = detect_heads(&model, &Repeated::default(), &TraceOptions::default()).unwrap();
    let first = |kind: &str| found.best(kind, 2).unwrap();
    let (previous, induction) = (first("previous_token"), first("induction"));
    assert_eq!((previous[0].0, previous[0].1), (0, 6), "{previous:?}");
    assert_eq!((induction[0].0, induction[0].1), (1, 6), "{induction:?}");
    assert!(previous[0].2 > 0.85 && previous[1].2 < 0.4, "{previous:?}");
    assert!(induction[0].2 > 0.9, "{induction:?}");
    assert!(found.of("induction").unwrap().values[..8].iter().all(|s| *s < 0.1), "no induction head in layer 0");
    let best = composition_scores(&model, None).unwrap().best("k", 2).unwrap();
    assert_eq!((&*best[0].0, &*best[0].1), ("0.6", "1.6"), "{best:?}");
    let copying = copying_scores(&model, None).unwrap().scores;
    assert!(copying.at(&[1, 6]) > 0.9, "{copying}");
}

#[test]
fn scores_equal_their_definition_on_transformers_patterns() {
    let expected = expected();
    for (name, model) in [("induction", induction()), ("smollm2", smollm2())] {
        let rows = rows(&expected, &format!("{name}.ids"));
        let found = head_scores(&model, rows.clone(), &TraceOptions::default()).unwrap();
        same(&found.scores.values, expected.get(&format!("{name}.scores")), 1e-5, name);
        assert_eq!(found.scores.shape(), expected.shape(&format!("{name}.scores")));
        // Padding counts for nothing: the rows alone give the same, each by the queries it has.
        let alone: Vec<HeadScores> = rows
            .iter()
            .map(|r| head_scores(&model, r.clone(), &TraceOptions::default()).unwrap())
            .collect();
        let per_kind = found.scores.values.len() / SCORES.len();
        let pooled: Vec<f32> = (0..found.scores.values.len())
            .map(|i| {
                let kind = i / per_kind;
                let parts = alone.iter().filter(|a| a.queries[kind] > 0);
                let sum: f32 = parts.map(|a| a.scores.values[i] * a.queries[kind] as f32).sum();
                sum / alone.iter().map(|a| a.queries[kind] as f32).sum::<f32>()
            })
            .collect();
        same(&pooled, &found.scores.values, 2e-6, name);
    }
}

#[test]
fn patterns_equal_transformers() {
    let expected = expected();
    let model = induction();
    let rows_ = rows(&expected, "induction.ids");
    let found = attention_patterns(&model, rows_[0].clone(), None, &TraceOptions::default()).unwrap();
    same(&found.patterns.values, expected.get("induction.pattern"), 1e-5, "induction");
    assert_eq!(found.tokens[0], "<bos>");
    let smol = rows(&expected, "smollm2.ids");
    let layers = [0, 7, 10, 29];
    let found = attention_patterns(&smollm2(), smol[1].clone(), Some(&layers), &TraceOptions::default()).unwrap();
    same(&found.patterns.values, expected.get("smollm2.pattern"), 2e-5, "smollm2");
    let one = found.head(7, 3).unwrap();
    let size = one.values.len();
    assert_eq!(one.values, found.patterns.values[(9 + 3) * size..(9 + 4) * size]);
}

/// A head that looks everywhere alike scores exactly 0, in every kind, with windows and without.
#[test]
fn an_even_pattern_scores_exactly_nothing() {
    for model in [induction(), tiny("mistral")] {
        let ids: Vec<u32> = (0..3).flat_map(|_| 3..8).collect();
        let even = TraceOptions {
            interventions: (0..model.num_layers())
                .map(|i| (format!("layers.{i}.attn.q"), "zero_out".parse().unwrap()))
                .collect(),
            ..TraceOptions::default()
        };
        let found = head_scores(&model, vec![ids.clone(), ids[..7].to_vec()], &even).unwrap();
        assert!(found.scores.values.iter().all(|s| *s == 0.0), "{:?}", found.scores.values);
        let plain = head_scores(&model, vec![ids], &TraceOptions::default()).unwrap();
        assert!(plain.scores.values.iter().any(|s| s.abs() > 0.05));
    }
}

#[test]
fn circuits_equal_the_whole_matrices() {
    let expected = expected();
    let model = induction();
    let found = head_circuit(&model, 1, 6).unwrap();
    assert!(found.left_out.is_empty(), "{:?}", found.left_out);
    same(&values(&found.qk.product().unwrap()), expected.get("induction.qk"), 1e-5, "QK");
    same(&values(&found.ov.product().unwrap()), expected.get("induction.ov"), 1e-5, "OV");
    same(&found.qk_singular, expected.get("induction.qk.singular"), 1e-5, "singular values of QK");
    let sizes: Vec<f32> = found.ov_eigenvalues.iter().map(|e| e.size()).collect();
    same(&sizes, expected.get("induction.ov.eigenvalue_sizes"), 1e-4, "eigenvalues of OV");
    let composition = composition_scores(&model, None).unwrap();
    same(&composition.scores.values, expected.get("induction.composition"), 2e-5, "composition");
    let copying = copying_scores(&model, None).unwrap();
    same(&copying.scores.values, expected.get("induction.copying"), 1e-4, "copying");
    let full = full_ov_circuit(&model, 1, 6).unwrap();
    assert_eq!(full.shape(), [128, 128]);
    let all = full.eigenvalues().unwrap();
    let share = all.iter().map(|e| e.re).sum::<f32>() / all.iter().map(|e| e.size()).sum::<f32>();
    assert!((share - copying.scores.at(&[1, 6])).abs() < 1e-4);
}

/// Packed weights, norms in front, heads in groups: what NumPy makes of the unpacked file.
#[test]
fn circuits_of_packed_weights_equal_the_unpacked_files() {
    let expected = expected();
    let model = smollm2();
    let layers = [0, 7, 10];
    let composition = composition_scores(&model, Some(&layers)).unwrap();
    same(&composition.scores.values, expected.get("smollm2.composition"), 1e-4, "composition");
    let copying = copying_scores(&model, Some(&layers)).unwrap();
    same(&copying.scores.values, expected.get("smollm2.copying"), 2e-3, "copying");
    assert!(copying.left_out.iter().any(|l| l == "rotations by position"), "{:?}", copying.left_out);
}

/// Random matrices compose as the baseline says.
#[test]
fn the_baseline_of_composition_is_what_random_matrices_give() {
    let random = |shape: &[i32], seed| tensor::random_normal(shape, tensor::Dtype::Float32, seed).unwrap();
    let (width, size) = (96, 8);
    let mut mean = 0.0;
    for seed in 0..40 {
        let make = |s| FactoredMatrix::new(&random(&[width, size], s), &random(&[size, width], s + 1)).unwrap();
        let (one, two) = (make(seed * 4), make(seed * 4 + 2));
        mean += one.times(&two).unwrap().norm().unwrap() / one.norm().unwrap() / two.norm().unwrap() / 40.0;
    }
    let baseline = (width as f32).sqrt().recip();
    assert!((mean / baseline - 1.0).abs() < 0.03, "{mean} {baseline}");
}

#[test]
fn a_factored_matrix_is_its_product() {
    let a = tensor::random_normal(&[7, 3], tensor::Dtype::Float32, 1).unwrap();
    let b = tensor::random_normal(&[3, 7], tensor::Dtype::Float32, 2).unwrap();
    let m = FactoredMatrix::new(&a, &b).unwrap();
    let whole = m.product().unwrap();
    let x = tensor::random_normal(&[2, 7], tensor::Dtype::Float32, 3).unwrap();
    let close = |got: &Array, want: &Array, what: &str| same(&values(got), &values(want), 1e-5, what);
    close(&m.left(&x).unwrap(), &tensor::matmul(&x, &whole).unwrap(), "left");
    let y = tensor::swap_axes(&x, 0, 1).unwrap();
    close(&m.right(&y).unwrap(), &tensor::matmul(&whole, &y).unwrap(), "right");
    close(&m.transpose().unwrap().product().unwrap(), &tensor::swap_axes(&whole, 0, 1).unwrap(), "transpose");
    close(&m.times(&m).unwrap().product().unwrap(), &tensor::matmul(&whole, &whole).unwrap(), "times");
    let norm = tensor::norm_all(&whole).unwrap().item().unwrap() as f32;
    assert!((m.norm().unwrap() - norm).abs() < 1e-5 * norm);
    let svd = m.svd().unwrap();
    assert!(svd.s.windows(2).all(|w| w[0] >= w[1]) && svd.s.len() == 3);
    let scaled = tensor::mul(&svd.u, &Array::from_slice(&svd.s, &[1, 3]).unwrap()).unwrap();
    close(&tensor::matmul(&scaled, &tensor::swap_axes(&svd.v, 0, 1).unwrap()).unwrap(), &whole, "U S V^T");
    let eigenvalues = m.eigenvalues().unwrap();
    let sum: f32 = eigenvalues.iter().map(|e| e.re).sum();
    assert!((sum - m.trace().unwrap()).abs() < 1e-4 && eigenvalues.len() == 3);
    // Wide factors: the rank is the outer side.
    let wide = FactoredMatrix::new(&b, &a).unwrap();
    let svd = wide.svd().unwrap();
    let scaled = tensor::mul(&svd.u, &Array::from_slice(&svd.s, &[1, 3]).unwrap()).unwrap();
    let again = tensor::matmul(&scaled, &tensor::swap_axes(&svd.v, 0, 1).unwrap()).unwrap();
    close(&again, &wide.product().unwrap(), "wide");
    for (x, y) in [(&a, &a), (&x, &y), (&a, &Array::from_slice(&[1.0f32], &[1]).unwrap())] {
        if x.dim(-1) != y.dim(0) || y.ndim() != 2 {
            assert_eq!(FactoredMatrix::new(x, y).unwrap_err().kind(), ErrorKind::Shape);
        }
    }
    let oblong = FactoredMatrix::new(&a, &tensor::slice(&b, &[0, 0], &[3, 4], &[1, 1]).unwrap()).unwrap();
    assert!(oblong.eigenvalues().unwrap_err().message().contains("square"));
}
