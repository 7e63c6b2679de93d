//! Attention tools, on the small model whose circuit is known, on SmolLM2 and on every architecture, against
//! transformers, NumPy and the models' own values.

mod support;

use mlxterp::ErrorKind;
use mlxterp::analysis::attention::*;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::TraceOptions;
use support::entry::{Entry, Stored, asked_for};
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
    let off = assert_close(&numbers(got), &numbers(want), bound, what);
    println!("{what}: {off:.1e}");
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
        let alone: Vec<HeadScores> =
            rows.iter().map(|r| head_scores(&model, r.clone(), &TraceOptions::default()).unwrap()).collect();
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
        let ids: Vec<u32> = (0..4).flat_map(|_| 3..6).collect();
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
    same(&values(&found.qk.product().unwrap()), expected.get("induction.qk"), 2e-6, "QK");
    same(&values(&found.ov.product().unwrap()), expected.get("induction.ov"), 2e-6, "OV");
    same(&found.qk_singular, expected.get("induction.qk.singular"), 2e-6, "singular values of QK");
    let sizes: Vec<f32> = found.ov_eigenvalues.iter().map(|e| e.size()).collect();
    same(&sizes, expected.get("induction.ov.eigenvalue_sizes"), 1e-5, "eigenvalues of OV");
    let composition = composition_scores(&model, None).unwrap();
    same(&composition.scores.values, expected.get("induction.composition"), 1e-5, "composition");
    let copying = copying_scores(&model, None).unwrap();
    same(&copying.scores.values, expected.get("induction.copying"), 1e-5, "copying");
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
    let packed = LoadOptions { keep_quantised: Some(true), ..LoadOptions::default() };
    let model = load(&smollm2_path(), &packed);
    let layers = [0, 7, 10];
    let composition = composition_scores(&model, Some(&layers)).unwrap();
    same(&composition.scores.values, expected.get("smollm2.composition"), 1e-5, "composition");
    let copying = copying_scores(&model, Some(&layers)).unwrap();
    same(&copying.scores.values, expected.get("smollm2.copying"), 1e-5, "copying");
    assert_eq!(composition.left_out, ["rotations by position"]);
    assert!(copying.left_out.is_empty(), "values do not turn: {:?}", copying.left_out);
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

/// An entry of tests/fixtures/architectures with its biases zero, so that what is left is linear.
fn without_biases(mut entry: Entry) -> Model {
    for (name, spec) in entry.about["tensors"].as_object_mut().unwrap() {
        if name.ends_with("bias") {
            (spec[1], spec[2]) = (0.into(), 0.into());
        }
    }
    let float32 = LoadOptions { dtype: Some(tensor::Dtype::Float32), ..LoadOptions::default() };
    entry.load(Stored::Float32, &float32).unwrap()
}

/// The factor by which `got` is `want` at its best, and how far it is off then, as a part of the largest number.
fn proportional(got: &[f64], want: &[f64]) -> (f64, f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let factor = dot(got, want) / dot(got, got);
    let off = got.iter().zip(want).fold(0f64, |m, (g, w)| m.max((factor * g - w).abs()));
    (factor, off / want.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs())))
}

fn wide(a: &Array) -> Vec<f64> {
    values(a).into_iter().map(f64::from).collect()
}

/// Of layer `i`: whether the circuits make the values, the scores of each token with itself and the results that the model
/// has. A norm in front scales each position by a number of its own, which is read off the values.
fn circuits_fit(name: &str, model: &Model, i: usize, ids: &[u32]) -> mlxterp::Result<Vec<&'static str>> {
    let first = head_circuit(model, i, 0)?;
    let all = |of: fn(&Model, usize, usize) -> mlxterp::Result<FactoredMatrix>| {
        let each = (0..).map(|h| of(model, i, h));
        let there = each.take_while(|c| !matches!(c, Err(e) if e.kind() == ErrorKind::InvalidArgument));
        there.collect::<mlxterp::Result<Vec<_>>>()
    };
    let (qk, ov) = (all(qk_circuit)?, all(ov_circuit)?);
    let out = |what: &str| first.left_out.iter().any(|l| l.contains(what));
    let trace = model.trace(ids.to_vec())?;
    let get = |name: &str| trace.get(&format!("layers.{i}.{name}"));
    let (x, pattern) = (get("input")?, get("attn.pattern")?);
    let (n, length) = (ov.len(), ids.len());
    assert_eq!(qk.len(), n);
    assert_eq!(pattern.dims(), [1, n, length, length]);
    // What is left out is no mistake of what is there; keys and values of another layer have no names here.
    let Ok(v) = get("attn.v") else { return Ok(vec![]) };
    if out("between the layer's input") || out("clipping") || out("norms of values") {
        return Ok(vec![]);
    }
    // v = c (x W_V), one c a position: an orthonormal change of the head's axes is all that may be between.
    let (group, size) = (n / v.dim(1), v.dim(3));
    let v = wide(&v);
    let mut scale = Vec::new();
    for p in 0..length {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for (h, ov) in ov.iter().enumerate().step_by(group) {
            let row = tensor::slice(&x, &[0, p as i32, 0], &[1, p as i32 + 1, x.dim(2) as i32], &[1, 1, 1])?;
            mine.extend(wide(&tensor::matmul(&row, ov.a())?));
            theirs.extend(&v[((h / group) * length + p) * size..][..size]);
        }
        let (c, off) = proportional(&mine, &theirs);
        assert!(
            off < 2e-5 && c > 0.0,
            "{name}: values of layer {i}, position {p}: off by {off:.1e}, {:?}",
            first.left_out
        );
        scale.push(c);
    }
    let mut checked = vec!["values"];
    let scaled =
        tensor::mul(&x, &Array::from_slice(&scale.iter().map(|c| *c as f32).collect::<Vec<_>>(), &[1, length, 1])?)?;
    if !out("norms of queries") && !out("of scores") {
        let scores = wide(&get("attn.scores")?);
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for (h, qk) in qk.iter().enumerate() {
            let own = tensor::sum(&tensor::mul(&qk.left(&scaled)?, &scaled)?, -1, false)?;
            mine.extend(wide(&own));
            theirs.extend((0..length).map(|p| scores[(h * length + p) * length + p]));
        }
        let (_, off) = proportional(&mine, &theirs);
        assert!(off < 5e-5, "{name}: scores of layer {i}: off by {off:.1e}, {:?}", first.left_out);
        checked.push("scores");
    }
    if let Ok(result) = get("attn.result")
        && !out("norms of what the heads give")
    {
        let result = wide(&result);
        let pattern = wide(&pattern);
        let each = result.len() / n;
        for (h, ov) in ov.iter().enumerate() {
            let p: Vec<f32> = pattern[h * length * length..][..length * length].iter().map(|v| *v as f32).collect();
            let looked = tensor::matmul(&Array::from_slice(&p, &[1, length, length])?, &scaled)?;
            let mine = wide(&ov.left(&looked)?);
            let (c, off) = proportional(&mine, &result[h * each..][..each]);
            assert!(
                off < 5e-5 && (c - 1.0).abs() < 1e-4,
                "{name}: results of head {i}.{h}: off by {off:.1e}, factor {c}"
            );
        }
        checked.push("results");
    }
    Ok(checked)
}

/// Fused and separate matrices, in every order in which an architecture keeps them, against the model's own values.
#[test]
fn circuits_are_what_every_architecture_computes() {
    let mut checked = std::collections::BTreeMap::<&str, usize>::new();
    let (mut unsupported, mut in_front) = (Vec::new(), Vec::new());
    for entry in Entry::chosen() {
        let (name, ids) = (entry.name.clone(), entry.ids()[0].clone());
        let model = without_biases(entry);
        let has = |i: &usize| model.sites().resolve(&format!("layers.{i}.attn.pattern")).is_ok();
        for i in (0..model.num_layers()).filter(has) {
            match circuits_fit(&name, &model, i, &ids) {
                Ok(what) if what.is_empty() => in_front.push(format!("{name} {i}")),
                Ok(what) => what.into_iter().for_each(|w| *checked.entry(w).or_default() += 1),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
                    unsupported.push(format!("{name}: {e}"));
                }
            }
        }
    }
    println!("{checked:?}\nunsupported:\n{}\nin front: {}", unsupported.join("\n"), in_front.join(", "));
    if asked_for().is_some() {
        return;
    }
    let least = |what: &str| checked.get(what).copied().unwrap_or(0);
    assert!(least("values") >= 200 && least("scores") >= 120 && least("results") >= 180, "{checked:?}");
}

#[test]
fn mistakes_are_told_and_the_model_stays_usable() {
    let model = induction();
    let none = TraceOptions::default();
    let message = |e: mlxterp::Error, kind: ErrorKind| {
        assert_eq!(e.kind(), kind, "{e}");
        e.message().to_owned()
    };
    let invalid = |e: mlxterp::Error| message(e, ErrorKind::InvalidArgument);
    let e = attention_patterns(&model, " cat", Some(&[2]), &none).unwrap_err();
    assert_eq!(invalid(e), "layer 2 is out of range: the model has 2 layers, counted from 0");
    assert!(invalid(attention_patterns(&model, " cat", Some(&[]), &none).unwrap_err()).contains("no layers"));
    assert!(invalid(attention_patterns(&model, [" cat", " dog"], None, &none).unwrap_err()).contains("not 2"));
    let found = attention_patterns(&model, " cat dog", Some(&[1]), &none).unwrap();
    assert!(invalid(found.head(0, 0).unwrap_err()).contains("there are those of 1"));
    assert!(invalid(found.head(1, 8).unwrap_err()).contains("8 heads"));
    assert!(invalid(qk_circuit(&model, 0, 8).unwrap_err()).contains("head 8 is out of range: layer 0 has 8 heads"));
    assert!(invalid(ov_circuit(&model, 5, 0).unwrap_err()).contains("layer 5"));
    assert!(invalid(composition_scores(&model, Some(&[1, 1])).unwrap_err()).contains("two layers"));
    let repeated = |o: Repeated| invalid(detect_heads(&model, &o, &none).unwrap_err());
    let usual = Repeated::default();
    assert!(repeated(Repeated { length: 40, ..usual.clone() }).contains("context has 64"));
    assert!(repeated(Repeated { times: 1, ..usual.clone() }).contains("two times"));
    assert!(repeated(Repeated { rows: 0, ..usual.clone() }).contains("0 rows"));
    let few = Entry::read("bloom").load(Stored::Float32, &LoadOptions::default()).unwrap();
    let e = detect_heads(&few, &Repeated { length: 97, ..usual.clone() }, &none).unwrap_err();
    assert!(invalid(e).contains("there are only 96"));
    let scores = detect_heads(&model, &Repeated { rows: 1, ..usual.clone() }, &none).unwrap();
    assert!(invalid(scores.of("inductoin").unwrap_err()).contains("previous_token"));

    let mamba = Entry::read("mamba");
    let model_without = mamba.load(Stored::Float32, &LoadOptions::default()).unwrap();
    let e = detect_heads(&model_without, &usual, &none).unwrap_err();
    assert!(message(e, ErrorKind::Unsupported).contains("no attention"));
    let e = copying_scores(&model_without, None).unwrap_err();
    assert!(message(e, ErrorKind::Unsupported).contains("no attention"));
    let latent = Entry::read("deepseek_v3").load(Stored::Float32, &LoadOptions::default()).unwrap();
    let e = qk_circuit(&latent, 0, 0).unwrap_err();
    assert!(message(e, ErrorKind::Unsupported).contains("the QK circuits of layer 0: keys: "));
    assert!(head_scores(&latent, vec![3u32, 4, 3, 4], &none).is_ok(), "patterns it has");

    let again = detect_heads(&model, &Repeated { rows: 1, ..usual }, &none).unwrap();
    assert_eq!(
        again.scores.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        scores.scores.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    );
}

/// Distinct tokens, none special, the same for the same seed.
#[test]
fn repeated_tokens_are_random_and_repeat() {
    let model = smollm2();
    let options = Repeated { rows: 3, length: 20, times: 3, seed: 7 };
    let rows = repeated_tokens(&model, &options).unwrap();
    assert_eq!(rows, repeated_tokens(&model, &options).unwrap());
    assert_ne!(rows, repeated_tokens(&model, &Repeated { seed: 8, ..options }).unwrap());
    let special = model.tokenizer().unwrap().special_ids();
    assert!(special.len() > 10, "SmolLM2 has marks of chats and code");
    for row in &rows {
        let own = &row[row.len() - 60..];
        assert!(own.iter().all(|id| !special.contains(id)));
        let different: std::collections::BTreeSet<_> = own[..20].iter().collect();
        assert_eq!(different.len(), 20);
        assert!(own[..20] == own[20..40] && own[..20] == own[40..]);
    }
    assert_ne!(rows[0], rows[1]);
    assert!(repeated_tokens(&induction(), &Repeated::default()).unwrap().iter().all(|r| r[0] == 0 && r.len() == 49));
}

#[test]
fn every_tool_is_reached_by_name() {
    use mlxterp::toolkit::{Call, run};
    use serde_json::json;
    let model = induction();
    let call = |tool: &str, options: serde_json::Value| run(&model, tool, Call::new(options));
    let found = call("head_scores", json!({ "length": 16, "seed": 3 })).unwrap();
    assert_eq!(found.json().unwrap()["scores"]["axes"][0]["labels"], json!(SCORES));
    assert_eq!(found.arrays().unwrap()[0].1.dims(), [5, 2, 8]);
    assert!(found.to_string().lines().nth(2).unwrap().starts_with("induction        1.6 0.9"), "{found}");
    let found = call("attention_patterns", json!({ "prompt": " cat dog cat", "layers": [1] })).unwrap();
    assert_eq!(found.arrays().unwrap()[0].1.dims(), [1, 8, 4, 4]);
    assert_eq!(found.figure().matches("<svg").count(), 8);
    let found = call("head_circuit", json!({ "layer": 1, "head": 6 })).unwrap();
    assert_eq!(found.json().unwrap()["left_out"], json!([]));
    let arrays: std::collections::BTreeMap<_, _> = found.arrays().unwrap().into_iter().collect();
    assert_eq!((arrays["qk.a"].dims(), arrays["ov.b"].dims()), (vec![128, 24], vec![24, 128]));
    let found = call("composition_scores", json!({})).unwrap();
    assert!(found.to_string().contains("k     0.6 -> 1.6"), "{found}");
    // Heads of the same layer have no score: null in JSON.
    assert!(found.json().unwrap()["scores"]["values"][0].is_null());
    assert_eq!(call("copying_scores", json!({ "layers": [1] })).unwrap().arrays().unwrap()[0].1.dims(), [1, 8]);
    for tool in ["head_scores", "composition_scores", "copying_scores"] {
        let figure = call(tool, json!({})).unwrap().figure();
        assert!(figure.contains("<table") && !figure.contains("<script") && !figure.contains("http"), "{tool}");
    }
    let wrong = |tool: &str, options| call(tool, options).map(drop).unwrap_err();
    let e = wrong("head_scores", json!({ "prompts": " cat", "seed": 1 }));
    assert!(e.message().contains("give one of the two"), "{e}");
    let e = wrong("attention_patterns", json!({ "prompt": " cat", "layer": 1 }));
    assert!(e.message().contains("unknown field `layer`"), "{e}");
    let mut under = Call::new(json!({}));
    under.interventions = vec![("layers.0.attn".to_owned(), "zero_out".parse().unwrap())];
    let e = run(&model, "copying_scores", under).map(drop).unwrap_err();
    assert!(e.message().contains("reads weights"), "{e}");
    // Scores are of the run as it is: without what the previous-token head writes there is no induction.
    let mut under = Call::new(json!({}));
    under.interventions = vec![("layers.0.attn".to_owned(), "zero_out".parse().unwrap())];
    let found = run(&model, "head_scores", under).unwrap();
    let scores = found.arrays().unwrap()[0].1.to_vec::<f32>().unwrap();
    assert!(scores[2 * 16 + 8..3 * 16].iter().all(|s| *s < 0.1), "{found}");
}
