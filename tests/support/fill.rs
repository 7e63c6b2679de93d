//! Weights from a counter, the same bits as tests/fixtures/architectures/fill.py: nobody stores them.
#![allow(dead_code)]

use serde_json::Value;

/// FNV-1a, 64 bits.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// Number `i` in [-1, 1) of the tensor called `name`: the upper 24 bits of a splitmix64 step.
fn uniform(name: u64, i: u64) -> f32 {
    let mut z = name.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / 8_388_608.0 - 1.0
}

/// A tensor of an entry: what it is called, its shape and what its values are drawn from.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub shape: Vec<usize>,
    mid: f32,
    spread: f32,
    /// As safetensors spells it.
    pub dtype: String,
}

impl Spec {
    /// Reads `"name": [shape, mid, spread]`, a dtype at the end where it is not float32.
    pub fn read(name: &str, spec: &Value) -> Self {
        Spec {
            name: name.to_owned(),
            shape: spec[0].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect(),
            mid: spec[1].as_f64().unwrap() as f32,
            spread: spec[2].as_f64().unwrap() as f32,
            dtype: spec.get(3).and_then(Value::as_str).unwrap_or("F32").to_owned(),
        }
    }

    /// The values, as float32; those of a tensor of whole numbers are rounded down.
    pub fn values(&self) -> Vec<f32> {
        let name = hash(&self.name);
        let values =
            (0..self.shape.iter().product::<usize>() as u64).map(|i| self.mid + self.spread * uniform(name, i));
        if self.dtype == "F32" { values.collect() } else { values.map(f32::floor).collect() }
    }
}

#[test]
fn both_languages_fill_alike() {
    // What fill.py gives for these names.
    let bits =
        |name: &str, spec: Value| Spec::read(name, &spec).values().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let matrix = bits("model.layers.0.self_attn.q_proj.weight", serde_json::json!([[2, 3], 0.0, 1.0]));
    assert_eq!(matrix, [0xbe25_4558, 0xbf5d_b9ea, 0x3f36_92a2, 0xbdd7_a5c0, 0x3f07_4d98, 0x3f51_0258]);
    let norm = bits("model.norm.weight", serde_json::json!([[4], 1.0, 0.4]));
    assert_eq!(norm, [0x3f23_923e, 0x3f35_d357, 0x3f6b_f0f6, 0x3f8e_65ee]);
    let whole = Spec::read("ids", &serde_json::json!([[4], 50.0, 50.0, "I64"])).values();
    assert_eq!(whole, [55.0, 60.0, 56.0, 58.0]);
}
