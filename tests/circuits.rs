//! Edges and circuits: against a forward pass spelled out in PyTorch, edge by edge, and against themselves on every kind of
//! residual stream.

mod support;

use std::collections::BTreeMap;

use mlxterp::ErrorKind;
use mlxterp::analysis::circuits::{
    Ablation, AcdcOptions, Circuit, Edge, EdgeAttribution, EdgeAttributionOptions, EdgeMethod, EvaluateOptions, Graph,
    Receiver, Sender, acdc, edge_attribution, evaluate_circuit,
};
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::{Trace, TraceOptions};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Metric;
use serde_json::{Value, json};
use support::entry::{Entry, Stored};
use support::*;

fn facts() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("edges/expected.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn metric() -> Metric {
    Metric::logit_difference(3u32, 7u32)
}

fn name(e: &Edge) -> String {
    format!("{} {}", e.from, e.to)
}

fn by_name(found: &EdgeAttribution) -> BTreeMap<String, f32> {
    found.edges.iter().map(|e| (name(e), e.score)).collect()
}

fn scores(model: &Model, facts: &Value, method: EdgeMethod, steps: usize, chunk: usize) -> EdgeAttribution {
    let options = EdgeAttributionOptions { method, steps, chunk, ..Default::default() };
    edge_attribution(model, ids(&facts["clean"]), ids(&facts["corrupt"]), &metric(), &options, None).unwrap()
}

/// Ranks, ties in the order given.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    order.iter().enumerate().for_each(|(r, i)| ranks[*i] = r as f64);
    ranks
}

/// Spearman's rank correlation.
fn rank_correlation(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

#[test]
fn every_edge_is_worth_what_patching_it_alone_does() {
    let (model, facts) = (tiny("llama"), facts());
    let edges = names(&facts["edges"]);
    for chunk in [7, 64] {
        let found = scores(&model, &facts, EdgeMethod::Exact, 1, chunk);
        assert_eq!(found.edges.len(), edges.len());
        let own = by_name(&found);
        let own: Vec<f32> = edges.iter().map(|e| own[e]).collect();
        assert_close(&own, &numbers(&facts["exact"]), 2e-5, "exact edge patching");
        let ends = numbers(&facts["metric"]);
        assert!((found.clean[0] - ends[0]).abs() < 1e-5 && (found.corrupt[0] - ends[1]).abs() < 1e-5);
    }
}

#[test]
fn edge_attributions_equal_autograds() {
    let (model, facts) = (tiny("llama"), facts());
    let edges = names(&facts["edges"]);
    let listed = |found: EdgeAttribution| {
        let own = by_name(&found);
        edges.iter().map(|e| own[e]).collect::<Vec<f32>>()
    };
    let eap = listed(scores(&model, &facts, EdgeMethod::Eap, 1, 64));
    assert_close(&eap, &numbers(&facts["eap"]), 2e-5, "EAP");
    let mut along = Vec::new();
    for (steps, expected) in facts["eap_ig"].as_object().unwrap() {
        let own = listed(scores(&model, &facts, EdgeMethod::EapIg, steps.parse().unwrap(), 32));
        assert_close(&own, &numbers(expected), 2e-5, &format!("EAP-IG, {steps} steps"));
        along.push((steps.parse::<usize>().unwrap(), own));
    }
    along.sort_by_key(|(steps, _)| *steps);
    // More steps come closer to the integral.
    let limit = &along[3].1;
    let off: Vec<f32> = along[..3].iter().map(|(_, own)| difference(own, limit)).collect();
    assert!(off[1] < 0.7 * off[0] && off[2] < 0.05 * off[0], "{off:?}");
    // Both order the edges of this random model roughly as patching them does.
    let exact = numbers(&facts["exact"]);
    for (what, own) in [("EAP", &eap), ("EAP-IG", &along[2].1)] {
        let rank = rank_correlation(own, &exact);
        println!("rank correlation with exact edge patching: {what} {rank:.3}");
        assert!(rank > 0.5, "{what}: {rank}");
    }
}

#[test]
fn integrated_edges_out_of_the_embedding_add_up_to_patching_it() {
    // What the way from corrupt to clean input is worth comes in by these edges and no others.
    for kind in ["llama", "gemma2", "cohere"] {
        let (model, clean, corrupt) = entry(kind);
        let off = |steps: usize| {
            let options = EdgeAttributionOptions { method: EdgeMethod::EapIg, steps, ..Default::default() };
            let found = edge_attribution(&model, clean.clone(), corrupt.clone(), &metric(), &options, None).unwrap();
            let sum: f32 = found.edges.iter().filter(|e| e.from == Sender::Embed).map(|e| e.score).sum();
            let whole = found.corrupt[0] - found.clean[0];
            assert!(whole.abs() > 0.05, "{kind}: nothing to add up to");
            (sum - whole).abs() / whole.abs()
        };
        let (coarse, fine) = (off(1), off(300));
        println!("{kind}: off by {coarse:.4} of it with one step, by {fine:.6} with 300");
        assert!(fine < 2e-3 && fine < coarse, "{kind}: {coarse} {fine}");
    }
}

#[test]
fn half_precision_finds_the_same_edges() {
    let path = fixture("induction");
    let (clean, corrupt, metric) = induction_pairs(4);
    let top = |dtype: Dtype, method: EdgeMethod| {
        let model = load(&path, &LoadOptions { dtype: Some(dtype), ..LoadOptions::default() });
        let options = EdgeAttributionOptions { method, ..Default::default() };
        let found = edge_attribution(&model, clean.clone(), corrupt.clone(), &metric, &options, None).unwrap();
        let mut top: Vec<String> = found.edges.iter().take(5).map(name).collect();
        top.sort();
        top
    };
    for method in [EdgeMethod::Exact, EdgeMethod::Eap] {
        assert_eq!(top(Dtype::Bfloat16, method), top(Dtype::Float32, method), "{method}");
    }
}

#[test]
fn the_search_keeps_what_the_published_loop_keeps() {
    let (model, facts) = (tiny("llama"), facts());
    for (threshold, expected) in facts["acdc"].as_object().unwrap() {
        let mut batches = Vec::new();
        for chunk in [1, 6, 64] {
            let options = AcdcOptions { threshold: threshold.parse().unwrap(), chunk, ..Default::default() };
            let (clean, corrupt) = (ids(&facts["clean"]), ids(&facts["corrupt"]));
            let found = acdc(&model, clean, corrupt, &Metric::KlDivergence, &options, None).unwrap();
            let mut own: Vec<String> = found.circuit.edges.iter().map(name).collect();
            let mut wanted = names(&expected["edges"]);
            own.sort();
            wanted.sort();
            assert_eq!(own, wanted, "threshold {threshold}, {chunk} rows");
            let damage = expected["damage"].as_f64().unwrap() as f32;
            assert!((found.damage - damage).abs() < 1e-4 * damage.max(1.0), "{} {damage}", found.damage);
            batches.push(found.batches);
        }
        assert!(batches[2] < batches[0], "rows share batches: {batches:?}");
    }
}

#[test]
fn circuits_are_measured_as_by_hand() {
    let (model, facts) = (tiny("llama"), facts());
    let exact = scores(&model, &facts, EdgeMethod::Exact, 1, 64);
    let chosen = names(&facts["circuit"]);
    let edges: Vec<Edge> = exact.edges.iter().filter(|e| chosen.contains(&name(e))).cloned().collect();
    assert_eq!(edges.len(), chosen.len());
    let circuit = Circuit::new(exact.graph.clone(), edges);
    for (ablation, key) in [(Ablation::Resample, "resample"), (Ablation::Mean, "mean"), (Ablation::Zero, "zero")] {
        let options = EvaluateOptions { ablation, ..Default::default() };
        let (clean, corrupt) = (ids(&facts["clean"]), ids(&facts["corrupt"]));
        let found = evaluate_circuit(&model, &circuit, clean, corrupt, &metric(), &options).unwrap();
        let wanted = |part: &str| facts["evaluated"][key][part].as_f64().unwrap() as f32;
        let own = [found.full, found.circuit, found.complement, found.empty];
        for (own, part) in own.into_iter().zip(["full", "circuit", "complement", "empty"]) {
            assert!((own - wanted(part)).abs() < 3e-5, "{key} {part}: {own}, expected {}", wanted(part));
        }
        let span = wanted("full") - wanted("empty");
        assert!((found.faithfulness - (wanted("circuit") - wanted("empty")) / span).abs() < 1e-3);
        assert!((found.completeness - 1.0 + (wanted("complement") - wanted("empty")) / span).abs() < 1e-3);
    }
    let whole = Circuit::new(exact.graph.clone(), exact.edges.clone());
    let (clean, corrupt) = (ids(&facts["clean"]), ids(&facts["corrupt"]));
    let found = evaluate_circuit(&model, &whole, clean, corrupt, &metric(), &Default::default()).unwrap();
    assert!((found.faithfulness - 1.0).abs() < 1e-4 && (found.completeness - 1.0).abs() < 1e-4, "{found}");
}

/// Grouped heads, norms after attention and MLP, multipliers, parallel blocks, norms of queries and keys, soft-caps.
const STREAMS: [&str; 9] =
    ["llama", "gemma2", "gemma3_text", "granite", "cohere", "cohere2", "gpt_neox", "olmo2", "gpt2"];

fn entry(name: &str) -> (Model, Vec<u32>, Vec<u32>) {
    let entry = Entry::read(name);
    let model = entry.load(Stored::Float32, &LoadOptions::default()).unwrap();
    let row = entry.ids().swap_remove(0);
    let clean = row[..7].to_vec();
    let mut corrupt = clean.clone();
    (corrupt[2], corrupt[5]) = (row[9], row[10]);
    (model, clean, corrupt)
}

/// An edge patched by hand, with reads and writes of whole traces: what the sender adds otherwise, what the receiver makes of
/// the stream with that in it, and a clean run in which that receiver, and no other, has it.
fn by_hand(model: &Model, clean: &[u32], corrupt: &[u32], graph: &Graph, e: &Edge) -> f32 {
    let trace = |ids: &[u32]| model.trace(ids).unwrap();
    let read = |ids: &[u32], site: &str| trace(ids).get(site).unwrap();
    let apart = |site: &str| tensor::sub(&read(corrupt, site), &read(clean, site)).unwrap();
    let change = match e.from {
        Sender::Embed => apart("layers.0.resid_pre"),
        Sender::Mlp { layer } => apart(&format!("layers.{layer}.mlp_add")),
        Sender::Head { layer, head } => {
            let (z, add) = (format!("layers.{layer}.attn.z"), format!("layers.{layer}.attn_add"));
            let other = trace(clean);
            other.intervene(&z, Intervention::replace_with(read(corrupt, &z)).heads([head as i64])).unwrap();
            tensor::sub(&other.get(&add).unwrap(), &read(clean, &add)).unwrap()
        }
    };
    // What stands at `site` when the stream has the change in it.
    let made = |stream: &str, site: &str| {
        let other = trace(clean);
        other.set(stream, &tensor::add(&read(clean, stream), &change).unwrap()).unwrap();
        other.get(site).unwrap()
    };
    let run = trace(clean);
    let part = |layer: usize, value: &str, head: usize| {
        let site = format!("layers.{layer}.attn.{value}");
        let new = made(&format!("layers.{layer}.resid_pre"), &site);
        run.intervene(&site, Intervention::replace_with(new).heads([head as i64])).unwrap();
    };
    match e.to {
        Receiver::Query { layer, head } => part(layer, "q", head),
        Receiver::Key { layer, group } => part(layer, "k", group),
        Receiver::Value { layer, group } => part(layer, "v", group),
        Receiver::Mlp { layer } => {
            let stream = if graph.layers[layer].mlp_sees_attention { "resid_mid" } else { "resid_pre" };
            let site = format!("layers.{layer}.mlp.input");
            run.set(&site, &made(&format!("layers.{layer}.{stream}"), &site)).unwrap();
        }
        Receiver::Logits => {
            let last = "layers.-1.output";
            run.set(last, &tensor::add(&read(clean, last), &change).unwrap()).unwrap();
        }
    }
    let metric = metric().prepare(model, 1).unwrap();
    let at = |t: &Trace| values(&metric.of_trace(t).unwrap())[0];
    at(&run) - at(&trace(clean))
}

#[test]
fn edges_mean_the_same_on_every_kind_of_stream() {
    for kind in STREAMS {
        let (model, clean, corrupt) = entry(kind);
        let with = |method: EdgeMethod| {
            let options = EdgeAttributionOptions { method, ..Default::default() };
            edge_attribution(&model, clean.clone(), corrupt.clone(), &metric(), &options, None)
        };
        let exact = with(EdgeMethod::Exact).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let graph = &exact.graph;
        let evaluate = |edges: Vec<Edge>| {
            let circuit = Circuit::new(graph.clone(), edges);
            evaluate_circuit(&model, &circuit, clean.clone(), corrupt.clone(), &metric(), &Default::default()).unwrap()
        };
        let span = (exact.clean[0] - exact.corrupt[0]).abs().max(0.1);
        // With every edge cut the run is the corrupt one, with none it is the clean one.
        let all = evaluate(exact.edges.clone());
        assert!((all.empty - exact.corrupt[0]).abs() < 1e-4 * span.max(1.0), "{kind}: {all} {exact}");
        assert!((all.circuit - exact.clean[0]).abs() < 1e-4 * span.max(1.0), "{kind}: {all}");
        // One edge cut by the run of cut edges is one edge patched.
        for e in exact.edges.iter().step_by(exact.edges.len() / 7 + 1) {
            let rest = exact.edges.iter().filter(|o| (o.from, o.to) != (e.from, e.to)).cloned().collect();
            let cut = evaluate(rest);
            assert!((cut.circuit - cut.full - e.score).abs() < 2e-4 * span.max(1.0), "{kind} {e}: {cut}");
        }
        // And is what reads and writes of whole traces make of it.
        for e in exact.edges.iter().step_by(exact.edges.len() / 40 + 1) {
            let hand = by_hand(&model, &clean, &corrupt, graph, e);
            assert!((hand - e.score).abs() < 1e-4 * span.max(1.0), "{kind} {e}: by hand {hand}");
        }
        let eap = with(EdgeMethod::Eap).unwrap();
        let correlation = {
            let own = by_name(&eap);
            let (a, b): (Vec<f32>, Vec<f32>) = exact.edges.iter().map(|e| (own[&name(e)], e.score)).unzip();
            rank_correlation(&a, &b)
        };
        println!("{kind}: {} edges, rank correlation of EAP with exact {correlation:.3}", exact.edges.len());
        assert!(correlation > 0.5, "{kind}: {correlation}");
    }
}

#[test]
fn a_parallel_mlp_does_not_see_its_own_layers_attention() {
    let (model, clean, corrupt) = entry("gpt_neox");
    let options = EdgeAttributionOptions { method: EdgeMethod::Eap, ..Default::default() };
    let found = edge_attribution(&model, clean, corrupt, &metric(), &options, None).unwrap();
    assert!(!found.graph.layers[0].mlp_sees_attention);
    let refused = found.score("a0.h0".parse().unwrap(), "m0".parse().unwrap()).unwrap_err();
    assert!(refused.message().contains("m0 does not see what a0.h0 adds"), "{refused}");
    assert!(found.score("a0.h0".parse().unwrap(), "m1".parse().unwrap()).is_ok());
}

#[test]
fn pairs_of_several_lengths_are_averaged() {
    let model = tiny("llama");
    let (a, b) =
        ((vec![1u32, 5, 9, 2], vec![1u32, 5, 11, 2]), (vec![7u32, 3, 9, 30, 12, 4], vec![7u32, 8, 9, 30, 12, 4]));
    for method in [EdgeMethod::Eap, EdgeMethod::EapIg, EdgeMethod::Exact] {
        let options = EdgeAttributionOptions { method, ..Default::default() };
        let one = |(clean, corrupt): &(Vec<u32>, Vec<u32>)| {
            edge_attribution(&model, clean.clone(), corrupt.clone(), &metric(), &options, None).unwrap()
        };
        let (first, second) = (by_name(&one(&a)), by_name(&one(&b)));
        let both = edge_attribution(
            &model,
            vec![a.0.clone(), b.0.clone()],
            vec![a.1.clone(), b.1.clone()],
            &metric(),
            &options,
            None,
        );
        for e in both.unwrap().edges {
            let wanted = (first[&name(&e)] + second[&name(&e)]) / 2.0;
            assert!((e.score - wanted).abs() < 1e-4, "{method}: {e}, expected {wanted}");
        }
    }
}

#[test]
fn edges_are_those_of_the_edited_model() {
    let model = tiny("llama");
    let silent = Intervention::zero_out().heads([1]);
    let runs = TraceOptions::default().with("layers.0.attn.z", silent);
    let options = EdgeAttributionOptions { method: EdgeMethod::Exact, runs, ..Default::default() };
    let found = edge_attribution(&model, vec![1u32, 5, 9, 2], vec![1u32, 5, 11, 2], &metric(), &options, None).unwrap();
    let own = by_name(&found);
    assert!(own.iter().filter(|(n, _)| n.starts_with("a0.h1 ")).all(|(_, v)| v.abs() < 1e-6));
    assert!(own.iter().any(|(n, v)| n.starts_with("a0.h0 ") && v.abs() > 1e-3));
}

#[test]
fn onward_is_the_run_itself() {
    let (model, clean, _) = entry("gemma2");
    let trace = model.trace(clean).unwrap();
    let stream = trace.get("layers.1.resid_pre").unwrap();
    let made = trace.onward("layers.1.resid_pre", &stream, &["layers.1.attn.q", "layers.1.attn.v"]).unwrap();
    for (site, own) in ["layers.1.attn.q", "layers.1.attn.v"].iter().zip(&made) {
        assert_close(&values(own), &values(&trace.get(site).unwrap()), 1e-5, site);
    }
    // Copies of the rows, each of its own value.
    let two = tensor::concatenate([&stream, &tensor::zeros_like(&stream).unwrap()], 0).unwrap();
    let made = trace.onward("layers.1.resid_pre", &two, &["layers.1.attn.v"]).unwrap().swap_remove(0);
    assert_eq!(made.dim(0), 2);
    let first = &values(&made)[..made.size() / 2];
    assert_close(first, &values(&trace.get("layers.1.attn.v").unwrap()), 1e-5, "the first copy");
    let output = trace.get("layers.1.attn.output").unwrap();
    let more = trace.onward("layers.1.attn.output", &output, &["layers.1.resid_mid"]).unwrap_err();
    assert!(more.kind() == ErrorKind::Unsupported && more.message().contains("depends on more than"), "{more}");
    let nothing = trace.onward("layers.1.resid_pre", &stream, &["layers.0.attn.q"]).unwrap_err();
    assert!(nothing.message().contains("does not depend on"), "{nothing}");
}

#[test]
fn circuits_are_written_read_pruned_and_drawn() {
    let (model, facts) = (tiny("llama"), facts());
    let exact = scores(&model, &facts, EdgeMethod::Exact, 1, 64);
    let circuit = exact.circuit(20);
    assert!(circuit.edges.len() <= 20 && circuit.edges.len() > 5);
    assert_eq!(circuit.connected(), circuit);
    let text = circuit.to_json().unwrap();
    assert_eq!(Circuit::from_json(&text).unwrap(), circuit);
    let above = circuit.above(circuit.edges[3].score.abs());
    assert!(above.edges.len() <= 4);
    let dot = circuit.to_dot();
    assert!(dot.starts_with("digraph circuit {") && dot.contains("\"logits\"") && dot.ends_with("}\n"));
    // An edge from a node that nothing feeds goes.
    let loose = Circuit::new(
        circuit.graph.clone(),
        vec![Edge { from: "a0.h0".parse().unwrap(), to: "logits".parse().unwrap(), score: 1.0 }],
    );
    assert!(loose.connected().edges.is_empty());

    let broken = |edit: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        edit(&mut value);
        Circuit::from_json(&value.to_string()).unwrap_err().message().to_owned()
    };
    assert!(broken(&|v| v["edges"][0]["from"] = json!("b0.h1")).contains("'b0.h1' is no sender"));
    assert!(broken(&|v| v["edges"][0]["to"] = json!("a9.h1.q")).contains("the model has no a9.h1.q"));
    assert!(broken(&|v| v["edges"][0] = json!({"from": "m1", "to": "a0.h0.q"})).contains("no edge from m1 to a0.h0.q"));
    assert!(
        broken(&|v| {
            let first = v["edges"][0].clone();
            v["edges"].as_array_mut().unwrap().push(first);
        })
        .contains("twice")
    );
    assert!(broken(&|v| v["graph"]["layers"][0]["groups"] = json!(0)).contains("equal groups"));
}

#[test]
fn mistakes_are_told_and_leave_the_model_usable() {
    let model = tiny("llama");
    let told = |name: &str, options: Value| run(&model, name, Call::new(options)).map(drop).unwrap_err();
    let metric = json!({"logit_difference": {"answer": 3, "wrong": 7}});
    let pair = |more: Value| {
        let mut options = json!({"clean": [1, 5, 9], "corrupt": [1, 4, 9], "metric": metric.clone()});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    let unequal = told("edge_attribution", pair(json!({"corrupt": [1, 2]})));
    assert!(unequal.message().contains("3 tokens clean and 2 corrupt"), "{unequal}");
    assert!(told("edge_attribution", pair(json!({"method": "eap_gi"}))).message().contains("unknown variant `eap_gi`"));
    assert!(told("edge_attribution", pair(json!({"steps": 0}))).message().contains("at least 1"));
    assert!(told("acdc", pair(json!({"threshold": 0}))).message().contains("above 0"));
    assert!(told("acdc", pair(json!({"tau": 0.1}))).message().contains("unknown field `tau`"));
    let other = json!({"graph": {"layers": [
        {"heads": 2, "groups": 1, "mlp": false, "mlp_sees_attention": false}]},
        "edges": [{"from": "embed", "to": "logits"}]});
    let foreign = told("circuit", pair(json!({"circuit": other})));
    assert!(foreign.message().contains("of another model"), "{foreign}");
    let same =
        json!({"clean": [1, 5, 9], "corrupt": [1, 5, 9], "metric": metric.clone(), "circuit": circuit_of(&model)});
    assert!(told("circuit", same).message().contains("nothing to be faithful to"));

    let options = EdgeAttributionOptions::default();
    let with = |metric: Metric| edge_attribution(&model, vec![1u32, 2], vec![3u32, 2], &metric, &options, None);
    let mine = with(Metric::custom(|_| Err(mlxterp::Error::new(ErrorKind::Callback, "mine")))).unwrap_err();
    assert_eq!((mine.kind(), mine.message()), (ErrorKind::Callback, "mine"));
    let nan = with(Metric::custom(|t| {
        let rows = t.batch()?.len();
        Array::from_slice(&vec![f32::NAN; rows], &[rows])
    }));
    assert!(nan.unwrap_err().message().contains("not a number"));
    let mut stop = |_: u64, _: u64| false;
    let options = AcdcOptions::default();
    let stopped = acdc(&model, vec![1u32, 2], vec![3u32, 2], &Metric::KlDivergence, &options, Some(&mut stop));
    assert!(stopped.unwrap_err().message().contains("cancelled"));
    assert!(with(Metric::Logit { answer: 3u32.into() }).unwrap().clean[0].is_finite());

    let (mamba, clean, corrupt) = entry("mamba");
    let refused = edge_attribution(&mamba, clean, corrupt, &Metric::KlDivergence, &Default::default(), None);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

fn circuit_of(model: &Model) -> Value {
    let options = EdgeAttributionOptions { method: EdgeMethod::Eap, ..Default::default() };
    let found = edge_attribution(model, vec![1u32, 5, 9], vec![1u32, 4, 9], &metric(), &options, None).unwrap();
    serde_json::from_str(&found.circuit(10).to_json().unwrap()).unwrap()
}

#[test]
fn the_tools_draw_themselves() {
    let model = tiny("llama");
    let metric = json!({"logit_difference": {"answer": 3, "wrong": 7}});
    let base = json!({"clean": [1, 5, 9], "corrupt": [1, 4, 9], "metric": metric});
    let with = |more: Value| {
        let mut options = base.clone();
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Call::new(options)
    };
    let found = run(&model, "edge_attribution", with(json!({"edges": 12}))).unwrap();
    assert!(found.figure().contains("<svg") && found.to_string().contains("82 edges"));
    assert_eq!(found.arrays().unwrap()[0].1.shape(), [11, 19]);
    let circuit = found.json().unwrap()["circuit"].clone();
    let kept = circuit["edges"].as_array().unwrap().len();
    assert!(kept > 0 && kept <= 12);
    let found = run(&model, "circuit", with(json!({"circuit": circuit, "largest": 6}))).unwrap();
    assert!(found.figure().contains("<svg") && found.to_string().contains("faithfulness"));
    let json = found.json().unwrap();
    assert!(json["evaluation"]["faithfulness"].is_number() && json["dot"].as_str().unwrap().contains("digraph"));
    assert!(json["circuit"]["edges"].as_array().unwrap().len() <= 6);
    let found = run(&model, "acdc", with(json!({"threshold": 0.02}))).unwrap();
    assert!(found.figure().contains("<svg") && found.to_string().contains("threshold"));
    // A circuit without prompts is only pruned and drawn.
    let drawn = run(&model, "circuit", Call::new(json!({"circuit": circuit_of(&model), "above": 0.0}))).unwrap();
    assert!(drawn.json().unwrap()["evaluation"].is_null());
}

/// Pairs for the trained model: eight words and one of them again, after which its successor must come. The corrupt prompts
/// are of other words, none twice.
fn induction_pairs(n: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>, Metric) {
    let (mut clean, mut corrupt, mut answers, mut wrongs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..n as u32 {
        // Distinct words from a stride that is prime to their number.
        let words: Vec<u32> = (0..17).map(|k| 2 + (i * 31 + k * 11) % 126).collect();
        let at = 2 + (i as usize * 3) % 5;
        let mut row = vec![0];
        row.extend(&words[..8]);
        row.push(words[at]);
        clean.push(row);
        corrupt.push([&[0], &words[8..]].concat());
        answers.push(mlxterp::utils::Token::Id(words[at + 1]));
        wrongs.push(mlxterp::utils::Token::Id(words[(at + 3) % 8]));
    }
    let metric = Metric::LogitDifference {
        answer: mlxterp::utils::Tokens::ByRow(answers),
        wrong: mlxterp::utils::Tokens::ByRow(wrongs),
    };
    (clean, corrupt, metric)
}

#[test]
fn the_circuit_of_the_trained_model_is_the_induction_circuit() {
    let model = load(&fixture("induction"), &LoadOptions::default());
    let (clean, corrupt, metric) = induction_pairs(8);
    let with = |method: EdgeMethod| {
        let options = EdgeAttributionOptions { method, steps: 8, ..Default::default() };
        edge_attribution(&model, clean.clone(), corrupt.clone(), &metric, &options, None).unwrap()
    };
    let measured = |circuit: &Circuit| {
        evaluate_circuit(&model, circuit, clean.clone(), corrupt.clone(), &metric, &Default::default()).unwrap()
    };
    // Head 6 of layer 0 writes which token came before, head 6 of layer 1 finds it by its key and copies what it finds.
    let mut known = ["embed a0.g3.v", "a0.h6 a1.g3.k", "embed a1.h6.q", "embed a1.g3.v", "a1.h6 logits"];
    known.sort_unstable();
    let top = |edges: &[Edge]| {
        let mut top: Vec<String> = edges.iter().take(5).map(name).collect();
        top.sort();
        top
    };
    let exact = with(EdgeMethod::Exact);
    assert_eq!(top(&exact.edges), known);
    for (method, least) in [(EdgeMethod::Eap, 0.9), (EdgeMethod::EapIg, 0.6)] {
        let found = with(method);
        let own = by_name(&found);
        let (a, b): (Vec<f32>, Vec<f32>) = exact.edges.iter().map(|e| (own[&name(e)], e.score)).unzip();
        let rank = rank_correlation(&a, &b);
        println!("{method}: rank correlation with exact {rank:.3}");
        assert!(rank > least, "{method}: {rank}");
        assert_eq!(top(&found.edges), known, "{method}");
        let circuit = found.circuit(5);
        assert_eq!(top(&circuit.edges), known);
    }
    for threshold in [0.005, 0.1] {
        let options = AcdcOptions { threshold, ..Default::default() };
        let found = acdc(&model, clean.clone(), corrupt.clone(), &Metric::KlDivergence, &options, None).unwrap();
        assert_eq!(top(&found.circuit.edges), known);
        assert_eq!(found.circuit.edges.len(), 5, "{found}");
        let found = measured(&found.circuit);
        println!("{found}");
        assert!(found.faithfulness > 0.9 && found.faithfulness < 1.1 && found.completeness > 0.9, "{found}");
        assert!(10 * found.edges < found.total_edges, "{found}");
    }
    // Without the way through the first head nothing is left.
    let broken = exact.edges[..5].iter().filter(|e| name(e) != "a0.h6 a1.g3.k").cloned().collect();
    assert!(measured(&Circuit::new(exact.graph.clone(), broken)).faithfulness < 0.1);
}
