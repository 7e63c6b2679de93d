//! What a lens saw, as a table of tokens: no script, no font, no request.

use std::fmt::Write;

use super::style::{colour, escape, fragment, page, visible};
use crate::interpretability::lens::{LensCell, LogitLens, Reading, Shade};

/// A table for each prompt: a column a position, a row a layer (the last on top), the likeliest token in each cell.
pub fn lens_figure(lens: &LogitLens, shade: Shade, title: &str) -> String {
    let mut body = String::new();
    for reading in &lens.prompts {
        table(&mut body, lens, reading, shade);
    }
    let remark = format!(
        "Each cell is the token that the {} reads off {} there as the next one; darker is {}: {shade}. The pointer on a cell \
         shows its numbers.",
        lens.lens,
        lens.component,
        if shade == Shade::Probability { "likelier" } else { "nearer to settled" },
    );
    fragment(title, &remark, &body)
}

/// The figure as a whole page.
pub fn lens_page(lens: &LogitLens, shade: Shade, title: &str) -> String {
    page(title, &[lens_figure(lens, shade, title)])
}

fn table(body: &mut String, lens: &LogitLens, reading: &Reading, shade: Shade) {
    body.push_str("<table class=\"lens\">\n<tr><th class=\"side\">layer</th>");
    for token in &reading.tokens {
        let _ = write!(body, "<th>{}</th>", escape(&visible(token)));
    }
    body.push_str("</tr>\n");
    let numbers = reading.cells.iter().flatten().map(|c| c.number(shade));
    let most = numbers.filter(|v| v.is_finite()).fold(f32::MIN_POSITIVE, f32::max);
    for (name, row) in lens.layer_names().iter().zip(&reading.cells).rev() {
        let _ = write!(body, "<tr><th class=\"side\">{name}</th>");
        for (cell, token) in row.iter().zip(&reading.tokens) {
            let (ground, ink) = colour(depth(cell.number(shade), most, shade));
            let text = cell.top.first().map_or("", |c| c.text.as_str());
            let _ = write!(
                body,
                "<td style=\"background:{ground};color:{ink};text-align:left\" title=\"{}\">{}</td>",
                escape(&hint(token, cell)),
                escape(&visible(text))
            );
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
}

/// How dark a number is, from 0 to 1: likely, certain, near the end and high in rank are dark.
fn depth(number: f32, most: f32, shade: Shade) -> f32 {
    match shade {
        Shade::Probability => number,
        Shade::Entropy | Shade::Kl => 1.0 - number / most,
        Shade::Rank => 1.0 - number.ln() / most.max(2.0).ln(),
    }
}

/// What the pointer shows.
fn hint(token: &str, cell: &LensCell) -> String {
    let mut text = format!("after {}: ", visible(token));
    for c in &cell.top {
        let _ = write!(text, "{} {:.1} %, ", visible(&c.text), c.probability * 100.0);
    }
    let _ = write!(text, "entropy {:.3}, KL {:.3}", cell.entropy, cell.kl);
    for (what, s) in cell.next.iter().map(|s| ("next", s)).chain(cell.targets.iter().map(|s| ("asked", s))) {
        let _ = write!(text, ", {what} {}: {:.1} %, rank {}", visible(&s.text), s.probability * 100.0, s.rank);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpretability::lens::{Cell, Component, Standing};

    fn seen(rank: u32) -> LensCell {
        let next = Standing { token: 1, text: "<u>".into(), probability: 0.25, rank };
        let top = vec![Cell { token: 0, text: "<b>\"\n".into(), probability: 0.5 }];
        LensCell { top, entropy: 1.0, kl: 2.0, next: Some(next), targets: vec![] }
    }

    #[test]
    fn markup_in_tokens_is_text_and_the_last_layer_is_on_top() {
        let cells = vec![vec![seen(9)], vec![seen(1)]];
        let reading = Reading { positions: vec![0], tokens: vec!["<i>".into()], cells };
        let (component, layers) = (Component::ResidPost, vec![-1, 0]);
        let lens = LogitLens { lens: "logit lens", component, layers, targets: vec![], prompts: vec![reading] };
        let page = lens_page(&lens, Shade::Rank, "a & b");
        assert_eq!((visible(" "), visible(" a")), ("␣".to_owned(), " a".to_owned()));
        assert!(page.contains("&lt;b&gt;&quot;⏎</td>") && page.contains("<h2>a &amp; b</h2>"));
        assert!(!page.contains("<i>") && !page.contains("<u>") && !page.contains("http"));
        assert!(page.find(">0</th>") < page.find(">embed</th>"));
        // Rank 1 is darkest, the largest lightest.
        assert!(page.contains("hsl(212 70% 36%)") && page.contains("hsl(212 70% 96%)"));
    }
}
