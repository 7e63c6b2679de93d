//! Forms in which checkpoints store numbers beside plain ones: 8-bit floats with a scale for each block, 4-bit integers
//! in 32-bit words. They are found in the tensors, whatever the architecture, before any weight rule.

use std::collections::BTreeMap;

use serde_json::Value;

use super::weights::{TensorInfo, WeightExpr};
use crate::error::{Result, bail};

/// A weight packed in MLX's way, with what unpacks it.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// The packed words.
    pub weight: WeightExpr,
    /// One for each group.
    pub scales: WeightExpr,
    /// One for each group, where the scheme has them.
    pub biases: Option<WeightExpr>,
    /// Bits a value.
    pub bits: usize,
    /// Values a group.
    pub group_size: usize,
}

/// 8-bit floats (E4M3), each block of rows and columns with a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// The bytes.
    pub weight: WeightExpr,
    /// A scale for each block, or one for all (of an expert); none where the numbers are meant as they are.
    pub scale: Option<WeightExpr>,
    /// Rows and columns of a block.
    pub size: [usize; 2],
}

type Plan = BTreeMap<String, WeightExpr>;

/// The plan of a checkpoint as it lies there, with stored forms told apart.
pub(super) fn plain(names: &BTreeMap<String, TensorInfo>, config: &Value) -> Result<Plan> {
    let mut plan: Plan = names.keys().map(|n| (n.clone(), raw(n))).collect();
    for (name, info) in names {
        match &*info.dtype {
            "F8_E4M3" => eight_bits(&mut plan, name, names, config)?,
            "F8_E5M2" => bail!(
                Unsupported,
                "tensor '{name}' is stored in 8-bit floats of the kind E5M2, which is not known here: convert the \
                 checkpoint to bfloat16 first"
            ),
            _ => {}
        }
        if let Some(module) = name.strip_suffix("weight_packed") {
            four_bits(&mut plan, module, names, config)?;
        }
    }
    Ok(plan)
}

fn raw(name: &str) -> WeightExpr {
    WeightExpr::Raw(name.to_owned())
}

/// `w` and `w_scale_inv`: what DeepSeek publishes.
fn eight_bits(plan: &mut Plan, name: &str, names: &BTreeMap<String, TensorInfo>, config: &Value) -> Result<()> {
    let scale_name = format!("{name}_scale_inv");
    let scale = names.get(&scale_name);
    let block = config.get("quantization_config").and_then(|q| q.get("weight_block_size"));
    let size = match block {
        None | Some(Value::Null) => [128, 128],
        Some(given) => match given.as_array().map(|l| l.iter().map(Value::as_u64).collect::<Vec<_>>()).as_deref() {
            Some([Some(r), Some(c)]) if (1..1 << 20).contains(r) && (1..1 << 20).contains(c) => {
                [*r as usize, *c as usize]
            }
            _ => bail!(Config, "quantization_config.weight_block_size must be two numbers, found {given}"),
        },
    };
    if let Some(scale) = scale {
        let (w, s) = (&names[name].shape, &scale.shape);
        let (leading, last) = w.split_at(w.len().saturating_sub(2));
        let blocks: Vec<usize> = last.iter().zip(size).map(|(n, b)| n.div_ceil(b)).collect();
        let by_block = w.len() >= 2 && *s == [leading, &blocks].concat();
        // One for the tensor, or one for each expert.
        let whole = s.iter().product::<usize>() == 1 || (s.len() == w.len() && *s == [leading, &[1, 1]].concat());
        if !by_block && !whole {
            bail!(
                Corrupt,
                "'{scale_name}' of shape {s:?} does not fit '{name}' of shape {w:?} in blocks of {} x {}",
                size[0],
                size[1]
            );
        }
        plan.remove(&scale_name);
    }
    // Scales of activations serve kernels that round those too.
    let module = name.strip_suffix("weight").unwrap_or(name);
    for other in ["activation_scale", "input_scale"] {
        plan.remove(&format!("{module}{other}"));
    }
    let scale = scale.map(|_| raw(&scale_name));
    plan.insert(name.to_owned(), WeightExpr::Blocks(Box::new(Blocks { weight: raw(name), scale, size })));
    Ok(())
}

/// `weight_packed`, `weight_scale`, `weight_shape` of compressed-tensors: integers from -8 to 7 in groups, which is MLX's
/// form with biases of -8 scales.
fn four_bits(plan: &mut Plan, module: &str, names: &BTreeMap<String, TensorInfo>, config: &Value) -> Result<()> {
    let name = |part: &str| format!("{module}weight{part}");
    let groups = config.get("quantization_config").and_then(|q| q.get("config_groups")).and_then(Value::as_object);
    let said = groups.and_then(|g| g.values().find_map(|g| g.get("weights")));
    let is = |key: &str, value: Value| said.is_none_or(|s| s.get(key).is_none_or(|v| *v == value));
    let known = is("num_bits", 4.into())
        && is("type", "int".into())
        && is("symmetric", true.into())
        && is("strategy", "group".into())
        && names.contains_key(&name("_scale"))
        && matches!(&*names[&name("_packed")].dtype, "I32" | "U32")
        && !["_zero_point", "_global_scale", "_g_idx"].iter().any(|p| names.contains_key(&name(p)));
    if !known {
        bail!(
            Unsupported,
            "'{}' is packed in a way that is not known here: of compressed-tensors only symmetric 4-bit integers in \
             groups are; convert the checkpoint to bfloat16 or to MLX's quantisation first",
            name("_packed")
        );
    }
    for part in ["_packed", "_scale", "_shape"] {
        plan.remove(&name(part));
    }
    plan.insert(name(""), WeightExpr::Words(Box::new(raw(&name("_packed")))));
    plan.insert(format!("{module}scales"), raw(&name("_scale")));
    plan.insert(format!("{module}biases"), WeightExpr::Times(-8.0, Box::new(raw(&name("_scale")))));
    Ok(())
}

impl Packed {
    /// A matrix of `columns` values a row; how it is packed is told from the shapes.
    pub(super) fn of_matrix(
        [weight, scales]: [WeightExpr; 2],
        biases: Option<WeightExpr>,
        columns: usize,
        tensors: &BTreeMap<String, TensorInfo>,
    ) -> Result<Self> {
        let last = |w: &WeightExpr| Ok::<_, crate::error::Error>(w.shape(tensors)?.last().copied().unwrap_or(0));
        let (words, groups) = (last(&weight)?, last(&scales)?);
        let fits = groups > 0 && columns.is_multiple_of(groups) && (words * 32).is_multiple_of(columns) && words > 0;
        if !fits {
            bail!(Corrupt, "{}: {words} words with {groups} scales a row do not hold {columns} values", weight.name());
        }
        Ok(Self { bits: words * 32 / columns, group_size: columns / groups, weight, scales, biases })
    }

    /// MLX's name of the scheme: without biases it is one of those whose scales are exponents.
    pub fn mode(&self) -> &'static str {
        match (&self.biases, self.bits, self.group_size) {
            (Some(_), ..) => "affine",
            (None, 4, 16) => "nvfp4",
            (None, 4, _) => "mxfp4",
            (None, ..) => "mxfp8",
        }
    }
}
