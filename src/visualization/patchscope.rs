//! What a patchscope read: a row a layer, the last on top.

use std::fmt::Write;

use super::style::{colour, escape, fragment, visible};
use crate::interpretability::lens::Patchscope;

/// A table of continuations, darker where the first token is likelier.
pub fn patchscope_figure(found: &Patchscope, title: &str) -> String {
    let mut body = String::from("<table>\n<tr><th class=\"side\">layer</th><th class=\"side\">into</th>");
    body.push_str("<th>next token</th><th>continuation</th>");
    let targets = found.rows.first().map_or(&[][..], |row| &row.targets);
    for target in targets {
        let _ = write!(body, "<th>{}</th>", escape(&visible(&target.text)));
    }
    body.push_str("</tr>\n");
    for row in found.rows.iter().rev() {
        let (odds, text) = row.top.first().map_or((0.0, ""), |c| (c.probability, c.text.as_str()));
        let (ground, ink) = colour(odds);
        let top: Vec<String> =
            row.top.iter().map(|c| format!("{} {:.1} %", visible(&c.text), c.probability * 100.0)).collect();
        let _ = write!(
            body,
            "<tr><th class=\"side\">{}</th><th class=\"side\">{}</th><td style=\"background:{ground};color:{ink};text-align:left\" \
             title=\"{}\">{}</td><td style=\"text-align:left\">{}</td>",
            row.layer,
            row.target_layer,
            escape(&top.join(", ")),
            escape(&visible(text)),
            escape(&visible(&row.continuation))
        );
        for target in &row.targets {
            let _ = write!(body, "<td>{:.1} %, rank {}</td>", target.probability * 100.0, target.rank);
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
    let remark = format!(
        "The state of {:?} after each layer stands in for position {} of {:?}; what the model says next.",
        visible(&found.token),
        found.target_position,
        found.target.concat()
    );
    fragment(title, &remark, &body)
}
