//! Patching by name: what the tools give, and what they say of mistakes.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlxterp::analysis::patching::{
    CausalTracingOptions, Component, PatchingOptions, PathPatchingOptions, Subject, activation_patching,
    causal_tracing, causal_tracing_told, path_patching,
};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::Trace;
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::{Finding, Metric};
use mlxterp::{Error, ErrorKind};
use serde_json::{Value, json};

const CLEAN: [u32; 6] = [1, 5, 9, 2, 8, 30];
const CORRUPT: [u32; 6] = [1, 7, 9, 2, 3, 30];

fn found(model: &Model, tool: &str, options: Value) -> Box<dyn Finding> {
    run(model, tool, Call::new(options)).unwrap_or_else(|e| panic!("{tool}: {e}"))
}

fn told(model: &Model, tool: &str, options: Value) -> String {
    let message = run(model, tool, Call::new(options.clone())).map(drop).unwrap_err().message().to_owned();
    // Nothing was left behind that keeps the model from running.
    assert!(model.forward(vec![1u32, 2]).unwrap().to_vec::<f32>().unwrap().iter().all(|v| v.is_finite()), "{options}");
    message
}

fn pair(more: Value) -> Value {
    let mut all =
        json!({"clean": CLEAN, "corrupt": CORRUPT, "metric": {"logit_difference": {"answer": 3, "wrong": 7}}});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

#[test]
fn tools_print_draw_and_hand_on() {
    let model = support::tiny("llama");
    let grid =
        found(&model, "activation_patching", pair(json!({"component": "z", "axes": ["layer", "head", "position"]})));
    assert_eq!(grid.arrays().unwrap()[1].1.shape(), [2, 4, 6]);
    let grid = found(&model, "activation_patching", pair(json!({"direction": "noising"})));
    assert!(grid.to_string().contains("corrupted into clean") && grid.figure().contains("Patching resid_pre"));
    assert_eq!(grid.json().unwrap()["raw"]["axes"][1]["name"], "position");
    let distance = json!({"clean": CLEAN, "corrupt": CORRUPT, "distance": {"kind": "cosine", "of": "residual"}});
    assert!(
        found(&model, "activation_patching", distance).to_string().contains("cosine distance of the last residual")
    );
    let trace = found(&model, "causal_tracing", json!({"prompt": CLEAN, "subject": [1, 2], "samples": 2, "answer": 3}));
    assert_eq!(trace.arrays().unwrap()[2].1.shape(), [2, 2, 6]);
    assert!(trace.to_string().contains("2 samples") && trace.figure().contains("Restoring resid_post"));
    let q = json!({"receivers": [{"input": "q", "layer": -1, "head": 0}], "mlps": "recomputed"});
    let path = found(&model, "path_patching", pair(q));
    assert!(path.to_string().contains("q of layer -1, head 0") && path.figure().contains("Paths to"));
    assert_eq!(path.arrays().unwrap()[0].1.shape(), [2, 4]);
    let mlps = found(&model, "path_patching", pair(json!({"senders": "mlp"})));
    assert_eq!(mlps.arrays().unwrap()[0].1.shape(), [2]);
}

#[test]
fn mistakes_are_told_and_leave_the_model_usable() {
    let model = support::tiny("llama");
    let patching = |more: Value| told(&model, "activation_patching", pair(more));
    for (more, wanted) in [
        (json!({"layers": [2]}), "there is no layer 2: there are 2"),
        (json!({"layers": []}), "empty list of layers"),
        (json!({"component": "z", "heads": [4]}), "there is no head 4: there are 4"),
        (json!({"component": "k", "heads": [2]}), "there is no head 2: there are 2"),
        (json!({"component": "neuron", "neurons": [20]}), "there is no neuron 20: there are 20"),
        (json!({"positions": [6]}), "no position 6: it has 6 tokens"),
        (json!({"positions": [1, -5]}), "named twice"),
        (json!({"heads": [0]}), "'resid_pre' has no heads"),
        (json!({"component": "mlp", "axes": ["layer", "neuron"]}), "'mlp' has no neurons"),
        (json!({"axes": ["position"]}), "has the axis 'layer'"),
        (json!({"component": "residual"}), "unknown variant `residual`"),
        (json!({"layer": [0]}), "unknown field `layer`"),
        (json!({"corrupt": [[1, 2], [3, 4]]}), "1 clean prompts and 2 corrupted"),
        (json!({"corrupt": [1, 2, 3]}), "6 tokens, the corrupted one 3"),
        (json!({"corrupt": [1, 2, 3], "align": [[0, 3]]}), "no position 3"),
        (json!({"corrupt": [1, 2, 3], "align": [[0, 0], [0, 1]]}), "twice"),
        (json!({"corrupt": CLEAN}), "nothing to restore"),
        (json!({"metric": {"logit": {"answer": 64}}}), "token id 64 is out of range"),
        (json!({"distance": {}}), "a metric and a `distance`"),
        (json!({"clean": [[]]}), "the clean prompts: the prompt is empty"),
    ] {
        let message = patching(more.clone());
        assert!(message.contains(wanted), "{more}: {message}");
    }
    assert!(
        told(&model, "activation_patching", json!({"clean": CLEAN, "corrupt": CORRUPT})).contains("needs a metric")
    );
    let causal = |more: Value| {
        let mut all = json!({"prompt": CLEAN, "subject": [1], "answer": 3});
        more.as_object().unwrap().iter().for_each(|(k, v)| all[k] = v.clone());
        told(&model, "causal_tracing", all)
    };
    for (more, wanted) in [
        (json!({"subject": [9]}), "there is no position 9"),
        (json!({"subject": []}), "needs a `subject`"),
        (json!({"samples": 0}), "0 samples"),
        (json!({"std": -1.0}), "standard deviation -1"),
        (json!({"window": 0}), "a window of no layers"),
        (json!({"component": "q"}), "not 'q'"),
        (json!({"prompt": [[1, 2], [3, 4]]}), "one prompt of tokens, not 2"),
        (json!({"layers": [-3]}), "there is no layer -3"),
    ] {
        let message = causal(more.clone());
        assert!(message.contains(wanted), "{more}: {message}");
    }
    let path = |more: Value| told(&model, "path_patching", pair(more));
    for (more, wanted) in [
        (json!({"receivers": []}), "no receivers"),
        (json!({"receivers": [{"input": "q"}]}), "needs a `layer`"),
        (json!({"receivers": [{"input": "q", "layer": 2}]}), "there is no layer 2"),
        (json!({"receivers": [{"input": "q", "layer": 1, "head": 4}]}), "there is no head 4"),
        (json!({"receivers": [{"input": "mlp", "layer": 1, "head": 0}]}), "an MLP has no heads"),
        (json!({"receivers": [{"input": "logits"}, {"input": "mlp", "layer": 1}]}), "receive alone"),
        (json!({"senders": "mlp", "heads": [0]}), "MLPs have no heads"),
        (json!({"corrupt": [1, 2]}), "6 tokens, the corrupted one 2"),
    ] {
        let message = path(more.clone());
        assert!(message.contains(wanted), "{more}: {message}");
    }
}

#[test]
fn answers_of_several_tokens_and_subjects_that_are_not_there_are_refused() {
    let model = support::smollm2();
    let options = json!({"clean": "The capital of France is", "corrupt": "The capital of Italy is",
        "metric": {"logit_difference": {"answer": " Paris, of course", "wrong": " Rome"}}});
    let message = told(&model, "activation_patching", options);
    assert!(message.contains("4 tokens") && message.contains("\" Paris\""), "{message}");
    let message = told(&model, "causal_tracing", json!({"prompt": "The capital of France is", "subject": "Italy"}));
    assert!(message.contains("\"Italy\"") && message.contains("does not stand"), "{message}");
    let found = CausalTracingOptions { samples: 1, layers: Some(vec![29]), ..CausalTracingOptions::of("capital of") };
    let found = causal_tracing(&model, "The capital of France is", &found).unwrap();
    assert_eq!((found.subject.as_slice(), found.answer.as_str()), ([1, 2].as_slice(), " Paris"));
}

#[test]
fn a_metric_that_fails_in_the_middle_ends_the_sweep() {
    let model = support::tiny("llama");
    let counting = |at: usize, fail: fn(&Trace) -> mlxterp::Result<Array>| {
        let calls = Arc::new(AtomicUsize::new(0));
        Metric::custom(move |trace: &Trace| match calls.fetch_add(1, Ordering::SeqCst) {
            n if n == at => fail(trace),
            _ => {
                let last = trace.last_logits()?;
                tensor::reshape(&tensor::slice(&last, &[0, 3], &[last.dim(0) as i32, 4], &[1, 1])?, &[-1])
            }
        })
    };
    let before = tensor::memory_used();
    let raised = counting(2, |_| Err(Error::new(ErrorKind::Callback, "mine")));
    let options = PatchingOptions { tokens_at_once: 6, ..PatchingOptions::default() };
    let patch = |metric| activation_patching(&model, CLEAN.to_vec(), CORRUPT.to_vec(), metric, &options);
    let error = patch(raised.clone()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Callback, "mine"));
    let nan = counting(4, |trace| tensor::full(&[trace.batch()?.len() as i32], f64::NAN, tensor::Dtype::Float32));
    let error = patch(nan).unwrap_err();
    assert!(error.message().contains("NaN") && error.message().contains("resid_pre of layer 0, position 2"), "{error}");
    let nan = counting(0, |_| tensor::full(&[1], f64::NAN, tensor::Dtype::Float32));
    assert!(patch(nan).unwrap_err().message().contains("clean run of pair 0"));
    let shape = counting(2, |trace| trace.output());
    assert!(patch(shape).unwrap_err().message().contains("one number for each"));
    let path = path_patching(
        &model,
        CLEAN.to_vec(),
        CORRUPT.to_vec(),
        counting(2, |_| Err(Error::new(ErrorKind::Callback, "mine"))),
        &PathPatchingOptions::default(),
    );
    assert_eq!(path.unwrap_err().message(), "mine");
    let after = tensor::memory_used();
    assert!(after < before + (1 << 20), "{before} bytes before, {after} after");
    let fine = activation_patching(
        &model,
        CLEAN.to_vec(),
        CORRUPT.to_vec(),
        Metric::logit_difference(3u32, 7u32),
        &PatchingOptions::default(),
    );
    assert!(fine.unwrap().raw.values.iter().all(|v| v.is_finite()));
}

#[test]
fn progress_is_told_and_may_end_it() {
    let model = support::tiny("llama");
    let mut last = (0, 0);
    let mut told = |done, total| {
        last = (done, total);
        true
    };
    let mut call = Call::new(pair(json!({"component": "mlp"})));
    call.progress = Some(&mut told);
    run(&model, "activation_patching", call).unwrap();
    assert_eq!(last, (12, 12));
    for tool in ["activation_patching", "path_patching"] {
        let mut stop = |done, _| done == 0;
        let mut call = Call::new(pair(json!({})));
        call.progress = Some(&mut stop);
        assert!(run(&model, tool, call).map(drop).unwrap_err().message().contains("cancelled"), "{tool}");
    }
}

#[test]
fn noise_is_that_of_its_seed() {
    let model = support::tiny("llama");
    let options = |seed, samples| CausalTracingOptions {
        subject: Subject::Positions(vec![1, 2]),
        answer: Some(3.into()),
        samples,
        seed,
        ..CausalTracingOptions::default()
    };
    let trace = |seed, samples| causal_tracing(&model, CLEAN.to_vec(), &options(seed, samples)).unwrap();
    let (one, again, other) = (trace(1, 4), trace(1, 4), trace(2, 4));
    assert_eq!(one, again);
    assert_ne!(one.restored, other.restored);
    assert!(one.corrupt_by_sample.windows(2).any(|w| w[0] != w[1]), "samples have noises of their own");
    assert_eq!(one.restored_by_sample.shape(), [4, 2, 6]);
    // Three times the spread of the embedding's numbers.
    let weight = model.trace((0..64u32).map(|i| vec![i]).collect::<Vec<_>>()).unwrap().get("embed").unwrap();
    let all = weight.to_vec::<f32>().unwrap();
    let mean = all.iter().sum::<f32>() / all.len() as f32;
    let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / all.len() as f32).sqrt();
    assert!((one.std - 3.0 * f64::from(std)).abs() < 1e-4, "{} of {std}", one.std);
    // Before the subject nothing is corrupted; all of the residual stream restored is the clean run.
    assert_eq!(one.restored.at(&[0, 0]), one.corrupt);
    assert_eq!(one.restored.at(&[1, 5]), one.clean);
    let wrong = Array::from_slice(&[0.0_f32; 24], &[1, 1, 24]).unwrap();
    let error = causal_tracing_told(&model, CLEAN.to_vec(), &options(0, 1), Some(&wrong), &mut None).unwrap_err();
    assert!(error.message().contains("[samples, 2 subject tokens, 24]"), "{error}");
    let z = CausalTracingOptions { component: Component::Z, ..options(0, 1) };
    assert!(causal_tracing(&model, CLEAN.to_vec(), &z).is_err());
}
