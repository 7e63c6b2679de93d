//! What tracing costs over the bare graph, through the C ABI. Ratios and differences within one run are what counts.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr;

use criterion::{Criterion, criterion_group, criterion_main};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::Array;
use mlxterp::core::trace::{Keep, TraceOptions};
use mlxterp::ffi::*;

const OK: mlxterp_status = mlxterp_status::MLXTERP_STATUS_OK;

/// SmolLM2 and a batch of 128 tokens behind C handles.
struct Setup {
    model: *mut mlxterp_model,
    batch: *mut mlxterp_batch,
    sites: Vec<CString>,
}

fn path() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct.Q4_1.gguf").to_owned()
}

fn ids() -> Vec<u32> {
    (0..128).map(|i| 1000 + i).collect()
}

impl Setup {
    fn new(sites: Vec<CString>) -> Self {
        let (mut model, mut batch) = (ptr::null_mut(), ptr::null_mut());
        let path = CString::new(path()).unwrap();
        let ids = ids();
        // SAFETY: live pointers of this function.
        unsafe {
            assert_eq!(mlxterp_model_load(path.as_ptr(), ptr::null(), &mut model), OK);
            assert_eq!(mlxterp_batch_from_tokens(model, ids.as_ptr(), &ids.len(), 1, &mut batch), OK);
        }
        Self { model, batch, sites }
    }

    fn bare(&self) -> *mut mlxterp_array {
        let mut logits = ptr::null_mut();
        // SAFETY: live handles.
        unsafe { assert_eq!(mlxterp_model_forward(self.model, self.batch, &mut logits), OK) };
        logits
    }

    /// A trace that reads the first `reads` sites and the logits.
    fn traced(&self, reads: usize) {
        // SAFETY: live handles, each freed once.
        unsafe {
            let (mut trace, mut array) = (ptr::null_mut(), ptr::null_mut());
            assert_eq!(mlxterp_trace_start(self.model, self.batch, ptr::null(), &mut trace), OK);
            for site in &self.sites[..reads] {
                assert_eq!(mlxterp_trace_read(trace, site.as_ptr(), &mut array), OK);
                mlxterp_array_free(array);
            }
            assert_eq!(mlxterp_trace_read(trace, c"output".as_ptr(), &mut array), OK);
            mlxterp_array_free(array);
            mlxterp_trace_free(trace);
        }
    }
}

fn building(c: &mut Criterion) {
    let model = Model::load(&path()).unwrap();
    let names =
        model.program().hooks.iter().filter(|(_, h)| !h.on_touch).map(|(n, _)| CString::new(n.as_str()).unwrap());
    let setup = Setup::new(names.collect());
    let mut group = c.benchmark_group("build");
    // SAFETY: the handle that `bare` gave.
    group.bench_function("bare", |b| b.iter(|| unsafe { mlxterp_array_free(setup.bare()) }));
    group.bench_function("trace", |b| b.iter(|| setup.traced(0)));
    group.bench_function("trace, 100 reads", |b| b.iter(|| setup.traced(100)));
    let all = setup.sites.len();
    group.bench_function(format!("trace, {all} reads"), |b| b.iter(|| setup.traced(all)));
    group.finish();
}

fn forward(c: &mut Criterion) {
    let model = Model::load(&path()).unwrap();
    let sites: Vec<usize> =
        model.program().hooks.iter().enumerate().filter(|(_, (_, h))| !h.on_touch).map(|(i, _)| i).collect();
    let mut group = c.benchmark_group("forward, 128 tokens");
    group.sample_size(10);
    group.bench_function("plain", |b| b.iter(|| model.forward(ids()).unwrap().eval().unwrap()));
    group.bench_function("traced, nothing captured", |b| {
        b.iter(|| model.trace(ids()).unwrap().output().unwrap().eval().unwrap());
    });
    group.bench_function("traced, every site captured", |b| {
        b.iter(|| {
            let options = TraceOptions { keep: Keep::All, ..TraceOptions::default() };
            let trace = model.trace_with(ids(), &options).unwrap();
            let values: Vec<Array> = sites.iter().map(|s| trace.read(*s).unwrap()).collect();
            Array::eval_all(&values).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, building, forward);
criterion_main!(benches);
