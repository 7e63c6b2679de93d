//! Generation: the tokens that transformers gives, rows of a batch as alone, steering, text, and what goes wrong.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mlxterp::ErrorKind;
use mlxterp::core::generation::{Completion, Finish, GenerateOptions, OnStep, Sampling, Steering, When};
use mlxterp::core::intervention::{Condition, Intervention};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::text::{TextStream, Tokenizer};
use serde_json::{Map, Value};
use support::entry::{Entry, Stored};
use support::*;

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("generation/expected.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// Greedy without an end token.
fn open_ended(n: usize) -> GenerateOptions {
    GenerateOptions { eos: Some(Vec::new()), ..GenerateOptions::greedy(n) }
}

fn run(model: &Model, rows: &[Vec<u32>], options: &GenerateOptions) -> Vec<Completion> {
    model.generate(rows.to_vec(), options).unwrap().run().unwrap()
}

fn tokens(rows: &[Completion]) -> Vec<Vec<u32>> {
    rows.iter().map(|r| r.tokens.clone()).collect()
}

#[test]
fn smollm2_draws_the_tokens_that_transformers_draws() {
    let (model, expected) = (smollm2(), expected());
    let rows = expected["smollm2"].as_array().unwrap();
    let mut prompts = Vec::new();
    for row in rows {
        let batch = match &row["prompt"] {
            Value::String(text) => model.batch(text.as_str()).unwrap(),
            messages => model.chat(std::slice::from_ref(messages), &Map::new()).unwrap(),
        };
        assert_eq!(batch.rows()[0], ids(&row["ids"]), "{}", row["prompt"]);
        prompts.push(batch.rows()[0].clone());
    }
    // One padded batch; the first rows end long before the others.
    let got = run(&model, &prompts, &GenerateOptions::greedy(40));
    for (got, want) in got.iter().zip(rows) {
        assert_eq!(got.tokens, ids(&want["tokens"]), "{}", want["prompt"]);
        assert_eq!(got.text, want["text"].as_str().unwrap());
        let ended = got.tokens.last() == Some(&2);
        assert_eq!(got.finish, Some(if ended { Finish::Eos } else { Finish::Length }));
    }
    assert!(got.iter().any(|r| r.finish == Some(Finish::Eos)));
    assert!(got.iter().any(|r| r.finish == Some(Finish::Length)));
}

#[test]
fn models_with_sliding_windows_draw_the_tokens_that_transformers_draws() {
    for (name, rows) in expected()["tiny"].as_object().unwrap() {
        let model = tiny(name);
        let rows = rows.as_array().unwrap();
        let prompts: Vec<Vec<u32>> = rows.iter().map(|r| ids(&r["ids"])).collect();
        let got = run(&model, &prompts, &open_ended(24));
        for (got, want) in got.iter().zip(rows) {
            assert_eq!(got.tokens, ids(&want["tokens"]), "{name}");
        }
    }
}

/// Rows of unequal length, of which some end early and some late, in every architecture that can be continued.
#[test]
fn rows_of_a_batch_draw_what_they_draw_alone() {
    let (mut checked, mut skipped) = (0, Vec::new());
    for entry in Entry::chosen() {
        let Ok(model) = entry.load(Stored::Float32, &Default::default()) else { panic!("{}", entry.name) };
        let Some(whole) = entry.expected.has("ids").then(|| entry.ids()) else { continue };
        let prompts: Vec<Vec<u32>> = vec![whole[0].clone(), whole[0][..2].to_vec(), whole[0][1..].to_vec()];
        let first = match model.generate(prompts[0].clone(), &open_ended(6)).and_then(|g| g.run()) {
            Ok(rows) => rows[0].tokens.clone(),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Unsupported, "{}: {e}", entry.name);
                skipped.push(entry.name);
                continue;
            }
        };
        // The third token of the first row ends rows: some end there, others go on.
        let options = GenerateOptions { eos: Some(vec![first[2]]), ..GenerateOptions::greedy(6) };
        let alone: Vec<Vec<u32>> =
            prompts.iter().flat_map(|p| tokens(&run(&model, std::slice::from_ref(p), &options))).collect();
        assert_eq!(tokens(&run(&model, &prompts, &options)), alone, "{}", entry.name);
        checked += 1;
    }
    println!("{checked} checked, without: {skipped:?}");
    assert!(checked > 100 || support::entry::asked_for().is_some(), "{checked} checked, without: {skipped:?}");
}

#[test]
fn a_row_draws_the_same_whatever_stands_beside_it() {
    let model = tiny("llama");
    let sampling = Sampling { temperature: 1.0, top_p: 0.95, ..Sampling::default() };
    let options = |seed| GenerateOptions { sampling: sampling.clone(), seed, ..open_ended(20) };
    let prompts = [vec![5u32, 9, 33], vec![11, 60, 4, 4, 7], vec![5, 9, 33]];
    let together = tokens(&run(&model, &prompts, &options(7)));
    for (r, prompt) in prompts.iter().enumerate() {
        let alone = tokens(&run(&model, std::slice::from_ref(prompt), &options(7 + r as u64)));
        assert_eq!(together[r], alone[0]);
    }
    // Rows of the same prompt differ, seeds differ, and the same seed repeats itself.
    assert_ne!(together[0], together[2]);
    assert_eq!(together, tokens(&run(&model, &prompts, &options(7))));
    assert_ne!(together, tokens(&run(&model, &prompts, &options(8))));
}

#[test]
fn filtered_probabilities_are_those_of_transformers() {
    for case in expected()["sampling"].as_array().unwrap() {
        let number = |key: &str| case["settings"][key].as_f64();
        let sampling = Sampling {
            temperature: number("temperature").unwrap(),
            top_k: number("top_k").map(|k| k as usize),
            top_p: number("top_p").unwrap_or(1.0),
            min_p: number("min_p").unwrap_or(0.0),
        };
        let logits: Vec<f32> = case["logits"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let got = sampling.probabilities(&logits).unwrap();
        let kept: Vec<u32> = (0..got.len() as u32).filter(|i| got[*i as usize] > 0.0).collect();
        assert_eq!(kept, ids(&case["ids"]), "{sampling:?}");
        for (id, want) in kept.iter().zip(case["probabilities"].as_array().unwrap()) {
            let (got, want) = (got[*id as usize], want.as_f64().unwrap());
            assert!((got - want).abs() < 1e-6 * want, "{sampling:?} token {id}: {got} {want}");
        }
    }
}

/// Chi-square of 4000 first tokens against the probabilities: 63 degrees of freedom, so 110 is beyond one in 5000.
#[test]
fn draws_follow_the_probabilities() {
    let model = tiny("llama");
    let prompt = vec![5u32, 9, 33];
    let last = model.forward(prompt.clone()).unwrap();
    let logits = values(&last)[2 * 64..].to_vec();
    let sampling = Sampling::at(2.0);
    let wanted = sampling.probabilities(&logits).unwrap();
    let n = 4000;
    let options = GenerateOptions { sampling, seed: 11, ..open_ended(1) };
    let mut counts = vec![0.0; 64];
    for row in run(&model, &vec![prompt; n], &options) {
        counts[row.tokens[0] as usize] += 1.0;
    }
    let chi: f64 = wanted.iter().zip(&counts).map(|(p, c)| (c - p * n as f64).powi(2) / (p * n as f64)).sum();
    assert!(chi < 110.0 && chi > 25.0, "{chi}");
}

#[test]
fn greedy_takes_the_lower_of_two_equals_and_refuses_what_is_no_number() {
    let greedy = Sampling::default();
    assert_eq!(greedy.probabilities(&[1.0, 3.0, 3.0]).unwrap(), [0.0, 1.0, 0.0]);
    let e = greedy.probabilities(&[1.0, f32::NAN]).unwrap_err();
    assert!(e.message().contains("the logit of token 1 is NaN"), "{e}");
    assert!(greedy.probabilities(&[f32::NEG_INFINITY; 2]).is_err());
    let sure = Sampling { temperature: 1.0, ..Sampling::default() };
    assert_eq!(sure.probabilities(&[f32::NEG_INFINITY, 0.0]).unwrap(), [0.0, 1.0]);
}

#[test]
fn every_step_is_a_trace_that_can_be_read_and_written() {
    let model = tiny("llama");
    let plain = tokens(&run(&model, &[vec![5, 9, 33]], &open_ended(5)))[0].clone();
    let mut steps = 0;
    let generation = model.generate(vec![5u32, 9, 33], &open_ended(5)).unwrap();
    for step in generation.clone() {
        let step = step.unwrap();
        assert_eq!((step.number(), step.trace().step().unwrap()), (steps, steps));
        let width = if steps == 0 { 3 } else { 1 };
        assert_eq!(step.trace().get("layers.0.output").unwrap().shape()[..2], [1, width]);
        if steps == 2 {
            // Token 7 and no other.
            let mut forced = vec![0f32; 64];
            forced[7] = 1.0;
            step.trace().set("output", &Array::from_slice(&forced, &[64]).unwrap()).unwrap();
            assert_eq!(step.trace().receipts().unwrap()[0].step, 2);
        }
        let drawn = step.draw().unwrap()[0].clone().unwrap();
        assert_eq!(drawn.token, if steps == 2 { 7 } else { generation.rows().unwrap()[0].tokens[steps] });
        let late = step.trace().set("layers.1.output", &Array::scalar(0.0, tensor::Dtype::Float32).unwrap());
        assert_eq!(late.unwrap_err().kind(), ErrorKind::StaleWrite);
        steps += 1;
    }
    assert_eq!(steps, 5);
    let got = generation.rows().unwrap()[0].tokens.clone();
    assert_eq!(got[..2], plain[..2]);
    // What follows is the continuation of the tokens that were really drawn.
    let mut prefix = vec![5u32, 9, 33];
    prefix.extend(&got[..3]);
    assert_eq!(got[3..], tokens(&run(&model, &[prefix], &open_ended(2)))[0]);
    assert_eq!(generation.cache().unwrap().lengths(), [7]);
}

/// What a steered generation must give: each token anew from a whole forward with the same change at the right places.
fn by_hand(
    model: &Model,
    prompt: &[u32],
    n: usize,
    mut edit: impl FnMut(&[u32]) -> Vec<(String, Intervention)>,
) -> Vec<u32> {
    let mut all = prompt.to_vec();
    for _ in 0..n {
        let trace = model.trace(all.clone()).unwrap();
        for (site, change) in edit(&all) {
            trace.intervene(&site, change).unwrap();
        }
        let logits = values(&trace.output().unwrap());
        let last = &logits[logits.len() - model.vocab_size()..];
        let best = (0..last.len()).fold(0, |b, i| if last[i] > last[b] { i } else { b });
        all.push(best as u32);
    }
    all[prompt.len()..].to_vec()
}

fn direction() -> Array {
    let values: Vec<f32> = (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) * 0.4).collect();
    Array::from_slice(&values, &[24]).unwrap()
}

#[test]
fn steering_is_for_the_prompt_for_what_follows_or_for_both() {
    let model = tiny("mistral");
    let prompt = vec![5u32, 9, 33, 2, 17];
    let add = || Intervention::add_vector(direction(), 1.0);
    let plain = tokens(&run(&model, std::slice::from_ref(&prompt), &open_ended(8)))[0].clone();
    for when in [When::Prefill, When::Decode, When::Always] {
        let options = open_ended(8).steer(Steering::new("layers.1.output", add()).when(when));
        let got = tokens(&run(&model, &[prompt.clone(), prompt[..3].to_vec()], &options));
        for (row, prompt) in [(0, &prompt[..]), (1, &prompt[..3])] {
            let want = by_hand(&model, prompt, 8, |all| {
                let places: Vec<i64> = match when {
                    When::Prefill => (0..prompt.len() as i64).collect(),
                    When::Decode => (prompt.len() as i64..all.len() as i64).collect(),
                    When::Always => (0..all.len() as i64).collect(),
                };
                vec![("layers.1.output".to_owned(), add().positions(places))]
            });
            assert_eq!(got[row], want, "{when:?}");
        }
        assert_ne!(got[0], plain, "{when:?}");
    }
}

/// The probe's value at the last position of a plain run over these tokens.
fn probe(model: &Model, site: &str, all: &[u32]) -> f32 {
    let value = values(&model.trace(all.to_vec()).unwrap().get(site).unwrap());
    let direction = values(&direction());
    value[value.len() - 24..].iter().zip(direction).map(|(a, b)| a * b).sum()
}

#[test]
fn conditional_steering_follows_the_probe_row_by_row() {
    let model = tiny("llama");
    let prompts = [vec![5u32, 9, 33, 2], vec![11, 60], vec![3, 3, 3]];
    let change = || Intervention::add_vector(direction(), 3.0);
    // The change touches nothing that the probe's site sees: it is at the very end of the model, so a plain run over
    // the same tokens gives the probe's value at every step.
    let site = "layers.0.output";
    let middle: f32 = {
        let mut all: Vec<f32> = prompts.iter().map(|p| probe(&model, site, p)).collect();
        all.sort_by(f32::total_cmp);
        all[1] - 0.01
    };
    for above in [true, false] {
        let condition = || {
            let threshold = f64::from(middle) + 2.5;
            let of = if above { Condition::above } else { Condition::below };
            of(site, direction(), threshold).with_bias(2.5)
        };
        let options = open_ended(6).steer(Steering::new("norm.output", change()).only_while(condition()));
        let got = tokens(&run(&model, &prompts, &options));
        let (mut changed, mut unchanged) = (0, 0);
        for (row, prompt) in prompts.iter().enumerate() {
            let want = by_hand(&model, prompt, 6, |all| {
                let met = (probe(&model, site, all) > middle) == above;
                if met {
                    changed += 1
                } else {
                    unchanged += 1
                }
                let last = vec![-1i64];
                if met { vec![("norm.output".to_owned(), change().positions(last))] } else { Vec::new() }
            });
            assert_eq!(got[row], want, "row {row}, above {above}");
        }
        assert!(changed > 2 && unchanged > 2, "{changed} {unchanged}");
    }
}

/// The probe lies behind the change: what it said in the step before decides, and step 0 goes unchanged.
#[test]
fn a_probe_behind_the_change_decides_over_the_next_step() {
    let model = tiny("llama");
    let prompts = [vec![5u32, 9, 33, 2], vec![11, 60]];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let options =
        GenerateOptions {
            on_step: Some(OnStep::new(move |step| {
                let before = step.trace().get("layers.0.input")?;
                let after = step.trace().fork()?;
                let last = values(&after.get("layers.1.output")?);
                let width = step.trace().batch()?.width();
                let lengths = step.trace().batch()?.lengths().to_vec();
                let d = values(&direction());
                let at = |r: usize| &last[(r * width + lengths[r] - 1) * 24..][..24];
                let met: Vec<bool> =
                    (0..2).map(|r| at(r).iter().zip(&d).map(|(a, b)| a * b).sum::<f32>() > 0.0).collect();
                let changes = step.trace().receipts()?;
                keep.lock().unwrap().push((met, changes.first().map(|r| r.rows.clone()), before.dim(1)));
                Ok(())
            })),
            ..open_ended(12).steer(
                Steering::new("layers.0.output", Intervention::add_vector(direction(), 1.0))
                    .only_while(Condition::above("layers.1.output", direction(), 0.0)),
            )
        };
    run(&model, &prompts, &options);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].1.clone()), (12, None));
    let mut both = [0, 0];
    for (before, now) in seen.iter().zip(&seen[1..]) {
        let want: Vec<usize> = (0..2).filter(|r| before.0[*r]).collect();
        assert_eq!(now.1.as_ref().unwrap(), &want);
        before.0.iter().for_each(|met| both[usize::from(*met)] += 1);
    }
    assert!(both.iter().all(|n| *n > 0), "{both:?}");
}

#[test]
fn writes_by_hand_under_a_conditional_change_move_its_probe() {
    let model = tiny("llama");
    let condition = Condition::above("layers.0.output", direction(), 1e6);
    let options = open_ended(1).steer(Steering::new("layers.1.output", Intervention::zero_out()).only_while(condition));
    let mut generation = model.generate(vec![5u32, 9], &options).unwrap();
    let step = generation.next().unwrap().unwrap();
    // Built at the start, and not handed out: what it depends on may still be written.
    let huge = tensor::mul(&direction(), &Array::scalar(1e9, tensor::Dtype::Float32).unwrap()).unwrap();
    step.trace().set("layers.0.output", &huge).unwrap();
    assert!(values(&step.trace().get("layers.1.output").unwrap()).iter().all(|v| *v == 0.0));
}

#[test]
fn stop_strings_are_found_across_tokens_and_never_shown() {
    let model = smollm2();
    let prompts = ["Once upon a time", "Water freezes at zero degrees, and boils"];
    let free = model.generate(prompts, &GenerateOptions::greedy(30)).unwrap().run().unwrap();
    let stops = ["thriving metro".to_owned(), "The boil".to_owned()];
    let options = GenerateOptions { stop: stops.to_vec(), ..GenerateOptions::greedy(30) };
    let mut generation = model.generate(prompts, &options).unwrap();
    let mut shown = [String::new(), String::new()];
    for step in generation.by_ref() {
        for (text, drawn) in shown.iter_mut().zip(step.unwrap().draw().unwrap()) {
            *text += drawn.as_ref().map_or("", |d| &d.text);
        }
    }
    for (row, (free, got)) in free.iter().zip(generation.rows().unwrap()).enumerate() {
        assert_eq!((got.finish, got.stop.as_ref()), (Some(Finish::Stop), Some(&stops[row])));
        assert_eq!(got.text, free.text.split(&*stops[row]).next().unwrap());
        assert_eq!(got.text, shown[row]);
        assert!(got.tokens.len() < free.tokens.len());
        assert_eq!(got.tokens, free.tokens[..got.tokens.len()]);
    }
}

fn every_piece(tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::after(tokenizer, prompt).unwrap();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(tokenizer, *id).unwrap()).collect();
    pieces.push(stream.finish(tokenizer).unwrap());
    pieces
}

#[test]
fn text_streams_without_broken_characters_and_with_its_spaces() {
    let byte_level = smollm2().tokenizer().unwrap().clone();
    let pieces = Tokenizer::from_dir(fixture("tiny/tokenizer")).unwrap();
    let texts = ["naïve café, 東京 🙂👩‍👩‍👧 x", " Two  spaces\n\tand\u{301} a tab ", "ﷺ ends 🙂"];
    for tokenizer in [&byte_level, &pieces] {
        for text in texts {
            let ids = tokenizer.encode(text, false).unwrap();
            for cut in 0..ids.len() {
                let got = every_piece(tokenizer, &ids[..cut], &ids[cut..]);
                let before = tokenizer.decode(&ids[..cut], true).unwrap();
                let rest =
                    tokenizer.decode(&ids, true).unwrap()[before.trim_end_matches('\u{FFFD}').len()..].to_owned();
                assert_eq!(got.concat(), rest, "{text:?} cut at {cut}");
                assert!(got[..got.len() - 1].iter().all(|p| !p.contains('\u{FFFD}')), "{got:?}");
            }
        }
    }
    // Part of a character at the very end comes out as what it is, once.
    let ids = byte_level.encode("a 東", false).unwrap();
    let got = every_piece(&byte_level, &[], &ids[..ids.len() - 1]);
    assert_eq!(got.concat(), byte_level.decode(&ids[..ids.len() - 1], true).unwrap());
    assert!(got[..got.len() - 1].iter().all(|p| !p.contains('\u{FFFD}')));
}

#[test]
fn mistakes_are_refused_before_anything_runs() {
    let model = tiny("llama");
    let prompt = || vec![5u32, 9];
    let bad = |change: &dyn Fn(&mut GenerateOptions), says: &str| {
        let mut options = open_ended(4);
        change(&mut options);
        let e = model.generate(prompt(), &options).map(drop).unwrap_err();
        assert!(e.message().contains(says), "{e}");
    };
    bad(&|o| o.max_tokens = 0, "max_tokens is 0");
    for t in [-0.5, f64::NAN, f64::INFINITY] {
        bad(&|o| o.sampling.temperature = t, "temperature is");
    }
    for p in [0.0, 1.5, -1.0, f64::NAN] {
        bad(&|o| o.sampling.top_p = p, "top_p is");
    }
    bad(&|o| o.sampling.min_p = 2.0, "min_p is 2");
    bad(&|o| o.sampling.min_p = f64::NAN, "min_p is NaN");
    bad(&|o| o.sampling.top_k = Some(0), "top_k is 0");
    bad(&|o| o.stop = vec![String::new()], "a stop string is empty");
    bad(&|o| o.stop = vec!["x".into()], "stop strings are looked for in text");
    bad(&|o| o.eos = Some(vec![64]), "eos id 64 is out of range");
    bad(&|o| o.steering = vec![Steering::new("layers.9.output", Intervention::zero_out())], "layers.9");
    let at = |site: &str| Condition::above(site, direction(), 0.0);
    let steer = |c: Condition| vec![Steering::new("layers.1.output", Intervention::zero_out()).only_while(c)];
    bad(&|o| o.steering = steer(at("layers.9.output")), "layers.9");
    bad(&|o| o.steering = steer(at("layers.0.output").with_bias(f64::NAN)), "bias NaN");
    for (prompts, says) in
        [(vec![], "empty batch"), (vec![vec![]], "the prompt is empty"), (vec![vec![99]], "out of range")]
    {
        let e = model.generate(prompts, &open_ended(1)).map(drop).unwrap_err();
        assert!(e.message().contains(says), "{e}");
    }
    // What only the first step can see is an error of the first step.
    let short = Condition::above("layers.0.output", Array::from_slice(&[1f32], &[1]).unwrap(), 0.0);
    for condition in [short, at("layers.0.attn.q")] {
        let options = GenerateOptions { steering: steer(condition), ..open_ended(1) };
        let e = model.generate(prompt(), &options).unwrap().run().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Shape, "{e}");
    }
    let e = model.chat(&[], &Map::new()).map(drop).unwrap_err();
    assert!(e.message().contains("has no tokenizer"), "{e}");
}

#[test]
fn a_context_that_runs_out_is_an_error_that_keeps_what_there_is() {
    let model = tiny("llama");
    let context = model.context_length().unwrap();
    let long: Vec<u32> = (0..context as u32 - 3).map(|i| i % 64).collect();
    let generation = model.generate(vec![long, vec![5, 9]], &open_ended(20)).unwrap();
    let e = generation.run().unwrap_err();
    assert!(e.message().contains("step 4") && e.message().contains("context has"), "{e}");
    assert!(generation.is_done().unwrap() && generation.advance().unwrap().is_none());
    assert_eq!(generation.rows().unwrap()[0].tokens.len(), 4);
    // A row that has ended needs no more room, however long the others go on.
    let long: Vec<u32> = (0..context as u32 - 1).map(|i| i % 64).collect();
    let first = tokens(&run(&model, std::slice::from_ref(&long), &open_ended(1)))[0][0];
    let alone = tokens(&run(&model, &[vec![5, 9]], &open_ended(20)))[0].clone();
    if !alone.contains(&first) {
        let options = GenerateOptions { eos: Some(vec![first]), ..GenerateOptions::greedy(20) };
        assert_eq!(tokens(&run(&model, &[long, vec![5, 9]], &options)), [vec![first], alone]);
    } else {
        panic!("choose another prompt: both rows draw {first}");
    }
}

#[test]
fn a_callback_that_fails_ends_the_generation_and_nothing_else() {
    let model = tiny("llama");
    let plain = tokens(&run(&model, &[vec![5, 9]], &open_ended(6)));
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let fails = GenerateOptions {
        on_step: Some(OnStep::new(move |step| {
            count.fetch_add(1, Ordering::Relaxed);
            match step.number() {
                3 => Err(mlxterp::Error::new(ErrorKind::Callback, "enough")),
                _ => Ok(()),
            }
        })),
        ..open_ended(6)
    };
    let generation = model.generate(vec![5u32, 9], &fails).unwrap();
    let e = generation.run().unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Callback, "enough"));
    assert_eq!(generation.rows().unwrap()[0].tokens, plain[0][..3]);
    assert!(generation.is_done().unwrap());
    // An intervention of the user's that fails in a later step, and one that looks at its step.
    let hook = Intervention::custom("third", move |event, _| match event.step {
        2 => Err(mlxterp::Error::new(ErrorKind::Callback, "no third step")),
        _ => Ok(None),
    });
    let options = open_ended(6).steer(Steering::new("layers.0.output", hook));
    let e = model.generate(vec![5u32, 9], &options).unwrap().run().unwrap_err();
    assert!(e.message().contains("no third step"), "{e}");
    drop((generation, fails));
    assert_eq!((Arc::strong_count(&calls), calls.load(Ordering::Relaxed)), (1, 4));
    assert_eq!(tokens(&run(&model, &[vec![5, 9]], &open_ended(6))), plain);
}

#[test]
fn strict_steering_that_changes_nothing_is_an_error() {
    let model = tiny("llama");
    let steering = Steering::new("layers.0.output", Intervention::scale(1.0)).when(When::Decode);
    let options = GenerateOptions { strict: true, ..open_ended(3).steer(steering) };
    let e = model.generate(vec![5u32, 9], &options).unwrap().run().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Strict);
    assert!(e.message().contains("step 1"), "{e}");
}

#[test]
fn noise_differs_from_step_to_step() {
    let model = tiny("llama");
    let options = open_ended(3).steer(Steering::new("layers.0.output", Intervention::noise(1.0, 3)));
    let mut seen = Vec::new();
    for step in model.generate(vec![5u32], &options).unwrap() {
        let step = step.unwrap();
        let after = values(&step.trace().get("layers.0.output").unwrap());
        let ids = step.trace().batch().unwrap().rows()[0].clone();
        seen.push((ids, after, step.trace().receipts().unwrap()[0].change_norm));
    }
    assert!(seen[1].2 != seen[2].2 && seen[0].2 != seen[1].2, "{seen:?}");
}
