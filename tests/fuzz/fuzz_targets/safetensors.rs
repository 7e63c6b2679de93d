//! A safetensors file of any bytes, alone in a model directory.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/error.rs"]
mod error;
mod sources;
#[path = "../../../src/core"]
mod core {
    pub mod weights;
}

use core::weights::Checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sources::with_file("model.safetensors", bytes, |path| {
        let directory = path.parent().expect("a file in a directory");
        let Ok(checkpoint) = Checkpoint::open_dir(directory) else { return };
        let sum: usize = checkpoint.tensors().values().map(|t| t.bytes().len()).sum();
        assert!(sum <= bytes.len(), "tensors of {sum} bytes in a file of {}", bytes.len());
        checkpoint.tensors().values().for_each(|t| t.release_pages());
    });
});
