"""Steering: directions that tell two sets of texts apart, and what every trace is changed by until it is taken off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from . import interventions as iv
from . import tools
from ._indexing import is_number
from .convert import stack

if TYPE_CHECKING:
    from .array import Array
    from .interventions import Intervention
    from .model import InterpretableModel


class SteeringVectors(Mapping[int, "Array"]):
    """A vector a layer, by the layer's number, and where they come from. Made by `steering_vectors` and `load`."""

    def __init__(self, model: InterpretableModel, found: tools.Result) -> None:
        self._model = model
        #: What found them: prints, draws itself, has `data`.
        self.result = found
        about = found.data
        #: How they were found, at which value of a layer and which position, in which model.
        self.method: str = about["method"]
        self.site: str = about["site"]
        self.position: str = about["position"]
        self.model: str = about["model"]
        self._about: dict[int, dict[str, Any]] = {int(layer): known for layer, known in about["layers"].items()}

    @classmethod
    def load(cls, model: InterpretableModel, path: str | PathLike[str], layers: Iterable[int] | None = None) -> SteeringVectors:
        """From .safetensors, or from .gguf as repeng writes it. Vectors of another model are an error."""
        return cls(model, tools.run(model, "steering_vectors", load=fspath(path), layers=_list(layers)))

    @classmethod
    def of(cls, model: InterpretableModel, vectors: Mapping[int, Any], site: str = "output") -> SteeringVectors:
        """Vectors of your own, by layer."""
        rows = {"vectors": stack(list(vectors.values()))}
        return cls(model, tools.run(model, "steering_vectors", arrays=rows, layers=[*vectors], site=site))

    def save(self, path: str | PathLike[str]) -> None:
        """To .safetensors, or to .gguf for llama.cpp (`--control-vector`), which has none for layer 0."""
        rows = {"vectors": self.result["vectors"]}
        known = {f"{k}s": [about[k] for about in self._about.values()] for k in ("state_norm", "separation")}
        about: dict[str, Any] = {"layers": [*self], "site": self.site, "method": self.method, "position": self.position or None}
        tools.run(self._model, "steering_vectors", arrays=rows, save=fspath(path), **{**about, **known})

    def separation(self, layer: int) -> float | None:
        """The chance that a positive text projects higher than a negative one."""
        known: float | None = self._about[layer]["separation"]
        return known

    def interventions(
        self,
        strength: float = 1.0,
        *,
        action: str = "add",
        value: float = 0.0,
        normalise: str = "none",
        layers: Any = None,
        positions: Any = None,
    ) -> dict[str, Intervention]:
        """What to give a trace: `model.trace(prompt, interventions=vectors.interventions(4))`.

        action: "add" the vector times `strength`, "project_out" the component along it, or "set_component" to `value`.
        normalise: the length of what is added: "none" (its own), "unit" (1), "state" (that of the states it was found in).
        layers: which of them; all by default. positions: negative from each row's own end; all by default.
        """
        made = {}
        for layer in [*self] if layers is None else _numbers(layers):
            if action == "add":
                what = iv.add_vector(self[layer], strength * self._factor(layer, normalise))
            elif action == "project_out":
                what = iv.project_out(self[layer])
            elif action == "set_component":
                what = iv.set_component(self[layer], value)
            else:
                raise ValueError(f"no action {action!r}: use 'add', 'project_out' or 'set_component'")
            if positions is not None:
                what = what.positions(*([positions] if is_number(positions) else positions))
            made[f"layers.{layer}.{self.site}"] = what
        if not made:
            raise ValueError("no layers to steer")
        return made

    def _factor(self, layer: int, normalise: str) -> float:
        factors = self._about[layer]["factors"]
        if normalise not in factors:
            raise ValueError(f"no length {normalise!r}: use 'none', 'unit' or 'state'")
        if factors[normalise] is None:
            raise ValueError(f"how long the states of layer {layer} were is not known: use 'unit' or 'none'")
        return float(factors[normalise])

    def __getitem__(self, layer: int) -> Array:
        if layer not in self._about:
            raise KeyError(f"there is no vector for layer {layer}: there are some for {', '.join(map(str, self))}")
        return self.result[f"layers.{layer}.{self.site}"]

    def __iter__(self) -> Any:
        return iter(self._about)

    def __len__(self) -> int:
        return len(self._about)

    def __str__(self) -> str:
        return str(self.result)

    def __repr__(self) -> str:
        return f"<steering vectors of {self.model}: {self.site} of layers {', '.join(map(str, self))}>"

    def _repr_html_(self) -> str:
        return self.result.html


def steering_vectors(
    model: InterpretableModel,
    positive: Any,
    negative: Any,
    *,
    layers: Iterable[int] | None = None,
    site: str | None = None,
    method: str | None = None,
    position: str | int | None = None,
    batch_size: int | None = None,
    l2: float | None = None,
    **more: Any,
) -> SteeringVectors:
    """A direction a layer from texts that have something and texts that have it not, signed so that the former project higher.

    layers: all by default. site: the value within the layer, its "output" by default.
    method: "mean_difference", "pca_diff", "pca_center" (both take pairs), "logistic".
    position: "last", "mean", "answer" (where the texts of a pair first differ), or a number.
    more: what `tools.run` takes.
    """
    options: dict[str, Any] = {"site": site, "method": method, "position": position, "batch_size": batch_size, "l2": l2}
    texts = {"positive": positive, "negative": negative, "layers": _list(layers)}
    return SteeringVectors(model, tools.run(model, "steering_vectors", **texts, **options, **more))


def _list(numbers: Iterable[int] | None) -> list[int] | None:
    return None if numbers is None else [int(i) for i in numbers]


def _numbers(layers: Any) -> list[int]:
    return [int(layers)] if is_number(layers) else [int(i) for i in layers]


class Steering:
    """One steering of a model. `remove()` takes it off; as a context it is on inside the block only."""

    def __init__(self, model: InterpretableModel, given: list[tuple[str, Intervention]]) -> None:
        self._model = model
        #: What every trace is given, before its own interventions.
        self.interventions = given
        model.steering.append(self)

    def remove(self) -> None:
        """Takes the steering off. Doing so twice is fine."""
        self._model.steering[:] = [s for s in self._model.steering if s is not self]

    def __enter__(self) -> Steering:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<steering of {', '.join(f'{site}: {what}' for site, what in self.interventions)}>"


def steer(model: InterpretableModel, given: tuple[Any, ...], said: dict[str, Any], more: dict[str, Any]) -> Steering:
    """Puts a steering on a model. Its names and shapes are checked by the trace that it first meets."""
    order: tuple[str, ...] = ("layers", "vector", "strength", "positions", "site")
    if given and isinstance(given[0], SteeringVectors):
        order = ("vector", "strength", "positions")
    if len(given) > len(order):
        raise TypeError(f"steer takes {', '.join(order)}: {len(given)} were given")
    named = {**said, **dict(zip(order, given))}
    layers, vector, strength, positions, site = (named[name] for name in ("layers", "vector", "strength", "positions", "site"))
    if isinstance(vector, SteeringVectors):
        if site is not None and site != vector.site:
            raise ValueError(f"these vectors belong to a layer's {vector.site!r}, not to its {site!r}")
        made = vector.interventions(strength, layers=layers, positions=positions, **more)
        return Steering(model, list(made.items()))
    if layers is None or vector is None:
        raise TypeError("steer takes layers and a vector, or steering vectors")
    if more:
        raise TypeError(f"{', '.join(more)}: for steering vectors only; with a vector use mlxterp.interventions")
    each: list[tuple[str, Intervention]] = []
    for i in _numbers(layers):
        if not -model.num_layers <= i < model.num_layers:
            raise IndexError(f"there is no layer {i}: the model has {model.num_layers}")
        own = vector[i] if isinstance(vector, Mapping) else vector
        what = iv.add_vector(own, strength)
        if positions is not None:
            what = what.positions(*([positions] if is_number(positions) else positions))
        each.append((f"layers.{i % model.num_layers}.{'output' if site is None else site}", what))
    if not each:
        raise ValueError("no layers to steer")
    return Steering(model, each)
