//! What the Python mlxterp writes: NAME.json with `num_layers` and `hidden_dim`, and NAME.npz, a zip of `translators_I_weight.npy`
//! and `translators_I_bias.npy`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use npyz::{DType, NpyFile, Order, TypeChar};
use serde_json::Value;
use zip::ZipArchive;

use super::TunedLens;
use super::file::of_pairs;
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail, err};

/// More layers than any model has.
const MOST_LAYERS: u64 = 10_000;

pub(super) fn read(path: &Path) -> Result<TunedLens> {
    let about = path.with_extension("json");
    let text = std::fs::read_to_string(&about).map_err(|e| err!(NotFound, "{}: {e}", about.display()))?;
    let about: Value = serde_json::from_str(&text).map_err(|e| err!(Corrupt, "{}: {e}", about.display()))?;
    let number = |key: &str| {
        let found = about.get(key).and_then(Value::as_u64).filter(|n| *n > 0 && *n <= 1 << 20);
        found.ok_or_else(|| err!(Corrupt, "its .json has no number '{key}': this is not a tuned lens"))
    };
    let (layers, width) = (number("num_layers")?, number("hidden_dim")? as usize);
    if layers > MOST_LAYERS {
        bail!(Corrupt, "its .json says {layers} layers");
    }
    let path = path.with_extension("npz");
    let file = File::open(&path).map_err(|e| err!(NotFound, "{}: {e}", path.display()))?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| err!(Corrupt, "{}: {e}", path.display()))?;
    let mut pairs = Vec::new();
    for i in 0..layers {
        let weight = member(&mut zip, &format!("translators_{i}_weight"), &[width, width])?;
        pairs.push((weight, member(&mut zip, &format!("translators_{i}_bias"), &[width])?));
    }
    of_pairs(pairs, None)
}

/// One array, of the shape that the .json says, so that nothing larger is unpacked.
fn member(zip: &mut ZipArchive<BufReader<File>>, name: &str, shape: &[usize]) -> Result<Array> {
    let file = zip.by_name(&format!("{name}.npy")).map_err(|e| err!(Corrupt, "'{name}': {e}"))?;
    let broken = |e: std::io::Error| err!(Corrupt, "'{name}': {e}");
    let most = shape.iter().product::<usize>() as u64 * 8 + 65_536;
    let npy = NpyFile::new(file.take(most)).map_err(broken)?;
    let found: Vec<usize> = npy.shape().iter().map(|n| *n as usize).collect();
    if found != shape {
        bail!(Corrupt, "'{name}' has shape {found:?}, its .json says {shape:?}");
    }
    // Column by column is row by row of the transpose.
    let columns = npy.order() == Order::Fortran;
    let double = match npy.dtype() {
        DType::Plain(t) if t.type_char() == TypeChar::Float && t.size_field() == 4 => false,
        DType::Plain(t) if t.type_char() == TypeChar::Float && t.size_field() == 8 => true,
        other => bail!(Unsupported, "'{name}' has dtype {}: float32 is read", other.descr()),
    };
    let values: Vec<f32> = if double {
        npy.into_vec::<f64>().map_err(broken)?.into_iter().map(|v| v as f32).collect()
    } else {
        npy.into_vec().map_err(broken)?
    };
    let array = Array::from_slice(&values, shape)?;
    if columns && shape.len() == 2 { tensor::swap_axes(&array, 0, 1) } else { Ok(array) }
}
