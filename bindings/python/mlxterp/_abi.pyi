# Generated from src/ffi; do not edit.

from ctypes import CDLL, Structure
from typing import Any, Final

MLXTERP_ABI_VERSION: Final[int]
MLXTERP_INDEX_NONE: Final[int]
MLXTERP_STATUS_OK: Final[int]
MLXTERP_STATUS_INVALID_ARGUMENT: Final[int]
MLXTERP_STATUS_NOT_FOUND: Final[int]
MLXTERP_STATUS_IO: Final[int]
MLXTERP_STATUS_CORRUPT: Final[int]
MLXTERP_STATUS_UNSUPPORTED: Final[int]
MLXTERP_STATUS_CONFIG: Final[int]
MLXTERP_STATUS_DESCRIPTION: Final[int]
MLXTERP_STATUS_SHAPE: Final[int]
MLXTERP_STATUS_UNKNOWN_SITE: Final[int]
MLXTERP_STATUS_STALE_WRITE: Final[int]
MLXTERP_STATUS_STRICT: Final[int]
MLXTERP_STATUS_CALLBACK: Final[int]
MLXTERP_STATUS_BUSY: Final[int]
MLXTERP_STATUS_BACKEND: Final[int]
MLXTERP_STATUS_NOT_EVALUATED: Final[int]
MLXTERP_STATUS_PANIC: Final[int]
MLXTERP_STATUS_NOT_EXECUTED: Final[int]
MLXTERP_WHEN_ALWAYS: Final[int]
MLXTERP_WHEN_PREFILL: Final[int]
MLXTERP_WHEN_DECODE: Final[int]
MLXTERP_DTYPE_BOOL: Final[int]
MLXTERP_DTYPE_UINT8: Final[int]
MLXTERP_DTYPE_UINT16: Final[int]
MLXTERP_DTYPE_UINT32: Final[int]
MLXTERP_DTYPE_UINT64: Final[int]
MLXTERP_DTYPE_INT8: Final[int]
MLXTERP_DTYPE_INT16: Final[int]
MLXTERP_DTYPE_INT32: Final[int]
MLXTERP_DTYPE_INT64: Final[int]
MLXTERP_DTYPE_FLOAT16: Final[int]
MLXTERP_DTYPE_FLOAT32: Final[int]
MLXTERP_DTYPE_FLOAT64: Final[int]
MLXTERP_DTYPE_BFLOAT16: Final[int]
MLXTERP_DTYPE_COMPLEX64: Final[int]
MLXTERP_UNARY_NEGATIVE: Final[int]
MLXTERP_UNARY_EXP: Final[int]
MLXTERP_UNARY_LOG: Final[int]
MLXTERP_UNARY_SQRT: Final[int]
MLXTERP_UNARY_SQUARE: Final[int]
MLXTERP_UNARY_ABS: Final[int]
MLXTERP_UNARY_FLOOR: Final[int]
MLXTERP_UNARY_SIGMOID: Final[int]
MLXTERP_UNARY_TANH: Final[int]
MLXTERP_UNARY_IS_NAN: Final[int]
MLXTERP_UNARY_NOT: Final[int]
MLXTERP_UNARY_ZEROS_LIKE: Final[int]
MLXTERP_BINARY_ADD: Final[int]
MLXTERP_BINARY_SUBTRACT: Final[int]
MLXTERP_BINARY_MULTIPLY: Final[int]
MLXTERP_BINARY_DIVIDE: Final[int]
MLXTERP_BINARY_POWER: Final[int]
MLXTERP_BINARY_MINIMUM: Final[int]
MLXTERP_BINARY_MAXIMUM: Final[int]
MLXTERP_BINARY_REMAINDER: Final[int]
MLXTERP_BINARY_FLOOR_DIVIDE: Final[int]
MLXTERP_BINARY_LESS: Final[int]
MLXTERP_BINARY_LESS_EQUAL: Final[int]
MLXTERP_BINARY_GREATER: Final[int]
MLXTERP_BINARY_GREATER_EQUAL: Final[int]
MLXTERP_BINARY_EQUAL: Final[int]
MLXTERP_BINARY_NOT_EQUAL: Final[int]
MLXTERP_BINARY_AND: Final[int]
MLXTERP_BINARY_OR: Final[int]
MLXTERP_BINARY_MATMUL: Final[int]
MLXTERP_REDUCE_SUM: Final[int]
MLXTERP_REDUCE_MEAN: Final[int]
MLXTERP_REDUCE_MAX: Final[int]
MLXTERP_REDUCE_MIN: Final[int]
MLXTERP_REDUCE_STD: Final[int]
MLXTERP_REDUCE_NORM: Final[int]
MLXTERP_REDUCE_LOGSUMEXP: Final[int]
MLXTERP_REDUCE_ARGMAX: Final[int]
MLXTERP_INDEX_SLICE: Final[int]
MLXTERP_INDEX_AT: Final[int]
MLXTERP_INDEX_ELLIPSIS: Final[int]
MLXTERP_INDEX_NEW_AXIS: Final[int]

STATUS: Final[dict[int, str]]

mlxterp_progress_fn: Any
mlxterp_opaque_fn: Any
mlxterp_hook_fn: Any
mlxterp_step_fn: Any
mlxterp_destroy_fn: Any
mlxterp_metric_fn: Any
mlxterp_tool_progress_fn: Any

class mlxterp_model_options(Structure):
    struct_size: int
    dtype: bytes | None
    keep_quantised: int
    offline: int
    description: bytes | None
    revision: bytes | None
    token: bytes | None
    cache_dir: bytes | None
    progress: Any
    progress_user: int | None
    opaque_names: Any
    opaques: Any
    opaque_count: int

class mlxterp_opaque_call(Structure):
    struct_size: int
    path: bytes | None
    inputs: Any
    input_count: int
    output_count: int
    rows: int
    lengths: Any

class mlxterp_trace_options(Structure):
    struct_size: int
    patterns: Any
    interventions: Any
    intervention_count: int
    keep_all: int
    strict: int
    cache: int | None

class mlxterp_event(Structure):
    struct_size: int
    site: bytes | None
    step: int
    rows: int
    lengths: Any
    value: int | None

class mlxterp_generate_options(Structure):
    struct_size: int
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    stops: Any
    stop_count: int
    eos_ids: Any
    eos_count: int
    patterns: Any
    interventions: Any
    whens: Any
    conditions: Any
    intervention_count: int
    on_step: Any
    on_step_user: int | None
    on_step_destroy: Any
    keep_all: int
    strict: int

class mlxterp_index(Structure):
    kind: int
    reserved: int
    start: int
    stop: int
    step: int

class mlxterp_tool_inputs(Structure):
    struct_size: int
    array_names: Any
    arrays: Any
    array_count: int
    patterns: Any
    interventions: Any
    intervention_count: int
    metric: Any
    metric_user: int | None
    progress: Any
    progress_user: int | None

FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]]

def declare(library: CDLL) -> None: ...
