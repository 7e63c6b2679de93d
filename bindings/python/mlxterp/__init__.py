"""Look inside language models and change what happens there.

    from mlxterp import InterpretableModel
    model = InterpretableModel("path-or-id")
    with model.trace("The capital of France is") as trace:
        attention = model.layers[3].attn.output.save()
        logits = model.output.save()

Nothing is computed before a value is looked at; what was assigned inside the block is seen by everything after it.
"""

from . import interventions, metrics, tools
from ._library import MLX_VERSION, backend, lib, live_handles, memory_used
from .activations import Activations, batch_get_activations, get_activations, run_prompts
from .array import Array
from .attribution import acdc, attribution_patching, circuit, edge_attribution, integrated_gradients
from .batch import Batch
from .cache import Cache
from .calls import Call, call
from .convert import (
    asarray,
    concatenate,
    evaluate,
    from_dlpack,
    from_mlx,
    from_numpy,
    full,
    stack,
    where,
    zeros_like,
)
from .dtypes import Dtype
from .errors import (
    AlignedWarning,
    BackendError,
    BusyError,
    ConfigError,
    CorruptFileError,
    DescriptionError,
    HookError,
    InputOutputError,
    InternalError,
    InvalidArgumentError,
    LibraryError,
    MlxterpError,
    NotEvaluatedError,
    NotExecutedError,
    NotFoundError,
    OutsideTraceError,
    ShapeError,
    StaleWrite,
    StrictError,
    SubscriptError,
    UnknownSiteError,
    UnsupportedError,
)
from .generation import Completion, Condition, Drawn, Generation, Step, Steer
from .harvesting import harvest, open_harvest, shards
from .heads import attention_patterns, composition_scores, copying_scores, head_circuit, head_scores
from .interventions import Event, Intervention
from .lenses import direct_logit_attribution, logit_lens, patchscope, tuned_lens, tuned_lens_train
from .model import InterpretableModel, PlannedSite, SiteInfo
from .patching import activation_patching, causal_tracing, path_patching
from .probing import ask_probes, das, probe
from .sites import Site
from .steering import Steering, SteeringVectors, steering_vectors
from .tools import Result, gradients
from .trace import Trace

__version__: str = lib.mlxterp_version().decode()

__all__ = [
    "MLX_VERSION",
    "Activations",
    "AlignedWarning",
    "Array",
    "BackendError",
    "Batch",
    "BusyError",
    "Cache",
    "Call",
    "ConfigError",
    "CorruptFileError",
    "DescriptionError",
    "Dtype",
    "Event",
    "HookError",
    "InputOutputError",
    "InternalError",
    "InterpretableModel",
    "Intervention",
    "InvalidArgumentError",
    "LibraryError",
    "MlxterpError",
    "NotEvaluatedError",
    "NotExecutedError",
    "NotFoundError",
    "OutsideTraceError",
    "PlannedSite",
    "Result",
    "ShapeError",
    "Site",
    "SiteInfo",
    "StaleWrite",
    "Steering",
    "SteeringVectors",
    "StrictError",
    "SubscriptError",
    "Trace",
    "UnknownSiteError",
    "UnsupportedError",
    "acdc",
    "activation_patching",
    "asarray",
    "ask_probes",
    "attention_patterns",
    "attribution_patching",
    "backend",
    "batch_get_activations",
    "call",
    "causal_tracing",
    "circuit",
    "composition_scores",
    "concatenate",
    "copying_scores",
    "das",
    "direct_logit_attribution",
    "edge_attribution",
    "evaluate",
    "from_dlpack",
    "from_mlx",
    "from_numpy",
    "full",
    "get_activations",
    "gradients",
    "harvest",
    "head_circuit",
    "head_scores",
    "integrated_gradients",
    "interventions",
    "live_handles",
    "logit_lens",
    "memory_used",
    "metrics",
    "open_harvest",
    "patchscope",
    "path_patching",
    "probe",
    "run_prompts",
    "shards",
    "stack",
    "steering_vectors",
    "tools",
    "tuned_lens",
    "tuned_lens_train",
    "where",
    "zeros_like",
]
