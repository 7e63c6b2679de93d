"""The model: loading it, its names, its tokens, its traces."""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Callable, Mapping
from ctypes import byref, c_void_p
from functools import cached_property
from typing import Any, NamedTuple

from . import _abi, _own
from . import steering as _steering
from ._library import Handle, c_text, check, lib, take_text
from .array import Array
from .batch import batch
from .cache import Cache
from .dtypes import Dtype, dtype_of
from .errors import OutsideTraceError, UnknownSiteError
from .generation import Generates
from .nnterp import Accessors
from .sites import Names, Node
from .tokens import Tokens
from .trace import Trace, innermost


class SiteInfo(NamedTuple):
    """A named value."""

    #: Full path.
    name: str
    #: The short name that is the same on every architecture, where it has one.
    standard: str | None
    #: What each axis means: "row", "position", "head", "expert", "feature", "key"; () where axes have no meaning of their own.
    axes: tuple[str, ...]
    #: Made only when somebody asks.
    on_touch: bool
    #: What the compiled description proves of the name; None when it rests on the description's word.
    verified: str | None
    #: Whether it may be changed.
    writable: bool
    #: Whether gradients of the output reach it.
    differentiable: bool


class PlannedSite(NamedTuple):
    """A named value as it would be for some input."""

    name: str
    standard: str | None
    shape: tuple[int, ...]
    dtype: Dtype
    on_touch: bool


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


class InterpretableModel(Accessors, Tokens, Generates, Names, Handle):
    """A model whose every module's input and output has a name, can be read and can be changed.

    `source` is a directory in mlx-lm's layout, a .gguf file, or a Hugging Face id: loading never runs code from it. It may
    also be an `mlx.nn.Module`, which is used as it is (see `mlxterp.modules`). `from_weights` takes a description of yours.
    """

    _free = lib.mlxterp_model_free

    def __new__(cls, source: Any = None, *args: Any, **kwargs: Any) -> InterpretableModel:
        """A `ModuleModel` for an `mlx.nn.Module`, which is used as it is."""
        nn = sys.modules.get("mlx.nn")
        if cls is InterpretableModel and nn is not None and isinstance(source, nn.Module):
            from .modules import ModuleModel

            return object.__new__(ModuleModel)
        return object.__new__(cls)

    def __init__(
        self,
        source: str | os.PathLike[str] | Any,
        *,
        dtype: Any = None,
        keep_quantised: bool | None = None,
        arch: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        progress: Any = None,
        opaque: Mapping[str, Callable[..., Any]] | None = None,
        tokenizer: Any = None,
    ) -> None:
        """Loads.

        dtype: what to compute in; by default float32 on the CPU backend, else the checkpoint's own.
        keep_quantised: whether quantised weights stay packed; by default what is faster on the backend.
        arch: an architecture description, the name of a shipped one or the text of a new one.
        revision, token, cache_dir, offline: of the Hugging Face hub.
        progress: a function of (stage, done, total) that may return False to cancel, or tqdm.
        opaque: functions of the description's opaque modules, by path, pattern or name.
        tokenizer: mlx-lm's or transformers', for an mlx.nn.Module that is to take text; files bring their own.
        """
        if tokenizer is not None:
            raise TypeError("tokenizer= is for an mlx.nn.Module: a checkpoint brings its own tokenizer")
        texts = {"description": arch, "revision": revision, "token": token, "cache_dir": _path(cache_dir)}
        with _own.Options(dtype, keep_quantised, offline, progress, opaque, **texts) as options:
            out = c_void_p()
            check(lib.mlxterp_model_load(c_text(os.fspath(source), "source"), byref(options), byref(out)))
        self._handle = out.value or 0
        #: The steerings that are on.
        self.steering: list[_steering.Steering] = []

    @classmethod
    def from_weights(
        cls,
        description: str,
        weights: Any,
        config: Mapping[str, Any] | str | None = None,
        *,
        dtype: Any = None,
        keep_quantised: bool | None = None,
        progress: Any = None,
        opaque: Mapping[str, Callable[..., Any]] | None = None,
    ) -> InterpretableModel:
        """A model of your own: an architecture description (its text, or the name of a shipped one) and its tensors.

        weights: {name: array}, nested as `mlx.nn.Module.parameters()` is or flat, of MLX, numpy, or anything with DLPack;
            or a .safetensors file, a directory of them, or a list of files. Arrays are shared, not copied, where MLX can:
            leave the memory of numpy arrays unchanged. They keep their dtypes unless `dtype` says otherwise.
        config: what the description reads as config.json, as a dict or JSON text.
        opaque: functions of the description's opaque modules, by path, pattern or name.
        """
        with _own.Options(dtype, keep_quantised, False, progress, opaque) as options:
            handle = _own.make(description, weights, config, options)
        model = cls.__new__(cls)
        model._handle = handle
        model.steering = []
        return model

    # What it is.

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What a run takes: `("ids",)` for text or token ids, else the names of arrays."""
        return tuple(self.info["inputs"])

    @cached_property
    def info(self) -> dict[str, Any]:
        """The model in numbers, and its module tree."""
        info: dict[str, Any] = json.loads(self._text(lib.mlxterp_model_info_json))
        return info

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, normalised to one spelling."""
        config: dict[str, Any] = json.loads(self._text(lib.mlxterp_model_config_json))
        return config

    def _text(self, door: Any, *arguments: Any) -> str:
        out = c_void_p()
        check(door(self._handle, *arguments, byref(out)))
        return take_text(out.value)

    @property
    def name(self) -> str:
        """What was asked for."""
        return str(self.info["name"])

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return int(lib.mlxterp_model_num_layers(self._handle))

    @property
    def num_heads(self) -> int:
        """Number of query heads."""
        return int(lib.mlxterp_model_num_heads(self._handle))

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(lib.mlxterp_model_hidden_size(self._handle))

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return int(lib.mlxterp_model_vocab_size(self._handle))

    @property
    def dtype(self) -> Dtype:
        """What it computes in."""
        return dtype_of(self.info["dtype"])

    def __str__(self) -> str:
        return self._text(lib.mlxterp_model_describe)

    def __repr__(self) -> str:
        return f"InterpretableModel({self.name!r}, {self.num_layers} layers, hidden {self.hidden_size})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    # Names.

    @cached_property
    def _node(self) -> Node:
        root = Node("")
        for site in self.sites():
            root.add(site.name)
            if site.standard:
                root.add(site.standard)
        for experts in self.info["experts"]:
            for name in experts["names"]:
                root.at(name).count = experts["count"]
        return root

    @cached_property
    def _values_of_experts(self) -> dict[str, list[str]]:
        return {name: experts["values"] for experts in self.info["experts"] for name in experts["names"]}

    def _tree(self) -> Node:
        return self._node

    def _model_of_names(self) -> InterpretableModel:
        return self

    def _trace_now(self, path: str) -> Trace:
        trace = innermost(self)
        if trace is None:
            raise OutsideTraceError(
                f"'{path}' is a value of a forward pass: use it inside `with model.trace(prompt):`, "
                "or ask a trace for it"
            )
        return trace

    def _other_spelling(self, path: str) -> Node:
        """A name that is not in the tree but means something; an error with the nearest names otherwise."""
        above, _, last = path.rpartition(".")
        if last.isdigit() and above in self._values_of_experts:
            expert = Node(path)
            for value in self._values_of_experts[above]:
                expert.add(value)
            return expert
        self.sites(path)
        if not self._is_site(f"{path}.output"):
            return Node(path, is_value=True)
        known = Node(path)
        known.children["output"] = Node(f"{path}.output", is_value=True)
        return known

    def _is_site(self, name: str) -> bool:
        try:
            return bool(self.sites(name))
        except UnknownSiteError:
            return False

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        return tuple(s.name.removesuffix(".output") for s in self.sites() if s.name.endswith(".output"))

    def _module_names(self) -> tuple[str, ...]:
        return self._modules

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "steering" or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            self._write(name, value)

    def sites(self, pattern: str | None = None) -> list[SiteInfo]:
        """The sites that a name or pattern such as "layers.*.mlp" means, in execution order; all without one."""
        told = None if pattern is None else c_text(pattern, "pattern")
        listed = json.loads(self._text(lib.mlxterp_model_sites_json, told))
        return [SiteInfo(**{**site, "axes": tuple(site["axes"])}) for site in listed]

    # Running it.

    def trace(
        self,
        prompts: Any,
        *,
        interventions: Any = None,
        keep: str = "read",
        strict: bool = False,
        cache: Cache | None = None,
    ) -> Trace:
        """Starts a forward pass over a text, token ids, or a list of either. Nothing is computed yet.

        A model whose description takes arrays (`Main(x)`) is given one, or several by name or in order.

        interventions: {site or pattern: intervention or function}, applied in this order, after any steering.
        keep: "all" keeps every value from the start; "read" replays the run when something else is read late.
        strict: a write that changed or reached nothing is an error at the end of the block.
        cache: what was seen before these tokens (`Cache()`: nothing); `trace.cache()` is then the state after them.
        """
        from .trace import pairs

        given = [pair for s in self.steering for pair in s.interventions] + pairs(interventions)
        return Trace.start(self, batch(self, prompts), given, keep, strict, cache)

    def forward(self, prompts: Any) -> Array:
        """The logits [row, position, vocabulary] of a plain forward, lazily, without steering."""
        tokens, out = batch(self, prompts), c_void_p()
        check(lib.mlxterp_model_forward(self._handle, tokens._handle, byref(out)))
        return Array(out.value or 0)

    def plan(self, prompts: Any) -> list[PlannedSite]:
        """Shape and dtype of every site for prompts, without computing anything."""
        tokens = batch(self, prompts)
        planned = json.loads(self._text(lib.mlxterp_model_plan_json, tokens._handle))
        return [
            PlannedSite(p["name"], p["standard"], tuple(p["shape"]), dtype_of(p["dtype"]), p["on_touch"])
            for p in planned
        ]

    def steer(
        self,
        *given: Any,
        layers: Any = None,
        vector: Any = None,
        strength: float = 1.0,
        positions: Any = None,
        site: str | None = None,
        **more: Any,
    ) -> _steering.Steering:
        """Adds `vector` times `strength` after these layers in every trace from now on: `steer(layers, vector, strength)`.

        The result's `remove()` takes it off again; as a context (`with model.steer(...):`) it is on inside the block
        only. `vector` may be a mapping from layer to vector, or `SteeringVectors` (`model.steer(vectors, strength=4)`), which
        know their site; `more` is then what `SteeringVectors.interventions` takes: action, value, normalise.
        """
        said = {"layers": layers, "vector": vector, "strength": strength, "positions": positions, "site": site}
        return _steering.steer(self, given, said, more)
