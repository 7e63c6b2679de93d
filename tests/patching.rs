//! Activation patching against one trace a cell, both ways of sharing, exact cells, mistakes.

mod support;

use mlxterp::Error;
use mlxterp::analysis::patching::{
    Align, Component, Direction, Distance, DistanceKind, DistanceOf, Measure, PatchingAxis as Axis, PatchingGrid,
    PatchingOptions, Sharing, activation_patching,
};
use mlxterp::core::arch::tape::Index;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor;
use mlxterp::core::trace::{Trace, subscript};
use mlxterp::utils::Metric;

const CLEAN: [u32; 6] = [1, 5, 9, 2, 8, 30];
const CORRUPT: [u32; 6] = [1, 7, 9, 2, 3, 30];

fn metric() -> Metric {
    Metric::logit_difference(3u32, 7u32)
}

fn last(trace: &Trace, answer: usize, wrong: usize) -> f32 {
    let logits = trace.last_logits().unwrap().to_vec::<f32>().unwrap();
    logits[answer] - logits[wrong]
}

/// One trace for one cell: the value read in one run, put into the other by an intervention.
fn one_cell(
    model: &Model,
    base: &[u32],
    source: &[u32],
    component: Component,
    layer: usize,
    part: Option<usize>,
    position: Option<usize>,
) -> f32 {
    let site = component.site(layer);
    let value = model.trace(source.to_vec()).unwrap().get(&site).unwrap();
    let mut put = Intervention::replace_with(value);
    if let Some(part) = part {
        put =
            if component == Component::Neuron { put.neurons(vec![part as i64]) } else { put.heads(vec![part as i64]) };
    }
    if let Some(position) = position {
        put = put.positions(vec![position as i64]);
    }
    let trace = model.trace(base.to_vec()).unwrap();
    trace.intervene(&site, put).unwrap();
    last(&trace, 3, 7)
}

fn grid(model: &Model, options: &PatchingOptions) -> PatchingGrid {
    activation_patching(model, CLEAN.to_vec(), CORRUPT.to_vec(), metric(), options).unwrap_or_else(|e| panic!("{e}"))
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

const COMPONENTS: [Component; 11] = [
    Component::ResidPre,
    Component::ResidMid,
    Component::ResidPost,
    Component::Attn,
    Component::Mlp,
    Component::Q,
    Component::K,
    Component::V,
    Component::Z,
    Component::Pattern,
    Component::Neuron,
];

/// Every cell of a grid against a trace of its own, both ways of sharing, both directions.
fn check(model: &Model, component: Component, axes: &[Axis], neurons: Option<Vec<i64>>) {
    for direction in [Direction::Denoising, Direction::Noising] {
        for sharing in [Sharing::Staircase, Sharing::Forks] {
            let options = PatchingOptions {
                axes: Some(axes.to_vec()),
                direction,
                sharing,
                neurons: neurons.clone(),
                ..PatchingOptions::of(component)
            };
            let found = grid(model, &options);
            assert_eq!(found.staircase, sharing == Sharing::Staircase);
            let (base, source) = match direction {
                Direction::Denoising => (CORRUPT, CLEAN),
                Direction::Noising => (CLEAN, CORRUPT),
            };
            let part_axis = found.raw.axes.iter().position(|a| a.name == "head" || a.name == "neuron");
            let position_axis = found.raw.axes.iter().position(|a| a.name == "position");
            for (i, value) in found.raw.values.iter().enumerate() {
                let place = found.raw.place(i);
                let part = part_axis.map(|a| found.raw.axes[a].labels[place[a]].parse().unwrap());
                let position = position_axis.map(|a| place[a]);
                let wanted = one_cell(model, &base, &source, component, place[0], part, position);
                assert!(
                    (value - wanted).abs() < 3e-5 * wanted.abs().max(1.0),
                    "{component} {direction:?} {sharing:?} at {place:?}: {value}, alone {wanted}"
                );
                let normalised = (value - found.corrupt) / (found.clean - found.corrupt);
                assert_eq!(found.normalised.values[i], normalised);
            }
        }
    }
}

#[test]
fn every_cell_is_what_a_trace_of_its_own_gives() {
    for name in ["llama", "qwen2_window", "smollm3"] {
        let model = support::tiny(name);
        for component in COMPONENTS {
            let neurons = (component == Component::Neuron).then(|| vec![0, 5, -1]);
            let mut wanted = vec![vec![Axis::Layer], vec![Axis::Layer, Axis::Position]];
            if component == Component::Neuron {
                wanted = vec![vec![Axis::Layer, Axis::Neuron], vec![Axis::Layer, Axis::Neuron, Axis::Position]];
            } else if component.has_heads() {
                wanted.push(vec![Axis::Layer, Axis::Head]);
                wanted.push(vec![Axis::Layer, Axis::Head, Axis::Position]);
            }
            for axes in wanted {
                let all_at_once = component == Component::Neuron && !axes.contains(&Axis::Neuron);
                check(&model, component, &axes, neurons.clone().filter(|_| !all_at_once).map(|_| vec![0, 5]));
            }
        }
    }
}

/// A model of an architecture, filled with made-up weights.
fn entry(name: &str) -> (Model, Vec<Vec<u32>>) {
    let entry = support::entry::Entry::read(name);
    let model = entry.load(support::entry::Stored::Float32, &LoadOptions::default());
    (model.unwrap_or_else(|e| panic!("{name}: {e}")), entry.ids())
}

/// Whether layers tell each other more than their residual stream, remember more than keys and values, or look ahead: the
/// tape decides, and whichever way is taken must give what a trace a cell gives.
#[test]
fn architectures_are_climbed_or_forked_as_their_tapes_allow() {
    let climbed = ["gpt2", "gpt_neox", "gemma2", "mixtral", "bloom", "attention_only", "olmo2", "cohere"];
    let forked = ["gemma3n_text", "mamba", "lfm2", "falcon_h1", "bert_tokens", "gemma4_text"];
    for (name, climbs) in climbed.iter().map(|n| (n, true)).chain(forked.iter().map(|n| (n, false))) {
        let (model, rows) = entry(name);
        let clean = rows[0].clone();
        let mut corrupt = clean.clone();
        for at in [1, 2] {
            corrupt[at] = (corrupt[at] + 5) % model.vocab_size() as u32;
        }
        // Four streams on an axis of their own are no residual stream to patch; what is added to them is.
        let component = if *name == "gemma3n_text" { Component::Mlp } else { Component::ResidPre };
        let options = PatchingOptions { layers: Some(vec![0, -1]), ..PatchingOptions::of(component) };
        let found = activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &options)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.staircase, climbs, "{name}");
        for (i, value) in found.raw.values.iter().enumerate() {
            let place = found.raw.place(i);
            let layer = [0, model.num_layers() - 1][place[0]];
            let wanted = one_cell(&model, &corrupt, &clean, component, layer, None, Some(place[1]));
            let size = wanted.abs().max(found.clean.abs()).max(1.0);
            assert!((value - wanted).abs() < 5e-5 * size, "{name} at {place:?}: {value}, alone {wanted}");
        }
    }
}

/// Both ways on every architecture: ARCH=* cargo test --test patching both_ways
#[test]
fn both_ways_agree() {
    let chosen = match support::entry::asked_for() {
        Some(_) => support::entry::Entry::chosen(),
        None => ["qwen3_moe", "glm4", "stablelm"].into_iter().map(support::entry::Entry::read).collect(),
    };
    for entry in chosen {
        let model = entry.load(support::entry::Stored::Float32, &LoadOptions::default()).unwrap();
        let has_layers = model.sites().resolve("layers.0.resid_pre").is_ok();
        if !has_layers || !model.program().takes_tokens() || model.vocab_size() < 8 {
            continue;
        }
        let clean = entry.ids()[0].clone();
        let mut corrupt = clean.clone();
        corrupt[1] = (corrupt[1] + 5) % model.vocab_size() as u32;
        for component in [Component::ResidPre, Component::Attn, Component::Mlp, Component::Z] {
            if model.sites().resolve(&component.site(0)).is_err() {
                continue;
            }
            let options = PatchingOptions::of(component).over([Axis::Layer, Axis::Position]);
            let run = |sharing| {
                let options = PatchingOptions { sharing, ..options.clone() };
                activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &options)
            };
            match (run(Sharing::Auto), run(Sharing::Forks)) {
                (Ok(one), Ok(other)) => {
                    let size = one.raw.values.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
                    let apart = apart(&one.raw.values, &other.raw.values);
                    println!("{} {component}: {}, {apart}", entry.name, one.staircase);
                    assert!(apart < 5e-5 * size, "{} {component}: {apart} of {size}", entry.name);
                }
                (one, other) => {
                    let told =
                        |e: Result<PatchingGrid, Error>| e.map(|_| "fine".to_owned()).unwrap_or_else(|e| e.to_string());
                    let (one, other) = (told(one), told(other));
                    println!("{} {component}: {one}", entry.name);
                    assert_eq!(one, other, "{} {component}", entry.name);
                }
            }
        }
    }
}

#[test]
fn what_the_tape_tells_is_exact() {
    let model = support::tiny("llama");
    for component in [Component::ResidMid, Component::ResidPost, Component::Attn, Component::Mlp] {
        let found = grid(&model, &PatchingOptions::of(component));
        for position in 0..CLEAN.len() - 1 {
            assert_eq!(found.raw.at(&[1, position]), found.corrupt, "{component} {position}");
            assert_eq!(found.normalised.at(&[1, position]), 0.0, "{component} {position}");
        }
        let last = found.normalised.at(&[1, CLEAN.len() - 1]);
        assert_eq!(last == 1.0, component == Component::ResidPost || component == Component::ResidMid, "{component}");
    }
    // Everything a layer is told, or all that differs at all.
    let whole = grid(&model, &PatchingOptions::default().over([Axis::Layer]));
    assert_eq!(whole.normalised.values, [1.0, 1.0]);
    assert_eq!(whole.runs, 0);
    let two = PatchingOptions { positions: Some(vec![1, 4]), ..PatchingOptions::default().over([Axis::Layer]) };
    assert_eq!(grid(&model, &two).normalised.values[0], 1.0, "both tokens that differ");
    let noised = PatchingOptions { direction: Direction::Noising, ..PatchingOptions::default().over([Axis::Layer]) };
    assert_eq!(grid(&model, &noised).normalised.values, [0.0, 0.0]);
    // Before the first token that differs nothing does.
    assert_eq!(grid(&model, &PatchingOptions::default()).raw.at(&[1, 0]), whole.corrupt);
}

#[test]
fn pairs_are_averaged_and_told_apart() {
    let model = support::tiny("qwen2");
    let (clean, corrupt) = (vec![CLEAN.to_vec(), vec![4, 4, 9, 11]], vec![CORRUPT.to_vec(), vec![4, 6, 9, 11]]);
    for sharing in [Sharing::Auto, Sharing::Forks] {
        let options = PatchingOptions { positions: Some(vec![1, -1]), sharing, ..PatchingOptions::default() };
        let both = activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &options).unwrap();
        let by_pair = both.raw_by_pair.unwrap();
        assert_eq!(by_pair.shape(), [2, model.num_layers(), 2]);
        assert_eq!(both.raw.axes[1].labels, ["1", "-1"]);
        for (pair, values) in by_pair.values.chunks(both.raw.values.len()).enumerate() {
            let alone =
                activation_patching(&model, clean[pair].clone(), corrupt[pair].clone(), metric(), &options).unwrap();
            assert!(apart(values, &alone.raw.values) < 1e-5);
            assert!((both.pairs[pair].clean - alone.clean).abs() < 1e-5);
        }
        let mean = (by_pair.values[0] + by_pair.values[both.raw.values.len()]) / 2.0;
        assert!((mean - both.raw.values[0]).abs() < 1e-6);
    }
}

#[test]
fn prompts_of_two_lengths_are_refused_or_aligned() {
    let model = support::tiny("llama");
    let (clean, corrupt) = (vec![1u32, 5, 9, 2], vec![1u32, 7, 7, 9, 2]);
    let error = activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &PatchingOptions::default());
    let error = error.unwrap_err();
    assert!(error.message().contains("4 tokens") && error.message().contains('5') && error.message().contains("align"));
    for sharing in [Sharing::Staircase, Sharing::Forks] {
        let align = Some(Align::Same(vec![(1, 2), (2, -2), (-1, -1)]));
        let options = PatchingOptions { align, sharing, ..PatchingOptions::of(Component::Mlp) };
        let found = activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &options).unwrap();
        assert_eq!(found.raw.shape(), [2, 3]);
        for layer in 0..2 {
            let site = Component::Mlp.site(layer);
            let value = model.trace(clean.clone()).unwrap().get(&site).unwrap();
            for (i, (from, to)) in [(1, 2), (2, 3), (3, 4)].into_iter().enumerate() {
                let row = tensor::slice(&value, &[0, from, 0], &[1, from + 1, 24], &[1, 1, 1]).unwrap();
                let trace = model.trace(corrupt.clone()).unwrap();
                trace.intervene(&site, Intervention::replace_with(row).positions(vec![to])).unwrap();
                assert!((found.raw.at(&[layer, i]) - last(&trace, 3, 7)).abs() < 2e-5);
            }
        }
        let pattern = PatchingOptions { align: options.align.clone(), ..PatchingOptions::of(Component::Pattern) };
        let error = activation_patching(&model, clean.clone(), corrupt.clone(), metric(), &pattern).unwrap_err();
        assert!(error.message().contains("one length"), "{error}");
    }
}

#[test]
fn measures_of_every_kind() {
    let model = support::tiny("llama");
    let run = |measure: Measure, sharing| {
        let options = PatchingOptions { sharing, ..PatchingOptions::of(Component::Z) };
        activation_patching(&model, CLEAN.to_vec(), CORRUPT.to_vec(), measure, &options).unwrap()
    };
    let mut all: Vec<Measure> = vec![
        Metric::KlDivergence.into(),
        Metric::Logit { answer: 3.into() }.into(),
        Metric::Probability { answer: 3.into() }.into(),
        Metric::LogProbability { answer: 3.into() }.into(),
    ];
    for kind in [DistanceKind::L2, DistanceKind::Mse, DistanceKind::Cosine] {
        all.extend([DistanceOf::Logits, DistanceOf::Residual].map(|of| Measure::from(Distance { kind, of })));
    }
    for measure in all {
        let away = matches!(measure, Measure::Distance(_) | Measure::Metric(Metric::KlDivergence));
        let (one, other) = (run(measure.clone(), Sharing::Staircase), run(measure, Sharing::Forks));
        assert!(apart(&one.raw.values, &other.raw.values) < 2e-5, "{}", one.measure);
        assert!(apart(&one.normalised.values, &other.normalised.values) < 1e-4, "{}", one.measure);
        if away {
            assert!(one.clean.abs() < 1e-6 && one.corrupt > 1e-4, "{}", one.measure);
            // The recovery: (d(corrupt) - d(patched)) / d(corrupt).
            let recovery = (one.corrupt - one.raw.values[0]) / one.corrupt;
            assert!((one.normalised.values[0] - recovery).abs() < 1e-4);
        }
    }
    let logits = |ids: [u32; 6]| model.trace(ids.to_vec()).unwrap().last_logits().unwrap().to_vec::<f32>().unwrap();
    let l2 = logits(CLEAN).iter().zip(logits(CORRUPT)).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    assert!((run(Distance::default().into(), Sharing::Auto).corrupt - l2).abs() < 1e-4);
}

#[test]
fn metrics_that_are_functions_see_whole_runs() {
    let model = support::tiny("llama");
    let function = Metric::custom(|trace: &Trace| {
        let logits = trace.output()?;
        let first = tensor::slice(&logits, &[0, 2, 3], &[logits.dim(0) as i32, 3, 4], &[1, 1, 1])?;
        tensor::reshape(&first, &[-1])
    });
    let found = activation_patching(&model, CLEAN.to_vec(), CORRUPT.to_vec(), function.clone(), &Default::default());
    let found = found.unwrap();
    assert!(!found.staircase);
    // What happens at position 2 is seen there, what happens behind it is not.
    assert!((found.raw.at(&[1, 2]) - found.corrupt).abs() > 1e-4);
    assert!((found.raw.at(&[1, 5]) - found.corrupt).abs() < 1e-6);
    let options = PatchingOptions { sharing: Sharing::Staircase, ..PatchingOptions::default() };
    let error = activation_patching(&model, CLEAN.to_vec(), CORRUPT.to_vec(), function, &options).unwrap_err();
    assert!(error.message().contains("function"), "{error}");
}

#[test]
fn interventions_hold_in_every_run() {
    let model = support::tiny("llama");
    let scaled = || ("layers.0.mlp".to_owned(), Intervention::scale(0.25));
    let options = PatchingOptions { interventions: vec![scaled()], ..PatchingOptions::of(Component::Attn) };
    let found = grid(&model, &options);
    let start = |ids: [u32; 6]| {
        let trace = model.trace(ids.to_vec()).unwrap();
        trace.intervene(&scaled().0, scaled().1).unwrap();
        trace
    };
    let value = start(CLEAN).get("layers.1.attn").unwrap();
    let trace = start(CORRUPT);
    trace.intervene("layers.1.attn", Intervention::replace_with(value).positions(vec![-1])).unwrap();
    assert!((found.raw.at(&[1, 5]) - last(&trace, 3, 7)).abs() < 2e-5);
    assert!((found.clean - last(&start(CLEAN), 3, 7)).abs() < 2e-5);
}

#[test]
fn the_induction_head_is_found() {
    let model = Model::load(support::fixture("induction").to_str().unwrap()).unwrap();
    // The word after " cat" is the answer; in the corrupted prompt something else stood there before.
    let (clean, corrupt) = (" cat dog moon tree cat", " cat moon dog tree cat");
    let metric = || Metric::logit_difference(" dog", " moon");
    let find =
        |component| activation_patching(&model, clean, corrupt, metric(), &PatchingOptions::of(component)).unwrap();
    let (place, share) = find(Component::Z).normalised.largest(1).remove(0);
    assert_eq!((place, share > 0.8), (vec![1, 6], true), "head 6 of layer 1 copies: {share}");
}

#[test]
fn cells_of_a_real_models_grid_are_single_runs() {
    let model = support::smollm2();
    let clean = "The Eiffel Tower in Europe is located in the city of";
    let corrupt = "The Louvre Museum in Europe is located in the city of";
    let metric = || Metric::logit_difference(" Paris", " Rome");
    let grid = activation_patching(&model, clean, corrupt, metric(), &PatchingOptions::default()).unwrap().raw;
    let largest = grid.values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let prepared = metric().prepare(&model, 1).unwrap();
    let source = model.trace(clean).unwrap();
    for (layer, position) in [(0, 0), (0, 2), (3, 11), (9, 4), (14, 2), (17, 7), (22, 11), (29, 1), (29, 11)] {
        let site = format!("layers.{layer}.resid_pre");
        let value = subscript(&source.get(&site).unwrap(), &[Index::At(0), Index::At(position)]).unwrap();
        let run = model.trace(corrupt).unwrap();
        run.set_at(&site, &[Index::At(0), Index::At(position)], &value).unwrap();
        let alone = prepared.of_trace(&run).unwrap().item().unwrap() as f32;
        let off = (alone - grid.at(&[layer, position as usize])).abs() / largest;
        assert!(off < 1e-5, "layer {layer}, position {position}: off by {off:.1e}");
    }
}
