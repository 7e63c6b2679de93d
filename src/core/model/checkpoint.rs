//! A checkpoint's tensors, whatever file they lie in, brought into MLX one by one.
//!
//! Each is read from the memory map straight into its final buffer and its pages are given back at once, so that peak
//! memory stays close to what the backend ends up holding.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::expression::evaluate;
use super::load::{LoadProgress, OnProgress, optional};
use crate::core::arch::tape::{Program, Weights};
use crate::core::arch::{TensorInfo, WeightExpr};
use crate::core::tensor::{self, Array, Dtype, Quantization};
use crate::core::text::Tokenizer;
use crate::core::weights::ggml::GgmlType;
use crate::core::weights::gguf_model::{GgufModel, PlacedTensor};
use crate::core::weights::{Checkpoint, RawDtype, RawTensor, dequantise, repack};
use crate::error::{Result, bail, err};

/// One tensor of the checkpoint under the name it has before the weight rules.
enum Piece {
    /// As it lies in a safetensors file.
    Plain(RawTensor),
    /// An array that is in memory already.
    Given(Array),
    /// A GGUF tensor to be unpacked.
    Ggml(PlacedTensor),
    /// One of the three tensors into which MLX packs a GGUF tensor: weight, scales or biases.
    Part(Rc<Packing>, usize),
}

/// A GGUF tensor that is packed in MLX's form once, when the first of its parts is asked for.
struct Packing {
    placed: PlacedTensor,
    /// The parts that nobody has taken yet.
    parts: RefCell<[Option<Array>; 3]>,
}

/// All of them.
pub(super) struct Pieces {
    by_name: BTreeMap<String, Piece>,
    /// How GGUF tensors are packed once in MLX's form, by module path.
    packed: BTreeMap<String, Quantization>,
    /// The half-precision dtype that suits a GGUF model.
    half: Dtype,
}

/// What is to be loaded, and how.
pub(super) struct Order<'a> {
    pub program: &'a Program,
    /// How each tensor comes from the checkpoint's.
    pub plan: &'a BTreeMap<String, WeightExpr>,
    /// The shape that makes.
    pub shapes: &'a BTreeMap<String, Vec<usize>>,
    pub config: &'a Value,
    /// The dtype of floats.
    pub dtype: Dtype,
    /// Whether floats keep the dtype they have.
    pub as_given: bool,
    /// Whether packed weights stay packed.
    pub keep_packed: bool,
}

/// What a program's tensors became.
pub(super) struct Loaded {
    pub tensors: Vec<Option<Array>>,
    pub quantization: Vec<Option<Quantization>>,
}

impl Pieces {
    pub fn of_directory(dir: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open_dir(dir)?;
        let by_name = checkpoint.tensors().iter().map(|(n, t)| (n.clone(), Piece::Plain(t.clone())));
        Ok(Self { by_name: by_name.collect(), packed: BTreeMap::new(), half: Dtype::Float16 })
    }

    /// Arrays in memory under the names of a checkpoint.
    pub fn of_arrays(arrays: BTreeMap<String, Array>) -> Self {
        let by_name = arrays.into_iter().map(|(name, array)| (name, Piece::Given(array)));
        Self { by_name: by_name.collect(), packed: BTreeMap::new(), half: Dtype::Float16 }
    }

    /// Safetensors files, or directories of them, together.
    pub fn of_files<P: AsRef<Path>>(files: &[P]) -> Result<Self> {
        let mut all = Self { by_name: BTreeMap::new(), packed: BTreeMap::new(), half: Dtype::Float16 };
        for path in files.iter().map(AsRef::as_ref) {
            let checkpoint = match path.is_dir() {
                true => Checkpoint::open_dir(path)?,
                false => Checkpoint::open_safetensors(path)?,
            };
            for (name, tensor) in checkpoint.tensors() {
                if all.by_name.insert(name.clone(), Piece::Plain(tensor.clone())).is_some() {
                    bail!(Corrupt, "'{name}' is in '{}' and in another of the files", path.display());
                }
            }
        }
        Ok(all)
    }

    /// Whether they are arrays in memory rather than files.
    pub fn are_arrays(&self) -> bool {
        self.by_name.values().any(|p| matches!(p, Piece::Given(_)))
    }

    /// Tensors, config and tokenizer of a GGUF file. `packed` keeps what MLX can hold packed.
    pub fn of_gguf(path: &Path, packed: bool) -> Result<(Self, Value, Option<Tokenizer>)> {
        let checkpoint = Checkpoint::open_gguf(path)?;
        let model = GgufModel::read(&checkpoint)?;
        let half = if model.wide { Dtype::Bfloat16 } else { Dtype::Float16 };
        let mut pieces = Self { by_name: BTreeMap::new(), packed: BTreeMap::new(), half };
        for (name, tensor) in model.tensors {
            let kind = ggml_type(&tensor.raw);
            let module = name.strip_suffix(".weight").map(str::to_owned);
            match (kind.and_then(repack::mlx_bits), module) {
                (Some(bits), Some(module)) if packed && tensor.raw.shape().len() == 2 => {
                    let shared = Rc::new(Packing { placed: tensor, parts: RefCell::default() });
                    for (i, part) in ["weight", "scales", "biases"].iter().enumerate() {
                        pieces.by_name.insert(format!("{module}.{part}"), Piece::Part(shared.clone(), i));
                    }
                    let q = Quantization { group_size: 32, bits, mode: "affine".to_owned() };
                    pieces.packed.insert(module, q);
                }
                _ => {
                    pieces.by_name.insert(name, Piece::Ggml(tensor));
                }
            }
        }
        let metadata = checkpoint.metadata().ok_or_else(|| err!(Corrupt, "{}: no metadata", path.display()))?;
        let tokenizer = optional(Tokenizer::from_gguf(metadata)).map_err(|e| e.context(path.display()))?;
        Ok((pieces, model.config, tokenizer))
    }

    /// Shapes and dtypes by name, for the weight rules.
    pub fn infos(&self) -> BTreeMap<String, TensorInfo> {
        self.by_name.iter().map(|(n, p)| (n.clone(), TensorInfo { shape: p.shape(), dtype: p.dtype_name() })).collect()
    }

    /// The dtype of the checkpoint's unpacked floats.
    pub fn own_dtype(&self) -> Dtype {
        let floats = self.by_name.values().filter_map(|p| match p {
            Piece::Plain(t) => float_dtype(t.dtype()),
            Piece::Given(a) => Some(a.dtype()).filter(|d| d.is_float()),
            _ => Some(self.half),
        });
        floats.into_iter().find(|d| *d != Dtype::Float32).unwrap_or(Dtype::Float32)
    }

    /// Loads what the program uses.
    pub fn load(&self, order: &Order<'_>, progress: &mut Option<OnProgress<'_>>) -> Result<Loaded> {
        let Order { program, plan, shapes, config, dtype, as_given, keep_packed } = *order;
        let asked = (!as_given).then_some(dtype);
        let n = program.tensors.len();
        let mut loaded = Loaded { tensors: vec![None; n], quantization: vec![None; n] };
        let total: u64 = self.by_name.values().map(|p| p.bytes() as u64).sum();
        let mut done = 0;
        let modules = quantised_modules(program);
        let mut later = vec![false; n];
        for w in modules.values() {
            for id in [w.scales, w.biases].into_iter().flatten() {
                later[id as usize] = true;
            }
        }
        // The largest first: the moment in which source and copy overlap then comes while little is held.
        let mut sequence: Vec<usize> = (0..n).filter(|id| !later[*id]).collect();
        let planned = |id: usize| {
            let name = &program.tensors[id];
            plan.get(name).ok_or_else(|| err!(NotFound, "the checkpoint has no tensor '{name}'"))
        };
        let size = |id: usize| shapes.get(&program.tensors[id]).map_or(0, |s| s.iter().product::<usize>());
        sequence.sort_by_key(|id| std::cmp::Reverse(size(*id)));
        for id in sequence {
            match modules.get(&(id as u32)) {
                None => loaded.tensors[id] = Some(self.materialise(planned(id)?, asked)?),
                Some(w) => {
                    let q = self.quantization_of(w, config, program, shapes)?;
                    let part = |t: u32| self.materialise(planned(t as usize)?, None);
                    let weight = part(w.weight)?;
                    let scales = part(w.scales.ok_or_else(|| err!(Corrupt, "{} has no scales", w.path))?)?;
                    let biases = w.biases.map(part).transpose()?;
                    // MLX works in the dtype of the scales; those of other modes are exponents, not numbers.
                    let widened = |a: Array| {
                        if q.mode == "affine" && !as_given { evaluated(tensor::cast(&a, dtype)?) } else { Ok(a) }
                    };
                    let (scales, biases) = (widened(scales)?, biases.map(widened).transpose()?);
                    if keep_packed {
                        loaded.tensors[id] = Some(weight);
                        loaded.tensors[w.scales.unwrap_or(0) as usize] = Some(scales);
                        if let (Some(id), Some(b)) = (w.biases, biases) {
                            loaded.tensors[id as usize] = Some(b);
                        }
                        loaded.quantization[id] = Some(q);
                    } else {
                        let dense = tensor::dequantize(&weight, &scales, biases.as_ref(), &q, dtype);
                        loaded.tensors[id] = Some(evaluated(dense.map_err(|e| e.context(&w.path))?)?);
                    }
                }
            }
            done += planned(id)?
                .sources()
                .iter()
                .filter_map(|s| self.by_name.get(*s))
                .map(|p| p.bytes() as u64)
                .sum::<u64>();
            if let Some(tell) = progress
                && !tell(LoadProgress { stage: "load", done: done.min(total), total })
            {
                bail!(Callback, "loading was cancelled");
            }
        }
        Ok(loaded)
    }

    /// The value of a weight expression, evaluated. Floats come out in `dtype` when one is given.
    fn materialise(&self, expr: &WeightExpr, dtype: Option<Dtype>) -> Result<Array> {
        if let WeightExpr::Raw(name) = expr {
            let piece =
                self.by_name.get(name).ok_or_else(|| err!(NotFound, "the checkpoint has no tensor '{name}'"))?;
            return piece.read(name, dtype);
        }
        if let WeightExpr::Stack(parts) = expr
            && let Some(stacked) = self.stacked(parts, dtype)?
        {
            return Ok(stacked);
        }
        let lazy = evaluate(expr, &mut |name| self.materialise(&WeightExpr::Raw(name.to_owned()), None))?;
        let cast = match dtype {
            Some(d) if lazy.dtype().is_float() => tensor::cast(&lazy, d)?,
            _ => lazy,
        };
        evaluated(tensor::contiguous(&cast)?)
    }

    /// Tensors that lie in the file one by one (experts), each written to its place in one buffer, so that no second copy
    /// is ever held. None when some of them need more than that.
    fn stacked(&self, parts: &[WeightExpr], dtype: Option<Dtype>) -> Result<Option<Array>> {
        let mut raws = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                WeightExpr::Raw(name) => match self.by_name.get(name) {
                    Some(Piece::Plain(raw)) => raws.push((raw, own_dtype(raw, name)?)),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        let Some((first, own)) = raws.first().copied() else { return Ok(None) };
        let wanted = dtype.filter(|_| own.is_float()).unwrap_or(own);
        let alike = raws.iter().all(|(raw, o)| *o == own && raw.shape() == first.shape());
        if !alike || !(wanted == own || (wanted == Dtype::Float32 && own.size() == 2)) {
            return Ok(None);
        }
        let shape: Vec<usize> = std::iter::once(raws.len()).chain(first.shape().iter().copied()).collect();
        let array = Array::filled(&shape, wanted, |out| {
            let each = out.len() / raws.len();
            for ((raw, _), out) in raws.iter().zip(out.chunks_exact_mut(each.max(1))) {
                write_plain(raw.bytes(), own, wanted, out);
                raw.release_pages();
            }
        })?;
        Ok(Some(array))
    }

    /// How a packed weight is packed: the config's word for this path, its general word, and what the shapes say.
    fn quantization_of(
        &self,
        w: &Weights,
        config: &Value,
        program: &Program,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Result<Quantization> {
        if let Some(q) = self.packed.get(&w.path) {
            return Ok(q.clone());
        }
        let table = config.get("quantization").or_else(|| config.get("quantization_config")).unwrap_or(&Value::Null);
        let own = table.get(&w.path).filter(|v| v.is_object());
        // A module's own entry says everything: it does not inherit the general mode.
        let word = |key: &str| match own {
            Some(own) => own.get(key).or_else(|| table.get(key).filter(|_| key != "mode")),
            None => table.get(key),
        };
        let number = |key: &str| word(key).and_then(Value::as_u64).map(|n| n as usize);
        let method = table.get("quant_method").and_then(Value::as_str);
        let (bits, group_size, mode) = match (number("bits"), number("group_size"), method) {
            (Some(bits), Some(group), _) => (bits, group, word("mode").and_then(Value::as_str).unwrap_or("affine")),
            (_, _, Some("mxfp4")) => (4, 32, "mxfp4"),
            (_, _, Some("mxfp8")) => (8, 32, "mxfp8"),
            _ => bail!(
                Config,
                "{} has scales, so its weight is packed, but config.json does not say how: add \"quantization\": {{\"group_size\": …, \"bits\": …}}",
                w.path
            ),
        };
        let mode = mode.to_owned();
        let shape = |id: u32| shapes.get(&program.tensors[id as usize]).cloned().unwrap_or_default();
        let (packed, scales) = (shape(w.weight), w.scales.map(shape).unwrap_or_default());
        let agree = match (packed.last(), scales.last()) {
            (Some(p), Some(s)) => (1..=8).contains(&bits) && p * 32 == s * group_size * bits,
            _ => false,
        };
        if !agree {
            bail!(
                Corrupt,
                "{}: a weight of shape {packed:?} with scales {scales:?} is not {bits}-bit in groups of {group_size}, as config.json says",
                w.path
            );
        }
        Ok(Quantization { group_size, bits, mode })
    }
}

/// Packed modules by their weight's number.
fn quantised_modules(program: &Program) -> BTreeMap<u32, &Weights> {
    let weights = program.instrs.iter().filter_map(|i| i.op.weights());
    weights.filter(|w| w.scales.is_some()).map(|w| (w.weight, w)).collect()
}

fn evaluated(a: Array) -> Result<Array> {
    a.eval()?;
    Ok(a)
}

fn ggml_type(raw: &RawTensor) -> Option<GgmlType> {
    match raw.dtype() {
        RawDtype::Ggml(kind) => Some(kind),
        _ => None,
    }
}

fn float_dtype(raw: RawDtype) -> Option<Dtype> {
    match raw {
        RawDtype::F16 => Some(Dtype::Float16),
        RawDtype::BF16 => Some(Dtype::Bfloat16),
        RawDtype::F32 | RawDtype::F64 => Some(Dtype::Float32),
        _ => None,
    }
}

impl Piece {
    /// The tensor in its file, if it is in one.
    fn raw(&self) -> Option<&RawTensor> {
        match self {
            Piece::Plain(raw) => Some(raw),
            Piece::Given(_) => None,
            Piece::Ggml(placed) => Some(&placed.raw),
            Piece::Part(packing, _) => Some(&packing.placed.raw),
        }
    }

    /// Bytes it takes in the file; the parts of one tensor count once.
    fn bytes(&self) -> usize {
        match self {
            Piece::Part(_, part) if *part > 0 => 0,
            Piece::Given(array) => array.byte_size(),
            _ => self.raw().map_or(0, |raw| raw.bytes().len()),
        }
    }

    fn shape(&self) -> Vec<usize> {
        if let Piece::Given(array) = self {
            return array.dims();
        }
        let mut shape = self.raw().map_or_else(Vec::new, |raw| raw.shape().to_vec());
        if let (Piece::Part(packing, part), Some(last)) = (self, shape.last_mut()) {
            let bits = ggml_type(&packing.placed.raw).and_then(repack::mlx_bits).unwrap_or(4);
            *last = if *part == 0 { *last * bits / 32 } else { *last / 32 };
        }
        shape
    }

    fn dtype_name(&self) -> String {
        match self {
            Piece::Part(_, 0) => "U32".to_owned(),
            Piece::Part(..) => "F16".to_owned(),
            Piece::Given(array) => array.dtype().name().to_owned(),
            _ => self.raw().map_or_else(String::new, |raw| raw.dtype().to_string()),
        }
    }

    /// Brings it into an MLX buffer; floats in `dtype` when one is given.
    fn read(&self, name: &str, dtype: Option<Dtype>) -> Result<Array> {
        let array = match self {
            Piece::Plain(raw) => read_plain(raw, name, dtype)?,
            Piece::Given(array) => match dtype.filter(|_| array.dtype().is_float()) {
                Some(dtype) if dtype != array.dtype() => evaluated(tensor::cast(array, dtype)?)?,
                _ => evaluated(array.clone())?,
            },
            Piece::Ggml(placed) => read_ggml(placed, dtype.unwrap_or(Dtype::Float32))?,
            Piece::Part(packing, part) => packing.take(*part)?,
        };
        if let Some(raw) = self.raw() {
            raw.release_pages();
        }
        Ok(array)
    }
}

fn own_dtype(raw: &RawTensor, name: &str) -> Result<Dtype> {
    let dtype = raw.dtype();
    dtype.held().ok_or_else(|| err!(Unsupported, "tensor '{name}' has dtype {dtype}, which the backend cannot hold"))
}

/// Writes a tensor's bytes, floats in `wanted`; false when that needs the backend.
fn write_plain(bytes: &[u8], own: Dtype, wanted: Dtype, out: &mut [u8]) -> bool {
    if wanted == own {
        out.copy_from_slice(bytes);
        return true;
    }
    if wanted != Dtype::Float32 || own.size() != 2 {
        return false;
    }
    let widen: fn(u16) -> f32 = match own {
        Dtype::Bfloat16 => |bits| half::bf16::from_bits(bits).to_f32(),
        _ => |bits| half::f16::from_bits(bits).to_f32(),
    };
    for (to, from) in out.chunks_exact_mut(4).zip(bytes.chunks_exact(2)) {
        to.copy_from_slice(&widen(u16::from_le_bytes([from[0], from[1]])).to_le_bytes());
    }
    true
}

fn read_plain(raw: &RawTensor, name: &str, dtype: Option<Dtype>) -> Result<Array> {
    let own = own_dtype(raw, name)?;
    let wanted = dtype.filter(|_| own.is_float()).unwrap_or(own);
    let bytes = raw.bytes();
    if wanted == own || (wanted == Dtype::Float32 && own.size() == 2) {
        return Array::filled(raw.shape(), wanted, |out| {
            write_plain(bytes, own, wanted, out);
        });
    }
    let array = Array::from_bytes(bytes, raw.shape(), own)?;
    evaluated(tensor::cast(&array, wanted)?)
}

fn read_ggml(placed: &PlacedTensor, dtype: Dtype) -> Result<Array> {
    let raw = &placed.raw;
    let kind = ggml_type(raw).ok_or_else(|| err!(Corrupt, "{} is no GGUF tensor", placed.source))?;
    let mut problem = None;
    let array = Array::filled(raw.shape(), Dtype::Float32, |out| {
        problem = unpack(kind, placed, out).err();
    })?;
    if let Some(e) = problem {
        return Err(e.context(&placed.source));
    }
    evaluated(tensor::cast(&array, dtype)?)
}

/// Unpacks through a small buffer, so that float32 numbers never pile up beside their array.
fn unpack(kind: GgmlType, placed: &PlacedTensor, out: &mut [u8]) -> Result<()> {
    let bytes = placed.bytes();
    let mut buffer = vec![0f32; kind.block_len() * 1024];
    let chunk = kind.block_bytes() * 1024;
    for (from, to) in bytes.chunks(chunk).zip(out.chunks_mut(buffer.len() * 4)) {
        let values = &mut buffer[..to.len() / 4];
        dequantise::dequantise(kind, from, values)?;
        for (to, v) in to.chunks_exact_mut(4).zip(values) {
            to.copy_from_slice(&(*v + placed.shift).to_le_bytes());
        }
    }
    Ok(())
}

impl Packing {
    /// Part 0 is the weight, 1 the scales, 2 the biases.
    fn take(&self, part: usize) -> Result<Array> {
        let mut parts = self.parts.borrow_mut();
        if parts[part].is_none() {
            *parts = self.pack()?.map(Some);
        }
        parts[part].take().ok_or_else(|| err!(Corrupt, "{} has no part {part}", self.placed.source))
    }

    fn pack(&self) -> Result<[Array; 3]> {
        let raw = &self.placed.raw;
        let kind = ggml_type(raw).ok_or_else(|| err!(Corrupt, "{} is no GGUF tensor", self.placed.source))?;
        let (rows, columns) = (raw.shape()[0], raw.shape()[1]);
        let packed = repack::to_mlx(kind, &self.placed.bytes(), rows, columns)?;
        let halves = |bits: &[u16]| {
            let bits: Vec<half::f16> = bits.iter().map(|b| half::f16::from_bits(*b)).collect();
            Array::from_slice(&bits, &[rows, bits.len() / rows.max(1)])
        };
        let weight = Array::from_slice(&packed.weight, &[rows, packed.weight.len() / rows.max(1)])?;
        Ok([weight, halves(&packed.scales)?, halves(&packed.biases)?])
    }
}
