//! Checkpoints that hold their numbers in other forms compute what the same numbers compute when they lie there plain.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self as t, Array, Dtype, Quantization};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Stored, TensorView};
use serde_json::{Value, json};
use support::entry::{Entry, Stored as Form};
use support::values;

type Tensors = BTreeMap<String, (Stored, Vec<usize>, Vec<u8>)>;

/// The tiny DeepSeek V3 of the tests, as transformers writes it.
fn plain() -> (Entry, Value, Tensors) {
    let entry = Entry::read("deepseek_v3");
    let folder = tempfile::tempdir().unwrap();
    entry.write(Form::Float32, folder.path());
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(n, v)| (n, (v.dtype(), v.shape().to_vec(), v.data().to_vec())));
    let config = entry.about["config"].clone();
    (entry, config, tensors.collect())
}

fn logits(entry: &Entry, config: &Value, tensors: &Tensors) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let model = load(folder.path(), config, tensors).unwrap();
    values(&model.forward(entry.ids()).unwrap())
}

fn load(folder: &Path, config: &Value, tensors: &Tensors) -> mlxterp::Result<Model> {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(n, (d, s, b))| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let options = LoadOptions { dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    Model::load_with(folder.to_str().unwrap(), &options, None)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn stored(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Matrices of linears, which is what gets stored in fewer bits.
fn linears(tensors: &Tensors) -> Vec<String> {
    let linear = |n: &&String| n.ends_with("_proj.weight");
    tensors.keys().filter(linear).cloned().collect()
}

fn same(got: &[f32], want: &[f32], bound: f32) {
    let top = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
    assert!(got.len() == want.len() && off <= bound, "off by {off:.1e}");
}

/// The numbers that a byte of E4M3 can be, from zero up.
fn steps() -> Vec<f32> {
    let of = |code: i32| {
        let (exponent, mantissa) = (code / 8, (code % 8) as f32);
        if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) }
    };
    (0..127).map(of).collect()
}

#[test]
fn eight_bit_floats_in_blocks() {
    let (entry, mut config, mut dense) = plain();
    let (mut small, steps, block) = (dense.clone(), steps(), 20);
    for name in linears(&dense) {
        let (_, shape, bytes) = dense[&name].clone();
        let (rows, columns) = (shape[0], shape[1]);
        let (across, mut w) = (columns.div_ceil(block), floats(&bytes));
        let mut codes = vec![0u8; w.len()];
        let mut scales = vec![0f32; rows.div_ceil(block) * across];
        for (i, s) in scales.iter_mut().enumerate() {
            *s = 0.01 + 0.003 * (i % 7) as f32;
        }
        for r in 0..rows {
            for c in 0..columns {
                let (i, scale) = (r * columns + c, scales[r / block * across + c / block]);
                let wanted = w[i].abs() / scale;
                let code = steps.partition_point(|v| *v < wanted).min(steps.len() - 1);
                codes[i] = code as u8 | if w[i] < 0.0 { 0x80 } else { 0 };
                w[i] = steps[code] * scale * w[i].signum();
            }
        }
        dense.insert(name.clone(), (Stored::F32, shape.clone(), stored(&w)));
        let scale_shape = vec![rows.div_ceil(block), across];
        small.insert(format!("{name}_scale_inv"), (Stored::F32, scale_shape, stored(&scales)));
        small.insert(name, (Stored::F8_E4M3, shape, codes));
    }
    let want = logits(&entry, &config, &dense);
    config["quantization_config"] = json!({"quant_method": "fp8", "weight_block_size": [block, block]});
    same(&logits(&entry, &config, &small), &want, 1e-6);
    // Without its scales a tensor means something else, and a scale left over says so.
    let lone = small.keys().find(|n| n.ends_with("_scale_inv")).unwrap().clone();
    let scale = small.remove(&lone).unwrap();
    small.insert(lone.replace("_scale_inv", "_scale"), scale);
    let folder = tempfile::tempdir().unwrap();
    let message = load(folder.path(), &config, &small).err().unwrap().message().to_owned();
    assert!(message.contains("_scale"), "{message}");
}

#[test]
fn four_bit_integers_of_compressed_tensors() {
    let (entry, mut config, mut dense) = plain();
    let mut small = dense.clone();
    for name in linears(&dense).into_iter().filter(|n| n.contains(".experts.")) {
        let (_, shape, bytes) = dense[&name].clone();
        let (rows, columns) = (shape[0], shape[1]);
        let mut w = floats(&bytes);
        let (mut words, mut scales) = (vec![0u32; w.len() / 8], Vec::new());
        for (g, group) in w.chunks_mut(32).enumerate() {
            let scale = group.iter().fold(0f32, |m, v| m.max(v.abs())) / 7.5;
            scales.push(scale);
            for (i, v) in group.iter_mut().enumerate() {
                let number = (*v / scale).round().clamp(-8.0, 7.0);
                words[g * 4 + i / 8] |= ((number as i32 + 8) as u32) << (4 * (i % 8));
                *v = number * scale;
            }
        }
        let module = name.strip_suffix(".weight").unwrap();
        dense.insert(name.clone(), (Stored::F32, shape.clone(), stored(&w)));
        small.remove(&name);
        let packed = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        small.insert(format!("{module}.weight_packed"), (Stored::I32, vec![rows, columns / 8], packed));
        small.insert(format!("{module}.weight_scale"), (Stored::F32, vec![rows, columns / 32], stored(&scales)));
        let sizes = shape.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect();
        small.insert(format!("{module}.weight_shape"), (Stored::I64, vec![2], sizes));
    }
    let want = logits(&entry, &config, &dense);
    let weights = json!({"num_bits": 4, "group_size": 32, "type": "int", "symmetric": true, "strategy": "group"});
    config["quantization_config"] =
        json!({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}});
    same(&logits(&entry, &config, &small), &want, 1e-5);
}

#[test]
fn a_packed_up_projection_of_latent_attention() {
    let (entry, mut config, mut dense) = plain();
    let mut small = dense.clone();
    let how = Quantization { group_size: 32, bits: 4, mode: "affine".to_owned() };
    for name in linears(&dense).into_iter().filter(|n| n.contains("kv_b_proj")) {
        let (_, shape, bytes) = dense[&name].clone();
        let whole = Array::from_slice(&floats(&bytes), &shape).unwrap();
        let parts = t::quantize(&whole, &how).unwrap();
        let again = t::dequantize(&parts[0], &parts[1], Some(&parts[2]), &how, Dtype::Float32).unwrap();
        dense.insert(name.clone(), (Stored::F32, shape.clone(), stored(&values(&again))));
        let module = name.strip_suffix(".weight").unwrap();
        let words = parts[0].to_vec::<u32>().unwrap().iter().flat_map(|w| w.to_le_bytes()).collect();
        small.insert(name.clone(), (Stored::U32, parts[0].dims(), words));
        for (part, array) in [("scales", &parts[1]), ("biases", &parts[2])] {
            small.insert(format!("{module}.{part}"), (Stored::F32, array.dims(), stored(&values(array))));
        }
    }
    let want = logits(&entry, &config, &dense);
    config["quantization"] = json!({"group_size": 32, "bits": 4});
    same(&logits(&entry, &config, &small), &want, 1e-6);
}
