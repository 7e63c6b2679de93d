//! A GGUF file of any bytes: header, metadata, the model's configuration and names, every tensor's numbers.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/error.rs"]
mod error;
mod sources;
#[path = "../../../src/core"]
mod core {
    pub mod weights;
}

use core::weights::dequantise::{READABLE, dequantise};
use core::weights::gguf_model::GgufModel;
use core::weights::repack::to_mlx;
use core::weights::{Checkpoint, RawDtype};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sources::with_file("model.gguf", bytes, |path| {
        let Ok(checkpoint) = Checkpoint::open_gguf(path) else { return };
        for tensor in checkpoint.tensors().values() {
            let RawDtype::Ggml(kind) = tensor.dtype() else { unreachable!("a GGUF file holds ggml tensors") };
            let mut numbers = vec![0.0; tensor.len()];
            assert_eq!(dequantise(kind, tensor.bytes(), &mut numbers).is_ok(), READABLE.contains(&kind));
            if let [rows, columns] = *tensor.shape() {
                let _ = to_mlx(kind, tensor.bytes(), rows, columns);
            }
            tensor.release_pages();
        }
        if let Ok(model) = GgufModel::read(&checkpoint) {
            for tensor in model.tensors.values() {
                assert_eq!(tensor.bytes().len(), tensor.raw.bytes().len());
            }
        }
    });
});
