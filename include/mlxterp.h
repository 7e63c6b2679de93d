/*
 * mlxterp: look inside language models and change what happens there.
 *
 * Generated from src/ffi; do not edit. A site is a string: "layers.3.attn.output", "layers.*.mlp", "output".
 *
 *     mlxterp_model *model;
 *     mlxterp_batch *batch;
 *     mlxterp_trace *trace;
 *     mlxterp_array *value;
 *     const char *text = "The capital of France is";
 *     mlxterp_model_load("model.gguf", NULL, &model);
 *     mlxterp_batch_from_texts(model, &text, 1, &batch);
 *     mlxterp_trace_start(model, batch, NULL, &trace);
 *     mlxterp_trace_read(trace, "layers.3.attn.output", &value);   nothing is computed yet
 *     mlxterp_array_eval(value);                                   here it is
 *
 * Status. A function that can fail returns mlxterp_status. Its outputs come last and are set to NULL or 0 before
 * anything else; they are filled in only on MLXTERP_STATUS_OK. mlxterp_last_error_message tells, in words and for the
 * calling thread, what was wrong and the way out. NULL, bad UTF-8, a freed handle and a handle of another type are
 * MLXTERP_STATUS_INVALID_ARGUMENT. A getter answers 0 or NULL then. Kinds, operations and dtypes go in as numbers
 * (uint32_t), so that a number without meaning is an error too.
 *
 * Ownership. Every handle that a function puts into an output or returns is the caller's, and ends with one call of the
 * noun's `free`; `free` of NULL does nothing. `retain` makes a second handle on the same object, freed on its own.
 * Objects keep what they need alive: a model may be freed while its traces go on. Text in a `char **` ends with
 * mlxterp_string_free. A pointer called borrowed belongs to the object that lent it. A function that takes something over
 * says "consumes", and does so even when it fails.
 *
 * Threads. Any handle may be used from any thread, and several threads may trace one model: their results are those of
 * one after another. Freeing a handle while another thread uses that same handle is the caller's mistake.
 *
 * Versions. Compare mlxterp_abi_version() with MLXTERP_ABI_VERSION before the first other call. Structs whose first
 * field is `struct_size` are begun with their `init` function and only ever grow at the end.
 */

#ifndef MLXTERP_H
#define MLXTERP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MLXTERP_VERSION_MAJOR 0
#define MLXTERP_VERSION_MINOR 1
#define MLXTERP_VERSION_PATCH 0

#if defined(__clang__)
#pragma clang attribute push(__attribute__((enum_extensibility(open))), apply_to = enum)
#endif

/// Number of the binary interface. Grows with every change that an already compiled program could notice.
#define MLXTERP_ABI_VERSION 1

/// The value of `start` or `stop` that means it was left out.
#define MLXTERP_INDEX_NONE INT64_MIN

/// What a call came to. Numbers are never used for anything else.
typedef enum {
    /// It worked.
    MLXTERP_STATUS_OK = 0,
    /// An argument that can never be right: NULL, bad UTF-8, a freed handle, a number out of range.
    MLXTERP_STATUS_INVALID_ARGUMENT = 1,
    /// A file, a directory, a tensor or a repository that is not there.
    MLXTERP_STATUS_NOT_FOUND = 2,
    /// The operating system or the network refused.
    MLXTERP_STATUS_IO = 3,
    /// A file whose bytes contradict themselves.
    MLXTERP_STATUS_CORRUPT = 4,
    /// Something this library cannot do.
    MLXTERP_STATUS_UNSUPPORTED = 5,
    /// A missing or absurd value in config.json.
    MLXTERP_STATUS_CONFIG = 6,
    /// A mistake in an architecture description.
    MLXTERP_STATUS_DESCRIPTION = 7,
    /// Two shapes that cannot meet.
    MLXTERP_STATUS_SHAPE = 8,
    /// No site of that name.
    MLXTERP_STATUS_UNKNOWN_SITE = 9,
    /// A write behind a value that was already read.
    MLXTERP_STATUS_STALE_WRITE = 10,
    /// A strict trace in which a write changed or reached nothing.
    MLXTERP_STATUS_STRICT = 11,
    /// A callback returned an error.
    MLXTERP_STATUS_CALLBACK = 12,
    /// The object is in use by a call further up the stack.
    MLXTERP_STATUS_BUSY = 13,
    /// MLX refused or failed.
    MLXTERP_STATUS_BACKEND = 14,
    /// The data was asked for before mlxterp_array_eval.
    MLXTERP_STATUS_NOT_EVALUATED = 15,
    /// A bug in this library.
    MLXTERP_STATUS_PANIC = 16,
    /// An expert that no token of the run was routed to.
    MLXTERP_STATUS_NOT_EXECUTED = 17,
} mlxterp_status;

/// In which steps a change is made.
typedef enum {
    /// In every step.
    MLXTERP_WHEN_ALWAYS = 0,
    /// In step 0, over the prompts.
    MLXTERP_WHEN_PREFILL = 1,
    /// In every later step.
    MLXTERP_WHEN_DECODE = 2,
} mlxterp_when;

/// Element types. Numbers are never used for anything else.
typedef enum {
    MLXTERP_DTYPE_BOOL = 0,
    MLXTERP_DTYPE_UINT8 = 1,
    MLXTERP_DTYPE_UINT16 = 2,
    MLXTERP_DTYPE_UINT32 = 3,
    MLXTERP_DTYPE_UINT64 = 4,
    MLXTERP_DTYPE_INT8 = 5,
    MLXTERP_DTYPE_INT16 = 6,
    MLXTERP_DTYPE_INT32 = 7,
    MLXTERP_DTYPE_INT64 = 8,
    MLXTERP_DTYPE_FLOAT16 = 9,
    MLXTERP_DTYPE_FLOAT32 = 10,
    MLXTERP_DTYPE_FLOAT64 = 11,
    MLXTERP_DTYPE_BFLOAT16 = 12,
    MLXTERP_DTYPE_COMPLEX64 = 13,
} mlxterp_dtype;

/// Elementwise functions of one array.
typedef enum {
    MLXTERP_UNARY_NEGATIVE = 0,
    MLXTERP_UNARY_EXP = 1,
    MLXTERP_UNARY_LOG = 2,
    MLXTERP_UNARY_SQRT = 3,
    MLXTERP_UNARY_SQUARE = 4,
    MLXTERP_UNARY_ABS = 5,
    MLXTERP_UNARY_FLOOR = 6,
    MLXTERP_UNARY_SIGMOID = 7,
    MLXTERP_UNARY_TANH = 8,
    MLXTERP_UNARY_IS_NAN = 9,
    MLXTERP_UNARY_NOT = 10,
    MLXTERP_UNARY_ZEROS_LIKE = 11,
} mlxterp_unary;

/// Elementwise functions of two arrays, broadcast. A one-element operand made by mlxterp_array_scalar_like keeps the
/// other's dtype.
typedef enum {
    MLXTERP_BINARY_ADD = 0,
    MLXTERP_BINARY_SUBTRACT = 1,
    MLXTERP_BINARY_MULTIPLY = 2,
    MLXTERP_BINARY_DIVIDE = 3,
    MLXTERP_BINARY_POWER = 4,
    MLXTERP_BINARY_MINIMUM = 5,
    MLXTERP_BINARY_MAXIMUM = 6,
    MLXTERP_BINARY_REMAINDER = 7,
    MLXTERP_BINARY_FLOOR_DIVIDE = 8,
    MLXTERP_BINARY_LESS = 9,
    MLXTERP_BINARY_LESS_EQUAL = 10,
    MLXTERP_BINARY_GREATER = 11,
    MLXTERP_BINARY_GREATER_EQUAL = 12,
    MLXTERP_BINARY_EQUAL = 13,
    MLXTERP_BINARY_NOT_EQUAL = 14,
    MLXTERP_BINARY_AND = 15,
    MLXTERP_BINARY_OR = 16,
    MLXTERP_BINARY_MATMUL = 17,
} mlxterp_binary;

/// Functions along one axis.
typedef enum {
    MLXTERP_REDUCE_SUM = 0,
    MLXTERP_REDUCE_MEAN = 1,
    MLXTERP_REDUCE_MAX = 2,
    MLXTERP_REDUCE_MIN = 3,
    MLXTERP_REDUCE_STD = 4,
    MLXTERP_REDUCE_NORM = 5,
    MLXTERP_REDUCE_LOGSUMEXP = 6,
    MLXTERP_REDUCE_ARGMAX = 7,
} mlxterp_reduce;

/// What a subscript does to an axis.
typedef enum {
    /// `start:stop:step`
    MLXTERP_INDEX_SLICE = 0,
    /// One element (`start`); the axis goes.
    MLXTERP_INDEX_AT = 1,
    /// `...`: all axes that no other subscript names.
    MLXTERP_INDEX_ELLIPSIS = 2,
    /// A new axis of length 1.
    MLXTERP_INDEX_NEW_AXIS = 3,
} mlxterp_index_kind;

/// A lazy, immutable value. Reference-counted; any thread may use it.
typedef struct mlxterp_array mlxterp_array;

/// Token ids of one prompt or several, padded on the right. Immutable; any thread may use it.
typedef struct mlxterp_batch mlxterp_batch;

/// Keys and values, convolution tails and recurrent states after some tokens. Immutable: each trace that was started
/// with a cache gives a new one. Any thread may use it.
typedef struct mlxterp_cache mlxterp_cache;

/// What a change in a generation may hang on, row by row. Immutable; any thread may use it.
typedef struct mlxterp_condition mlxterp_condition;

/// A generation under way. Any thread may use it.
typedef struct mlxterp_generation mlxterp_generation;

/// A change of a site's value: what, and on which rows, positions, heads or neurons. Immutable; any thread may use it.
typedef struct mlxterp_intervention mlxterp_intervention;

/// A loaded model. Reference-counted: traces keep theirs alive. Any thread may use it.
typedef struct mlxterp_model mlxterp_model;

/// The function of an opaque module (`router: opaque(outputs=2)` in a description), to be given to a model at load.
/// Immutable; any thread may use it.
typedef struct mlxterp_opaque mlxterp_opaque;

/// What an analysis found. Immutable; any thread may use it.
typedef struct mlxterp_result mlxterp_result;

/// One forward pass of a model over one batch: built lazily, stopped anywhere, changed, continued. Keeps its model
/// alive. Any thread may use it.
typedef struct mlxterp_trace mlxterp_trace;

/// How far a load has come: `stage` is "download" or "load", `done` and `total` count bytes. Return non-zero
/// to cancel: the load ends with MLXTERP_STATUS_CALLBACK.
typedef int32_t (*mlxterp_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/// Options of mlxterp_model_load. Begin with mlxterp_model_options_init.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// The dtype to compute in, such as "float32". NULL: float32 on the CPU backend, else the checkpoint's own.
    const char *dtype;
    /// 1 keeps quantised weights packed, 0 unpacks them at load, -1 keeps them on Metal only (see docs/performance.md).
    int32_t keep_quantised;
    /// 1 never touches the network.
    int32_t offline;
    /// An architecture description: the name of a shipped one, or the text of a new one. NULL: by the config's model_type.
    const char *description;
    /// Branch, tag or commit of a Hugging Face repository. NULL: main.
    const char *revision;
    /// Access token of the Hugging Face hub. NULL: HF_TOKEN or the one that was saved by login.
    const char *token;
    /// Cache folder of the hub. NULL: HF_HUB_CACHE, HF_HOME or the default.
    const char *cache_dir;
    /// Called from the loading thread. NULL: nobody is told.
    mlxterp_progress_fn progress;
    /// Passed to `progress`.
    void *progress_user;
    /// Opaque modules of the description: paths, patterns or names, `opaque_count` of them.
    const char *const *opaque_names;
    /// The function of each.
    const mlxterp_opaque *const *opaques;
    /// How many.
    size_t opaque_count;
} mlxterp_model_options;

/// What the function of an opaque module is told. Everything in it is borrowed for the call.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// Path of the module.
    const char *path;
    /// The values that go in, lazy, `input_count` of them.
    const mlxterp_array *const *inputs;
    /// How many.
    size_t input_count;
    /// How many values the description wants back.
    size_t output_count;
    /// Number of rows of the batch.
    size_t rows;
    /// Positions of each row that are no padding.
    const size_t *lengths;
} mlxterp_opaque_call;

/// The function of an opaque module: puts `output_count` new handles into `out_values` (NULL on entry; the library frees
/// them). Any status but OK stops the call that ran it with MLXTERP_STATUS_CALLBACK. It may be called again for the same
/// run, and must depend on nothing but its inputs. It must not use the run or the model that called it (BUSY).
typedef int32_t (*mlxterp_opaque_fn)(void *user, const mlxterp_opaque_call *call, mlxterp_array **out_values);

/// Gives back what belongs to `user`. May be called from any thread; NULL when nothing is to be given back.
typedef void (*mlxterp_destroy_fn)(void *user);

/// Options of mlxterp_trace_start. Begin with mlxterp_trace_options_init.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// Site names or patterns, `intervention_count` of them.
    const char *const *patterns;
    /// The intervention of each pattern, applied in this order, once.
    const mlxterp_intervention *const *interventions;
    /// How many.
    size_t intervention_count;
    /// 1 keeps every value from the start, 0 what is read, saved or written.
    int32_t keep_all;
    /// 1 makes a write that changed or reached nothing an error of mlxterp_trace_finish.
    int32_t strict;
    /// What was seen before these tokens (mlxterp_cache_empty: nothing); with it mlxterp_trace_cache gives the state
    /// after them. NULL: nothing is remembered.
    const mlxterp_cache *cache;
} mlxterp_trace_options;

/// One subscript.
typedef struct {
    /// A value of mlxterp_index_kind.
    uint32_t kind;
    /// Zero.
    uint32_t reserved;
    /// First element, negative from the end, or MLXTERP_INDEX_NONE.
    int64_t start;
    /// One past the last element, negative from the end, or MLXTERP_INDEX_NONE.
    int64_t stop;
    /// Step, 1 or more.
    int64_t step;
} mlxterp_index;

/// What a hook is told. Everything in it is borrowed for the call.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// Name of the site.
    const char *site;
    /// Generation step; 0 in a plain forward.
    size_t step;
    /// Number of rows of the batch.
    size_t rows;
    /// Tokens of each row.
    const size_t *lengths;
    /// The site's value.
    const mlxterp_array *value;
} mlxterp_event;

/// A hook: puts a new handle into `out_value` (the library frees it), or leaves it NULL for "unchanged". Any status but
/// OK stops the call that ran the hook with MLXTERP_STATUS_CALLBACK. It must not use the run that called it (BUSY).
typedef int32_t (*mlxterp_hook_fn)(void *user, const mlxterp_event *event, mlxterp_array **out_value);

/// Told of every step before its tokens are drawn. The trace is lent for the call; it may be read and written. Any answer
/// but 0 ends the generation with MLXTERP_STATUS_CALLBACK.
typedef int32_t (*mlxterp_step_fn)(void *user, size_t step, const mlxterp_trace *trace);

/// Options of mlxterp_generation_start. Begin with mlxterp_generate_options_init.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// The most tokens drawn for a row.
    size_t max_tokens;
    /// Divides the logits; 0 is greedy.
    double temperature;
    /// Only the `top_k` most likely tokens; 0 keeps all.
    size_t top_k;
    /// Only the most likely tokens that together reach this probability; 1 keeps all.
    double top_p;
    /// Only tokens at least this many times as likely as the most likely one; 0 keeps all.
    double min_p;
    /// Row `r` of a batch draws what it would draw alone with `seed + r`.
    uint64_t seed;
    /// Texts that end a row, `stop_count` of them.
    const char *const *stops;
    /// How many.
    size_t stop_count;
    /// Token ids that end a row, `eos_count` of them.
    const uint32_t *eos_ids;
    /// How many. With `eos_ids` NULL and 0 here, those that the model's files name.
    size_t eos_count;
    /// Site names or patterns of changes, `intervention_count` of them.
    const char *const *patterns;
    /// The intervention of each pattern, applied in this order in every step it is meant for.
    const mlxterp_intervention *const *interventions;
    /// A mlxterp_when for each. NULL: always.
    const uint32_t *whens;
    /// What each hangs on, NULL for nothing. NULL: nothing for all.
    const mlxterp_condition *const *conditions;
    /// How many.
    size_t intervention_count;
    /// NULL: nobody is told.
    mlxterp_step_fn on_step;
    /// Passed to `on_step`.
    void *on_step_user;
    /// Called with `on_step_user` exactly once, when the generation is over, also when it could not be started. May be NULL.
    mlxterp_destroy_fn on_step_destroy;
    /// 1 keeps every value of every step's trace from its start.
    int32_t keep_all;
    /// 1 makes a write that changed or reached nothing an error when its step's tokens are drawn.
    int32_t strict;
} mlxterp_generate_options;

/// A metric: puts a new array handle with one number a row of the trace (a scalar for one row) into `out_value`; the
/// library frees it. The trace is lent for the call; it may be read and written. Any status but OK stops the tool with
/// MLXTERP_STATUS_CALLBACK.
typedef int32_t (*mlxterp_metric_fn)(void *user, const mlxterp_trace *trace, mlxterp_array **out_value);

/// Told how far a tool has come; `total` is 0 where it is not known. Any answer but 0 ends the tool with
/// MLXTERP_STATUS_CALLBACK.
typedef int32_t (*mlxterp_tool_progress_fn)(void *user, uint64_t done, uint64_t total);

/// What a tool is given besides its options. Begin with mlxterp_tool_inputs_init.
typedef struct {
    /// Size of this struct.
    size_t struct_size;
    /// Names of arrays, `array_count` of them.
    const char *const *array_names;
    /// The array of each name.
    const mlxterp_array *const *arrays;
    /// How many.
    size_t array_count;
    /// Sites or patterns of interventions that every run of the tool is under, `intervention_count` of them.
    const char *const *patterns;
    /// The intervention of each pattern.
    const mlxterp_intervention *const *interventions;
    /// How many.
    size_t intervention_count;
    /// A metric in place of one named in the options. NULL: the options'.
    mlxterp_metric_fn metric;
    /// Passed to `metric`.
    void *metric_user;
    /// NULL: nobody is told.
    mlxterp_tool_progress_fn progress;
    /// Passed to `progress`.
    void *progress_user;
} mlxterp_tool_inputs;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// Why the last call of this thread failed. Borrowed: valid until the thread's next failing call. Never NULL.
const char *mlxterp_last_error_message(void);

/// The MLXTERP_ABI_VERSION the library was built with; compare it with the header's before anything else.
uint32_t mlxterp_abi_version(void);

/// The library's version, such as "0.1.0". Static.
const char *mlxterp_version(void);

/// Where MLX computes: "cpu", "metal" or "cuda". Static.
const char *mlxterp_backend(void);

/// Handles alive in this process: 0 when everything was freed.
size_t mlxterp_live_handles(void);

/// Bytes that MLX holds in live arrays.
size_t mlxterp_memory_used(void);

/// Frees text that this library gave. NULL is fine.
void mlxterp_string_free(char *text);

/// Fills in the defaults of a struct of `struct_size` bytes: what a C program calls as mlxterp_model_options_init(&options).
mlxterp_status mlxterp_model_options_init_sized(mlxterp_model_options *options,
                                                size_t struct_size);

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_model_options_init_sized.
mlxterp_status mlxterp_model_options_init(mlxterp_model_options *options);

/// Loads a local directory in mlx-lm's layout, a `.gguf` file, or a Hugging Face id ("org/name"). `options` may be NULL.
mlxterp_status mlxterp_model_load(const char *source,
                                  const mlxterp_model_options *options,
                                  mlxterp_model **out_model);

/// A second handle on the same model, to be freed on its own. NULL when `model` is not a live handle.
mlxterp_model *mlxterp_model_retain(const mlxterp_model *model);

/// Ends a handle. NULL is fine.
void mlxterp_model_free(mlxterp_model *model);

/// Number of layers. 0 when `model` is not a live handle.
size_t mlxterp_model_num_layers(const mlxterp_model *model);

/// Number of query heads.
size_t mlxterp_model_num_heads(const mlxterp_model *model);

/// Width of the residual stream.
size_t mlxterp_model_hidden_size(const mlxterp_model *model);

/// How many token ids there are.
size_t mlxterp_model_vocab_size(const mlxterp_model *model);

/// The model in numbers and its module tree, as JSON. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_info_json(const mlxterp_model *model, char **out_text);

/// The normalised config.json. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_config_json(const mlxterp_model *model, char **out_text);

/// The module tree in words. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_describe(const mlxterp_model *model, char **out_text);

/// Names of the sites that a name or pattern ("layers.*.mlp") means, as a JSON list of
/// `{"name": full path, "standard": short name or null, "axes": what each axis means, "on_touch": bool, "verified": what
/// the compiled description proves of the name, or null, "writable": bool, "differentiable": bool}` in execution order.
/// Axes are "row", "position", "head", "expert", "feature" and "key". NULL pattern: all sites.
/// Free with mlxterp_string_free.
mlxterp_status mlxterp_model_sites_json(const mlxterp_model *model,
                                        const char *pattern,
                                        char **out_text);

/// Shape and dtype of every site for a batch, without computing anything, as a JSON list of
/// `{"name", "standard", "shape", "dtype", "on_touch"}`. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_plan_json(const mlxterp_model *model, const mlxterp_batch *batch, char **out_text);

/// Logits `[rows, width, vocabulary]` of a plain forward, lazily.
mlxterp_status mlxterp_model_forward(const mlxterp_model *model, const mlxterp_batch *batch, mlxterp_array **out_array);

/// Token ids of a text. Writes at most `capacity` ids and always their full number: call again with more room when
/// it is larger. `ids` may be NULL when `capacity` is 0.
mlxterp_status mlxterp_model_encode(const mlxterp_model *model,
                                    const char *text,
                                    bool add_special_tokens,
                                    uint32_t *ids,
                                    size_t capacity,
                                    size_t *out_count);

/// Text of token ids. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_decode(const mlxterp_model *model,
                                    const uint32_t *ids,
                                    size_t count,
                                    bool skip_special_tokens,
                                    char **out_text);

/// Text of one token, with the space before it where it has one. Free with mlxterp_string_free.
mlxterp_status mlxterp_model_token_to_str(const mlxterp_model *model, uint32_t id, char **out_text);

/// A conversation as the model's chat template writes it. `messages_json` is a list of messages, objects with "role" and
/// "content"; `add_generation_prompt` ends the text where the assistant's answer begins; `extra_json` is an object with
/// further names for the template ("tools", "enable_thinking", …; "chat_template" is another template), NULL for none.
/// Free with mlxterp_string_free.
mlxterp_status mlxterp_model_apply_chat_template(const mlxterp_model *model,
                                                 const char *messages_json,
                                                 bool add_generation_prompt,
                                                 const char *extra_json,
                                                 char **out_text);

/// A model from a description (its text, or the name of a shipped one), a config (a JSON object), and `count` arrays under
/// the names that the description knows. Buffers and dtypes are used as they are: nothing is copied unless
/// `options->dtype` asks for another dtype. The model shares the arrays; the caller's handles stay the caller's. Of
/// `options` (may be NULL), dtype, keep_quantised and the opaque modules count.
mlxterp_status mlxterp_model_from_weights(const char *description,
                                          const char *config,
                                          const char *const *names,
                                          const mlxterp_array *const *arrays,
                                          size_t count,
                                          const mlxterp_model_options *options,
                                          mlxterp_model **out_model);

/// The same with the tensors in files: `.safetensors` files, or directories of them, `count` of them together.
mlxterp_status mlxterp_model_from_files(const char *description,
                                        const char *config,
                                        const char *const *paths,
                                        size_t count,
                                        const mlxterp_model_options *options,
                                        mlxterp_model **out_model);

/// A function for opaque modules (see mlxterp_model_options.opaques). `destroy(user)` is called exactly once, when no
/// handle and no model uses it any more, on failure too; it may be NULL.
mlxterp_status mlxterp_opaque_new(mlxterp_opaque_fn function,
                                  void *user,
                                  mlxterp_destroy_fn destroy,
                                  mlxterp_opaque **out_opaque);

/// Ends a handle; models that were loaded with it keep theirs. NULL is fine.
void mlxterp_opaque_free(mlxterp_opaque *opaque);

/// Encodes texts with the model's tokenizer, special tokens as its own post-processing adds them.
mlxterp_status mlxterp_batch_from_texts(const mlxterp_model *model,
                                        const char *const *texts,
                                        size_t count,
                                        mlxterp_batch **out_batch);

/// Conversations through the model's chat template, one row each, up to where the assistant's answer begins.
/// `messages_json` is a list of messages (objects with "role" and "content"), or a list of such lists; `extra_json` is an
/// object with further names for the template, NULL for none.
mlxterp_status mlxterp_batch_from_chats(const mlxterp_model *model,
                                        const char *messages_json,
                                        const char *extra_json,
                                        mlxterp_batch **out_batch);

/// Takes token ids as they are: `lengths[r]` ids of row `r` follow those of row `r - 1` in `ids`.
mlxterp_status mlxterp_batch_from_tokens(const mlxterp_model *model,
                                         const uint32_t *ids,
                                         const size_t *lengths,
                                         size_t rows,
                                         mlxterp_batch **out_batch);

/// The arrays that a model takes whose description does not say `Main(ids)`, in the order of `Main`: rows along the first
/// axis, positions along the second where there are three.
mlxterp_status mlxterp_batch_from_arrays(const mlxterp_model *model,
                                         const mlxterp_array *const *arrays,
                                         size_t count,
                                         mlxterp_batch **out_batch);

/// Number of rows.
size_t mlxterp_batch_count(const mlxterp_batch *batch);

/// Positions of the longest row.
size_t mlxterp_batch_width(const mlxterp_batch *batch);

/// Tokens of each row. Borrowed from the batch.
const size_t *mlxterp_batch_lengths(const mlxterp_batch *batch);

/// The ids `[rows, width]`, int32, padded on the right.
mlxterp_status mlxterp_batch_ids(const mlxterp_batch *batch, mlxterp_array **out_array);

/// Ends a handle. NULL is fine.
void mlxterp_batch_free(mlxterp_batch *batch);

/// A cache that has seen no tokens, for a first trace.
mlxterp_status mlxterp_cache_empty(mlxterp_cache **out_cache);

/// What the model remembers after the trace's tokens, edits included, lazily. The trace must have been started with a
/// cache (mlxterp_trace_options.cache).
mlxterp_status mlxterp_trace_cache(const mlxterp_trace *trace, mlxterp_cache **out_cache);

/// Tokens that each row has seen: writes at most `capacity` numbers to `lengths` (NULL when 0) and their count to
/// `out_rows`, which is 0 for an empty cache.
mlxterp_status mlxterp_cache_lengths(const mlxterp_cache *cache, size_t *lengths, size_t capacity, size_t *out_rows);

/// Computes what the cache remembers, so that the graph behind it can be freed.
mlxterp_status mlxterp_cache_eval(const mlxterp_cache *cache);

/// Bytes that the cache's arrays hold, or will hold once they are computed. 0 when `cache` is not a live handle.
size_t mlxterp_cache_byte_size(const mlxterp_cache *cache);

/// Ends a handle. NULL is fine.
void mlxterp_cache_free(mlxterp_cache *cache);

/// Fills in the defaults of a struct of `struct_size` bytes: what a C program calls as mlxterp_trace_options_init(&options).
mlxterp_status mlxterp_trace_options_init_sized(mlxterp_trace_options *options,
                                                size_t struct_size);

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_trace_options_init_sized.
mlxterp_status mlxterp_trace_options_init(mlxterp_trace_options *options);

/// Starts a trace. Nothing is computed. `options` may be NULL.
mlxterp_status mlxterp_trace_start(const mlxterp_model *model,
                                   const mlxterp_batch *batch,
                                   const mlxterp_trace_options *options,
                                   mlxterp_trace **out_trace);

/// A second handle on the same trace, to be freed on its own. NULL when `trace` is not a live handle.
mlxterp_trace *mlxterp_trace_retain(const mlxterp_trace *trace);

/// Ends a handle. NULL is fine.
void mlxterp_trace_free(mlxterp_trace *trace);

/// The value of a site ("layers.3.attn.output"), lazily: nothing is computed before mlxterp_array_eval.
mlxterp_status mlxterp_trace_read(const mlxterp_trace *trace, const char *site, mlxterp_array **out_array);

/// Puts a value in a site's place; everything after sees it. It keeps the site's dtype and must broadcast to its shape.
mlxterp_status mlxterp_trace_write(const mlxterp_trace *trace, const char *site, const mlxterp_array *value);

/// Puts a value in part of a site's place.
mlxterp_status mlxterp_trace_write_at(const mlxterp_trace *trace,
                                      const char *site,
                                      const mlxterp_index *at,
                                      size_t count,
                                      const mlxterp_array *value);

/// Applies an intervention to every site that a name or pattern ("layers.*.mlp") means.
mlxterp_status mlxterp_trace_intervene(const mlxterp_trace *trace,
                                       const char *pattern,
                                       const mlxterp_intervention *intervention);

/// A second continuation that shares everything built so far. In it anything may be written.
mlxterp_status mlxterp_trace_fork(const mlxterp_trace *trace, mlxterp_trace **out_trace);

/// A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`.
mlxterp_status mlxterp_trace_fork_rows(const mlxterp_trace *trace, size_t n, mlxterp_trace **out_trace);

/// One receipt a write, as a JSON list of `{"site", "change", "step", "rows", "positions", "change_norm", "reached"}`.
/// Evaluates the norms. Free with mlxterp_string_free.
mlxterp_status mlxterp_trace_receipts_json(const mlxterp_trace *trace, char **out_text);

/// Which step of a generation the trace is; 0 in a plain forward, and when `trace` is not a live handle.
size_t mlxterp_trace_step(const mlxterp_trace *trace);

/// The tokens of the trace, as a batch handle of the caller's.
mlxterp_status mlxterp_trace_batch(const mlxterp_trace *trace, mlxterp_batch **out_batch);

/// Ends the block: a strict trace refuses here a write that changed nothing, or that nothing read depends on. Values
/// can still be read afterwards.
mlxterp_status mlxterp_trace_finish(const mlxterp_trace *trace);

/// Zeros in place of the value.
mlxterp_status mlxterp_intervention_zero_out(mlxterp_intervention **out_intervention);

/// The value times `factor`.
mlxterp_status mlxterp_intervention_scale(double factor, mlxterp_intervention **out_intervention);

/// The value plus `vector` times `strength`; the vector broadcasts to the site.
mlxterp_status mlxterp_intervention_add_vector(const mlxterp_array *vector,
                                               double strength,
                                               mlxterp_intervention **out_intervention);

/// `value` in place of the value; it broadcasts to the site.
mlxterp_status mlxterp_intervention_replace_with(const mlxterp_array *value, mlxterp_intervention **out_intervention);

/// Values below `low` become `low`, above `high` become `high`. An infinite bound is no bound.
mlxterp_status mlxterp_intervention_clamp(double low, double high, mlxterp_intervention **out_intervention);

/// Normal noise of standard deviation `std` added; the same seed gives the same noise.
mlxterp_status mlxterp_intervention_noise(double std, uint64_t seed, mlxterp_intervention **out_intervention);

/// The value without its component along `direction`, whose last axis is the site's features; its length does not matter.
mlxterp_status mlxterp_intervention_project_out(const mlxterp_array *direction,
                                                mlxterp_intervention **out_intervention);

/// The value with its component along `direction` set to `value`.
mlxterp_status mlxterp_intervention_set_component(const mlxterp_array *direction,
                                                  double value,
                                                  mlxterp_intervention **out_intervention);

/// One after another.
mlxterp_status mlxterp_intervention_compose(const mlxterp_intervention *const *parts,
                                            size_t count,
                                            mlxterp_intervention **out_intervention);

/// Whatever `hook` makes of the value. `name` is how it prints. `destroy(user)` is called exactly once, when the last
/// use of the intervention is over, on failure too; it may be NULL.
mlxterp_status mlxterp_intervention_custom(const char *name,
                                           mlxterp_hook_fn hook,
                                           void *user,
                                           mlxterp_destroy_fn destroy,
                                           mlxterp_intervention **out_intervention);

/// The same intervention on part of the site: `axis` is "rows", "positions", "heads" or "neurons"; negative indices
/// count from the end (positions: of each row's own end).
mlxterp_status mlxterp_intervention_select(const mlxterp_intervention *intervention,
                                           const char *axis,
                                           const int64_t *indices,
                                           size_t count,
                                           mlxterp_intervention **out_intervention);

/// The same intervention at each row's own positions: `counts[r]` positions of row `r` follow those of row `r - 1`.
mlxterp_status mlxterp_intervention_select_positions_by_row(const mlxterp_intervention *intervention,
                                                            const int64_t *positions,
                                                            const size_t *counts,
                                                            size_t rows,
                                                            mlxterp_intervention **out_intervention);

/// From JSON, such as `{"kind": "scale", "factor": 0.5, "positions": [-1]}`, or the short form `scale(0.5)`.
mlxterp_status mlxterp_intervention_from_json(const char *text, mlxterp_intervention **out_intervention);

/// As JSON; a custom one has none. Free with mlxterp_string_free.
mlxterp_status mlxterp_intervention_to_json(const mlxterp_intervention *intervention, char **out_text);

/// In words. Free with mlxterp_string_free.
mlxterp_status mlxterp_intervention_describe(const mlxterp_intervention *intervention, char **out_text);

/// Whether two interventions do the same. Custom ones are equal only to themselves.
bool mlxterp_intervention_equal(const mlxterp_intervention *a, const mlxterp_intervention *b);

/// Ends a handle. NULL is fine.
void mlxterp_intervention_free(mlxterp_intervention *intervention);

/// True for a row while `direction . value + bias` is greater than `threshold` (with `below`: less), where `value` is what
/// `site` (of shape `[row, position, feature]`) has at the row's last position. `direction` is `[feature]`.
mlxterp_status mlxterp_condition_new(const char *site,
                                     const mlxterp_array *direction,
                                     double bias,
                                     double threshold,
                                     bool below,
                                     mlxterp_condition **out_condition);

/// In words. Free with mlxterp_string_free.
mlxterp_status mlxterp_condition_describe(const mlxterp_condition *condition, char **out_text);

/// Ends a handle. NULL is fine.
void mlxterp_condition_free(mlxterp_condition *condition);

/// Fills in the defaults (greedy, 128 tokens) of a struct of `struct_size` bytes: what a C program calls as
/// mlxterp_generate_options_init(&options).
mlxterp_status mlxterp_generate_options_init_sized(mlxterp_generate_options *options, size_t struct_size);

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_generate_options_init_sized.
mlxterp_status mlxterp_generate_options_init(mlxterp_generate_options *options);

/// Starts a generation from a batch of tokens. Nothing is computed. `options` may be NULL.
mlxterp_status mlxterp_generation_start(const mlxterp_model *model,
                                        const mlxterp_batch *batch,
                                        const mlxterp_generate_options *options,
                                        mlxterp_generation **out_generation);

/// The trace of the next step, to be read and written until its tokens are drawn; NULL when every row has ended. The
/// tokens of the step before are drawn first, if nobody has. An error ends the generation; the rows stay as they are.
mlxterp_status mlxterp_generation_next(const mlxterp_generation *generation, mlxterp_trace **out_trace);

/// Draws the tokens of the step that was begun last, if nobody has. From here on, writes to its trace come too late.
mlxterp_status mlxterp_generation_draw(const mlxterp_generation *generation);

/// The token that a row drew in the step that was begun last, drawn now unless it was drawn already; -1 for a row that had
/// ended before.
mlxterp_status mlxterp_generation_token(const mlxterp_generation *generation,
                                        size_t row,
                                        int64_t *out_token);

/// The text of a row that became complete with the step that was begun last; often empty, never part of a character.
/// Free with mlxterp_string_free.
mlxterp_status mlxterp_generation_piece(const mlxterp_generation *generation, size_t row, char **out_text);

/// What the step that was begun last drew, as a JSON list with an entry a row: `{"token", "text", "finish"}`, null for a row
/// that had ended before; "finish" is null, "eos", "stop" or "length". Free with mlxterp_string_free.
mlxterp_status mlxterp_generation_drawn_json(const mlxterp_generation *generation,
                                             char **out_text);

/// Runs to the end.
mlxterp_status mlxterp_generation_run(const mlxterp_generation *generation);

/// Whether no step will follow. True when `generation` is not a live handle.
bool mlxterp_generation_is_done(const mlxterp_generation *generation);

/// Tokens that a row has drawn: writes at most `capacity` ids to `ids` (NULL when 0) and their count to `out_count`.
mlxterp_status mlxterp_generation_tokens(const mlxterp_generation *generation,
                                         size_t row,
                                         uint32_t *ids,
                                         size_t capacity,
                                         size_t *out_count);

/// The text of a row so far, up to the stop string that ended it. Free with mlxterp_string_free.
mlxterp_status mlxterp_generation_text(const mlxterp_generation *generation, size_t row, char **out_text);

/// Every row as far as it has come, as a JSON list of `{"prompt": ids, "tokens": ids, "text", "finish", "stop"}`; "finish"
/// is null while the row goes on, then "eos", "stop" or "length"; "stop" is the stop string. Free with mlxterp_string_free.
mlxterp_status mlxterp_generation_rows_json(const mlxterp_generation *generation,
                                            char **out_text);

/// What the model remembers of the prompts and of the tokens that were run so far; those drawn last are not among them.
mlxterp_status mlxterp_generation_cache(const mlxterp_generation *generation, mlxterp_cache **out_cache);

/// Ends a handle. Traces of its steps stay. NULL is fine.
void mlxterp_generation_free(mlxterp_generation *generation);

/// A second handle on the same value, to be freed on its own. NULL when `array` is not a live handle.
mlxterp_array *mlxterp_array_retain(const mlxterp_array *array);

/// Ends a handle. NULL is fine.
void mlxterp_array_free(mlxterp_array *array);

/// Number of axes. Never waits. 0 when `array` is not a live handle.
size_t mlxterp_array_ndim(const mlxterp_array *array);

/// Length of each axis. Borrowed from the array. Never waits.
const int64_t *mlxterp_array_shape(const mlxterp_array *array);

/// Steps between neighbours along each axis, in elements. Borrowed from the array; NULL before mlxterp_array_eval.
const int64_t *mlxterp_array_strides(const mlxterp_array *array);

/// Element type. Never waits.
uint32_t mlxterp_array_dtype(const mlxterp_array *array);

/// Number of elements. Never waits.
size_t mlxterp_array_size(const mlxterp_array *array);

/// Bytes of all elements. Never waits.
size_t mlxterp_array_byte_size(const mlxterp_array *array);

/// Whether the value has been computed. Never waits.
bool mlxterp_array_is_evaluated(const mlxterp_array *array);

/// Computes the value, and waits for it: the one place where work happens.
mlxterp_status mlxterp_array_eval(const mlxterp_array *array);

/// Computes several values together; what they share is computed once.
mlxterp_status mlxterp_array_eval_all(const mlxterp_array *const *arrays, size_t count);

/// Address of the first element, in the buffer that MLX itself uses. Borrowed: lives as long as any handle on the value.
/// An error before mlxterp_array_eval. Elements may be strided: see mlxterp_array_strides.
mlxterp_status mlxterp_array_data(const mlxterp_array *array,
                                  const void **out_data);

/// The same value in row-major order without gaps: the only door that copies, and only when it must.
mlxterp_status mlxterp_array_contiguous(const mlxterp_array *array, mlxterp_array **out_array);

/// A new array with a copy of `data`: row-major, as many elements as `shape` says.
mlxterp_status mlxterp_array_from_data(const void *data,
                                       const int64_t *shape,
                                       size_t ndim,
                                       uint32_t dtype,
                                       mlxterp_array **out_array);

/// A new array over memory that the caller owns, shared where the backend can, else copied (see
/// mlxterp_array_is_shared). `destroy(user)` is called exactly once, from any thread, when the memory is no longer
/// needed: on failure too. Until then the memory must not change.
mlxterp_status mlxterp_array_adopt(void *data,
                                   const int64_t *shape,
                                   size_t ndim,
                                   uint32_t dtype,
                                   void *user,
                                   mlxterp_destroy_fn destroy,
                                   mlxterp_array **out_array);

/// Whether the array's buffer is the very memory at `data`: whether MLX could share it.
bool mlxterp_array_is_shared(const mlxterp_array *array, const void *data);

/// The evaluated array as a `DLManagedTensorVersioned` (DLPack 1.x), read-only, without a copy. The consumer calls its
/// deleter; until then the buffer lives.
mlxterp_status mlxterp_array_to_dlpack(const mlxterp_array *array, void **out_tensor);

/// A new array over a `DLManagedTensorVersioned` in host memory, shared where the backend can. Consumes the tensor:
/// its deleter is called by this library, on failure too.
mlxterp_status mlxterp_array_from_dlpack(void *tensor, mlxterp_array **out_array);

/// The array in words: shape, dtype, and its values when they are computed and few. Free with mlxterp_string_free.
mlxterp_status mlxterp_array_describe(const mlxterp_array *array, char **out_text);

/// Applies a value of mlxterp_unary.
mlxterp_status mlxterp_array_unary(uint32_t op, const mlxterp_array *a, mlxterp_array **out_array);

/// Applies a value of mlxterp_binary.
mlxterp_status mlxterp_array_binary(uint32_t op,
                                    const mlxterp_array *a,
                                    const mlxterp_array *b,
                                    mlxterp_array **out_array);

/// Applies a value of mlxterp_reduce along an axis, negative from the end.
mlxterp_status mlxterp_array_reduce(uint32_t op,
                                    const mlxterp_array *a,
                                    int64_t axis,
                                    bool keep_axis,
                                    mlxterp_array **out_array);

/// Softmax along an axis, accumulated in float32.
mlxterp_status mlxterp_array_softmax(const mlxterp_array *a, int64_t axis, mlxterp_array **out_array);

/// The same values in another dtype.
mlxterp_status mlxterp_array_cast(const mlxterp_array *a, uint32_t dtype, mlxterp_array **out_array);

/// A new shape for the same elements; one length may be -1.
mlxterp_status mlxterp_array_reshape(const mlxterp_array *a,
                                     const int64_t *shape,
                                     size_t ndim,
                                     mlxterp_array **out_array);

/// Repeats axes of length 1 up to `shape`, without copying.
mlxterp_status mlxterp_array_broadcast_to(const mlxterp_array *a,
                                          const int64_t *shape,
                                          size_t ndim,
                                          mlxterp_array **out_array);

/// Axes in another order, without copying.
mlxterp_status mlxterp_array_transpose(const mlxterp_array *a,
                                       const int64_t *axes,
                                       size_t count,
                                       mlxterp_array **out_array);

/// Part of an array: numpy's basic subscripts, without copying.
mlxterp_status mlxterp_array_index(const mlxterp_array *a,
                                   const mlxterp_index *at,
                                   size_t count,
                                   mlxterp_array **out_array);

/// A new array like `a` with `value` (broadcast) at the subscripts.
mlxterp_status mlxterp_array_index_update(const mlxterp_array *a,
                                          const mlxterp_index *at,
                                          size_t count,
                                          const mlxterp_array *value,
                                          mlxterp_array **out_array);

/// Arrays joined along an axis.
mlxterp_status mlxterp_array_concatenate(const mlxterp_array *const *arrays,
                                         size_t count,
                                         int64_t axis,
                                         mlxterp_array **out_array);

/// Arrays of one shape joined along a new axis.
mlxterp_status mlxterp_array_stack(const mlxterp_array *const *arrays,
                                   size_t count,
                                   int64_t axis,
                                   mlxterp_array **out_array);

/// `condition ? a : b`, broadcast.
mlxterp_status mlxterp_array_where(const mlxterp_array *condition,
                                   const mlxterp_array *a,
                                   const mlxterp_array *b,
                                   mlxterp_array **out_array);

/// Elements along an axis by an index array. Indices are checked, which evaluates them: MLX itself does not.
mlxterp_status mlxterp_array_take(const mlxterp_array *a,
                                  const mlxterp_array *indices,
                                  int64_t axis,
                                  mlxterp_array **out_array);

/// Indices that sort the last axis downwards, the first `k` of them: the ids of the top tokens of logits.
mlxterp_status mlxterp_array_topk(const mlxterp_array *a, size_t k, mlxterp_array **out_indices);

/// One number in a dtype.
mlxterp_status mlxterp_array_scalar(double value, uint32_t dtype, mlxterp_array **out_array);

/// One number in the dtype that lets it meet `like` without changing `like`'s dtype.
mlxterp_status mlxterp_array_scalar_like(double value, const mlxterp_array *like, mlxterp_array **out_array);

/// An array filled with one number.
mlxterp_status mlxterp_array_full(const int64_t *shape,
                                  size_t ndim,
                                  double value,
                                  uint32_t dtype,
                                  mlxterp_array **out_array);

/// Fills in the defaults, nothing, of a struct of `struct_size` bytes: what a C program calls as
/// mlxterp_tool_inputs_init(&inputs).
mlxterp_status mlxterp_tool_inputs_init_sized(mlxterp_tool_inputs *inputs, size_t struct_size);

/// Fills in the defaults of the fields that the struct had in its first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_tool_inputs_init_sized.
mlxterp_status mlxterp_tool_inputs_init(mlxterp_tool_inputs *inputs);

/// Runs an analysis by name on a model. `options_json` is an object, NULL for none; which options a tool takes is in the
/// guides. `inputs` may be NULL. Nothing of it is kept once the call is over.
mlxterp_status mlxterp_tool_run(const mlxterp_model *model,
                                const char *tool,
                                const char *options_json,
                                const mlxterp_tool_inputs *inputs,
                                mlxterp_result **out_result);

/// The tools, as a JSON list of `{"name", "about", "arrays", "metric"}`. Free with mlxterp_string_free.
mlxterp_status mlxterp_tools_json(char **out_text);

/// A second handle on the same result, to be freed on its own. NULL when `result` is not a live handle.
mlxterp_result *mlxterp_result_retain(const mlxterp_result *result);

/// Ends a handle. NULL is fine.
void mlxterp_result_free(mlxterp_result *result);

/// Which analysis made it, such as "logit_lens". Free with mlxterp_string_free.
mlxterp_status mlxterp_result_kind(const mlxterp_result *result, char **out_text);

/// In words and tables. Free with mlxterp_string_free.
mlxterp_status mlxterp_result_text(const mlxterp_result *result, char **out_text);

/// All of it as JSON, axes by name. Free with mlxterp_string_free.
mlxterp_status mlxterp_result_json(const mlxterp_result *result, char **out_text);

/// Drawn: a fragment of HTML with its own styles, without script or request. Free with mlxterp_string_free.
mlxterp_status mlxterp_result_html(const mlxterp_result *result, char **out_text);

/// Names of its arrays, as a JSON list. Free with mlxterp_string_free.
mlxterp_status mlxterp_result_array_names_json(const mlxterp_result *result, char **out_text);

/// One of its arrays by name.
mlxterp_status mlxterp_result_array(const mlxterp_result *result, const char *name, mlxterp_array **out_array);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/* Filled in to the size that this header gives them, whichever library is met. */
#define mlxterp_model_options_init(options) mlxterp_model_options_init_sized((options), sizeof *(options))
#define mlxterp_trace_options_init(options) mlxterp_trace_options_init_sized((options), sizeof *(options))
#define mlxterp_generate_options_init(options) mlxterp_generate_options_init_sized((options), sizeof *(options))
#define mlxterp_tool_inputs_init(options) mlxterp_tool_inputs_init_sized((options), sizeof *(options))

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif /* MLXTERP_H */
