//! What loading a model costs: seconds and memory, by billion parameters.
//!
//! ```console
//! cargo run --release --example load_cost -- MODEL [--packed]
//! cargo run --release --example load_cost -- synthetic
//! ```
//!
//! `synthetic` writes a Llama of a billion parameters in bfloat16 to a temporary directory (2 GB) and loads that. One
//! model a process, since the peak is the process's.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use mlxterp::core::model::{LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(source) = arguments.next() else {
        return Err("usage: load_cost MODEL|synthetic [--packed]".into());
    };
    let packed = arguments.any(|a| a == "--packed");
    let made = if source == "synthetic" { Some(tempfile::tempdir()?) } else { None };
    let path = match &made {
        Some(dir) => {
            write_billion(dir.path())?;
            dir.path().to_string_lossy().into_owned()
        }
        None => source,
    };
    let before = peak()?;
    let options = LoadOptions { keep_quantised: packed.then_some(true), ..LoadOptions::default() };
    let start = Instant::now();
    let model = Model::load_with(&path, &options, None)?;
    let seconds = start.elapsed().as_secs_f64();
    let billions = model.parameters().count() as f64 / 1e9;
    let held = model.parameters().byte_size() as f64 / 1e9;
    let peak = (peak()? - before) as f64 / 1e9;
    println!("parameters        {:8.3} billion", billions);
    println!("load              {seconds:8.2} s, {:.2} s per billion", seconds / billions);
    println!("held              {held:8.3} GB");
    println!(
        "peak of the load  {peak:8.3} GB, {:.2} times what is held, {:.2} GB per billion",
        peak / held,
        peak / billions
    );
    Ok(())
}

/// The most memory the process has had, in bytes.
fn peak() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

const LAYERS: usize = 16;
const HIDDEN: usize = 2048;
const INNER: usize = 8192;
const VOCABULARY: usize = 32000;
const KEYS: usize = 512;

/// A Llama of a billion parameters, the numbers in it of no meaning.
fn write_billion(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".into(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in &shapes {
        let end = at + shape.iter().product::<usize>() * 2;
        header.insert(name.clone(), serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = serde_json::to_vec(&header)?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(dir.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    // Small numbers of both signs, so that no page is a hole in the file.
    let pattern: Vec<u8> = (0..1u32 << 19).flat_map(|i| [(i * 37) as u8, 0x3c | (i & 0x80) as u8]).collect();
    let mut left = at;
    while left > 0 {
        let n = left.min(pattern.len());
        file.write_all(&pattern[..n])?;
        left -= n;
    }
    file.flush()?;
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "intermediate_size": INNER,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "max_position_embeddings": 8192, "tie_word_embeddings": true,
    });
    std::fs::write(dir.join("config.json"), config.to_string())?;
    Ok(())
}
