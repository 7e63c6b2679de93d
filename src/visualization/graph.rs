//! Graphs drawn: nodes in ranks from the bottom up, edges as curves.

use std::fmt::Write;

use super::style::{escape, fragment};

/// A node of a drawing.
#[derive(Clone, Debug)]
pub struct GraphNode {
    /// What stands in it.
    pub label: String,
    /// How high it stands: 0 is the bottom. Ranks without nodes take no room.
    pub rank: usize,
}

/// An edge of a drawing.
#[derive(Clone, Debug)]
pub struct GraphEdge {
    /// Number of the node it starts at.
    pub from: usize,
    /// Number of the node it ends at.
    pub to: usize,
    /// Wide where it is large by size, dashed below zero.
    pub weight: f32,
    /// Which colour: a place in the kinds of the drawing.
    pub kind: usize,
    /// Shown while the pointer is on it.
    pub title: String,
}

const COLOURS: [&str; 5] = ["#6b7385", "#2563eb", "#d97706", "#15803d", "#9333ea"];
/// Between the middles of two nodes; size of a node; around everything.
const STEP_X: f32 = 86.0;
const STEP_Y: f32 = 84.0;
const BOX_X: f32 = 64.0;
const BOX_Y: f32 = 26.0;
const MARGIN: f32 = 24.0;
/// To the left and right, where long edges swing out.
const SIDE: f32 = 72.0;

/// An SVG of a graph. `kinds` are the names of the edges' colours, at most five.
pub fn graph(nodes: &[GraphNode], edges: &[GraphEdge], kinds: &[&str], title: &str, remark: &str) -> String {
    let places = places(nodes, edges);
    let width = places.iter().fold(0.0_f32, |m, (x, _)| m.max(*x)) + BOX_X / 2.0 + SIDE;
    let height = places.iter().fold(0.0_f32, |m, (_, y)| m.max(*y)) + BOX_Y / 2.0 + MARGIN;
    let most = edges.iter().filter(|e| e.weight.is_finite()).fold(0.0_f32, |m, e| m.max(e.weight.abs()));
    let mut body = String::from("<p>");
    for (kind, colour) in kinds.iter().zip(COLOURS) {
        let _ = write!(body, "<span style=\"color:{colour}\">■</span> {} &nbsp; ", escape(kind));
    }
    let _ = write!(
        body,
        "dashed: below zero</p>\n<svg role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    );
    for e in edges {
        let ((x1, y1), (x2, y2)) = (places[e.from], places[e.to]);
        let (y1, y2) = (y1 - BOX_Y / 2.0, y2 + BOX_Y / 2.0);
        // Several kinds between two nodes run beside each other; long edges swing out, past what stands between.
        let aside = (e.kind as f32 - 1.5) * 7.0;
        let over = (y1 - y2) / STEP_Y - 1.0;
        let swing = if over > 0.0 { aside.signum() * (BOX_X + 7.0 * over) } else { 0.0 };
        let bend = (y1 - y2) * 0.45;
        let wide = if most > 0.0 && e.weight.is_finite() { 0.8 + 3.7 * e.weight.abs() / most } else { 1.0 };
        let dash = if e.weight < 0.0 { " stroke-dasharray=\"6 4\"" } else { "" };
        let _ = writeln!(
            body,
            "<path d=\"M{:.1} {y1:.1} C{:.1} {:.1} {:.1} {:.1} {:.1} {y2:.1}\" fill=\"none\" stroke=\"{}\" \
             stroke-width=\"{wide:.2}\" stroke-opacity=\".8\"{dash}><title>{}</title></path>",
            x1 + aside / 2.0,
            x1 + aside + swing,
            y1 - bend,
            x2 + aside + swing,
            y2 + bend,
            x2 + aside,
            COLOURS[e.kind % COLOURS.len()],
            escape(&e.title)
        );
    }
    for (node, (x, y)) in nodes.iter().zip(&places) {
        let _ = writeln!(
            body,
            "<rect class=\"line\" x=\"{:.1}\" y=\"{:.1}\" width=\"{BOX_X}\" height=\"{BOX_Y}\" rx=\"6\" \
             fill=\"var(--paper)\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x - BOX_X / 2.0,
            y - BOX_Y / 2.0,
            y + 4.0,
            escape(&node.label)
        );
    }
    body.push_str("</svg>\n");
    fragment(title, remark, &body)
}

/// The middle of every node: ranks from the bottom up, each rank in the middle of the drawing, ordered so that nodes
/// stand near those they are connected with.
fn places(nodes: &[GraphNode], edges: &[GraphEdge]) -> Vec<(f32, f32)> {
    let mut used: Vec<usize> = nodes.iter().map(|n| n.rank).collect();
    used.sort_unstable();
    used.dedup();
    let mut ranks: Vec<Vec<usize>> = vec![Vec::new(); used.len()];
    for (i, node) in nodes.iter().enumerate() {
        ranks[used.binary_search(&node.rank).unwrap_or_default()].push(i);
    }
    let widest = ranks.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let middle = (widest as f32 - 1.0) / 2.0;
    let mut x = vec![0.0_f32; nodes.len()];
    let set = |rank: &[usize], x: &mut [f32]| {
        let first = middle - (rank.len() as f32 - 1.0) / 2.0;
        rank.iter().enumerate().for_each(|(place, node)| x[*node] = first + place as f32);
    };
    ranks.iter().for_each(|rank| set(rank, &mut x));
    for sweep in 0..4 {
        let mut order: Vec<usize> = (0..ranks.len()).collect();
        if sweep % 2 == 1 {
            order.reverse();
        }
        for r in order {
            let near = |node: usize| {
                let others: Vec<f32> = edges
                    .iter()
                    .filter_map(|e| if e.from == node { Some(x[e.to]) } else { (e.to == node).then(|| x[e.from]) })
                    .collect();
                if others.is_empty() { x[node] } else { others.iter().sum::<f32>() / others.len() as f32 }
            };
            let mut rank: Vec<(f32, usize)> = ranks[r].iter().map(|n| (near(*n), *n)).collect();
            rank.sort_by(|a, b| a.0.total_cmp(&b.0));
            ranks[r] = rank.into_iter().map(|(_, n)| n).collect();
            set(&ranks[r], &mut x);
        }
    }
    let top = used.len() as f32 - 1.0;
    let height = |node: &GraphNode| used.binary_search(&node.rank).unwrap_or_default() as f32;
    let place = |(node, x): (&GraphNode, f32)| {
        (SIDE + BOX_X / 2.0 + x * STEP_X, MARGIN + BOX_Y / 2.0 + (top - height(node)) * STEP_Y)
    };
    nodes.iter().zip(x).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_in_ranks_and_labels_are_text() {
        let node = |label: &str, rank| GraphNode { label: label.to_owned(), rank };
        let nodes = [node("<b>", 0), node("b", 4), node("c", 4), node("d", 9)];
        let edge = |from, to, weight| GraphEdge { from, to, weight, kind: 1, title: "<i>".to_owned() };
        let edges = [edge(0, 1, 1.0), edge(1, 3, -2.0), edge(0, 3, f32::NAN)];
        let places = places(&nodes, &edges);
        assert!(places[0].1 > places[1].1 && places[1].1 > places[3].1 && places[1].1 == places[2].1);
        assert!((places[1].0 - places[2].0).abs() >= STEP_X);
        let drawn = graph(&nodes, &edges, &["other", "query"], "t", "");
        assert_eq!((drawn.matches("<path").count(), drawn.matches("<rect").count()), (3, 4));
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("<b>") && !drawn.contains("<i>"));
        assert!(drawn.contains("stroke-dasharray") && !drawn.contains("NaN") && !drawn.contains("<script"));
    }
}
