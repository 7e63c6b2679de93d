//! The logit lens as a self-contained page: no script, no font, no request.

use std::fmt::Write;

use super::style::{escape, visible};
use crate::interpretability::lens::LogitLens;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2433; --paper: #ffffff; --faint: #6b7385; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf2; --paper: #14171f; --faint: #98a0b3; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } p { color: var(--faint); max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 2px; }
th { font-weight: 600; padding: .2rem .5rem; text-align: left; white-space: pre; }
th.layer { text-align: right; color: var(--faint); font-weight: 400; }
td { padding: .2rem .5rem; border-radius: 3px; white-space: pre; font: 13px/1.4 ui-monospace, monospace; min-width: 4.5rem; }
.key { display: inline-block; width: 12rem; height: .8rem; border-radius: 3px; vertical-align: middle; margin: 0 .5rem;
  background: linear-gradient(90deg, hsl(212 70% 96%), hsl(212 70% 66%), hsl(212 70% 36%)); }
";

/// An HTML page with the heat map: a column a position, a row a layer (the last on top), colour by probability.
pub fn lens_page(lens: &LogitLens, title: &str) -> String {
    let mut page = String::new();
    let title = escape(title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n<p>Each cell is the token the model would predict next if it stopped after that layer: \
         the residual stream there, through the final norm and the head. Hover for the probability.</p>\n\
         <p>0 %<span class=\"key\"></span>100 %</p>\n<div class=\"scroll\"><table>\n<tr><th></th>"
    );
    for token in &lens.tokens {
        let _ = write!(page, "<th>{}</th>", escape(&visible(token)));
    }
    page.push_str("</tr>\n");
    for (layer, row) in lens.cells.iter().enumerate().rev() {
        let _ = write!(page, "<tr><th class=\"layer\">layer {layer}</th>");
        for (cell, token) in row.iter().zip(&lens.tokens) {
            let p = cell.probability;
            // Perceived evenly: light blue to dark blue, white ink once the ground is dark.
            let light = 96.0 - 60.0 * p;
            let ink = if light < 62.0 { "#fff" } else { "#1d2433" };
            let _ = write!(
                page,
                "<td style=\"background:hsl(212 70% {light:.0}%);color:{ink}\" title=\"after {}: {:.1} %\">{}</td>",
                escape(&visible(token)),
                p * 100.0,
                escape(&visible(&cell.text))
            );
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div></body></html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpretability::lens::Cell;

    #[test]
    fn markup_in_tokens_is_text() {
        let cell = Cell { token: 0, text: "<b>\"\n".into(), probability: 0.5 };
        let page = lens_page(&LogitLens { tokens: vec!["<i>".into()], cells: vec![vec![cell]] }, "a & b");
        assert_eq!((visible(" "), visible(" a")), ("␣".to_owned(), " a".to_owned()));
        assert!(page.contains("&lt;b&gt;&quot;⏎</td>") && page.contains("<h1>a &amp; b</h1>"));
        assert!(!page.contains("<i>") && !page.contains("http"));
    }
}
