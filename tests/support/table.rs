//! The support table of docs/architectures.md: written by the test that measured it (`BLESS=1`), compared otherwise.

use std::collections::BTreeMap;

use mlxterp::core::arch::library;
use mlxterp::core::tensor::uses_cpu;

const PAGE: &str = "docs/architectures.md";
const START: &str = "<!-- written by BLESS=1 cargo test --test architectures -->\n";
const END: &str = "<!-- end of the table -->";
const HEAD: &str = "| model type | description | reference | float32 | bfloat16 | 4 bits | padded | steps | values | what mlx-lm does otherwise |
|---|---|---|---|---|---|---|---|---|---|
";
/// How much larger than the printed figure another machine's may be.
const OTHER_MACHINES: f32 = 5.0;
/// The columns with figures, by the kinds of comparison that they hold.
const FIGURES: [&[&str]; 5] = [&["logits", "transformers", "sites"], &["bf16"], &["packed"], &["padded"], &["steps"]];

/// What all entries of one model type found.
#[derive(Default)]
pub struct Row {
    pub description: String,
    pub references: Vec<String>,
    pub worst: BTreeMap<&'static str, f32>,
    pub compared: usize,
    pub apart: usize,
    pub deviations: Vec<String>,
}

impl Row {
    fn figure(&self, kinds: &[&str]) -> Option<f32> {
        kinds.iter().filter_map(|k| self.worst.get(k).copied()).reduce(f32::max)
    }

    fn text(&self, model_type: &str) -> String {
        let figures: Vec<String> =
            FIGURES.iter().map(|k| self.figure(k).map_or_else(|| "–".to_owned(), step)).collect();
        let deviations: String = self.deviations.iter().map(|d| format!(" {d};")).collect();
        let deviations = deviations.trim_end_matches(';');
        format!(
            "| `{model_type}` | `{}` | {} | {} | {} of {} |{} |\n",
            self.description,
            self.references.join(", "),
            figures.join(" | "),
            self.compared,
            self.compared + self.apart,
            deviations,
        )
    }
}

/// The next of 1, 2, 5, 10… in the figure's power of ten: what is printed moves little between machines.
fn step(figure: f32) -> String {
    if figure == 0.0 {
        return "0".to_owned();
    }
    let power = figure.log10().floor() as i32;
    let digit = [1, 2, 5].into_iter().find(|d| figure <= *d as f32 * 10f32.powi(power));
    let (digit, power) = digit.map_or((1, power + 1), |d| (d, power));
    format!("{digit}e{power}")
}

/// Whether the table is to be written.
pub fn blessed() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

/// Writes or compares. Every type of the library has to have its row.
pub fn same(rows: &BTreeMap<String, Row>) {
    let path = super::root().join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(START).expect("docs/architectures.md has a place for the table");
    let (committed, after) = rest.split_once(END).expect("the table has an end");
    let types = library::supported();
    let untested: Vec<&&str> = types.iter().filter(|t| !rows.contains_key(**t)).collect();
    assert!(untested.is_empty(), "no entry in tests/fixtures/architectures tests {untested:?}");
    let texts: String = types.iter().map(|t| rows[*t].text(t)).collect();
    let whole = format!("\n{HEAD}{texts}\n");
    if blessed() {
        std::fs::write(&path, format!("{before}{START}{whole}{END}{after}")).unwrap();
        return;
    }
    let hint = "run `BLESS=1 cargo test --test architectures` and commit it";
    let (now, then): (Vec<&str>, Vec<&str>) = (whole.lines().collect(), committed.lines().collect());
    assert_eq!(now.len(), then.len(), "{PAGE}: the table has {} lines, should have {}: {hint}", then.len(), now.len());
    for (now, then) in now.iter().zip(&then) {
        let (now_cells, then_cells): (Vec<&str>, Vec<&str>) = (now.split(" | ").collect(), then.split(" | ").collect());
        let fits = now_cells.len() == then_cells.len() && now_cells.iter().zip(&then_cells).all(|(n, t)| fits(n, t));
        assert!(fits, "{PAGE} has\n{then}\nshould have\n{now}\n{hint}");
    }
}

/// The same text, or a figure that is not much larger than what is printed.
fn fits(now: &str, printed: &str) -> bool {
    match (now.parse::<f32>(), printed.parse::<f32>()) {
        (Ok(now), Ok(printed)) => now <= printed.max(1e-7) * OTHER_MACHINES || !uses_cpu(),
        _ => now == printed,
    }
}
