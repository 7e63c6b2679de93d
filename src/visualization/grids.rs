//! Grids drawn: a heat map of two axes, bars of one.

use std::fmt::Write;

use super::style::{colour, escape, fragment, visible};
use crate::utils::Grid;

/// A table of cells, the first axis downwards, the second across; blue above zero, red below, darkest at the largest
/// number by size. Grids of other than two axes are shown as their text.
pub fn heatmap(grid: &Grid, title: &str, remark: &str) -> String {
    heatmap_up_to(grid, extent(&grid.values), title, remark)
}

/// A [`heatmap`] darkest at `most`, so that several can be compared.
pub fn heatmap_up_to(grid: &Grid, most: f32, title: &str, remark: &str) -> String {
    let [rows, columns] = grid.axes.as_slice() else {
        return fragment(title, remark, &format!("<pre>{}</pre>", escape(&grid.to_string())));
    };
    let mut body = String::from("<table>\n");
    let _ = write!(body, "<tr><th class=\"side\">{} \\ {}</th>", escape(&rows.name), escape(&columns.name));
    for label in &columns.labels {
        let _ = write!(body, "<th>{}</th>", escape(&visible(label)));
    }
    body.push_str("</tr>\n");
    for (r, label) in rows.labels.iter().enumerate() {
        let _ = write!(body, "<tr><th class=\"side\">{}</th>", escape(&visible(label)));
        for (c, column) in columns.labels.iter().enumerate() {
            let value = grid.at(&[r, c]);
            let (ground, ink) = colour(value / most);
            let _ = write!(
                body,
                "<td style=\"background:{ground};color:{ink}\" title=\"{} {}, {} {}: {value}\">{value:.2}</td>",
                escape(&rows.name),
                escape(label),
                escape(&columns.name),
                escape(&visible(column))
            );
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
    fragment(title, remark, &body)
}

/// Bars of a grid of one axis. Other grids are shown as their text.
pub fn bars(grid: &Grid, title: &str) -> String {
    let [axis] = grid.axes.as_slice() else {
        return fragment(title, "", &format!("<pre>{}</pre>", escape(&grid.to_string())));
    };
    let most = extent(&grid.values);
    let mut body = String::from("<table>\n");
    for (label, value) in axis.labels.iter().zip(&grid.values) {
        let (ground, _) = colour((value / most).signum() * 0.6);
        let width = if value.is_nan() { 0.0 } else { 300.0 * (value / most).abs() };
        let _ = writeln!(
            body,
            "<tr><th class=\"side\">{}</th><td style=\"text-align:left\"><span style=\"display:inline-block;height:.8em;\
             width:{width:.0}px;background:{ground}\"></span> {value:.4}</td></tr>",
            escape(&visible(label))
        );
    }
    body.push_str("</table>\n");
    fragment(title, "", &body)
}

/// The largest number by size; 1 where there is none.
fn extent(values: &[f32]) -> f32 {
    let most = values.iter().filter(|v| v.is_finite()).fold(0.0_f32, |m, v| m.max(v.abs()));
    if most > 0.0 { most } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utils::Axis;

    #[test]
    fn markup_in_labels_is_text_and_nothing_is_fetched() {
        let axes = vec![Axis::new("layer", ["<b>"]), Axis::new("position", ["a\n", "\""])];
        let drawn = heatmap(&Grid::new(axes, vec![1.0, f32::NAN]).unwrap(), "x & y", "<i>");
        assert!(drawn.contains("&lt;b&gt;") && drawn.contains("x &amp; y") && drawn.contains("a⏎"));
        assert!(
            !drawn.contains("<b>") && !drawn.contains("<i>") && !drawn.contains("http") && !drawn.contains("<script")
        );
        let drawn = bars(&Grid::new(vec![Axis::new("site", ["<b>"])], vec![-2.0]).unwrap(), "t");
        assert!(drawn.contains("width:300px") && !drawn.contains("<b>"));
    }
}
