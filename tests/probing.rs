//! Probes: weights and scores against scikit-learn and numpy, planted directions, control tasks, sweeps, files, mistakes.

mod support;

use mlxterp::core::model::{Model, Prompts};
use mlxterp::core::tensor::Array;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::probing::{Kind, Probe, Probes, Study, Sweep, Swept, probe, probe_sweep};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::linear::Matrix;
use mlxterp::utils::{Position, Random};
use serde_json::{Value, json};
use support::*;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn whole(kind: Kind, standardise: bool, covariance: bool) -> Study {
    Study { kind, standardise, covariance, l2: 0.5, validation: 0.0, ..Study::default() }
}

#[test]
fn weights_and_scores_are_scikit_learns() {
    let expected = Expected::read(&fixture("probing/expected.safetensors"));
    for name in ["many", "few"] {
        let shape = expected.shape(&format!("{name}.x"));
        let x = Matrix::of(shape[1], expected.get(&format!("{name}.x"))).unwrap();
        let classes = wide(expected.get(&format!("{name}.y")));
        let numbers = wide(expected.get(&format!("{name}.numbers")));
        for (scaled, how) in [(true, "scaled"), (false, "plain")] {
            for (what, kind, covariance) in [
                ("logistic", Kind::Logistic, false),
                ("linear", Kind::Linear, false),
                ("mass_mean", Kind::MassMean, false),
                ("mass_mean_iid", Kind::MassMean, true),
            ] {
                let labels = if kind == Kind::Linear { &numbers } else { &classes };
                let done = probe(&x, labels, None, &whole(kind, scaled, covariance)).unwrap();
                let key = format!("{name}.{how}.{what}");
                assert!(done.probe.converged, "{key}");
                assert_close(&done.probe.weights, expected.get(&format!("{key}.weights")), 1e-5, &key);
                let own = match kind {
                    Kind::Linear => vec![done.train.r2.unwrap(), done.train.loss],
                    Kind::MassMean => vec![done.train.accuracy.unwrap(), done.train.auc.unwrap()],
                    Kind::Logistic => vec![done.train.accuracy.unwrap(), done.train.auc.unwrap(), done.train.loss],
                };
                for (a, b) in own.iter().zip(expected.get(&format!("{key}.scores"))) {
                    assert!((a - f64::from(*b)).abs() < 1e-5 * f64::from(b.abs()).max(1e-1), "{key}: {own:?}");
                }
            }
        }
    }
}

/// Rows of noise with a direction planted: what a probe is for.
fn planted(n: usize, d: usize, seed: u64) -> (Matrix, Vec<f64>, Vec<f64>) {
    let mut random = Random::new(seed);
    let mut normal = || (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
    let mut direction: Vec<f64> = (0..d).map(|_| normal()).collect();
    let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
    direction.iter_mut().for_each(|v| *v /= norm);
    let labels: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
    let rows =
        labels.iter().flat_map(|l| direction.iter().map(|v| normal() + 4.0 * (2.0 * l - 1.0) * v).collect::<Vec<_>>());
    (Matrix::new(d, rows.collect()).unwrap(), labels, direction)
}

#[test]
fn a_planted_direction_is_found() {
    let (x, labels, direction) = planted(900, 24, 5);
    for kind in [Kind::Linear, Kind::Logistic, Kind::MassMean] {
        let study = Study { kind, standardise: false, folds: 5, l2: 5.0, ..Study::default() };
        let done = probe(&x, &labels, None, &study).unwrap();
        let w = wide(&done.probe.weights);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let cosine = dot(&w, &direction) / dot(&w, &w).sqrt();
        assert!(cosine > 0.95, "{kind:?}: cosine {cosine}");
        let validation = done.validation.as_ref().unwrap();
        assert_eq!((done.train.rows, validation.rows), (720, 180));
        assert!(validation.accuracy.unwrap() > 0.97 && validation.auc.unwrap() > 0.99, "{done}");
        assert_eq!(done.folds.len(), 5);
        assert!(done.folds.iter().all(|f| f.rows == 180 && f.accuracy.unwrap() > 0.95));
        assert_eq!(probe(&x, &labels, None, &study).unwrap(), done, "the same seed gives the same");
        let other = probe(&x, &labels, None, &Study { seed: 1, ..study }).unwrap();
        assert_ne!(other.probe.weights, done.probe.weights);
    }
}

/// Noise with more features than rows is learnt by heart, and only there: validation and selectivity tell.
#[test]
fn what_is_learnt_by_heart_shows() {
    let (x, labels, _) = planted(60, 300, 3);
    let shuffled: Vec<f64> = (0..60).map(|i| f64::from(u8::from((i * 7 + i / 5) % 2 == 0))).collect();
    let study = Study { l2: 0.01, validation: 0.5, ..Study::default() };
    let done = probe(&x, &shuffled, None, &study).unwrap();
    assert_eq!(done.train.accuracy, Some(1.0));
    assert!(done.validation.unwrap().accuracy.unwrap() < 0.75);
    // Types that repeat: five of each. A probe of what the rows share by type knows any labeling of types.
    let types: Vec<u64> = (0..60).map(|i| i / 5).collect();
    let by_type =
        Matrix::new(12, types.iter().flat_map(|t| (0..12).map(move |k| f64::from(u8::from(k == *t)))).collect());
    let by_type = by_type.unwrap();
    let study = Study { control: 8, validation: 0.4, ..study };
    let labels_by_type: Vec<f64> = types.iter().map(|t| f64::from(u8::from(t % 2 == 0))).collect();
    let heart = probe(&by_type, &labels_by_type, Some(&types), &study).unwrap().control.unwrap();
    assert!(heart.selectivity < 0.05 && heart.score > 0.95 && heart.known > 0.99, "{heart:?}");
    // And one of what the label itself puts there does not.
    let (low, strong, _) = planted(60, 4, 8);
    let honest = probe(&low, &strong, Some(&types), &study).unwrap().control.unwrap();
    assert!(honest.selectivity > 0.2, "{honest:?}");
    assert_eq!(labels.len(), types.len());
}

const CITIES: [(&str, &str); 12] = [
    ("Paris", "France"),
    ("Rome", "Italy"),
    ("Berlin", "Germany"),
    ("Madrid", "Spain"),
    ("London", "England"),
    ("Tokyo", "Japan"),
    ("Beijing", "China"),
    ("Moscow", "Russia"),
    ("Cairo", "Egypt"),
    ("Athens", "Greece"),
    ("Vienna", "Austria"),
    ("Lisbon", "Portugal"),
];

/// Statements, half of them false.
fn statements() -> (Vec<String>, Vec<f64>) {
    let (mut texts, mut labels) = (Vec::new(), Vec::new());
    for (i, (city, country)) in CITIES.iter().enumerate() {
        for shift in [0, 5] {
            let country = if shift == 0 { country } else { CITIES[(i + shift) % CITIES.len()].1 };
            texts.push(format!("The city of {city} is in {country}."));
            labels.push(f64::from(u8::from(shift == 0)));
        }
    }
    (texts, labels)
}

#[test]
fn a_sweep_is_each_probe_alone() {
    let model = smollm2();
    let (texts, labels) = statements();
    let sweep = Sweep {
        layers: Some(vec![0, 14, -1]),
        positions: vec![Position::Last, Position::At(-2), Position::Mean],
        batch_size: 7,
        study: Study { folds: 2, control: 1, ..Study::default() },
        ..Sweep::default()
    };
    let options = TraceOptions::default();
    let types: Vec<u64> = (0..texts.len() as u64).map(|i| i / 4).collect();
    let swept = probe_sweep(&model, texts.clone(), &labels, Some(&types), &sweep, &options, &mut None).unwrap();
    assert_eq!(swept.scores.shape(), [3, 3]);
    assert_eq!(swept.targets[5].to_string(), "layers.14.output@mean");
    assert!(swept.selectivity.is_some() && !swept.to_string().is_empty());
    // Each against states read text by text.
    let mut rows = vec![Vec::new(); swept.targets.len()];
    for text in &texts {
        let trace = model.trace(text.as_str()).unwrap();
        for (own, target) in rows.iter_mut().zip(&swept.targets) {
            let value = values(&trace.get(&target.site).unwrap());
            let positions: Vec<&[f32]> = value.chunks(576).collect();
            let n = positions.len();
            own.extend(match target.position {
                Position::Last => wide(positions[n - 1]),
                Position::At(_) => wide(positions[n - 2]),
                _ => (0..576).map(|k| positions.iter().map(|p| f64::from(p[k])).sum::<f64>() / n as f64).collect(),
            });
        }
    }
    for ((target, studied), rows) in swept.targets.iter().zip(&swept.studied).zip(rows) {
        let simple = Study { folds: 0, control: 0, ..sweep.study.clone() };
        let alone = probe(&Matrix::new(576, rows).unwrap(), &labels, None, &simple).unwrap();
        assert_close(&studied.probe.weights, &alone.probe.weights, 5e-3, &target.to_string());
        assert_eq!(studied.train.rows, alone.train.rows);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.safetensors");
    swept.probes(&model).save(&file).unwrap();
    let kept = Probes::load(&file).unwrap();
    let find = |p: &Probes, name: &str| p.probes.iter().find(|(t, _)| t.to_string() == name).unwrap().1.clone();
    for (target, probe) in &swept.probes(&model).probes {
        assert_eq!(&find(&kept, &target.to_string()), probe);
    }
    let scores = kept.scores(&model, texts.clone(), 5, &options, &mut None).unwrap();
    let last = kept.probes.iter().position(|(t, _)| t.to_string() == "layers.14.output@last").unwrap();
    let right = scores[last].iter().zip(&labels).filter(|(s, l)| (**s > 0.0) == (**l == 1.0)).count();
    assert!(right >= 20, "{right} of 24");
    kept_is_refused_elsewhere(&kept, folder.path());
}

fn kept_is_refused_elsewhere(kept: &Probes, folder: &std::path::Path) {
    let small = tiny("llama");
    let e = kept.scores(&small, vec![vec![1u32, 2, 3]], 4, &TraceOptions::default(), &mut None).unwrap_err();
    assert!(e.message().contains("layers.14"), "{e}");
    let broken = folder.join("broken.safetensors");
    let bytes = std::fs::read(folder.join("probes.safetensors")).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() - 3]).unwrap();
    assert!(Probes::load(&broken).unwrap_err().message().contains("broken.safetensors"));
    assert!(
        Probes::load(fixture("steering/expected.safetensors")).unwrap_err().message().contains("no file of probes")
    );
}

fn small_sweep(model: &Model, sweep: &Sweep, rows: Vec<Vec<u32>>, labels: &[f64]) -> mlxterp::Result<Swept> {
    probe_sweep(model, Prompts::Tokens(rows), labels, None, sweep, &TraceOptions::default(), &mut None)
}

#[test]
fn mistakes_are_told() {
    let x = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 7.0, 8.0]).unwrap();
    let classes = [0.0, 1.0, 0.0, 1.0];
    let usual = || Study { validation: 0.0, ..Study::default() };
    let wrong = |x: &Matrix, labels: &[f64], types: Option<&[u64]>, study: Study, words: &str| {
        let e = probe(x, labels, types, &study).unwrap_err();
        assert!(e.message().contains(words), "'{words}' is not in: {e}");
    };
    wrong(&x, &classes[1..], None, usual(), "3 labels for 4 rows");
    wrong(&x, &[1.0; 4], None, usual(), "all 4 labels are 1");
    wrong(&x, &[0.0, 1.0, 2.0, 0.0], None, usual(), "a label is 2");
    wrong(&x, &[0.0, f64::NAN, 1.0, 0.0], None, Study { kind: Kind::Linear, ..usual() }, "label of row 1");
    wrong(&x, &classes, None, Study { l2: f64::NAN, ..usual() }, "l2");
    wrong(&x, &classes, None, Study { validation: 1.5, ..usual() }, "validation share");
    wrong(&x, &[0.0, 1.0, 0.0, 0.0], None, Study { validation: 0.3, ..usual() }, "cannot be split");
    wrong(&x, &classes, None, Study { folds: 3, ..usual() }, "3 folds");
    wrong(&x, &classes, None, Study { control: 1, ..usual() }, "needs types");
    wrong(&x, &classes, Some(&[1, 1, 1, 1]), Study { control: 1, ..usual() }, "all are of one");
    wrong(&x, &classes, Some(&[1]), usual(), "1 types for 4 rows");
    let nan = Matrix::new(2, vec![1.0, 2.0, f64::NAN, 4.0, 5.0, 7.0, 7.0, 8.0]).unwrap();
    wrong(&nan, &classes, None, usual(), "row 1 holds");
    let same = Matrix::new(2, vec![1.0; 8]).unwrap();
    wrong(&same, &classes, None, Study { kind: Kind::Linear, l2: 0.0, ..usual() }, "l2");
    let done = probe(&x, &classes, None, &usual()).unwrap();
    assert!(done.probe.scores(&Matrix::new(3, vec![0.0; 3]).unwrap()).unwrap_err().message().contains("width 2"));
    // Classes that a line parts, without a penalty: the weights grow without end, and it says so.
    let endless = probe(&x, &[0.0, 0.0, 1.0, 1.0], None, &Study { l2: 0.0, max_iterations: 5, ..usual() }).unwrap();
    assert!(!endless.probe.converged && endless.to_string().contains("ran out of steps"));

    let model = tiny("llama");
    let rows = || vec![vec![1u32, 2, 3], vec![4, 5], vec![6, 7, 8, 9], vec![1, 9]];
    let told =
        |sweep: Sweep, labels: &[f64]| small_sweep(&model, &sweep, rows(), labels).unwrap_err().message().to_owned();
    let sweep = || Sweep { study: usual(), ..Sweep::default() };
    assert!(told(sweep(), &[1.0]).contains("1 labels for 4 texts"));
    assert!(told(Sweep { layers: Some(vec![9]), ..sweep() }, &classes).contains("no layer 9"));
    assert!(told(Sweep { positions: vec![], ..sweep() }, &classes).contains("no positions"));
    assert!(told(Sweep { positions: vec![Position::At(2)], ..sweep() }, &classes).contains("text 1 has no position 2"));
    assert!(told(Sweep { positions: vec![Position::Answer], ..sweep() }, &classes).contains("pairs"));
    assert!(told(sweep(), &[0.0; 4]).contains("layers.0.output@last"));
    small_sweep(&model, &sweep(), rows(), &classes).unwrap();
}

#[test]
fn the_tool_takes_texts_or_states_or_a_file() {
    let model = tiny("llama");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.safetensors");
    let texts: Vec<Vec<u32>> = (0..20u32).map(|i| vec![i % 7, 3 + i % 5, if i % 2 == 0 { 11 } else { 40 }]).collect();
    let labels: Vec<bool> = (0..20).map(|i| i % 2 == 0).collect();
    let options = json!({"texts": texts, "labels": labels, "positions": ["last", 0], "save": file, "folds": 2});
    let found = run(&model, "probe", Call::new(options)).unwrap();
    assert_eq!(found.json().unwrap()["scores"]["axes"][1]["name"], "position");
    assert!(found.figure().contains("Accuracy") && found.to_string().contains("best"));
    assert_eq!(found.arrays().unwrap()[1].0, "layers.0.output@0");
    let asked = run(&model, "probe", Call::new(json!({"texts": texts, "load": file}))).unwrap();
    let scores = &asked.arrays().unwrap()[0].1;
    assert_eq!(scores.shape(), [4, 20]);
    let last = values(scores)[20..40].to_vec();
    let right = last.iter().zip(&labels).filter(|(s, l)| (**s > 0.0) == **l).count();
    assert!(right >= 19, "{last:?}");
    let (x, y, _) = planted(50, 6, 1);
    let mut call = Call::new(json!({"labels": y, "kind": "mass_mean"}));
    let flat: Vec<f32> = x.iter().flatten().map(|v| *v as f32).collect();
    call.arrays.push(("activations".into(), Array::from_slice(&flat, &[50, 6]).unwrap()));
    let one = run(&model, "probe", call).unwrap();
    assert!(one.arrays().unwrap()[0].1.shape() == [6] && one.figure().contains("validation"));
    let told = |options: Value| run(&model, "probe", Call::new(options)).map(drop).unwrap_err().message().to_owned();
    assert!(told(json!({"texts": texts})).contains("needs 'labels'"));
    assert!(told(json!({"labels": labels})).contains("needs 'texts'"));
    assert!(told(json!({"labels": labels, "text": texts})).contains("unknown field `text`"));
    assert!(told(json!({"labels": ["yes"]})).contains("a label is"));
    assert!(told(json!({"load": file})).contains("to ask"));
}

#[test]
fn a_probe_is_a_plain_value() {
    let line = Probe { kind: Kind::Logistic, weights: vec![2.0, -1.0], bias: 0.5, converged: true };
    assert_eq!(line.scores(&Matrix::new(2, vec![1.0, 3.0]).unwrap()).unwrap(), [-0.5]);
}
