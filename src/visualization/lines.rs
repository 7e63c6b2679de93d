//! Lines drawn: the first axis across, a line for each place of the second.

use std::fmt::Write;

use super::style::{escape, fragment};
use crate::utils::Grid;

const COLOURS: [&str; 5] = ["#6b7385", "#2563eb", "#d97706", "#15803d", "#9333ea"];
const WIDTH: f32 = 620.0;
const HEIGHT: f32 = 240.0;
const LEFT: f32 = 56.0;
const BELOW: f32 = 34.0;

/// An SVG of lines over a grid of two axes, from 0 up. Other grids are shown as their text.
pub fn lines(grid: &Grid, title: &str, remark: &str) -> String {
    let [across, kinds] = grid.axes.as_slice() else {
        return fragment(title, remark, &format!("<pre>{}</pre>", escape(&grid.to_string())));
    };
    let numbers = grid.values.iter().filter(|v| v.is_finite());
    let (low, high) = numbers.fold((0.0_f32, f32::MIN_POSITIVE), |(l, h), v| (l.min(*v), h.max(*v)));
    let x = |i: usize| LEFT + (WIDTH - LEFT - 12.0) * i as f32 / (across.len().max(2) - 1) as f32;
    let y = |v: f32| 10.0 + HEIGHT * (high - v) / (high - low);
    let mut body = String::from("<p>");
    for (kind, colour) in kinds.labels.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(body, "<span style=\"color:{colour}\">■</span> {} &nbsp; ", escape(kind));
    }
    let _ = write!(
        body,
        "</p>\n<svg role=\"img\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 0 {WIDTH} {0}\">\n",
        HEIGHT + 10.0 + BELOW
    );
    for step in 0..=4 {
        let v = low + (high - low) * step as f32 / 4.0;
        let _ = writeln!(
            body,
            "<line class=\"line\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text class=\"faint\" x=\"{1}\" \
             y=\"{2:.1}\" text-anchor=\"end\">{v:.2}</text>",
            y(v),
            LEFT - 8.0,
            y(v) + 4.0
        );
    }
    // As many labels as have room.
    let every = across.len().div_ceil(16).max(1);
    for (i, label) in across.labels.iter().enumerate().step_by(every) {
        let _ = writeln!(
            body,
            "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(i),
            HEIGHT + 28.0,
            escape(label)
        );
    }
    for (k, (kind, colour)) in kinds.labels.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let points = (0..across.len()).map(|i| (i, grid.at(&[i, k]))).filter(|(_, v)| v.is_finite());
        let path: Vec<String> = points.clone().map(|(i, v)| format!("{:.1},{:.1}", x(i), y(v))).collect();
        let _ = writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (i, v) in points {
            let _ = writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{} {}, {}: {v:.4}</title></circle>",
                x(i),
                y(v),
                escape(&across.name),
                escape(&across.labels[i]),
                escape(kind)
            );
        }
    }
    let _ = write!(body, "</svg>\n<p>across: {}</p>\n", escape(&across.name));
    fragment(title, remark, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utils::Axis;

    #[test]
    fn a_line_for_each_kind_and_labels_are_text() {
        let axes = vec![Axis::counted("layer", 3), Axis::new("lens", ["<b>", "c"])];
        let drawn = lines(&Grid::new(axes, vec![1.0, 2.0, f32::NAN, 4.0, 0.0, 1.0]).unwrap(), "t", "r");
        assert_eq!((drawn.matches("<polyline").count(), drawn.matches("<circle").count()), (2, 5));
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("<b>") && !drawn.contains("http"));
    }
}
