//! Description, configuration and tensor names to a tape: layers unrolled, blocks inlined, static values gone.

mod attention;
mod blocks;
mod calls;
mod experts;
mod expr;
mod functions;
mod inputs;
mod kind_args;
mod kinds;
mod numbers;
mod opaque;
mod ops;
mod recurrent;
mod rotary;
mod settings;
mod shaping;
mod slots;
mod special;
mod survey;
mod value;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;

use self::settings::Settings;
use self::slots::SlotInfo;
pub(super) use self::survey::{Survey, survey};
use self::value::Value;
use super::ast::Expr;
use super::description::Description;
use super::place::{Pos, Source};
use super::tape::{Hook, Instr, Layout, Producer, Program, Slot, TensorId};
use crate::error::{Error, ErrorKind, Result, bail};

/// Most instructions of a tape; the largest real models need a few ten thousand.
const MAX_INSTRS: usize = 1 << 17;
/// Most expressions evaluated for one model.
const MAX_STEPS: usize = 2_000_000;
/// How deep expressions, blocks and config entries may stand inside each other.
const MAX_DEPTH: usize = 160;

/// Compiles a description for a checkpoint. `config` is the normalised config.json, `tensors` the shapes of the
/// tensors after the weight rules.
pub fn elaborate(description: &Description, config: &Json, tensors: &BTreeMap<String, Vec<usize>>) -> Result<Program> {
    let (inner, config) = description.unwrapped(config)?;
    let root = description.wraps.as_ref().map_or("", |(_, path)| path);
    on_a_large_stack(|| Elaborator::new(inner.as_deref().unwrap_or(description), &config, tensors, root).run())?
}

/// The recursion is bounded, but its frames are large and the caller's stack may be small.
fn on_a_large_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("elaborate".into()).stack_size(16 << 20);
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => Ok(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
            Err(e) => bail!(Io, "no thread to compile the description: {e}"),
        }
    })
}

/// Evaluates a weight rule's condition, in which `raw` says whether the checkpoint is in torch's layout.
pub(super) fn condition(source: &Source, config: &Json, e: &Expr, raw: bool) -> Result<bool> {
    let mut config = config.clone();
    if let Json::Object(map) = &mut config {
        map.insert("raw".to_owned(), raw.into());
    }
    of_config(source, &config, e, |value| Ok(value.truth()))
}

/// Evaluates the number in a weight rule.
pub(super) fn length(source: &Source, config: &Json, e: &Expr) -> Result<usize> {
    of_config(source, config, e, |value| match value.integer().and_then(|n| usize::try_from(n).ok()) {
        Some(n) => Ok(n),
        None => Err(source.error(e.pos, format!("expected a whole number, found {}", value.shown()))),
    })
}

/// Evaluates an expression over config.json alone.
fn of_config<T>(source: &Source, config: &Json, e: &Expr, then: impl FnOnce(Value) -> Result<T>) -> Result<T> {
    let none = BTreeMap::new();
    let mut elaborator = Elaborator::bare(config, &none);
    let mut scope = Scope::new(source.clone(), "", None);
    scope.lenient = true;
    then(elaborator.eval(e, &mut scope)?)
}

/// What an expression sees.
#[derive(Clone)]
struct Scope {
    source: Source,
    /// Path of the module that is being inlined.
    path: String,
    names: HashMap<String, Value>,
    index: Option<i64>,
    /// A missing key of config.json is `none` (in `config:` entries and conditions of weight rules).
    lenient: bool,
    /// The `config:` entry being evaluated: its own name means the key of config.json.
    entry: Option<String>,
    carried: Vec<String>,
}

impl Scope {
    fn new(source: Source, path: &str, index: Option<i64>) -> Self {
        let (names, carried) = (HashMap::new(), Vec::new());
        Scope { source, path: path.to_owned(), names, index, lenient: false, entry: None, carried }
    }
}

struct Elaborator<'a> {
    arch: Option<&'a Description>,
    settings: Settings<'a>,
    tensors: &'a BTreeMap<String, Vec<usize>>,
    /// Every path that has tensors below it.
    prefixes: HashSet<&'a str>,
    root: &'a str,
    program: Program,
    info: Vec<SlotInfo>,
    hooked: HashSet<Slot>,
    hook_names: HashMap<String, u32>,
    tensor_ids: HashMap<String, TensorId>,
    params: HashMap<String, Slot>,
    modules: HashSet<String>,
    steps: usize,
    depth: usize,
    /// The tensor whose absence ended the work.
    missing: Option<String>,
    /// Whether this only tries the description: tensors without axes were made up then, their shapes are not known.
    surveying: bool,
}

impl<'a> Elaborator<'a> {
    fn bare(config: &'a Json, tensors: &'a BTreeMap<String, Vec<usize>>) -> Self {
        Elaborator {
            arch: None,
            settings: Settings::new(config),
            tensors,
            prefixes: HashSet::new(),
            root: "",
            program: Program::default(),
            info: Vec::new(),
            hooked: HashSet::new(),
            hook_names: HashMap::new(),
            tensor_ids: HashMap::new(),
            params: HashMap::new(),
            modules: HashSet::new(),
            steps: 0,
            depth: 0,
            missing: None,
            surveying: false,
        }
    }

    fn new(arch: &'a Description, config: &'a Json, tensors: &'a BTreeMap<String, Vec<usize>>, root: &'a str) -> Self {
        let mut e = Self::bare(config, tensors);
        e.arch = Some(arch);
        e.root = root;
        for name in tensors.keys() {
            e.prefixes.insert(name);
            e.prefixes.extend(name.match_indices('.').map(|(i, _)| &name[..i]));
        }
        e
    }

    fn run(mut self) -> Result<Program> {
        let Some(arch) = self.arch else { return Ok(self.program) };
        self.compile(arch)?;
        self.unused(arch)?;
        self.roles(arch)?;
        Ok(self.program)
    }

    /// Everything from the token ids to the logits.
    fn compile(&mut self, arch: &Description) -> Result<()> {
        let Some(main) = arch.blocks.get("Main").map(Arc::clone) else {
            bail!(Description, "{}: expected a block 'Main(ids):', found none", arch.name);
        };
        self.program.arch.clone_from(&arch.name);
        let inputs = self.inputs(&main)?;
        let root = self.root.to_owned();
        let result = self.block(&main, &root, inputs, Vec::new(), None)?;
        let result = match result {
            Value::List(l) => l.first().cloned().unwrap_or(Value::None),
            other => other,
        };
        let Value::Slot(logits) = result else {
            let message = format!("Main returns {}, a tensor is needed", result.shown());
            return Err(main.source.error(main.pos, message));
        };
        self.program.output = self.name_slot("output", logits, logits);
        Ok(())
    }

    /// A tensor that nothing uses means that the description is not this model's.
    fn unused(&self, arch: &Description) -> Result<()> {
        let unused: Vec<&String> = self.tensors.keys().filter(|n| !self.tensor_ids.contains_key(*n)).collect();
        if unused.is_empty() {
            return Ok(());
        }
        let some: Vec<String> = unused.iter().take(5).map(|n| format!("'{n}'")).collect();
        let more = if unused.len() > 5 { ", …" } else { "" };
        bail!(
            Unsupported,
            "the description '{}' does not use {} of the checkpoint's {} tensors: {}{more}. It may not be this model's \
             description; if they do not matter, leave them out with 'drop' in its weights: section",
            arch.name,
            unused.len(),
            self.tensors.len(),
            some.join(", ")
        )
    }

    fn roles(&mut self, arch: &Description) -> Result<()> {
        const ABSOLUTE: [&str; 5] = ["embed", "pos_embed", "layer", "norm", "head"];
        for (role, (path, _)) in &arch.roles {
            let path = if ABSOLUTE.contains(&role.as_str()) { join(self.root, path) } else { path.clone() };
            self.program.roles.insert(role.clone(), path);
        }
        if let Some(prefix) = self.program.roles.get("layer").and_then(|l| l.strip_suffix('*')) {
            let numbers: BTreeSet<usize> =
                self.program.modules.iter().filter_map(|m| m.path.strip_prefix(prefix)?.parse().ok()).collect();
            self.program.n_layers = numbers.len();
        }
        Ok(())
    }

    /// Counts work, so that no description runs for ever.
    fn step(&mut self, cost: usize, scope: &Scope, pos: Pos) -> Result<()> {
        self.steps += cost;
        if self.steps > MAX_STEPS {
            return Err(scope.source.error(pos, format!("the description needs more than {MAX_STEPS} steps")));
        }
        Ok(())
    }

    fn enter(&mut self, scope: &Scope, pos: Pos) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!(
                "blocks and expressions stand more than {MAX_DEPTH} deep inside each other: does one call itself?"
            );
            return Err(scope.source.error(pos, message));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// An error about a tensor that the checkpoint lacks.
    fn lacks(&mut self, tensor: String, scope: &Scope, pos: Pos, message: String) -> Error {
        self.missing = Some(tensor);
        scope.source.error_of(ErrorKind::NotFound, pos, message)
    }

    /// The tape's number for a tensor of the checkpoint.
    fn tensor(&mut self, name: &str) -> Option<TensorId> {
        if let Some(id) = self.tensor_ids.get(name) {
            return Some(*id);
        }
        self.tensors.get(name)?;
        let id = self.program.tensors.len() as TensorId;
        self.program.tensors.push(name.to_owned());
        self.tensor_ids.insert(name.to_owned(), id);
        Some(id)
    }

    fn has(&self, path: &str) -> bool {
        self.prefixes.contains(path)
    }
}

/// `a.b`, or `b` at the root.
fn join(a: &str, b: &str) -> String {
    if a.is_empty() { b.to_owned() } else { format!("{a}.{b}") }
}

/// An error at a place, its kind depending on whether config.json is to blame.
fn config_error(scope: &Scope, pos: Pos, message: String, keys: &Option<String>) -> Error {
    match keys {
        Some(keys) => scope.source.error_of(ErrorKind::Config, pos, format!("{message} (config.json: {keys})")),
        None => scope.source.error(pos, message),
    }
}

/// What an instruction is made of, besides its slots.
struct Step {
    op: super::tape::Op,
    inputs: Vec<Slot>,
}

impl<'a> Elaborator<'a> {
    /// Adds an instruction; `outputs` are the slots' properties.
    fn emit(&mut self, step: Step, outputs: Vec<SlotInfo>, path: &str, scope: &Scope, pos: Pos) -> Result<Vec<Slot>> {
        let slots: Vec<Slot> = outputs.into_iter().map(|info| self.new_slot(info)).collect();
        self.emit_into(step, slots.clone(), path, scope, pos)?;
        let index = self.program.instrs.len() as u32 - 1;
        for s in &slots {
            self.program.slots[*s as usize] = Producer::Instr(index);
        }
        Ok(slots)
    }

    /// Adds an instruction that makes slots which have another producer already, or get one later.
    fn emit_into(&mut self, step: Step, outputs: Vec<Slot>, path: &str, scope: &Scope, pos: Pos) -> Result<u32> {
        if self.program.instrs.len() >= MAX_INSTRS {
            let message =
                format!("the model needs more than {MAX_INSTRS} instructions: is the number of layers right?");
            return Err(scope.source.error(pos, message));
        }
        let Step { op, inputs } = step;
        self.program.instrs.push(Instr { op, inputs, outputs, path: path.to_owned(), line: pos.line });
        Ok(self.program.instrs.len() as u32 - 1)
    }

    fn new_slot(&mut self, info: SlotInfo) -> Slot {
        self.program.slots.push(Producer::Input);
        self.info.push(info);
        self.program.slots.len() as Slot - 1
    }

    fn add_hook(&mut self, name: &str, slot: Slot) {
        let layout = self.info[slot as usize].layout;
        self.add_hook_with(name, slot, layout, false);
    }

    /// Names a slot; a name used before gets `#1`, `#2`….
    fn add_hook_with(&mut self, name: &str, slot: Slot, layout: Layout, on_touch: bool) {
        let count = self.hook_names.entry(name.to_owned()).or_insert(0);
        let full = if *count == 0 { name.to_owned() } else { format!("{name}#{count}") };
        *count += 1;
        self.hooked.insert(slot);
        self.program.hooks.push((full, Hook { slot, layout, on_touch }));
    }

    /// Gives the value of `slot` a name of its own. A value made since slot number `since` that has no name yet gets
    /// it directly; any other through an alias, so that writing to one name leaves the other alone.
    fn name_slot(&mut self, name: &str, slot: Slot, since: Slot) -> Slot {
        let fresh = slot >= since && !self.hooked.contains(&slot);
        let named = if fresh {
            slot
        } else {
            let info = self.info[slot as usize].clone();
            let alias = self.new_slot(info);
            self.program.slots[alias as usize] = Producer::Alias(slot);
            alias
        };
        self.add_hook(name, named);
        named
    }

    /// The number that the next slot gets.
    fn next_slot(&self) -> Slot {
        self.program.slots.len() as Slot
    }
}
