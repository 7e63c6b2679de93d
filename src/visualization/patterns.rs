//! Attention patterns drawn: a small square for each head.

use std::fmt::Write;

use super::style::{colour, escape, fragment, visible};
use crate::utils::Grid;

/// Weights below this are left white.
const FAINT: f32 = 0.02;
/// Longer prompts get smaller cells, within these.
const SQUARE: f32 = 150.0;
const CELL: (f32, f32) = (2.5, 12.0);

/// One square a head, queries downwards, keys across; a grid of axes "layer", "head", "query", "key". The pointer on a cell
/// shows which tokens it is of.
pub fn patterns(grid: &Grid, tokens: &[String], title: &str) -> String {
    let shape = grid.shape();
    let [layers, heads, queries, keys] = shape.as_slice() else {
        return fragment(title, "", &format!("<pre>{}</pre>", escape(&grid.to_string())));
    };
    let cell = (SQUARE / (*keys).max(1) as f32).clamp(CELL.0, CELL.1);
    let (width, height) = (cell * *keys as f32, cell * *queries as f32);
    let token = |i: usize| escape(&visible(tokens.get(i).map_or("", String::as_str)));
    let mut body = String::from("<table>\n");
    for l in 0..*layers {
        let _ = write!(body, "<tr><th class=\"side\">layer {}</th>", escape(&grid.axes[0].labels[l]));
        for h in 0..*heads {
            let _ = write!(
                body,
                "<td><svg role=\"img\" width=\"{width:.0}\" height=\"{:.0}\" xmlns=\"http://www.w3.org/2000/svg\">\
                 <text x=\"0\" y=\"11\">head {}</text><rect class=\"line\" x=\"0\" y=\"16\" width=\"{width:.1}\" \
                 height=\"{height:.1}\" fill=\"none\"/>",
                height + 17.0,
                escape(&grid.axes[1].labels[h]),
            );
            for q in 0..*queries {
                for k in 0..*keys {
                    let weight = grid.at(&[l, h, q, k]);
                    if weight < FAINT {
                        continue;
                    }
                    let _ = write!(
                        body,
                        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\" fill=\"{}\"><title>{} → {}: \
                         {weight:.2}</title></rect>",
                        cell * k as f32,
                        16.0 + cell * q as f32,
                        colour(weight).0,
                        token(q),
                        token(k),
                    );
                }
            }
            body.push_str("</svg></td>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
    fragment(title, "queries downwards, keys across", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utils::Axis;

    #[test]
    fn each_head_has_a_square_and_tokens_are_text() {
        let tokens = vec!["<b>".to_owned(), "\n".to_owned()];
        let axes = vec![
            Axis::new("layer", ["3"]),
            Axis::counted("head", 2),
            Axis::new("query", tokens.clone()),
            Axis::new("key", tokens.clone()),
        ];
        let grid = Grid::new(axes, vec![1.0, 0.0, 0.25, 0.75, 1.0, 0.0, 0.0, 1.0]).unwrap();
        let drawn = patterns(&grid, &tokens, "t");
        assert_eq!(drawn.matches("<svg").count(), 2);
        // A cell for every weight that is not faint.
        assert_eq!(drawn.matches("<title>").count(), 5);
        assert!(drawn.contains("⏎ → &lt;b&gt;: 0.25") && !drawn.contains("<b>"));
    }
}
