"""Probing: what a straight line can read off a model's states."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from . import tools

if TYPE_CHECKING:
    from .model import InterpretableModel


def probe(
    model: InterpretableModel,
    texts: Any,
    labels: Iterable[Any],
    *,
    layers: Iterable[int] | None = None,
    site: str | None = None,
    positions: Iterable[str | int] | None = None,
    kind: str | None = None,
    l2: float | None = None,
    standardise: bool | None = None,
    covariance: bool | None = None,
    validation: float | None = None,
    folds: int | None = None,
    control: int | None = None,
    types: Iterable[int] | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    max_iterations: int | None = None,
    save: str | PathLike[str] | None = None,
    **more: Any,
) -> tools.Result:
    """Probes of a label a text, by layer and position; each text runs once. `data["scores"]` is layer by position.

    texts: texts or lists of token ids; or an array [rows, width] of states, one probe then.
    labels: 0 and 1 (or False and True), one a text; for kind "linear" any numbers.
    kind: "logistic", "linear" or "mass_mean"; `covariance` multiplies the latter by the inverse covariance.
    positions: "last" (the default), "mean", or numbers, negative from each text's own end.
    validation: share of the texts that probes are judged by, 0.2 by default; `folds` cross-validates besides.
    control: how many random labelings of a control task, by token or by `types`; `selectivity` is the difference.
    save: a .safetensors file for the probes, which `ask_probes` reads. more: what `tools.run` takes.
    """
    options: dict[str, Any] = {
        "labels": [label if isinstance(label, bool) else float(label) for label in labels],
        "layers": None if layers is None else list(layers), "site": site,
        "positions": None if positions is None else list(positions), "kind": kind, "l2": l2,
        "standardise": standardise, "covariance": covariance, "validation": validation, "folds": folds,
        "control": control, "types": None if types is None else list(types), "seed": seed, "batch_size": batch_size,
        "max_iterations": max_iterations, "save": None if save is None else fspath(save),
    }  # fmt: skip
    if isinstance(texts, (str, list, tuple)):
        return tools.run(model, "probe", **{**options, "texts": texts, **more})
    return tools.run(model, "probe", arrays={"activations": texts}, **{**options, **more})


def ask_probes(model: InterpretableModel, path: str | PathLike[str], texts: Any, **more: Any) -> tools.Result:
    """What probes from a file say of texts: the array "scores" [probe, text], log odds, of linear probes labels."""
    return tools.run(model, "probe", load=fspath(path), texts=texts, **more)


def das(
    model: InterpretableModel,
    base: Any,
    source: Any,
    answers: Iterable[Any],
    site: str,
    *,
    dimensions: int | None = None,
    position: str | int | None = None,
    source_position: str | int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    validation: float | None = None,
    seed: int | None = None,
    **more: Any,
) -> tools.Result:
    """Distributed alignment search: the array "directions" [width, dimensions] of the state that carries a variable.

    base, source: prompts in pairs. answers: for each the next token if the base had the source's value of the variable.
    position: of the base's state that is changed, the last by default; source_position: of the state that is taken.
    """
    options: dict[str, Any] = {
        "base": base, "source": source, "answers": list(answers), "site": site, "dimensions": dimensions,
        "position": position, "source_position": source_position, "epochs": epochs, "learning_rate": learning_rate,
        "batch_size": batch_size, "validation": validation, "seed": seed, **more,
    }  # fmt: skip
    return tools.run(model, "das", **options)
