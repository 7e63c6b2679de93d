//! `mlxterp`: arguments in, library calls, printing out.

mod attribute;
mod circuit;
mod demo;
mod finding;
mod generate;
mod gradients;
mod harvest;
mod heads;
mod lens;
mod load;
mod patch;
mod probe;
mod steer;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mlxterp::Result;
use mlxterp::core::arch::library;

#[derive(Parser)]
#[command(version, about = "Look inside language models and change what happens there")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the library does, shown on a small real model.
    Demo {
        /// A model directory, .gguf file or Hugging Face id instead of SmolLM2-135M.
        #[arg(long)]
        model: Option<String>,
        /// Where the logit-lens page goes.
        #[arg(long, default_value = "logit-lens.html")]
        page: PathBuf,
    },
    /// Module tree, dtypes, memory, backend.
    Info {
        #[command(flatten)]
        model: load::Source,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every site with its short name and what may be relied on: v for verified (and by what), w for writable, d for
    /// differentiable; with a prompt, its shape and dtype.
    Sites {
        #[command(flatten)]
        model: load::Source,
        /// A name or pattern (layers.*.mlp); all sites without it.
        pattern: Option<String>,
        /// Plan shapes and dtypes for this prompt, without computing.
        #[arg(long)]
        prompt: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The shipped architecture descriptions with their model types; with a name, its text to start from.
    Arch {
        /// Name of a description.
        name: Option<String>,
    },
    /// Run a prompt, read sites, change sites.
    Trace(trace::Trace),
    /// Continue a text token by token, or answer it: greedy or sampled, with changes in every step.
    Generate(generate::Generate),
    /// The gradient of a metric at sites: how much the answer would change with each.
    Gradients(gradients::Gradients),
    /// What attention heads look at, read and write.
    Heads(heads::Heads),
    /// How much each token, or each layer, head and neuron, contributes to an answer.
    Attribute(attribute::Attribute),
    /// The edges between heads, MLPs, embedding and logits that an answer needs, and how faithful they are.
    Circuit(Box<circuit::Circuit>),
    /// What the model would say if it stopped after each layer, at every position.
    Lens(lens::Lens),
    /// Which parts of the model put how much into a logit.
    Dla(lens::Dla),
    /// Put values of one run into another: activation patching, path patching, causal tracing.
    Patch(Box<patch::Patch>),
    /// Write the activations of sites over a data set to a folder.
    Harvest(harvest::Harvest),
    /// What a straight line can read off the states of texts, by layer and position.
    Probe(probe::Probe),
    /// Directions that tell two sets of texts apart, and a prompt steered with them.
    Steer(steer::Steering),
    /// Learn a tuned lens from texts.
    TuneLens(lens::TuneLens),
    /// What the model itself makes of a hidden state that is put into another prompt.
    Patchscope(lens::PatchscopeCommand),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { model, page } => demo::run(model.as_deref(), &page),
        Command::Info { model, json } => {
            let info = model.load()?.info();
            if json { print_json(&info) } else { say(&info) }
        }
        Command::Sites { model, pattern, prompt, json } => {
            trace::sites(&model.load()?, pattern.as_deref(), prompt.as_deref(), json)
        }
        Command::Arch { name } => descriptions(name.as_deref()),
        Command::Trace(trace) => trace.run(),
        Command::Generate(generate) => generate.run(),
        Command::Gradients(gradients) => gradients.run(),
        Command::Heads(heads) => heads.run(),
        Command::Attribute(attribute) => attribute.run(),
        Command::Circuit(circuit) => circuit.run(),
        Command::Lens(lens) => lens.run(),
        Command::Dla(dla) => dla.run(),
        Command::Patch(patch) => patch.run(),
        Command::Harvest(harvest) => harvest.run(),
        Command::Probe(probe) => probe.run(),
        Command::Steer(steer) => steer.run(),
        Command::TuneLens(tune) => tune.run(),
        Command::Patchscope(patchscope) => patchscope.run(),
    }
}

/// Lists the shipped descriptions, or prints one.
fn descriptions(name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        library::named(name)?;
        return say(&library::text(name).unwrap_or_default().trim_end());
    }
    for name in library::names() {
        let types = library::named(name)?.model_types().join(", ");
        say(&format!("{name:<20} {types}"))?;
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(e) => Err(mlxterp::Error::new(mlxterp::ErrorKind::Io, e.to_string())),
    }
}

/// Prints; a reader that has gone away (`| head`) is no error.
fn say(text: &impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(mlxterp::Error::new(mlxterp::ErrorKind::Io, e.to_string()))
        }
        _ => Ok(()),
    }
}
