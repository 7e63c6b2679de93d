"""Models from a description and tensors in memory or files; the options that all ways of making a model share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from ctypes import byref, c_char_p, c_void_p, sizeof
from types import TracebackType
from typing import Any

from . import _abi, _opaque
from ._library import c_text, check, lib
from ._progress import Progress
from .array import Array
from .convert import asarray, from_numpy
from .dtypes import dtype_of


class Options:
    """The library's options for one load, as a context: what they refer to lives as long as the block."""

    def __init__(
        self,
        dtype: Any,
        keep_quantised: bool | None,
        offline: bool,
        progress: Any,
        opaque: Mapping[str, Callable[..., Any]] | None,
        **texts: str | None,
    ) -> None:
        self._options = options = _abi.mlxterp_model_options()
        check(lib.mlxterp_model_options_init_sized(byref(options), sizeof(options)))
        options.dtype = None if dtype is None else dtype_of(dtype).encode()
        options.keep_quantised = -1 if keep_quantised is None else int(keep_quantised)
        options.offline = int(offline)
        for name, text in texts.items():
            setattr(options, name, None if text is None else c_text(text, "arch" if name == "description" else name))
        self._told = None if progress is None else Progress(progress)
        if self._told is not None:
            options.progress = self._told.callback
        self._functions = [(name, _opaque.Function(function, name)) for name, function in (opaque or {}).items()]
        n = len(self._functions)
        options.opaque_names = (c_char_p * max(n, 1))(*(c_text(name, "a name in opaque") for name, _ in self._functions))
        options.opaques = (c_void_p * max(n, 1))(*(function._handle for _, function in self._functions))
        options.opaque_count = n

    def __enter__(self) -> Any:
        return self._options

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._told is not None:
            self._told.close()


def flat(weights: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Names and arrays of nested dicts and lists."""
    if isinstance(weights, Mapping):
        for name, value in weights.items():
            yield from flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(weights, (list, tuple)):
        for i, value in enumerate(weights):
            yield from flat(value, f"{path}.{i}" if path else str(i))
    else:
        yield path, weights


def _array(name: str, value: Any) -> Array:
    try:
        # numpy's memory is shared too: weights are large, and who gives them away leaves them alone.
        return from_numpy(value) if hasattr(value, "__array_interface__") else asarray(value)
    except TypeError as e:
        raise TypeError(f"weight '{name}': {e}") from e


def _files(weights: Any) -> list[str] | None:
    """The paths, if the weights are in files."""
    if isinstance(weights, (str, os.PathLike)):
        return [os.fspath(weights)]
    if isinstance(weights, (list, tuple)) and weights and all(isinstance(w, (str, os.PathLike)) for w in weights):
        return [os.fspath(w) for w in weights]
    return None


def make(description: str, weights: Any, config: Any, options: Any) -> int:
    """A new model's handle."""
    told = c_text(description, "description")
    text = config if isinstance(config, str) else json.dumps({} if config is None else dict(config))
    out = c_void_p()
    paths = _files(weights)
    if paths is not None:
        given = (c_char_p * len(paths))(*(c_text(p, "a path of weights") for p in paths))
        door = lib.mlxterp_model_from_files
        check(door(told, c_text(text, "config"), given, len(paths), byref(options), byref(out)))
        return out.value or 0
    if not isinstance(weights, (Mapping, list, tuple)):
        raise TypeError(f"weights must be {{name: array}} or a path, not {type(weights).__name__}")
    named = [(name, _array(name, value)) for name, value in flat(weights)]
    n = len(named)
    names = (c_char_p * max(n, 1))(*(c_text(name, "a weight's name") for name, _ in named))
    arrays = (c_void_p * max(n, 1))(*(array._handle for _, array in named))
    door = lib.mlxterp_model_from_weights
    check(door(told, c_text(text, "config"), names, arrays, n, byref(options), byref(out)))
    return out.value or 0
