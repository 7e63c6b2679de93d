//! A model's tensors, bound to the numbers that its tape uses.

use std::collections::HashMap;

use super::rope::Rotation;
use crate::core::arch::tape::{Op, Program, TensorId, Weights};
use crate::core::tensor::{self, Array, Dtype, Quantization};
use crate::core::trace::Opaque;
use crate::error::{Result, err};

/// Everything an executor multiplies by.
pub struct Parameters {
    tensors: Vec<Option<Array>>,
    transposed: Vec<Option<Array>>,
    quantization: Vec<Option<Quantization>>,
    /// Scales and biases of packed weights.
    packing: Vec<bool>,
    rotations: HashMap<u32, Rotation>,
    /// Functions of opaque modules by instruction.
    opaque: HashMap<u32, Opaque>,
    /// The dtype in which the model computes.
    pub dtype: Dtype,
}

impl Parameters {
    /// Binds the loaded tensors of `program`. `tensors[i]` is `program.tensors[i]`; a packed weight carries its
    /// quantisation, and its scales stay; one unpacked at load leaves its scales out.
    pub fn new(
        program: &Program,
        tensors: Vec<Option<Array>>,
        quantization: Vec<Option<Quantization>>,
        dtype: Dtype,
    ) -> Result<Self> {
        let mut transposed = vec![None; tensors.len()];
        let mut rotations = HashMap::new();
        let mut packing = vec![false; tensors.len()];
        for (i, instr) in program.instrs.iter().enumerate() {
            if let Some(w) = instr.op.weights() {
                for id in [w.scales, w.biases].into_iter().flatten() {
                    packing[id as usize] = true;
                }
            }
            match &instr.op {
                Op::Linear(w) => {
                    let id = w.weight as usize;
                    if let (None, Some(t), None) = (&quantization[id], &tensors[id], &transposed[id]) {
                        let view = tensor::swap_axes(t, -1, -2)?;
                        view.eval()?;
                        transposed[id] = Some(view);
                    }
                }
                Op::Rope(spec) => {
                    let rotation = Rotation::new(spec).map_err(|e| e.context(&instr.path))?;
                    rotations.insert(i as u32, rotation);
                }
                _ => {}
            }
        }
        Ok(Self { tensors, transposed, quantization, packing, rotations, opaque: HashMap::new(), dtype })
    }

    /// With the functions of opaque modules, by instruction.
    pub(crate) fn with_opaque(mut self, opaque: HashMap<u32, Opaque>) -> Self {
        self.opaque = opaque;
        self
    }

    /// Tensors without a tape, for the tests of single operations.
    #[cfg(test)]
    pub(crate) fn of_arrays(tensors: Vec<Option<Array>>) -> Self {
        let n = tensors.len();
        Self::packed_arrays(tensors, vec![None; n])
    }

    /// [`Parameters::of_arrays`], of which some are packed.
    #[cfg(test)]
    pub(crate) fn packed_arrays(tensors: Vec<Option<Array>>, quantization: Vec<Option<Quantization>>) -> Self {
        let n = tensors.len();
        let (transposed, packing) = (vec![None; n], vec![false; n]);
        let (rotations, opaque) = (HashMap::new(), HashMap::new());
        Self { tensors, transposed, quantization, packing, rotations, opaque, dtype: Dtype::Float32 }
    }

    /// A tensor by number.
    pub fn tensor(&self, id: TensorId) -> Result<&Array> {
        self.tensors[id as usize].as_ref().ok_or_else(|| err!(NotFound, "tensor {id} was not loaded"))
    }

    /// Bytes that the tensors hold.
    pub fn byte_size(&self) -> usize {
        self.tensors.iter().flatten().map(Array::byte_size).sum()
    }

    /// Number of parameters: packed weights count their unpacked values, their scales and biases nothing.
    pub fn count(&self) -> usize {
        let all = self.tensors.iter().zip(&self.quantization).enumerate();
        all.filter(|(id, _)| !self.packing[*id])
            .map(|(_, (t, q))| match (t, q) {
                (Some(t), Some(q)) => t.size() * 32 / q.bits,
                (Some(t), None) => t.size(),
                (None, _) => 0,
            })
            .sum()
    }

    /// How a weight is packed in memory, if it is.
    pub fn quantization(&self, id: TensorId) -> Option<&Quantization> {
        self.quantization[id as usize].as_ref()
    }

    pub(crate) fn opaque(&self, instr: u32) -> Result<&Opaque> {
        self.opaque.get(&instr).ok_or_else(|| err!(NotFound, "instruction {instr} has no function"))
    }

    pub(crate) fn rotation(&self, instr: u32) -> &Rotation {
        &self.rotations[&instr]
    }

    /// `x W^T (+ b)`
    pub fn linear(&self, w: &Weights, x: &Array) -> Result<Array> {
        let bias = w.bias.map(|b| self.tensor(b)).transpose()?;
        if let Some(q) = &self.quantization[w.weight as usize] {
            let (packed, scales, biases) = self.packed(w)?;
            let y = tensor::quantized_matmul(x, packed, scales, biases, q)?;
            return bias.map_or(Ok(y.clone()), |b| tensor::add(&y, b));
        }
        let wt = self.transposed[w.weight as usize].as_ref();
        let wt = wt.ok_or_else(|| err!(NotFound, "the weight of {} was not loaded", w.path))?;
        match bias {
            Some(b) => tensor::addmm(b, x, wt),
            None => tensor::matmul(x, wt),
        }
    }

    /// `x W_h^T` for each head h of `[.., heads, length, in]`, or `x W_h` when not `transpose`. One head of x serves all.
    pub fn multilinear(&self, w: &Weights, transpose: bool, x: &Array) -> Result<Array> {
        if let (Some(q), true) = (&self.quantization[w.weight as usize], transpose) {
            let (packed, scales, biases) = self.packed(w)?;
            return tensor::quantized_matmul(x, packed, scales, biases, q);
        }
        let weight = self.dense(w)?;
        tensor::matmul(x, &if transpose { tensor::swap_axes(&weight, -1, -2)? } else { weight })
    }

    /// Rows of the embedding by id. The ids were checked when the run began.
    pub fn embed(&self, w: &Weights, ids: &Array) -> Result<Array> {
        match &self.quantization[w.weight as usize] {
            Some(q) => {
                let (packed, scales, biases) = self.packed(w)?;
                tensor::gather_quantized(ids, packed, scales, biases, q, self.dtype)
            }
            None => tensor::take(self.tensor(w.weight)?, ids, 0),
        }
    }

    /// The weight in full precision, unpacked lazily when it is packed.
    pub fn dense(&self, w: &Weights) -> Result<Array> {
        match &self.quantization[w.weight as usize] {
            Some(q) => {
                let (packed, scales, biases) = self.packed(w)?;
                tensor::dequantize(packed, scales, biases, q, self.dtype)
            }
            None => self.tensor(w.weight).cloned(),
        }
    }

    /// The parts of a packed weight: itself, scales and biases.
    pub(crate) fn packed(&self, w: &Weights) -> Result<(&Array, &Array, Option<&Array>)> {
        let scales = w.scales.ok_or_else(|| err!(NotFound, "{} is packed but has no scales", w.path))?;
        Ok((self.tensor(w.weight)?, self.tensor(scales)?, w.biases.map(|b| self.tensor(b)).transpose()?))
    }
}
