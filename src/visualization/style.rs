//! What all figures share: their style sheet, colours, and text made safe.

/// Styles of every figure, under a class of their own so that a fragment can stand in any page.
const STYLE: &str = "
.mlxterp { color-scheme: light dark; --ink: #1d2433; --paper: #ffffff; --faint: #6b7385; --line: #d8dce5;
  font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); padding: .75rem; }
@media (prefers-color-scheme: dark) { .mlxterp { --ink: #e8ebf2; --paper: #14171f; --faint: #98a0b3; --line: #333a48; } }
.mlxterp h2 { font-size: 1.05rem; margin: 0 0 .4rem; } .mlxterp p { color: var(--faint); margin: .2rem 0 .5rem; max-width: 48rem; }
.mlxterp .scroll { overflow-x: auto; }
.mlxterp table { border-collapse: separate; border-spacing: 2px; }
.mlxterp th { font-weight: 600; padding: .15rem .45rem; text-align: left; white-space: pre; }
.mlxterp th.side { text-align: right; color: var(--faint); font-weight: 400; }
.mlxterp td { padding: .15rem .45rem; border-radius: 3px; white-space: pre; font: 12px/1.4 ui-monospace, monospace; text-align: right; }
.mlxterp svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } .mlxterp svg .faint { fill: var(--faint); }
.mlxterp svg .line { stroke: var(--line); }
";

/// A fragment: title, remark (empty: none) and body.
pub(super) fn fragment(title: &str, remark: &str, body: &str) -> String {
    let remark = if remark.is_empty() { String::new() } else { format!("<p>{}</p>\n", escape(remark)) };
    format!(
        "<div class=\"mlxterp\"><style>{STYLE}</style>\n<h2>{}</h2>\n{remark}<div class=\"scroll\">{body}</div></div>\n",
        escape(title)
    )
}

/// A whole page around fragments.
pub fn page(title: &str, fragments: &[String]) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title></head>\n<body style=\"margin:1.5rem auto;max-width:76rem\">\n{}</body></html>\n",
        escape(title),
        fragments.concat()
    )
}

/// White space that would not show: line ends and tabs always, spaces where there is nothing else.
pub(super) fn visible(text: &str) -> String {
    let shown = text.replace('\n', "⏎").replace('\t', "⇥");
    if shown.trim().is_empty() { shown.replace(' ', "␣") } else { shown }
}

/// Text in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Ground and ink for a number between -1 and 1: red below zero, blue above, paper at zero. Light and dark of either hue
/// tell the same size.
pub(super) fn colour(share: f32) -> (String, &'static str) {
    if share.is_nan() {
        return ("#999".to_owned(), "#fff");
    }
    let share = share.clamp(-1.0, 1.0);
    let hue = if share < 0.0 { 12 } else { 212 };
    let light = 96.0 - 60.0 * share.abs();
    (format!("hsl({hue} 70% {light:.0}%)"), if light < 62.0 { "#fff" } else { "#1d2433" })
}
