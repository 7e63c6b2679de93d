"""Activations of many prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._indexing import is_number
from .array import Array
from .convert import concatenate, evaluate, stack

if TYPE_CHECKING:
    from .model import InterpretableModel


class Activations(dict[str, Array]):
    """Values by name: "layer_3" for a layer's output, else the site's own. A layer's number works as a key too."""

    def __missing__(self, key: Any) -> Array:
        name = str(key)
        number = name[len("layers.") : -len(".output")] if name.startswith("layers.") else name
        spelled = f"layer_{number}"
        if spelled != key and spelled in self:
            return self[spelled]
        raise KeyError(f"no activation '{key}': there are {', '.join(self)}")


def at_positions(value: Array, lengths: Sequence[int], positions: Any) -> Array:
    """A value [row, position, ...] at positions, negative from each row's own end: [row, ...] for one number,
    [row, chosen, ...] for several, all of them (padding too) for None."""
    if positions is None:
        return value
    if not is_number(positions):
        return stack([at_positions(value, lengths, p) for p in positions], axis=1)
    for row, own in enumerate(lengths):
        if not -own <= positions < own:
            raise IndexError(f"there is no position {positions} in prompt {row}: it has {own} tokens")
    at = [positions if positions >= 0 else own + positions for own in lengths]
    if len(set(at)) == 1:
        return value[:, at[0]]
    return stack([value[row, p] for row, p in enumerate(at)])


def _listed(prompts: Any) -> list[Any]:
    if hasattr(prompts, "tolist"):
        prompts = prompts.tolist()
    if isinstance(prompts, str):
        return [prompts]
    rows = list(prompts)
    return [rows] if rows and is_number(rows[0]) else rows


def _site_names(model: InterpretableModel, layers: Any, sites: Iterable[str]) -> dict[str, str]:
    """Key of the result -> site."""
    numbers = range(model.num_layers) if layers is None else [layers] if is_number(layers) else [int(i) for i in layers]
    names = {}
    for i in numbers:
        if not -model.num_layers <= i < model.num_layers:
            raise IndexError(f"there is no layer {i}: the model has {model.num_layers}")
        layer = i % model.num_layers
        for site in [sites] if isinstance(sites, str) else sites:
            names[f"layer_{i}" if site == "output" else f"layers.{layer}.{site}"] = f"layers.{layer}.{site}"
    return names


def get_activations(
    model: InterpretableModel,
    prompts: Any,
    layers: Any = None,
    positions: Any = -1,
    sites: str | Iterable[str] = ("output",),
    interventions: Any = None,
) -> Activations:
    """Values of layers for prompts, run as one batch.

    Keys are "layer_3" for a layer's output (the default site) and "layers.3.attn" for any other. A value is
    [prompt, hidden] for one position (negative: from each prompt's own end), [prompt, position, hidden] for several
    or for all (None).
    """
    chosen = None if positions is None else positions if is_number(positions) else list(positions)
    trace = model.trace(_listed(prompts), interventions=interventions)
    names = _site_names(model, layers, sites)
    read = {key: at_positions(trace.read(site), trace.batch.lengths, chosen) for key, site in names.items()}
    evaluate(*read.values())
    return Activations(read)


def batch_get_activations(
    model: InterpretableModel,
    prompts: Any,
    layers: Any = None,
    positions: Any = -1,
    sites: str | Iterable[str] = ("output",),
    batch_size: int = 8,
    interventions: Any = None,
) -> Activations:
    """The same for any number of prompts, `batch_size` of them at a time."""
    rows = _listed(prompts)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is less than 1")
    if positions is None:
        raise ValueError("batches differ in width: choose positions, such as -1")
    if not is_number(positions):
        positions = list(positions)
    parts = [
        get_activations(model, rows[i : i + batch_size], layers, positions, sites, interventions)
        for i in range(0, max(len(rows), 1), batch_size)
    ]
    joined = {key: concatenate([part[key] for part in parts]) for key in parts[0]}
    evaluate(*joined.values())
    return Activations(joined)


def run_prompts(model: InterpretableModel, prompts: Any, batch_size: int = 8, interventions: Any = None) -> list[Array]:
    """The logits [token, vocabulary] of each prompt, without padding, `batch_size` prompts at a time."""
    rows = _listed(prompts)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is less than 1")
    results: list[Array] = []
    for i in range(0, max(len(rows), 1), batch_size):
        trace = model.trace(rows[i : i + batch_size], interventions=interventions)
        logits = trace.read("output")
        own = [logits[row, :n] for row, n in enumerate(trace.batch.lengths)]
        evaluate(*own)
        results.extend(own)
    return results
