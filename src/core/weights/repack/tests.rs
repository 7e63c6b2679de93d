use std::path::Path;

use super::*;
use crate::core::weights::dequantise::dequantise;
use crate::core::weights::{Checkpoint, RawDtype, safetensors};
use crate::error::ErrorKind;

/// What MLX makes of a packed matrix, in float32.
fn unpack(p: &Packed) -> Vec<f32> {
    let per_word = 32 / p.bits;
    let integer = |i: usize| p.weight[i / per_word] >> (i % per_word * p.bits) & ((1 << p.bits) - 1);
    (0..p.weight.len() * per_word)
        .map(|i| {
            let group = i / p.group_size;
            integer(i) as f32 * f16::from_bits(p.scales[group]).to_f32() + f16::from_bits(p.biases[group]).to_f32()
        })
        .collect()
}

/// Blocks whose bytes run through all values, with scales that are finite.
fn blocks(kind: GgmlType, n: usize) -> Vec<u8> {
    let size = kind.block_bytes();
    let mut bytes: Vec<u8> = (0..n * size).map(|i| (i * 89 + i / 7) as u8).collect();
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        block[..2].copy_from_slice(&f16::from_f32(0.013 * (i as f32 - 5.5)).to_le_bytes());
        if kind == GgmlType::Q4_1 {
            block[2..4].copy_from_slice(&f16::from_f32(0.3 - 0.05 * i as f32).to_le_bytes());
        }
    }
    bytes
}

#[test]
fn the_packed_numbers_are_those_of_the_blocks() {
    for kind in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
        let bytes = blocks(kind, 12);
        let mut expected = vec![0.0; 12 * 32];
        dequantise(kind, &bytes, &mut expected).unwrap();
        let packed = to_mlx(kind, &bytes, 4, 96).unwrap();
        assert_eq!(packed.weight.len(), 4 * 96 * packed.bits / 32);
        assert_eq!(unpack(&packed), expected, "{kind}");
    }
}

#[test]
fn what_cannot_be_packed_is_an_error() {
    assert_eq!(to_mlx(GgmlType::Q6_K, &[0; 210], 1, 256).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(to_mlx(GgmlType::Q4_0, &[0; 18], 1, 64).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(to_mlx(GgmlType::Q4_0, &[0; 18], 1, 33).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(to_mlx(GgmlType::Q4_0, &[0; 18], usize::MAX, 32).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(60000.0).to_le_bytes());
    let e = to_mlx(GgmlType::Q8_0, &block, 1, 32).unwrap_err();
    assert!(e.message().contains("60000"), "{e}");
}

/// Files of other writers, made by make_mlx_packed.py: a GGUF file, and what MLX's own loader makes of it.
#[test]
fn packed_as_mlx_packs() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights");
    let file = Checkpoint::open_gguf(fixtures.join("blocks.gguf")).unwrap();
    let expected = safetensors::open(&fixtures.join("blocks.safetensors")).unwrap();
    let mut packed = 0;
    for (name, tensor) in file.tensors() {
        let RawDtype::Ggml(kind) = tensor.dtype() else { panic!("{name} is no ggml tensor") };
        let Some(bits) = mlx_bits(kind) else {
            assert_eq!(tensor.bytes(), expected[name].bytes(), "{name}");
            assert_eq!(tensor.shape(), expected[name].shape(), "{name}");
            continue;
        };
        let found = to_mlx(kind, tensor.bytes(), tensor.shape()[0], tensor.shape()[1]).unwrap();
        let bytes: Vec<u8> = found.weight.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes, expected[name].bytes(), "{name}");
        assert_eq!(expected[name].shape(), [tensor.shape()[0], tensor.shape()[1] * bits / 32]);
        for (part, halves) in [("scales", &found.scales), ("biases", &found.biases)] {
            let other = &expected[&name.replace("weight", part)];
            let bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
            assert_eq!((other.dtype(), other.bytes()), (RawDtype::F16, bytes.as_slice()), "{part} of {name}");
        }
        packed += 1;
    }
    assert_eq!(packed, 3);
}
