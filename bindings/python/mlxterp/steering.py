"""Steering: vectors added to the residual stream of every trace until they are taken off again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import interventions as iv
from ._indexing import is_number

if TYPE_CHECKING:
    from .interventions import Intervention
    from .model import InterpretableModel


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


def steer(model: InterpretableModel, layers: Any, vector: Any, strength: float, positions: Any, site: str) -> Steering:
    """Puts a steering on a model. Its names and shapes are checked by the trace that it first meets."""
    numbers = [int(layers)] if is_number(layers) else [int(i) for i in layers]
    given = []
    for i in numbers:
        if not -model.num_layers <= i < model.num_layers:
            raise IndexError(f"there is no layer {i}: the model has {model.num_layers}")
        layer = i % model.num_layers
        own = vector[i] if isinstance(vector, Mapping) else vector
        what = iv.add_vector(own, strength)
        if positions is not None:
            what = what.positions(*([positions] if is_number(positions) else positions))
        given.append((f"layers.{layer}.{site}", what))
    if not given:
        raise ValueError("no layers to steer")
    return Steering(model, given)
