//! Circuits: the search and the measures against PyTorch, and the known circuit of the trained model.

mod support;

use mlxterp::ErrorKind;
use mlxterp::analysis::circuits::{
    Ablation, AcdcOptions, Circuit, Edge, EdgeAttributionOptions, EdgeMethod, EvaluateOptions, acdc, edge_attribution,
    evaluate_circuit,
};
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Array;
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Metric;
use serde_json::{Value, json};
use support::edges::*;
use support::*;

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
