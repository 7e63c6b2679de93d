//! Edges: against a forward pass spelled out in PyTorch, edge by edge, and on every kind of residual stream against reads and
//! writes of whole traces.

mod support;

use mlxterp::ErrorKind;
use mlxterp::analysis::circuits::{
    Circuit, Edge, EdgeAttribution, EdgeAttributionOptions, EdgeMethod, Graph, Receiver, Sender, edge_attribution,
    evaluate_circuit,
};
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Dtype};
use mlxterp::core::trace::{Trace, TraceOptions};
use support::edges::*;
use support::entry::{Entry, Stored, asked_for};
use support::*;

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

/// Grouped heads, norms after attention and MLP, multipliers, parallel blocks, norms of queries and keys, soft-caps.
const STREAMS: [&str; 9] =
    ["llama", "gemma2", "gemma3_text", "granite", "cohere", "cohere2", "gpt_neox", "olmo2", "gpt2"];

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

/// With every edge cut the run is the corrupt one, with none the clean one; or the reason why there are no such edges is told.
#[test]
fn every_architecture_is_right_or_refused() {
    let (mut right, mut refused) = (0, Vec::new());
    for about in Entry::chosen() {
        let model = about.load(Stored::Float32, &LoadOptions::default()).unwrap();
        let row = about.ids().swap_remove(0);
        let clean = row[..6].to_vec();
        let mut corrupt = clean.clone();
        corrupt[2] = *row.iter().find(|t| **t != clean[2]).unwrap();
        let options = EdgeAttributionOptions { method: EdgeMethod::Eap, ..Default::default() };
        let found = match edge_attribution(&model, clean.clone(), corrupt.clone(), &metric(), &options, None) {
            Ok(found) => found,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Unsupported, "{}: {e}", about.name);
                refused.push(about.name.clone());
                continue;
            }
        };
        let whole = Circuit::new(found.graph.clone(), found.edges.clone());
        let all = evaluate_circuit(&model, &whole, clean, corrupt, &metric(), &Default::default());
        let all = all.unwrap_or_else(|e| panic!("{}: {e}", about.name));
        let scale = (found.clean[0] - found.corrupt[0]).abs().max(1.0);
        let off = (all.empty - found.corrupt[0]).abs().max((all.circuit - found.clean[0]).abs());
        assert!(off / scale < 1e-4, "{}: off by {off}", about.name);
        right += 1;
    }
    println!("{right} right; refused: {}", refused.join(", "));
    assert!(asked_for().is_some() || right > 130, "{right} of {}", right + refused.len());
}
