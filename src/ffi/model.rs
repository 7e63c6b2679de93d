//! Models: loading, names, tokens, the plain forward.

use std::ffi::{c_char, c_void};

use serde_json::{Map, Value};

use super::array::{hand_out, mlxterp_array};
use super::batch::mlxterp_batch;
use super::door::{door, fill_struct, hand_out_text, list, optional_text, output, read_struct, text};
use super::library::mlxterp_status;
use super::opaque::{mlxterp_opaque, opaques};
use super::registry::{Handle, borrow, give, take};
use crate::core::model::{LoadOptions, LoadProgress, Model};
use crate::core::tensor::Dtype;
use crate::core::text::Tokenizer;
use crate::error::{Result, bail, err};

/// A loaded model. Reference-counted: traces keep theirs alive. Any thread may use it.
pub struct mlxterp_model(pub(super) Model);

impl Handle for mlxterp_model {
    const NOUN: &'static str = "model";
}

/// How far a load has come: `stage` is "download" or "load", `done` and `total` count bytes. Return non-zero
/// to cancel: the load ends with MLXTERP_STATUS_CALLBACK.
pub type mlxterp_progress_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, stage: *const c_char, done: u64, total: u64) -> i32>;

/// Options of mlxterp_model_load. Begin with mlxterp_model_options_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxterp_model_options {
    /// Size of this struct.
    pub struct_size: usize,
    /// The dtype to compute in, such as "float32". NULL: float32 on the CPU backend, else the checkpoint's own.
    pub dtype: *const c_char,
    /// 1 keeps quantised weights packed, 0 unpacks them at load, -1 keeps them on Metal only (see docs/performance.md).
    pub keep_quantised: i32,
    /// 1 never touches the network.
    pub offline: i32,
    /// An architecture description: the name of a shipped one, or the text of a new one. NULL: by the config's model_type.
    pub description: *const c_char,
    /// Branch, tag or commit of a Hugging Face repository. NULL: main.
    pub revision: *const c_char,
    /// Access token of the Hugging Face hub. NULL: HF_TOKEN or the one that was saved by login.
    pub token: *const c_char,
    /// Cache folder of the hub. NULL: HF_HUB_CACHE, HF_HOME or the default.
    pub cache_dir: *const c_char,
    /// Called from the loading thread. NULL: nobody is told.
    pub progress: mlxterp_progress_fn,
    /// Passed to `progress`.
    pub progress_user: *mut c_void,
    /// Opaque modules of the description: paths, patterns or names, `opaque_count` of them.
    pub opaque_names: *const *const c_char,
    /// The function of each.
    pub opaques: *const *const mlxterp_opaque,
    /// How many.
    pub opaque_count: usize,
}

const DEFAULTS: mlxterp_model_options = mlxterp_model_options {
    struct_size: size_of::<mlxterp_model_options>(),
    dtype: std::ptr::null(),
    keep_quantised: -1,
    offline: 0,
    description: std::ptr::null(),
    revision: std::ptr::null(),
    token: std::ptr::null(),
    cache_dir: std::ptr::null(),
    progress: None,
    progress_user: std::ptr::null_mut(),
    opaque_names: std::ptr::null(),
    opaques: std::ptr::null(),
    opaque_count: 0,
};

/// The size of the struct in the first header of this ABI (tests/fixtures/abi).
const FIRST: usize = std::mem::offset_of!(mlxterp_model_options, opaque_names);

/// Fills in the defaults of a struct of `struct_size` bytes: what a C program calls as mlxterp_model_options_init(&options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_options_init_sized(
    options: *mut mlxterp_model_options,
    struct_size: usize,
) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, struct_size, FIRST))
}

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_model_options_init_sized.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_options_init(options: *mut mlxterp_model_options) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, FIRST, FIRST))
}

/// The options as they were given, and as the library has them.
pub(super) fn options(pointer: *const mlxterp_model_options) -> Result<(mlxterp_model_options, LoadOptions)> {
    let given = read_struct(pointer, DEFAULTS, FIRST, "mlxterp_model_options_init")?;
    let read = read_options(&given)?;
    Ok((given, read))
}

/// Tells the caller's function how far a load has come.
pub(super) fn teller(o: &mlxterp_model_options) -> impl FnMut(LoadProgress) -> bool + use<> {
    let (call, user) = (o.progress, o.progress_user);
    move |p: LoadProgress| match call {
        None => true,
        Some(f) => {
            let stage = if p.stage == "download" { c"download" } else { c"load" };
            // SAFETY: the caller's function with the caller's pointer, on the caller's thread.
            unsafe { f(user, stage.as_ptr(), p.done, p.total) == 0 }
        }
    }
}

fn read_options(o: &mlxterp_model_options) -> Result<LoadOptions> {
    let owned = |p, name| optional_text(p, name).map(|t| t.map(str::to_owned));
    let mut options = LoadOptions {
        dtype: optional_text(o.dtype, "options.dtype")?.map(Dtype::from_name).transpose()?,
        keep_quantised: match o.keep_quantised {
            -1 => None,
            0 => Some(false),
            1 => Some(true),
            other => bail!(InvalidArgument, "options.keep_quantised is {other}: use -1, 0 or 1"),
        },
        description: owned(o.description, "options.description")?,
        opaque: opaques(o.opaque_names, o.opaques, o.opaque_count)?,
        ..LoadOptions::default()
    };
    options.hub.revision = owned(o.revision, "options.revision")?;
    options.hub.token = owned(o.token, "options.token")?;
    options.hub.cache_dir = owned(o.cache_dir, "options.cache_dir")?.map(Into::into);
    options.hub.offline = (o.offline != 0).then_some(true);
    Ok(options)
}

/// Loads a local directory in mlx-lm's layout, a `.gguf` file, or a Hugging Face id ("org/name"). `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_load(
    source: *const c_char,
    options: *const mlxterp_model_options,
    out_model: *mut *mut mlxterp_model,
) -> mlxterp_status {
    door(|| {
        let out = output(out_model, std::ptr::null_mut(), "out_model")?;
        let source = text(source, "source")?;
        let (given, read) = self::options(options)?;
        let mut tell = teller(&given);
        *out = give(mlxterp_model(Model::load_with(source, &read, Some(&mut tell))?));
        Ok(())
    })
}

/// A second handle on the same model, to be freed on its own. NULL when `model` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_retain(model: *const mlxterp_model) -> *mut mlxterp_model {
    borrow(model).map_or(std::ptr::null_mut(), |m| give(mlxterp_model(m.0.clone())))
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_free(model: *mut mlxterp_model) {
    drop(take(model));
}

/// Number of layers. 0 when `model` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_num_layers(model: *const mlxterp_model) -> usize {
    borrow(model).map_or(0, |m| m.0.num_layers())
}

/// Number of query heads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_num_heads(model: *const mlxterp_model) -> usize {
    borrow(model).map_or(0, |m| m.0.num_heads())
}

/// Width of the residual stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_hidden_size(model: *const mlxterp_model) -> usize {
    borrow(model).map_or(0, |m| m.0.hidden_size())
}

/// How many token ids there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_vocab_size(model: *const mlxterp_model) -> usize {
    borrow(model).map_or(0, |m| m.0.vocab_size())
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| err!(Backend, "{e}"))
}

/// The model in numbers and its module tree, as JSON. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_info_json(
    model: *const mlxterp_model,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(&borrow(model)?.0.info()))
}

/// The normalised config.json. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_config_json(
    model: *const mlxterp_model,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(borrow(model)?.0.config()))
}

/// The module tree in words. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_describe(
    model: *const mlxterp_model,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(borrow(model)?.0.info().to_string()))
}

/// Names of the sites that a name or pattern ("layers.*.mlp") means, as a JSON list of
/// `{"name": full path, "standard": short name or null, "axes": what each axis means, "on_touch": bool, "verified": what
/// the compiled description proves of the name, or null, "writable": bool, "differentiable": bool}` in execution order.
/// Axes are "row", "position", "head", "expert", "feature" and "key". NULL pattern: all sites.
/// Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_sites_json(
    model: *const mlxterp_model,
    pattern: *const c_char,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || {
        let model = &borrow(model)?.0;
        let ids: Vec<usize> = match optional_text(pattern, "pattern")? {
            Some(pattern) => model.sites().resolve_many(pattern)?,
            None => (0..model.program().hooks.len()).collect(),
        };
        let capabilities = model.capabilities();
        let named = |id: &usize| {
            let (name, hook) = &model.program().hooks[*id];
            serde_json::json!({
                "name": name, "standard": model.sites().standard_name(*id), "axes": hook.layout.axes(),
                "on_touch": hook.on_touch, "verified": capabilities[*id].verified,
                "writable": capabilities[*id].writable, "differentiable": capabilities[*id].differentiable
            })
        };
        json(&ids.iter().map(named).collect::<Vec<_>>())
    })
}

/// Shape and dtype of every site for a batch, without computing anything, as a JSON list of
/// `{"name", "standard", "shape", "dtype", "on_touch"}`. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_plan_json(
    model: *const mlxterp_model,
    batch: *const mlxterp_batch,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(&borrow(model)?.0.plan_batch(borrow(batch)?.0.clone())?))
}

/// Logits `[rows, width, vocabulary]` of a plain forward, lazily.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_forward(
    model: *const mlxterp_model,
    batch: *const mlxterp_batch,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || borrow(model)?.0.forward_batch(&borrow(batch)?.0))
}

fn tokenizer<'a>(model: *const mlxterp_model) -> Result<&'a Tokenizer> {
    borrow::<mlxterp_model>(model)?.0.tokenizer()
}

/// Token ids of a text. Writes at most `capacity` ids and always their full number: call again with more room when
/// it is larger. `ids` may be NULL when `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_encode(
    model: *const mlxterp_model,
    text: *const c_char,
    add_special_tokens: bool,
    ids: *mut u32,
    capacity: usize,
    out_count: *mut usize,
) -> mlxterp_status {
    door(|| {
        let out = output(out_count, 0, "out_count")?;
        let encoded = tokenizer(model)?.encode(self::text(text, "text")?, add_special_tokens)?;
        let n = encoded.len().min(capacity);
        if n > 0 && ids.is_null() {
            bail!(InvalidArgument, "ids is NULL but capacity is {capacity}");
        }
        if n > 0 {
            // SAFETY: the header says `ids` has room for `capacity`.
            unsafe { std::ptr::copy_nonoverlapping(encoded.as_ptr(), ids, n) };
        }
        *out = encoded.len();
        Ok(())
    })
}

/// Text of token ids. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_decode(
    model: *const mlxterp_model,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || tokenizer(model)?.decode(list(ids, count, "ids")?, skip_special_tokens))
}

/// Text of one token, with the space before it where it has one. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_token_to_str(
    model: *const mlxterp_model,
    id: u32,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || tokenizer(model)?.token_to_str(id))
}

/// A conversation as the model's chat template writes it. `messages_json` is a list of messages, objects with "role" and
/// "content"; `add_generation_prompt` ends the text where the assistant's answer begins; `extra_json` is an object with
/// further names for the template ("tools", "enable_thinking", …; "chat_template" is another template), NULL for none.
/// Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_apply_chat_template(
    model: *const mlxterp_model,
    messages_json: *const c_char,
    add_generation_prompt: bool,
    extra_json: *const c_char,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || {
        let tokenizer = tokenizer(model)?;
        let messages = parsed(text(messages_json, "messages_json")?, "messages_json")?;
        tokenizer.apply_chat_template(&messages, add_generation_prompt, &extra(extra_json)?)
    })
}

/// JSON of the caller's.
pub(super) fn parsed(text: &str, name: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| err!(InvalidArgument, "{name} is not JSON: {e}"))
}

/// Further names for a chat template.
pub(super) fn extra(pointer: *const c_char) -> Result<Map<String, Value>> {
    match optional_text(pointer, "extra_json")?.map(|t| parsed(t, "extra_json")).transpose()? {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(names)) => Ok(names),
        Some(other) => bail!(InvalidArgument, "extra_json is {other}: it must be an object"),
    }
}
