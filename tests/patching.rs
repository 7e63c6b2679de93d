//! Activation patching against one trace a cell, both ways of sharing, exact cells, mistakes.

mod support;

use mlxterp::analysis::patching::{
    Align, Component, Direction, Distance, Measure, PatchingAxis as Axis, PatchingGrid, PatchingOptions, Sharing,
    activation_patching,
};
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::core::tensor;
use mlxterp::core::trace::Trace;
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

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn smollm2_speed() {
    let model = support::smollm2();
    let clean = "The Eiffel Tower in Europe is located in the city of";
    let corrupt = "The Louvre Museum in Europe is located in the city of";
    let (a, b) = (model.batch(clean).unwrap(), model.batch(corrupt).unwrap());
    println!("{:?} {:?}", a.lengths(), b.lengths());
    let metric = || Metric::logit_difference(" Paris", " Rome");
    model.forward(clean).unwrap().eval().unwrap();
    for _ in 0..1 {
        let (time, c) = (std::time::Instant::now(), cpu());
        for _ in 0..18 {
            model.forward(clean).unwrap().eval().unwrap();
        }
        println!("360 forwards: wall {:?} cpu {}", time.elapsed() * 20, (cpu() - c) * 20.0);
        let (time, c) = (std::time::Instant::now(), cpu());
        let found = activation_patching(&model, clean, corrupt, metric(), &PatchingOptions::default()).unwrap();
        println!("grid: wall {:?} cpu {} runs {}", time.elapsed(), cpu() - c, found.runs);
    }
}
