//! Mixtures of experts: who was chosen, with which weight, what each expert computed, and changing all of it.

mod support;

use mlxterp::ErrorKind;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{Array, Dtype};
use mlxterp::core::trace::TraceOptions;
use support::entry::{Entry, Stored};
use support::*;

/// Two layers, each of four experts of which two work.
fn mixtral() -> (Model, Vec<Vec<u32>>) {
    let entry = Entry::read("mixtral");
    let options = LoadOptions { dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    (entry.load(Stored::Float32, &options).unwrap(), entry.ids())
}

fn numbers(a: &Array) -> Vec<u32> {
    a.to_vec::<u32>().unwrap()
}

fn floats(shape: &[usize], f: impl Fn(usize) -> f32) -> Array {
    Array::from_slice(&(0..shape.iter().product()).map(f).collect::<Vec<_>>(), shape).unwrap()
}

#[test]
fn the_chosen_are_the_routers_best_and_their_weights_its_softmax() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids).unwrap();
    for layer in 0..2 {
        let router = trace.get(&format!("layers.{layer}.mlp.router")).unwrap();
        let chosen = trace.get(&format!("layers.{layer}.mlp.experts.chosen")).unwrap();
        let weights = trace.get(&format!("layers.{layer}.mlp.experts.weights")).unwrap();
        assert_eq!((router.dims(), chosen.dims(), weights.dims()), (vec![2, 12, 4], vec![2, 12, 2], vec![2, 12, 2]));
        let (router, chosen, weights) = (values(&router), numbers(&chosen), values(&weights));
        for t in 0..24 {
            let logits = &router[t * 4..][..4];
            let mut order: Vec<u32> = (0..4).collect();
            order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            assert_eq!(chosen[t * 2..][..2], order[..2]);
            let parts: Vec<f32> = order[..2].iter().map(|e| logits[*e as usize].exp()).collect();
            for k in 0..2 {
                assert!((weights[t * 2 + k] - parts[k] / (parts[0] + parts[1])).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn an_expert_has_a_row_for_each_token_that_chose_it() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids).unwrap();
    let chosen = numbers(&trace.get("layers.1.mlp.experts.chosen").unwrap());
    let weights = values(&trace.get("layers.1.mlp.experts.weights").unwrap());
    let mut sum = vec![0f32; 24 * 32];
    for e in 0..4 {
        let slots: Vec<usize> = (0..48).filter(|s| chosen[*s] == e).collect();
        let rows = trace.get(&format!("layers.1.mlp.experts.{e}.output")).unwrap();
        assert_eq!(rows.dims(), [slots.len(), 32]);
        assert_eq!(trace.get(&format!("layers.1.mlp.experts.{e}")).unwrap().dims(), rows.dims());
        assert_eq!(trace.get(&format!("layers.-1.mlp.experts.{e}.act")).unwrap().dims(), [slots.len(), 64]);
        for (row, slot) in values(&rows).chunks(32).zip(&slots) {
            row.iter().zip(&mut sum[slot / 2 * 32..][..32]).for_each(|(v, s)| *s += v * weights[*slot]);
        }
    }
    assert_close(&sum, &values(&trace.get("layers.1.mlp.output").unwrap()), 1e-5, "the weighted sum of all experts");
    // Under the checkpoint's own name too.
    let own = trace.get("model.layers.1.block_sparse_moe.switch_mlp.2.gate_proj.output").unwrap();
    assert_eq!(own.dims(), [chosen.iter().filter(|c| **c == 2).count(), 64]);
}

#[test]
fn an_expert_that_nobody_chose_was_not_executed() {
    let (model, ids) = mixtral();
    let trace = model.trace(vec![ids[0][0]]).unwrap();
    let chosen = numbers(&trace.get("layers.0.mlp.experts.chosen").unwrap());
    let idle = (0..4).find(|e| !chosen.contains(e)).unwrap();
    let e = trace.get(&format!("layers.0.mlp.experts.{idle}.output")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotExecuted);
    let mut sorted = chosen.clone();
    sorted.sort_unstable();
    assert_eq!(
        e.message(),
        format!(
            "'layers.0.mlp.experts.{idle}.output' was not computed: no token of this run was routed to expert {idle}. \
             Chosen were {}, {}; read 'layers.0.mlp.experts.chosen' to see who went where, or write it to send tokens there",
            sorted[0], sorted[1]
        )
    );
    // A value has nowhere to go; an intervention changes nothing, which a strict trace does not let pass.
    let name = format!("layers.0.mlp.experts.{idle}");
    let e = trace.fork().unwrap().set(&name, &floats(&[32], |_| 1.0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotExecuted);
    let strict = TraceOptions { strict: true, ..TraceOptions::default() };
    let trace = model.trace_with(vec![ids[0][0]], &strict).unwrap();
    trace.intervene(&name, Intervention::zero_out()).unwrap();
    trace.output().unwrap();
    assert_eq!(trace.receipts().unwrap()[0].site, format!("{name}.output"));
    assert_eq!(trace.finish().unwrap_err().kind(), ErrorKind::Strict);
}

#[test]
fn padding_is_nobodys_token() {
    let (model, ids) = mixtral();
    let short = ids[0][..5].to_vec();
    let (together, alone) = (model.trace(vec![short.clone(), ids[1].clone()]).unwrap(), model.trace(short).unwrap());
    for e in 0..4 {
        let name = format!("layers.0.mlp.experts.{e}");
        let rows = together.get(&name).map_or(0, |a| a.dim(0));
        let first = alone.get(&name).map_or(0, |a| a.dim(0));
        let second = model.trace(ids[1].clone()).unwrap().get(&name).map_or(0, |a| a.dim(0));
        assert_eq!(rows, first + second, "expert {e}");
    }
}

#[test]
fn tokens_can_be_sent_elsewhere_and_their_weights_follow() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids.clone()).unwrap();
    let before = values(&model.forward(ids.clone()).unwrap());
    let to = Array::from_slice(&[3u32, 0].repeat(24), &[2, 12, 2]).unwrap();
    trace.set("layers.0.mlp.experts.chosen", &to).unwrap();
    let router = values(&trace.get("layers.0.mlp.router").unwrap());
    let weights = values(&trace.get("layers.0.mlp.experts.weights").unwrap());
    for t in 0..24 {
        let parts = [router[t * 4 + 3].exp(), router[t * 4].exp()];
        assert!((weights[t * 2] - parts[0] / (parts[0] + parts[1])).abs() < 1e-5);
    }
    assert_eq!(trace.get("layers.0.mlp.experts.3").unwrap().dims(), [24, 32]);
    assert_eq!(trace.get("layers.0.mlp.experts.1").unwrap_err().kind(), ErrorKind::NotExecuted);
    assert_ne!(values(&trace.output().unwrap()), before);
    // Choosing what was chosen anyway changes nothing.
    let same = model.trace(ids.clone()).unwrap();
    let chosen = model.trace(ids.clone()).unwrap().get("layers.0.mlp.experts.chosen").unwrap();
    same.set("layers.0.mlp.experts.chosen", &chosen).unwrap();
    assert_eq!(values(&same.output().unwrap()), before);
    // Nobody's result counts.
    let silent = model.trace(ids).unwrap();
    silent.intervene("layers.*.mlp.experts.weights", Intervention::zero_out()).unwrap();
    assert!(values(&silent.get("layers.1.mlp.output").unwrap()).iter().all(|v| *v == 0.0));
}

#[test]
fn an_expert_that_is_not_there_cannot_be_chosen() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids.clone()).unwrap();
    let e = trace.set("layers.1.mlp.experts.chosen", &Array::from_slice(&[4u32], &[1]).unwrap()).unwrap_err();
    assert_eq!(e.message(), "'layers.1.mlp.experts.chosen' cannot be 4: it chooses among 4, 0 to 3");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert_eq!(values(&trace.output().unwrap()), values(&model.forward(ids).unwrap()));
}

#[test]
fn one_experts_work_can_be_changed() {
    let (model, ids) = mixtral();
    let fresh = || model.trace(ids.clone()).unwrap();
    let all = fresh().get("layers.0.mlp.experts.output").unwrap();
    let chosen = numbers(&fresh().get("layers.0.mlp.experts.chosen").unwrap());
    let expected = |f: &dyn Fn(f32, usize) -> f32| {
        let mut out = values(&all);
        let mine = out.chunks_mut(32).zip(&chosen).filter(|(_, e)| **e == 2);
        for (row, (part, _)) in mine.enumerate() {
            part.iter_mut().enumerate().for_each(|(d, v)| *v = f(*v, row * 32 + d));
        }
        let trace = fresh();
        trace.set("layers.0.mlp.experts.output", &Array::from_slice(&out, &[2, 12, 2, 32]).unwrap()).unwrap();
        values(&trace.output().unwrap())
    };
    let name = "layers.0.mlp.experts.2";
    let trace = fresh();
    trace.intervene(name, Intervention::zero_out()).unwrap();
    assert_eq!(values(&trace.output().unwrap()), expected(&|_, _| 0.0));
    assert!(values(&trace.get(name).unwrap()).iter().all(|v| *v == 0.0));
    let rows = fresh().get(name).unwrap().dim(0);
    let value = floats(&[rows, 32], |i| (i as f32 * 0.7).sin());
    let trace = fresh();
    trace.set(name, &value).unwrap();
    assert_eq!(values(&trace.output().unwrap()), expected(&|_, i| (i as f32 * 0.7).sin()));
    assert_eq!(values(&trace.get(name).unwrap()), values(&value));
    // Given beforehand, for every layer at once, it is the same.
    let zero = ("layers.*.mlp.experts.2".to_owned(), Intervention::zero_out());
    let given = TraceOptions { interventions: vec![zero], ..TraceOptions::default() };
    let trace = model.trace_with(ids.clone(), &given).unwrap();
    let by_hand = fresh();
    for layer in 0..2 {
        by_hand.intervene(&format!("layers.{layer}.mlp.experts.2.output"), Intervention::zero_out()).unwrap();
    }
    assert_eq!(values(&trace.output().unwrap()), values(&by_hand.output().unwrap()));
    let e = fresh().set(name, &floats(&[rows + 1, 32], |_| 0.0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.message().starts_with("'layers.0.mlp.experts.2.output'"), "{e}");
}

#[test]
fn what_depends_on_the_routing_is_stale_after_it_was_read() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids).unwrap();
    trace.get("layers.0.mlp.experts.1.act").unwrap();
    let chosen = Array::from_slice(&[0u32, 1], &[2]).unwrap();
    assert_eq!(trace.set("layers.0.mlp.experts.chosen", &chosen).unwrap_err().kind(), ErrorKind::StaleWrite);
    trace.fork().unwrap().set("layers.0.mlp.experts.chosen", &chosen).unwrap();
}

#[test]
fn names_that_are_not_there_say_why() {
    let (model, ids) = mixtral();
    let trace = model.trace(ids).unwrap();
    let message = |name: &str| trace.get(name).unwrap_err().message().to_owned();
    assert_eq!(
        message("layers.0.mlp.experts.4.act"),
        "no site 'layers.0.mlp.experts.4.act': there are 4 experts, 0 to 3"
    );
    assert!(
        message("layers.0.mlp.experts.1.acts").contains("an expert has"),
        "{}",
        message("layers.0.mlp.experts.1.acts")
    );
    // The router's module is called gate; the neuron values of that name are each expert's.
    assert!(message("layers.0.mlp.gate").contains("no value 'gate'"), "{}", message("layers.0.mlp.gate"));
    assert_eq!(trace.get("model.layers.0.block_sparse_moe.gate").unwrap().dims(), [2, 12, 4]);
    let dense = tiny("llama");
    let e = dense.trace(vec![1u32, 2]).unwrap().get("layers.0.mlp.router").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnknownSite);
    assert!(e.message().ends_with("this layer's mlp is no mixture of experts, so it has no 'router'"), "{e}");
}

/// What is stored in the place of all experts' matrices of one kind.
type Pack<'a> = &'a dyn Fn(&str, Array) -> Vec<(String, Array)>;

/// A checkpoint's tensors in mlx-lm's layout: the experts of a kind in one, which `pack` may replace by several.
fn stored(entry: &Entry, folder: &std::path::Path, quantization: serde_json::Value, pack: Pack<'_>) {
    entry.write(Stored::Float32, folder);
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut kept: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut experts: std::collections::BTreeMap<String, Vec<(usize, Array)>> = std::collections::BTreeMap::new();
    for (name, t) in read.iter() {
        let parts: Vec<&str> = name.split('.').collect();
        let Some(at) = parts.iter().position(|p| *p == "experts") else {
            kept.push((name.to_owned(), t.dtype(), t.shape().to_vec(), t.data().to_vec()));
            continue;
        };
        let kind =
            [("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")].into_iter().find(|k| k.0 == parts[at + 2]);
        let module = format!("{}.switch_mlp.{}", parts[..at].join("."), kind.unwrap().1);
        let array = Array::from_bytes(t.data(), t.shape(), Dtype::Float32).unwrap();
        experts.entry(module).or_default().push((parts[at + 1].parse().unwrap(), array));
    }
    for (module, mut of_kind) in experts {
        of_kind.sort_by_key(|(e, _)| *e);
        let whole = mlxterp::core::tensor::stack(of_kind.iter().map(|(_, a)| a), 0).unwrap();
        for (name, a) in pack(&module, whole) {
            a.eval().unwrap();
            let dtype = match a.dtype() {
                Dtype::Uint32 => safetensors::Dtype::U32,
                Dtype::Uint8 => safetensors::Dtype::U8,
                _ => safetensors::Dtype::F32,
            };
            let data = match dtype {
                safetensors::Dtype::U32 => a.to_vec::<u32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
                safetensors::Dtype::U8 => a.to_vec::<u8>().unwrap(),
                _ => a.to_vec::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            kept.push((name, dtype, a.dims(), data));
        }
    }
    let views = kept.iter().map(|(n, d, s, b)| (&**n, safetensors::tensor::TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let mut config = entry.about["config"].clone();
    config["quantization"] = quantization;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn packed_experts_of_every_kind_compute_as_their_unpacked_matrices() {
    use mlxterp::core::tensor::{Quantization, dequantize, quantize};
    let entry = Entry::read("mixtral");
    let load = |folder: &std::path::Path, keep: bool| {
        let options = LoadOptions { dtype: Some(Dtype::Float32), keep_quantised: Some(keep), ..LoadOptions::default() };
        values(&support::load(folder, &options).forward(entry.ids()).unwrap())
    };
    let kinds = [
        (2, 32, "affine"),
        (3, 32, "affine"),
        (4, 32, "affine"),
        (5, 32, "affine"),
        (6, 32, "affine"),
        (8, 32, "affine"),
        (4, 32, "mxfp4"),
        (8, 32, "mxfp8"),
        (4, 16, "nvfp4"),
    ];
    for (n, (bits, group_size, mode)) in kinds.into_iter().enumerate() {
        let how = Quantization { group_size, bits, mode: mode.to_owned() };
        // One matrix of the model is packed in another way, which only its own entry in the config says.
        let (other_bits, other_group, other_mode) = kinds[(n + 1) % kinds.len()];
        let other = Quantization { group_size: other_group, bits: other_bits, mode: other_mode.to_owned() };
        let special = "model.layers.1.block_sparse_moe.switch_mlp.down_proj";
        let q = |module: &str| if module == special { &other } else { &how };
        let mut settings = serde_json::json!({"group_size": group_size, "bits": bits, "mode": mode});
        settings[special] = serde_json::json!({"group_size": other_group, "bits": other_bits, "mode": other_mode});
        let packed = tempfile::tempdir().unwrap();
        stored(&entry, packed.path(), settings, &|module, whole| {
            let parts = quantize(&whole, q(module)).unwrap();
            parts
                .into_iter()
                .zip(["weight", "scales", "biases"])
                .map(|(a, part)| (format!("{module}.{part}"), a))
                .collect()
        });
        let dense = tempfile::tempdir().unwrap();
        stored(&entry, dense.path(), serde_json::Value::Null, &|module, whole| {
            let parts = quantize(&whole, q(module)).unwrap();
            let back = dequantize(&parts[0], &parts[1], parts.get(2), q(module), Dtype::Float32).unwrap();
            vec![(format!("{module}.weight"), back)]
        });
        let expected = load(dense.path(), false);
        for keep in [false, true] {
            let what = format!("{bits}-bit {mode}, kept packed: {keep}");
            assert_close(&load(packed.path(), keep), &expected, 1e-5, &what);
        }
    }
}

#[test]
fn experts_fused_as_transformers_5_holds_them_are_taken_apart() {
    let entry = Entry::read("mixtral");
    let gate = std::cell::RefCell::new(None);
    let folder = tempfile::tempdir().unwrap();
    stored(&entry, folder.path(), serde_json::Value::Null, &|module, whole| {
        let (layer, kind) = module.split_once(".block_sparse_moe.switch_mlp.").unwrap();
        match kind {
            "gate_proj" => {
                *gate.borrow_mut() = Some(whole);
                Vec::new()
            }
            "up_proj" => {
                let both = [gate.borrow_mut().take().unwrap(), whole];
                let fused = mlxterp::core::tensor::concatenate(&both, 1).unwrap();
                vec![(format!("{layer}.mlp.experts.gate_up_proj"), fused)]
            }
            _ => vec![(format!("{layer}.mlp.experts.down_proj"), whole)],
        }
    });
    let options = LoadOptions { dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let (model, ids) = mixtral();
    let fused = support::load(folder.path(), &options).forward(ids.clone()).unwrap();
    assert_eq!(values(&fused), values(&model.forward(ids).unwrap()));
}
