//! A logit told apart, drawn: layers by components, layers by heads.

use super::grids::{bars, heatmap};
use crate::error::Result;
use crate::interpretability::lens::LogitAttribution;
use crate::utils::{Axis, Grid};

/// For each prompt: what the layers' components put into the number, their heads where these were told apart, and the rest.
pub fn attribution_figure(found: &LogitAttribution, title: &str) -> String {
    (0..found.prompts.len()).map(|prompt| of_prompt(found, prompt, title).unwrap_or_default()).collect()
}

fn of_prompt(found: &LogitAttribution, prompt: usize, title: &str) -> Result<String> {
    let row = &found.prompts[prompt];
    let remark = format!("{}: {:.3}. Blue parts raise it, red ones lower it.", found.name(prompt), row.logit);
    let mut figure = heatmap(&turned(&found.of_prompt(prompt)?)?, title, &remark);
    if !found.heads.is_empty() {
        figure += &heatmap(&turned(&found.heads_of_prompt(prompt)?)?, "By head", "");
    }
    let mut names: Vec<&str> = found.others.iter().map(|p| p.name.as_str()).collect();
    let mut values: Vec<f32> = found.others.iter().map(|p| p.values[prompt]).collect();
    names.push("remainder");
    values.push(row.remainder);
    let others = Grid::new(vec![Axis::new("part", names)], values)?;
    let neurons: Vec<_> = found.top_neurons.iter().filter(|n| n.prompt == prompt).collect();
    if !neurons.is_empty() {
        let axis = Axis::new("neuron", neurons.iter().map(|n| format!("layer {}, neuron {}", n.layer, n.neuron)));
        figure += &bars(&Grid::new(vec![axis], neurons.iter().map(|n| n.value).collect())?, "Largest neurons");
    }
    Ok(figure + &bars(&others, "Outside the layers"))
}

/// Rows and columns exchanged: many layers read better across.
fn turned(grid: &Grid) -> Result<Grid> {
    let (rows, columns) = (grid.axes[0].len(), grid.axes[1].len());
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| grid.at(&[r, c])).collect();
    Grid::new(vec![grid.axes[1].clone(), grid.axes[0].clone()], values)
}
