use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::ast::Expr;
use super::super::expressions::Line;
use super::super::lexer::{physical_lines, tokens};
use super::super::place::Source;
use super::*;

const LLAMA: &str = include_str!("../library/llama.arch");

/// Pieces that a description is made of, so that random text gets past the lexer now and then.
const PIECES: [&str; 40] = [
    "x", "ids", "layers", "q", "1", "0", "2.5", "'t'", "(", ")", "[", "]", "{", "}", ",", ":", "=", "==", "+", "-",
    "*", "**", "/", "//", "%", "@", ".", "...", " if ", " else ", " for ", " in ", " and ", " not ", "none", "true",
    "\n", "\n  ", "->", "linear",
];

fn expression(text: &str) -> Result<Expr> {
    let source = Source::new("random");
    let lines = physical_lines(&source, text)?;
    if lines.is_empty() {
        crate::error::bail!(Description, "empty");
    }
    let mut line = Line::new(&source, tokens(&source, &lines, 0)?.0);
    let e = line.expression()?;
    line.end("")?;
    Ok(e)
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Description::parse(&text, "random");
        let _ = Description::parse(&format!("arch mine\nMain(ids):\n  {text}"), "random");
        let _ = Description::parse(&format!("arch mine\nweights:\n  {text}"), "random");
    }

    #[test]
    fn words_of_the_language_in_any_order_are_read_or_refused(text in pieces()) {
        for around in ["arch mine\nMain(ids):\n  y = ", "arch mine\nconfig:\n  y = ", "arch mine\nMain(ids):\n  return ids + "] {
            if let Ok(d) = Description::parse(&format!("{around}{text}\n  return y\n"), "random") {
                let _ = elaborate(&d, &config(), &shapes());
            }
        }
    }

    #[test]
    fn a_damaged_llama_is_read_or_refused(at in 0..LLAMA.len(), length in 0usize..30, piece in pieces()) {
        let (Some(head), Some(tail)) = (LLAMA.get(..at), LLAMA.get((at + length).min(LLAMA.len())..)) else { return Ok(()) };
        if let Ok(d) = Description::parse(&format!("{head}{piece}{tail}"), "random") {
            let _ = elaborate(&d, &config(), &shapes());
        }
    }

    #[test]
    fn an_expression_prints_as_text_that_reads_back_the_same(text in pieces()) {
        if let Ok(e) = expression(&text) {
            let printed = e.to_string();
            // Printing adds brackets, which count as depth too.
            if let Ok(again) = expression(&printed) {
                prop_assert_eq!(again.to_string(), printed);
            } else {
                prop_assert!(printed.matches('(').count() > 20, "{} from {}", printed, text);
            }
        }
    }
}

#[test]
fn the_expressions_of_llama_print_and_read_back() {
    let mut seen = 0;
    for line in LLAMA.lines() {
        let Some((_, value)) = line.split_once(" = ").filter(|_| line.starts_with("  ")) else { continue };
        let Ok(e) = expression(value) else { continue };
        let printed = e.to_string();
        assert_eq!(expression(&printed).unwrap().to_string(), printed);
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}
