//! `mlxterp generate`.

use std::io::{IsTerminal, Write};

use clap::Args;
use mlxterp::core::generation::{GenerateOptions, Sampling, Steering, When};
use mlxterp::core::intervention::Intervention;
use mlxterp::{Error, ErrorKind, Result};
use serde_json::json;

use crate::{load::Source, print_json, say};

/// Continue a text token by token, or answer it.
#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    model: Source,
    /// The prompt.
    prompt: String,
    /// The prompt is what a user says: write it as the model's chat template does.
    #[arg(long)]
    chat: bool,
    /// What the system says first; with --chat.
    #[arg(long, requires = "chat")]
    system: Option<String>,
    /// The most tokens.
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
    /// 0 takes the most likely token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw among the K most likely tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the most likely tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Draw among tokens at least this many times as likely as the most likely one.
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// The same seed draws the same tokens.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End at this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Change a site in every step: SITE=zero_out, SITE=scale(0.5), SITE=clamp(-1, 1), or JSON after the =.
    #[arg(long, value_name = "SITE=INTERVENTION")]
    set: Vec<String>,
    /// In which steps the changes are made: prefill, decode or always.
    #[arg(long, default_value = "always", value_name = "STEPS")]
    when: String,
    /// A change that changes nothing is an error.
    #[arg(long)]
    strict: bool,
    /// Tokens and text as JSON, at the end.
    #[arg(long)]
    json: bool,
}

impl Generate {
    /// Writes the text as it comes.
    pub fn run(&self) -> Result<()> {
        let options = self.options()?;
        let model = self.model.load()?;
        let batch = if self.chat {
            let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
            let user = json!({ "role": "user", "content": self.prompt });
            model.chat(&[system.chain([user]).collect()], &serde_json::Map::new())?
        } else {
            model.batch(self.prompt.as_str())?
        };
        let generation = model.generate_batch(batch, &options)?;
        if self.json {
            return print_json(&generation.run()?);
        }
        while let Some(step) = generation.advance()? {
            for drawn in step.draw()?.iter().flatten() {
                if !shown(&drawn.text)? {
                    return Ok(());
                }
            }
        }
        if std::io::stdout().is_terminal() { say(&"") } else { Ok(()) }
    }

    fn options(&self) -> Result<GenerateOptions> {
        let when: When = self.when.parse()?;
        let mut options = GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
            },
            seed: self.seed,
            stop: self.stop.clone(),
            strict: self.strict,
            ..GenerateOptions::default()
        };
        for change in &self.set {
            let Some((site, what)) = change.split_once('=') else {
                let text = format!("--set {change}: expected SITE=INTERVENTION, such as layers.3.attn=zero_out");
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            };
            options = options.steer(Steering::new(site.trim(), what.parse::<Intervention>()?).when(when));
        }
        Ok(options)
    }
}

/// Prints a piece at once; false when the reader has gone away.
fn shown(text: &str) -> Result<bool> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::new(ErrorKind::Io, e.to_string())),
    }
}
