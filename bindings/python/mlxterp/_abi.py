"""The C ABI for ctypes. Generated from src/ffi; do not edit."""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)

MLXTERP_ABI_VERSION = 1
MLXTERP_INDEX_NONE = -(2**63)
MLXTERP_STATUS_OK = 0
MLXTERP_STATUS_INVALID_ARGUMENT = 1
MLXTERP_STATUS_NOT_FOUND = 2
MLXTERP_STATUS_IO = 3
MLXTERP_STATUS_CORRUPT = 4
MLXTERP_STATUS_UNSUPPORTED = 5
MLXTERP_STATUS_CONFIG = 6
MLXTERP_STATUS_DESCRIPTION = 7
MLXTERP_STATUS_SHAPE = 8
MLXTERP_STATUS_UNKNOWN_SITE = 9
MLXTERP_STATUS_STALE_WRITE = 10
MLXTERP_STATUS_STRICT = 11
MLXTERP_STATUS_CALLBACK = 12
MLXTERP_STATUS_BUSY = 13
MLXTERP_STATUS_BACKEND = 14
MLXTERP_STATUS_NOT_EVALUATED = 15
MLXTERP_STATUS_PANIC = 16
MLXTERP_STATUS_NOT_EXECUTED = 17
MLXTERP_WHEN_ALWAYS = 0
MLXTERP_WHEN_PREFILL = 1
MLXTERP_WHEN_DECODE = 2
MLXTERP_DTYPE_BOOL = 0
MLXTERP_DTYPE_UINT8 = 1
MLXTERP_DTYPE_UINT16 = 2
MLXTERP_DTYPE_UINT32 = 3
MLXTERP_DTYPE_UINT64 = 4
MLXTERP_DTYPE_INT8 = 5
MLXTERP_DTYPE_INT16 = 6
MLXTERP_DTYPE_INT32 = 7
MLXTERP_DTYPE_INT64 = 8
MLXTERP_DTYPE_FLOAT16 = 9
MLXTERP_DTYPE_FLOAT32 = 10
MLXTERP_DTYPE_FLOAT64 = 11
MLXTERP_DTYPE_BFLOAT16 = 12
MLXTERP_DTYPE_COMPLEX64 = 13
MLXTERP_UNARY_NEGATIVE = 0
MLXTERP_UNARY_EXP = 1
MLXTERP_UNARY_LOG = 2
MLXTERP_UNARY_SQRT = 3
MLXTERP_UNARY_SQUARE = 4
MLXTERP_UNARY_ABS = 5
MLXTERP_UNARY_FLOOR = 6
MLXTERP_UNARY_SIGMOID = 7
MLXTERP_UNARY_TANH = 8
MLXTERP_UNARY_IS_NAN = 9
MLXTERP_UNARY_NOT = 10
MLXTERP_UNARY_ZEROS_LIKE = 11
MLXTERP_BINARY_ADD = 0
MLXTERP_BINARY_SUBTRACT = 1
MLXTERP_BINARY_MULTIPLY = 2
MLXTERP_BINARY_DIVIDE = 3
MLXTERP_BINARY_POWER = 4
MLXTERP_BINARY_MINIMUM = 5
MLXTERP_BINARY_MAXIMUM = 6
MLXTERP_BINARY_REMAINDER = 7
MLXTERP_BINARY_FLOOR_DIVIDE = 8
MLXTERP_BINARY_LESS = 9
MLXTERP_BINARY_LESS_EQUAL = 10
MLXTERP_BINARY_GREATER = 11
MLXTERP_BINARY_GREATER_EQUAL = 12
MLXTERP_BINARY_EQUAL = 13
MLXTERP_BINARY_NOT_EQUAL = 14
MLXTERP_BINARY_AND = 15
MLXTERP_BINARY_OR = 16
MLXTERP_BINARY_MATMUL = 17
MLXTERP_REDUCE_SUM = 0
MLXTERP_REDUCE_MEAN = 1
MLXTERP_REDUCE_MAX = 2
MLXTERP_REDUCE_MIN = 3
MLXTERP_REDUCE_STD = 4
MLXTERP_REDUCE_NORM = 5
MLXTERP_REDUCE_LOGSUMEXP = 6
MLXTERP_REDUCE_ARGMAX = 7
MLXTERP_INDEX_SLICE = 0
MLXTERP_INDEX_AT = 1
MLXTERP_INDEX_ELLIPSIS = 2
MLXTERP_INDEX_NEW_AXIS = 3

# What a status is called.
STATUS = {
    0: "OK",
    1: "INVALID_ARGUMENT",
    2: "NOT_FOUND",
    3: "IO",
    4: "CORRUPT",
    5: "UNSUPPORTED",
    6: "CONFIG",
    7: "DESCRIPTION",
    8: "SHAPE",
    9: "UNKNOWN_SITE",
    10: "STALE_WRITE",
    11: "STRICT",
    12: "CALLBACK",
    13: "BUSY",
    14: "BACKEND",
    15: "NOT_EVALUATED",
    16: "PANIC",
    17: "NOT_EXECUTED",
}


mlxterp_progress_fn = CFUNCTYPE(c_int32, c_void_p, c_char_p, c_uint64, c_uint64)


mlxterp_step_fn = CFUNCTYPE(c_int32, c_void_p, c_size_t, c_void_p)


mlxterp_destroy_fn = CFUNCTYPE(None, c_void_p)


mlxterp_metric_fn = CFUNCTYPE(c_int32, c_void_p, c_void_p, POINTER(c_void_p))


mlxterp_tool_progress_fn = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)


class mlxterp_model_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("dtype", c_char_p),
        ("keep_quantised", c_int32),
        ("offline", c_int32),
        ("description", c_char_p),
        ("revision", c_char_p),
        ("token", c_char_p),
        ("cache_dir", c_char_p),
        ("progress", mlxterp_progress_fn),
        ("progress_user", c_void_p),
        ("opaque_names", POINTER(c_char_p)),
        ("opaques", POINTER(c_void_p)),
        ("opaque_count", c_size_t),
    ]


class mlxterp_opaque_call(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("path", c_char_p),
        ("inputs", POINTER(c_void_p)),
        ("input_count", c_size_t),
        ("output_count", c_size_t),
        ("rows", c_size_t),
        ("lengths", POINTER(c_size_t)),
    ]


mlxterp_opaque_fn = CFUNCTYPE(c_int32, c_void_p, POINTER(mlxterp_opaque_call), POINTER(c_void_p))


class mlxterp_trace_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("patterns", POINTER(c_char_p)),
        ("interventions", POINTER(c_void_p)),
        ("intervention_count", c_size_t),
        ("keep_all", c_int32),
        ("strict", c_int32),
        ("cache", c_void_p),
    ]


class mlxterp_event(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("site", c_char_p),
        ("step", c_size_t),
        ("rows", c_size_t),
        ("lengths", POINTER(c_size_t)),
        ("value", c_void_p),
    ]


mlxterp_hook_fn = CFUNCTYPE(c_int32, c_void_p, POINTER(mlxterp_event), POINTER(c_void_p))


class mlxterp_generate_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("max_tokens", c_size_t),
        ("temperature", c_double),
        ("top_k", c_size_t),
        ("top_p", c_double),
        ("min_p", c_double),
        ("seed", c_uint64),
        ("stops", POINTER(c_char_p)),
        ("stop_count", c_size_t),
        ("eos_ids", POINTER(c_uint32)),
        ("eos_count", c_size_t),
        ("patterns", POINTER(c_char_p)),
        ("interventions", POINTER(c_void_p)),
        ("whens", POINTER(c_uint32)),
        ("conditions", POINTER(c_void_p)),
        ("intervention_count", c_size_t),
        ("on_step", mlxterp_step_fn),
        ("on_step_user", c_void_p),
        ("on_step_destroy", mlxterp_destroy_fn),
        ("keep_all", c_int32),
        ("strict", c_int32),
    ]


class mlxterp_index(Structure):
    _fields_ = [
        ("kind", c_uint32),
        ("reserved", c_uint32),
        ("start", c_int64),
        ("stop", c_int64),
        ("step", c_int64),
    ]


class mlxterp_tool_inputs(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("array_names", POINTER(c_char_p)),
        ("arrays", POINTER(c_void_p)),
        ("array_count", c_size_t),
        ("patterns", POINTER(c_char_p)),
        ("interventions", POINTER(c_void_p)),
        ("intervention_count", c_size_t),
        ("metric", mlxterp_metric_fn),
        ("metric_user", c_void_p),
        ("progress", mlxterp_tool_progress_fn),
        ("progress_user", c_void_p),
    ]


# Every exported function: what it returns and what it takes.
FUNCTIONS = {
    "mlxterp_last_error_message": (c_char_p, []),
    "mlxterp_abi_version": (c_uint32, []),
    "mlxterp_version": (c_char_p, []),
    "mlxterp_backend": (c_char_p, []),
    "mlxterp_live_handles": (c_size_t, []),
    "mlxterp_memory_used": (c_size_t, []),
    "mlxterp_string_free": (None, [c_void_p]),
    "mlxterp_model_options_init_sized": (c_int32, [POINTER(mlxterp_model_options), c_size_t]),
    "mlxterp_model_options_init": (c_int32, [POINTER(mlxterp_model_options)]),
    "mlxterp_model_load": (c_int32, [c_char_p, POINTER(mlxterp_model_options), POINTER(c_void_p)]),
    "mlxterp_model_retain": (c_void_p, [c_void_p]),
    "mlxterp_model_free": (None, [c_void_p]),
    "mlxterp_model_num_layers": (c_size_t, [c_void_p]),
    "mlxterp_model_num_heads": (c_size_t, [c_void_p]),
    "mlxterp_model_hidden_size": (c_size_t, [c_void_p]),
    "mlxterp_model_vocab_size": (c_size_t, [c_void_p]),
    "mlxterp_model_info_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_model_config_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_model_describe": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_model_sites_json": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mlxterp_model_plan_json": (c_int32, [c_void_p, c_void_p, POINTER(c_void_p)]),
    "mlxterp_model_forward": (c_int32, [c_void_p, c_void_p, POINTER(c_void_p)]),
    "mlxterp_model_encode": (c_int32, [c_void_p, c_char_p, c_bool, POINTER(c_uint32), c_size_t, POINTER(c_size_t)]),
    "mlxterp_model_decode": (c_int32, [c_void_p, POINTER(c_uint32), c_size_t, c_bool, POINTER(c_void_p)]),
    "mlxterp_model_token_to_str": (c_int32, [c_void_p, c_uint32, POINTER(c_void_p)]),
    "mlxterp_model_apply_chat_template": (c_int32, [c_void_p, c_char_p, c_bool, c_char_p, POINTER(c_void_p)]),
    "mlxterp_model_from_weights": (c_int32, [c_char_p, c_char_p, POINTER(c_char_p), POINTER(c_void_p), c_size_t, POINTER(mlxterp_model_options), POINTER(c_void_p)]),
    "mlxterp_model_from_files": (c_int32, [c_char_p, c_char_p, POINTER(c_char_p), c_size_t, POINTER(mlxterp_model_options), POINTER(c_void_p)]),
    "mlxterp_opaque_new": (c_int32, [mlxterp_opaque_fn, c_void_p, mlxterp_destroy_fn, POINTER(c_void_p)]),
    "mlxterp_opaque_free": (None, [c_void_p]),
    "mlxterp_batch_from_texts": (c_int32, [c_void_p, POINTER(c_char_p), c_size_t, POINTER(c_void_p)]),
    "mlxterp_batch_from_chats": (c_int32, [c_void_p, c_char_p, c_char_p, POINTER(c_void_p)]),
    "mlxterp_batch_from_tokens": (c_int32, [c_void_p, POINTER(c_uint32), POINTER(c_size_t), c_size_t, POINTER(c_void_p)]),
    "mlxterp_batch_from_arrays": (c_int32, [c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_void_p)]),
    "mlxterp_batch_count": (c_size_t, [c_void_p]),
    "mlxterp_batch_width": (c_size_t, [c_void_p]),
    "mlxterp_batch_lengths": (POINTER(c_size_t), [c_void_p]),
    "mlxterp_batch_ids": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_batch_free": (None, [c_void_p]),
    "mlxterp_cache_empty": (c_int32, [POINTER(c_void_p)]),
    "mlxterp_trace_cache": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_cache_lengths": (c_int32, [c_void_p, POINTER(c_size_t), c_size_t, POINTER(c_size_t)]),
    "mlxterp_cache_eval": (c_int32, [c_void_p]),
    "mlxterp_cache_byte_size": (c_size_t, [c_void_p]),
    "mlxterp_cache_free": (None, [c_void_p]),
    "mlxterp_trace_options_init_sized": (c_int32, [POINTER(mlxterp_trace_options), c_size_t]),
    "mlxterp_trace_options_init": (c_int32, [POINTER(mlxterp_trace_options)]),
    "mlxterp_trace_start": (c_int32, [c_void_p, c_void_p, POINTER(mlxterp_trace_options), POINTER(c_void_p)]),
    "mlxterp_trace_retain": (c_void_p, [c_void_p]),
    "mlxterp_trace_free": (None, [c_void_p]),
    "mlxterp_trace_read": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "mlxterp_trace_write": (c_int32, [c_void_p, c_char_p, c_void_p]),
    "mlxterp_trace_write_at": (c_int32, [c_void_p, c_char_p, POINTER(mlxterp_index), c_size_t, c_void_p]),
    "mlxterp_trace_intervene": (c_int32, [c_void_p, c_char_p, c_void_p]),
    "mlxterp_trace_fork": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_trace_fork_rows": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "mlxterp_trace_receipts_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_trace_step": (c_size_t, [c_void_p]),
    "mlxterp_trace_batch": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_trace_finish": (c_int32, [c_void_p]),
    "mlxterp_intervention_zero_out": (c_int32, [POINTER(c_void_p)]),
    "mlxterp_intervention_scale": (c_int32, [c_double, POINTER(c_void_p)]),
    "mlxterp_intervention_add_vector": (c_int32, [c_void_p, c_double, POINTER(c_void_p)]),
    "mlxterp_intervention_replace_with": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_intervention_clamp": (c_int32, [c_double, c_double, POINTER(c_void_p)]),
    "mlxterp_intervention_noise": (c_int32, [c_double, c_uint64, POINTER(c_void_p)]),
    "mlxterp_intervention_project_out": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_intervention_set_component": (c_int32, [c_void_p, c_double, POINTER(c_void_p)]),
    "mlxterp_intervention_compose": (c_int32, [POINTER(c_void_p), c_size_t, POINTER(c_void_p)]),
    "mlxterp_intervention_custom": (c_int32, [c_char_p, mlxterp_hook_fn, c_void_p, mlxterp_destroy_fn, POINTER(c_void_p)]),
    "mlxterp_intervention_select": (c_int32, [c_void_p, c_char_p, POINTER(c_int64), c_size_t, POINTER(c_void_p)]),
    "mlxterp_intervention_select_positions_by_row": (c_int32, [c_void_p, POINTER(c_int64), POINTER(c_size_t), c_size_t, POINTER(c_void_p)]),
    "mlxterp_intervention_from_json": (c_int32, [c_char_p, POINTER(c_void_p)]),
    "mlxterp_intervention_to_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_intervention_describe": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_intervention_equal": (c_bool, [c_void_p, c_void_p]),
    "mlxterp_intervention_free": (None, [c_void_p]),
    "mlxterp_condition_new": (c_int32, [c_char_p, c_void_p, c_double, c_double, c_bool, POINTER(c_void_p)]),
    "mlxterp_condition_describe": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_condition_free": (None, [c_void_p]),
    "mlxterp_generate_options_init_sized": (c_int32, [POINTER(mlxterp_generate_options), c_size_t]),
    "mlxterp_generate_options_init": (c_int32, [POINTER(mlxterp_generate_options)]),
    "mlxterp_generation_start": (c_int32, [c_void_p, c_void_p, POINTER(mlxterp_generate_options), POINTER(c_void_p)]),
    "mlxterp_generation_next": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_generation_draw": (c_int32, [c_void_p]),
    "mlxterp_generation_token": (c_int32, [c_void_p, c_size_t, POINTER(c_int64)]),
    "mlxterp_generation_piece": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "mlxterp_generation_drawn_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_generation_run": (c_int32, [c_void_p]),
    "mlxterp_generation_is_done": (c_bool, [c_void_p]),
    "mlxterp_generation_tokens": (c_int32, [c_void_p, c_size_t, POINTER(c_uint32), c_size_t, POINTER(c_size_t)]),
    "mlxterp_generation_text": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "mlxterp_generation_rows_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_generation_cache": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_generation_free": (None, [c_void_p]),
    "mlxterp_array_retain": (c_void_p, [c_void_p]),
    "mlxterp_array_free": (None, [c_void_p]),
    "mlxterp_array_ndim": (c_size_t, [c_void_p]),
    "mlxterp_array_shape": (POINTER(c_int64), [c_void_p]),
    "mlxterp_array_strides": (POINTER(c_int64), [c_void_p]),
    "mlxterp_array_dtype": (c_uint32, [c_void_p]),
    "mlxterp_array_size": (c_size_t, [c_void_p]),
    "mlxterp_array_byte_size": (c_size_t, [c_void_p]),
    "mlxterp_array_is_evaluated": (c_bool, [c_void_p]),
    "mlxterp_array_eval": (c_int32, [c_void_p]),
    "mlxterp_array_eval_all": (c_int32, [POINTER(c_void_p), c_size_t]),
    "mlxterp_array_data": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_contiguous": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_from_data": (c_int32, [c_void_p, POINTER(c_int64), c_size_t, c_uint32, POINTER(c_void_p)]),
    "mlxterp_array_adopt": (c_int32, [c_void_p, POINTER(c_int64), c_size_t, c_uint32, c_void_p, mlxterp_destroy_fn, POINTER(c_void_p)]),
    "mlxterp_array_is_shared": (c_bool, [c_void_p, c_void_p]),
    "mlxterp_array_to_dlpack": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_from_dlpack": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_describe": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_unary": (c_int32, [c_uint32, c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_binary": (c_int32, [c_uint32, c_void_p, c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_reduce": (c_int32, [c_uint32, c_void_p, c_int64, c_bool, POINTER(c_void_p)]),
    "mlxterp_array_softmax": (c_int32, [c_void_p, c_int64, POINTER(c_void_p)]),
    "mlxterp_array_cast": (c_int32, [c_void_p, c_uint32, POINTER(c_void_p)]),
    "mlxterp_array_reshape": (c_int32, [c_void_p, POINTER(c_int64), c_size_t, POINTER(c_void_p)]),
    "mlxterp_array_broadcast_to": (c_int32, [c_void_p, POINTER(c_int64), c_size_t, POINTER(c_void_p)]),
    "mlxterp_array_transpose": (c_int32, [c_void_p, POINTER(c_int64), c_size_t, POINTER(c_void_p)]),
    "mlxterp_array_index": (c_int32, [c_void_p, POINTER(mlxterp_index), c_size_t, POINTER(c_void_p)]),
    "mlxterp_array_index_update": (c_int32, [c_void_p, POINTER(mlxterp_index), c_size_t, c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_concatenate": (c_int32, [POINTER(c_void_p), c_size_t, c_int64, POINTER(c_void_p)]),
    "mlxterp_array_stack": (c_int32, [POINTER(c_void_p), c_size_t, c_int64, POINTER(c_void_p)]),
    "mlxterp_array_where": (c_int32, [c_void_p, c_void_p, c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_take": (c_int32, [c_void_p, c_void_p, c_int64, POINTER(c_void_p)]),
    "mlxterp_array_topk": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "mlxterp_array_scalar": (c_int32, [c_double, c_uint32, POINTER(c_void_p)]),
    "mlxterp_array_scalar_like": (c_int32, [c_double, c_void_p, POINTER(c_void_p)]),
    "mlxterp_array_full": (c_int32, [POINTER(c_int64), c_size_t, c_double, c_uint32, POINTER(c_void_p)]),
    "mlxterp_tool_inputs_init_sized": (c_int32, [POINTER(mlxterp_tool_inputs), c_size_t]),
    "mlxterp_tool_inputs_init": (c_int32, [POINTER(mlxterp_tool_inputs)]),
    "mlxterp_tool_run": (c_int32, [c_void_p, c_char_p, c_char_p, POINTER(mlxterp_tool_inputs), POINTER(c_void_p)]),
    "mlxterp_tools_json": (c_int32, [POINTER(c_void_p)]),
    "mlxterp_result_retain": (c_void_p, [c_void_p]),
    "mlxterp_result_free": (None, [c_void_p]),
    "mlxterp_result_kind": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_result_text": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_result_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_result_html": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_result_array_names_json": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "mlxterp_result_array": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p)]),
}


def declare(library):
    """Tells ctypes the signature of every function."""
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
