"""Analyses by name: options in, a result that prints, reads as a dict, draws itself and hands its arrays on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from ctypes import byref, c_char_p, c_void_p, sizeof
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from . import _abi
from ._library import Handle, c_text, check, lib, pending, take_text
from .array import Array
from .convert import asarray

if TYPE_CHECKING:
    from .model import InterpretableModel


class Result(Handle, Mapping[str, Array]):
    """What an analysis found. `print` it, read `data`, show `html` (a notebook does), take its arrays by name."""

    _free = lib.mlxterp_result_free

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def _text(self, door: Any) -> str:
        out = c_void_p()
        check(door(self._handle, byref(out)))
        return take_text(out.value)

    @cached_property
    def kind(self) -> str:
        """Which analysis made it."""
        return self._text(lib.mlxterp_result_kind)

    @cached_property
    def data(self) -> dict[str, Any]:
        """All of it, axes by name."""
        data: dict[str, Any] = json.loads(self._text(lib.mlxterp_result_json))
        return data

    @property
    def html(self) -> str:
        """Drawn: a fragment of HTML with its own styles."""
        return self._text(lib.mlxterp_result_html)

    @cached_property
    def _names(self) -> list[str]:
        names: list[str] = json.loads(self._text(lib.mlxterp_result_array_names_json))
        return names

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(f"no array {name!r} in a result of {self.kind}: it has {', '.join(self._names) or 'none'}")
        out = c_void_p()
        check(lib.mlxterp_result_array(self._handle, c_text(name, "name"), byref(out)))
        return Array(out.value or 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __bool__(self) -> bool:
        return True

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a .html page, .json, or .txt."""
        file = fspath(path)
        if file.endswith(".html"):
            text = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{self.kind}</title>\n{self.html}</html>\n'
        elif file.endswith(".json"):
            text = json.dumps(self.data)
        elif file.endswith(".txt"):
            text = str(self)
        else:
            raise ValueError(f"{file}: a result is saved as .html, .json or .txt")
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)

    def __str__(self) -> str:
        return self._text(lib.mlxterp_result_text)

    def __repr__(self) -> str:
        return f"<result of {self.kind}: {', '.join(self.data)}>"

    def _repr_html_(self) -> str:
        return self.html


def available() -> list[dict[str, Any]]:
    """The tools: name, what each finds out, arrays it takes, whether it takes a metric."""
    out = c_void_p()
    check(lib.mlxterp_tools_json(byref(out)))
    listed: list[dict[str, Any]] = json.loads(take_text(out.value))
    return listed


def _plain(value: Any) -> Any:
    """What JSON does not know: paths, arrays, numpy's numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return fspath(value)
    if hasattr(value, "__index__"):
        return int(value)
    raise TypeError(f"an option cannot be a {type(value).__name__}")


class _Metric:
    """A function of a trace, as the library calls it."""

    def __init__(self, model: InterpretableModel, function: Callable[..., Any]) -> None:
        self._model, self._function = model, function
        #: Must live as long as the call.
        self.callback = _abi.mlxterp_metric_fn(self._call)

    def _call(self, user: int | None, trace: int, out_value: Any) -> int:
        from .batch import Batch
        from .trace import Trace, enter, leave

        try:
            tokens = c_void_p()
            own = lib.mlxterp_trace_retain(trace) or 0
            check(lib.mlxterp_trace_batch(own, byref(tokens)))
            fork = Trace(own, self._model, Batch(tokens.value or 0))
            enter(fork)
            try:
                value = asarray(self._function(fork))
            finally:
                leave(fork)
            out_value[0] = value.disown()
        except BaseException as e:  # nothing may unwind through the library
            pending.error = e
            return 1
        return 0


def _progress(told: Callable[[int, int], Any]) -> Any:
    def report(user: int | None, done: int, total: int) -> int:
        try:
            return int(told(done, total) is False)
        except BaseException as e:  # raised again by the call
            pending.error = e
            return 1

    return _abi.mlxterp_tool_progress_fn(report)


def run(
    model: InterpretableModel,
    tool: str,
    *,
    metric: Any = None,
    arrays: Mapping[str, Any] | None = None,
    interventions: Any = None,
    progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> Result:
    """Runs an analysis by name.

    metric: what is measured, such as `metrics.logit_difference(" Paris", " Rome")`, or a function of a trace that gives
        a number a row.
    arrays: what the tool takes besides options.
    interventions: what every run of the tool is under, after any steering of the model.
    progress: a function of (done, total) that may return False to cancel.
    options: the tool's own; None means its default.
    """
    from .trace import pairs

    inputs = _abi.mlxterp_tool_inputs()
    check(lib.mlxterp_tool_inputs_init_sized(byref(inputs), sizeof(inputs)))
    kept: list[Any] = []
    if callable(metric):
        kept.append(_Metric(model, metric))
        inputs.metric = kept[-1].callback
    elif metric is not None:
        options["metric"] = metric
    if progress is not None:
        kept.append(_progress(progress))
        inputs.progress = kept[-1]
    named = [(c_text(name, "an array's name"), asarray(value)) for name, value in (arrays or {}).items()]
    inputs.array_names = (c_char_p * max(len(named), 1))(*(name for name, _ in named))
    inputs.arrays = (c_void_p * max(len(named), 1))(*(array._handle for _, array in named))
    inputs.array_count = len(named)
    given = [pair for s in model.steering for pair in s.interventions] + pairs(interventions)
    inputs.patterns = (c_char_p * max(len(given), 1))(*(c_text(pattern, "pattern") for pattern, _ in given))
    inputs.interventions = (c_void_p * max(len(given), 1))(*(what._handle for _, what in given))
    inputs.intervention_count = len(given)
    told = json.dumps({name: value for name, value in options.items() if value is not None}, default=_plain)
    out = c_void_p()
    check(lib.mlxterp_tool_run(model._handle, c_text(tool, "tool"), told.encode(), byref(inputs), byref(out)))
    return Result(out.value or 0)


def gradients(model: InterpretableModel, prompts: Any, sites: str | list[str], metric: Any, **more: Any) -> Result:
    """The gradient of a metric at sites or patterns.

    Arrays: "metric" [row], and "gradient:SITE" and "value:SITE" of the site's shape for each site. A row's gradient is that
    of its own number. Through packed weights and edits. `more` is what `run` takes.
    """
    wanted = [sites] if isinstance(sites, str) else sites
    return run(model, "gradients", prompts=prompts, sites=wanted, metric=metric, **more)
