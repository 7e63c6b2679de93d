//! Models of the user's own: a description and arrays in memory or files, arrays as input, functions as modules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::{Opaque, TraceOptions};
use mlxterp::{Error, ErrorKind};
use serde_json::json;

const MLP: &str = "
arch mlp

Main(x):
  h = relu(up(x))
  return down(h)
";

/// Numbers that no rule of thumb would give.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn array(shape: &[usize], seed: u32) -> Array {
    Array::from_slice(&numbers(shape.iter().product(), seed), shape).unwrap()
}

fn weights() -> BTreeMap<String, Array> {
    let parts = [("up.weight", vec![5, 3]), ("up.bias", vec![5]), ("down.weight", vec![2, 5]), ("down.bias", vec![2])];
    parts.iter().zip(1..).map(|((name, shape), seed)| ((*name).to_owned(), array(shape, seed))).collect()
}

fn mlp() -> Model {
    Model::from_weights(MLP, json!({}), weights(), &LoadOptions::default()).unwrap()
}

/// `W x + b` and relu by hand, in float64.
fn by_hand(x: &[f32], zeroed: &[usize]) -> Vec<f64> {
    let get =
        |name: &str| -> Vec<f64> { weights()[name].to_vec::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect() };
    let (up, bu, down, bd) = (get("up.weight"), get("up.bias"), get("down.weight"), get("down.bias"));
    let mut h: Vec<f64> =
        (0..5).map(|o| (bu[o] + (0..3).map(|i| up[o * 3 + i] * f64::from(x[i])).sum::<f64>()).max(0.0)).collect();
    zeroed.iter().for_each(|z| h[*z] = 0.0);
    (0..2).map(|o| bd[o] + (0..5).map(|i| down[o * 5 + i] * h[i]).sum::<f64>()).collect()
}

fn close(found: &Array, expected: &[f64]) {
    let found = found.to_vec::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f64::from(*f) - e).abs() < 1e-6, "{found:?} is not {expected:?}");
    }
}

fn fails<T>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.message().contains(word), "'{error}' does not say '{word}'");
    }
}

#[test]
fn a_plain_mlp_computes_traces_and_changes() {
    let model = mlp();
    assert_eq!(model.inputs(), ["x"]);
    let rows = numbers(6, 9);
    let x = Array::from_slice(&rows, &[2, 3]).unwrap();
    let expected: Vec<f64> = [by_hand(&rows[..3], &[]), by_hand(&rows[3..], &[])].concat();
    close(&model.forward(&x).unwrap(), &expected);
    let trace = model.trace(&x).unwrap();
    assert_eq!(trace.get("x").unwrap().to_vec::<f32>().unwrap(), rows);
    close(&trace.output().unwrap(), &expected);
    fails(trace.set("h", &x), ErrorKind::StaleWrite, &["'h'", "'output'"]);

    let zeroed: Vec<f64> = [by_hand(&rows[..3], &[1, 4]), by_hand(&rows[3..], &[1, 4])].concat();
    let options = TraceOptions::default().with("h", Intervention::zero_out().neurons([1, 4]));
    let changed = model.trace_with(&x, &options).unwrap();
    close(&changed.output().unwrap(), &zeroed);
    let one_row: Vec<f64> = [by_hand(&rows[..3], &[]), by_hand(&rows[3..], &[1, 4])].concat();
    let fork = model.trace(&x).unwrap().fork().unwrap();
    fork.intervene("h", Intervention::zero_out().neurons([1, 4]).rows([-1])).unwrap();
    close(&fork.output().unwrap(), &one_row);
    let receipts = fork.receipts().unwrap();
    assert_eq!((receipts[0].rows.as_slice(), receipts[0].reached), (&[1][..], true));

    // The input may be changed too: both rows become the second.
    let swapped = model.trace(&x).unwrap();
    swapped.set("x", &Array::from_slice(&rows[3..], &[1, 3]).unwrap()).unwrap();
    close(&swapped.output().unwrap(), &[&expected[2..], &expected[2..]].concat());
    fails(
        model.trace(&x).unwrap().intervene("h", Intervention::zero_out().positions([0])),
        ErrorKind::InvalidArgument,
        &["no position axis"],
    );
    let planned = model.plan(&x).unwrap();
    assert!(planned.iter().any(|s| s.name == "h" && s.shape == [2, 5]));
}

#[test]
fn three_axes_have_positions_and_rows_of_forks_share_their_prefix() {
    let model = mlp();
    let x = array(&[2, 4, 3], 5);
    let trace = model.trace(&x).unwrap();
    assert_eq!(trace.output().unwrap().dims(), [2, 4, 2]);
    let fork = trace.fork_rows(3).unwrap();
    fork.intervene("h", Intervention::scale(2.0).positions([-1]).rows([5])).unwrap();
    let (before, after) = (trace.output().unwrap(), fork.output().unwrap());
    assert_eq!(after.dims(), [6, 4, 2]);
    let (before, after) = (before.to_vec::<f32>().unwrap(), after.to_vec::<f32>().unwrap());
    let changed: Vec<usize> = (0..48).filter(|i| (after[*i] - before[i % 16]).abs() > 1e-6).collect();
    assert_eq!(changed, [46, 47]);
}

#[test]
fn buffers_are_shared_and_dtypes_kept() {
    let mut given = weights();
    for a in given.values() {
        a.eval().unwrap();
    }
    let address = given["up.weight"].data().unwrap();
    let model = mlp_of(given.clone(), &LoadOptions::default()).unwrap();
    let id = model.program().tensors.iter().position(|n| n == "up.weight").unwrap();
    assert_eq!(model.parameters().tensor(id as u32).unwrap().data().unwrap(), address);

    let half = tensor::cast(&given["down.bias"], Dtype::Bfloat16).unwrap();
    given.insert("down.bias".to_owned(), half);
    let mixed = mlp_of(given.clone(), &LoadOptions::default()).unwrap();
    let id = mixed.program().tensors.iter().position(|n| n == "down.bias").unwrap();
    assert_eq!(mixed.parameters().tensor(id as u32).unwrap().dtype(), Dtype::Bfloat16);
    let asked = LoadOptions { dtype: Some(Dtype::Float16), ..LoadOptions::default() };
    let all = mlp_of(given, &asked).unwrap();
    assert_eq!(
        all.forward(&tensor::cast(&array(&[1, 3], 5), Dtype::Float16).unwrap()).unwrap().dtype(),
        Dtype::Float16
    );
}

fn mlp_of(weights: BTreeMap<String, Array>, options: &LoadOptions) -> Result<Model, Error> {
    Model::from_weights(MLP, json!({}), weights, options)
}

#[test]
fn weights_may_come_from_files() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama/model.safetensors");
    let config = std::fs::read_to_string(file.with_file_name("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let own = Model::from_files("llama", config.clone(), &[&file], &LoadOptions::default(), None).unwrap();
    let loaded = Model::load(file.parent().unwrap().to_str().unwrap()).unwrap();
    let logits = |m: &Model| m.forward(vec![3u32, 7, 11]).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(logits(&own), logits(&loaded));
    let twice = Model::from_files("llama", config, &[&file, &file], &LoadOptions::default(), None);
    fails(twice, ErrorKind::Corrupt, &["in another of the files"]);
}

#[test]
fn mistakes_say_what_is_wrong() {
    let model = mlp();
    let x = array(&[2, 3], 5);
    fails(model.trace("text"), ErrorKind::InvalidArgument, &["takes an array ('x')"]);
    fails(
        model.trace(vec![x.clone(), x.clone()]),
        ErrorKind::InvalidArgument,
        &["2 arrays were given, the model takes 1"],
    );
    let wide = model.trace(&array(&[2, 4], 5)).unwrap();
    fails(wide.output(), ErrorKind::Shape, &["up", "[2, 4]"]);
    let mut short = weights();
    short.remove("down.weight");
    fails(mlp_of(short, &LoadOptions::default()), ErrorKind::NotFound, &["down"]);
    let mut long = weights();
    long.insert("extra".to_owned(), x.clone());
    fails(mlp_of(long, &LoadOptions::default()), ErrorKind::Unsupported, &["'extra'"]);
    let list = Model::from_weights(MLP, json!([1]), weights(), &LoadOptions::default());
    fails(list, ErrorKind::Config, &["must be an object"]);
    let mixed = "arch two\n\nMain(ids, x):\n  return up(x)\n";
    fails(
        Model::from_weights(mixed, json!({}), weights(), &LoadOptions::default()),
        ErrorKind::Description,
        &["alone"],
    );
}

#[test]
fn numbers_that_choose_rows_are_checked() {
    let text = "arch table\n\nMain(kind, x):\n  table: embedding\n  return table(kind) + x\n";
    let table = BTreeMap::from([("table.weight".to_owned(), array(&[4, 3], 1))]);
    let model = Model::from_weights(text, json!({}), table, &LoadOptions::default()).unwrap();
    let (kind, x) = (Array::from_slice(&[3i64, 0], &[2]).unwrap(), array(&[2, 3], 2));
    assert_eq!(model.forward(vec![kind.clone(), x.clone()]).unwrap().dims(), [2, 3]);
    let outside = Array::from_slice(&[4i64, 0], &[2]).unwrap();
    fails(model.forward(vec![outside.clone(), x.clone()]), ErrorKind::InvalidArgument, &["'kind' holds 4", "4 rows"]);
    fails(model.forward(vec![x.clone(), x.clone()]), ErrorKind::InvalidArgument, &["whole numbers"]);
    let trace = model.trace(vec![kind, x]).unwrap();
    fails(trace.set("kind", &outside), ErrorKind::InvalidArgument, &["read-only"]);
}

const ROUTED: &str = "
arch routed

Main(x):
  layers[2]: Layer
  for layer in layers:
    x = layer(x)
  return x

Layer(x):
  router: opaque(outputs=2)
  a, b = router(x, lin(x))
  return a + b
";

fn routed(opaque: Vec<(String, Opaque)>) -> Result<Model, Error> {
    let weights = (0..2).map(|i| (format!("layers.{i}.lin.weight"), array(&[3, 3], i + 1))).collect();
    Model::from_weights(ROUTED, json!({}), weights, &LoadOptions { opaque, ..LoadOptions::default() })
}

/// Doubles its first input and negates its second, counting its calls.
fn counting(calls: &Arc<AtomicUsize>) -> Opaque {
    let calls = calls.clone();
    Opaque::new(move |call, x| {
        calls.fetch_add(1, Ordering::SeqCst);
        assert_eq!((call.outputs, call.lengths.len(), x.len()), (2, 2, 2));
        Ok(vec![tensor::add(&x[0], &x[0])?, tensor::neg(&x[1])?])
    })
}

#[test]
fn a_function_is_a_module_like_any_other() {
    let calls = Arc::new(AtomicUsize::new(0));
    let model = routed(vec![("router".to_owned(), counting(&calls))]).unwrap();
    let x = array(&[2, 3], 7);
    let trace = model.trace(&x).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nothing was asked for yet");
    let first = trace.get("layers.0.router.output").unwrap().to_vec::<f32>().unwrap();
    assert_eq!(first, x.to_vec::<f32>().unwrap().iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the second layer was not needed");
    let second = trace.get("layers.0.router.output.1").unwrap().to_vec::<f32>().unwrap();
    let into = trace.get("layers.0.router.input.1").unwrap().to_vec::<f32>().unwrap();
    assert_eq!(second, into.iter().map(|v| -v).collect::<Vec<_>>());
    trace.output().unwrap().eval().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);

    let changed = model.trace(&x).unwrap();
    changed.set("layers.0.router.output.1", &Array::from_slice(&[0f32], &[1]).unwrap()).unwrap();
    let out = changed.get("layers.0.output").unwrap().to_vec::<f32>().unwrap();
    assert_eq!(out, first, "without the second value the layer is twice its input");
    let input = model.trace(&x).unwrap();
    input.set("layers.0.router.input", &Array::from_slice(&[1f32], &[1]).unwrap()).unwrap();
    assert_eq!(input.get("layers.0.router.output").unwrap().to_vec::<f32>().unwrap(), vec![2.0; 6]);
    let all = model.trace_with(&x, &TraceOptions::default().with("layers.*.router", Intervention::zero_out())).unwrap();
    all.output().unwrap().eval().unwrap();
    assert_eq!(all.receipts().unwrap().len(), 2);
}

#[test]
fn functions_are_found_by_path_pattern_and_name() {
    let (a, b) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let both = vec![("router".to_owned(), counting(&a)), ("layers.1.router".to_owned(), counting(&b))];
    let model = routed(both).unwrap();
    model.forward(&array(&[2, 3], 7)).unwrap();
    assert_eq!((a.load(Ordering::SeqCst), b.load(Ordering::SeqCst)), (1, 1));
    routed(vec![("layers.*.router".to_owned(), counting(&a))]).unwrap();
    fails(routed(Vec::new()), ErrorKind::NotFound, &["'layers.0.router'", "has no function", "'router'"]);
    let near = vec![("router".to_owned(), counting(&a)), ("layers.7.router".to_owned(), counting(&b))];
    fails(routed(near), ErrorKind::NotFound, &["'layers.7.router'", "did you mean 'layers.0.router'"]);
    let unwanted = LoadOptions { opaque: vec![("router".to_owned(), counting(&a))], ..LoadOptions::default() };
    fails(mlp_of(weights(), &unwanted), ErrorKind::NotFound, &["no opaque module"]);
}

#[test]
fn what_a_function_does_wrong_is_said_and_the_model_stays_usable() {
    let bad = Arc::new(AtomicUsize::new(0));
    let how = bad.clone();
    let function = Opaque::new(move |_, x| match how.load(Ordering::SeqCst) {
        0 => Ok(vec![x[0].clone()]),
        1 => Err(Error::new(ErrorKind::Callback, "it is broken")),
        2 => Err(Error::new(ErrorKind::Shape, "it does not fit")),
        _ => Ok(vec![x[0].clone(), x[1].clone()]),
    });
    let model = routed(vec![("router".to_owned(), function)]).unwrap();
    let x = array(&[2, 3], 7);
    let trace = model.trace(&x).unwrap();
    fails(trace.output(), ErrorKind::Callback, &["gave 1 values, the description wants 2"]);
    bad.store(1, Ordering::SeqCst);
    fails(trace.output(), ErrorKind::Callback, &["it is broken"]);
    bad.store(2, Ordering::SeqCst);
    fails(model.forward(&x), ErrorKind::Shape, &["layers.0.router", "it does not fit"]);
    bad.store(3, Ordering::SeqCst);
    assert_eq!(trace.output().unwrap().dims(), [2, 3]);
}

#[test]
fn a_function_must_not_run_the_model_that_called_it() {
    let slot: Arc<std::sync::Mutex<Option<Model>>> = Arc::default();
    let own = slot.clone();
    let function = Opaque::new(move |_, x| {
        let model = own.lock().unwrap().clone().unwrap();
        model.forward(&x[0]).map(|y| vec![y.clone(), y])
    });
    let model = routed(vec![("router".to_owned(), function)]).unwrap();
    *slot.lock().unwrap() = Some(model.clone());
    fails(model.forward(&array(&[2, 3], 7)), ErrorKind::Busy, &["layers.0.router", "must not run the model"]);
    *slot.lock().unwrap() = None;
}
