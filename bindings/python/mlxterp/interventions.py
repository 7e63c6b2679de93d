"""Interventions: changes of a site's value, as values.

They compare, print, go to JSON and come back, and can be restricted to rows, positions, heads or neurons:
`iv.scale(0.5).positions(-1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from ctypes import byref, c_int64, c_size_t, c_void_p
from typing import Any

from . import _hooks
from ._hooks import Event
from ._indexing import is_number
from ._library import Handle, c_text, check, lib, take_text
from ._where import users_line
from .convert import asarray
from .dtypes import float32, float64

__all__ = [
    "Event", "Intervention", "add_vector", "clamp", "compose", "custom", "from_json", "noise", "project_out",
    "replace_with", "scale", "set_component", "zero_out",
]  # fmt: skip


def _make(door: Any, *arguments: Any) -> int:
    out = c_void_p()
    check(door(*arguments, byref(out)))
    return out.value or 0


class Intervention(Handle):
    """What is done to a value, and to which part of it. Immutable."""

    __slots__ = ("given_at", "recipe")
    _free = lib.mlxterp_intervention_free

    def __init__(self, handle: int) -> None:
        self._handle = handle
        #: The line that made it.
        self.given_at = users_line()
        #: What it is made of, where its JSON would not say it all: for those who do it elsewhere than in the library.
        self.recipe: tuple[Any, ...] | None = None

    def _of(self, *recipe: Any) -> Intervention:
        self.recipe = recipe
        return self

    def __call__(self) -> Intervention:
        """Itself, so that `zero_out` and `zero_out()` are the same."""
        return self

    def _select(self, axis: str, indices: Iterable[int]) -> Intervention:
        chosen = [int(i) for i in indices]
        numbers = (c_int64 * len(chosen))(*chosen)
        made = _make(lib.mlxterp_intervention_select, self._handle, axis.encode(), numbers, len(chosen))
        return Intervention(made)._of(*self._selected(axis, chosen))

    def _selected(self, axis: str, chosen: Any) -> tuple[Any, ...]:
        """The recipe with one more selection: a later one along the same axis replaces an earlier one."""
        if self.recipe is not None and self.recipe[0] == "select":
            return "select", self.recipe[1], {**self.recipe[2], axis: chosen}
        return "select", self, {axis: chosen}

    def rows(self, *rows: int | Iterable[int]) -> Intervention:
        """The same, on these rows of the batch only (negative from the end)."""
        return self._select("rows", _indices(rows))

    def heads(self, *heads: int | Iterable[int]) -> Intervention:
        """The same, on these heads only (sites with a head axis: attn.q, k, v, z, scores, pattern, result)."""
        return self._select("heads", _indices(heads))

    def neurons(self, *neurons: int | Iterable[int]) -> Intervention:
        """The same, on these features of the last axis only."""
        return self._select("neurons", _indices(neurons))

    def positions(self, *positions: Any) -> Intervention:
        """The same, at these positions only, negative from each row's own end; a list of lists: each row's own."""
        only = positions[0] if len(positions) == 1 else positions
        if isinstance(only, (list, tuple)) and only and isinstance(only[0], (list, tuple)):
            flat = [int(p) for row in only for p in row]
            counts = (c_size_t * len(only))(*(len(row) for row in only))
            numbers = (c_int64 * len(flat))(*flat)
            door = lib.mlxterp_intervention_select_positions_by_row
            made = Intervention(_make(door, self._handle, numbers, counts, len(only)))
            return made._of(*self._selected("positions", [[int(p) for p in row] for row in only]))
        return self._select("positions", _indices(positions))

    def then(self, *others: Any) -> Intervention:
        """This one, then others."""
        return compose(self, *others)

    def to_json(self) -> str:
        """As JSON. One made from a Python function has none."""
        return take_text(_make(lib.mlxterp_intervention_to_json, self._handle))

    from_json: Callable[[str], Intervention]

    def __repr__(self) -> str:
        return take_text(_make(lib.mlxterp_intervention_describe, self._handle))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervention):
            return NotImplemented
        return bool(lib.mlxterp_intervention_equal(self._handle, other._handle))

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> Any:
        return from_json, (self.to_json(),)

    def __copy__(self) -> Intervention:
        return self

    def __deepcopy__(self, memo: Any) -> Intervention:
        return self


def _indices(given: tuple[Any, ...]) -> Iterable[int]:
    if len(given) == 1 and not is_number(given[0]):
        only = given[0]
        return only if isinstance(only, Iterable) else list(only)
    return given


def intervention(what: Any) -> Intervention:
    """An intervention, or the one that a Python function is."""
    if isinstance(what, Intervention):
        return what
    if isinstance(what, (list, tuple)):
        return compose(*what)
    if callable(what):
        return custom(what)
    raise TypeError(f"an intervention must be one of mlxterp.interventions or a function, not {type(what).__name__}")


#: Zeros in place of the value. With or without parentheses.
zero_out = Intervention(_make(lib.mlxterp_intervention_zero_out))
zero_out.given_at = None


def scale(factor: float) -> Intervention:
    """The value times a number."""
    return Intervention(_make(lib.mlxterp_intervention_scale, float(factor)))


def add_vector(vector: Any, strength: float = 1.0) -> Intervention:
    """The value plus `vector` times `strength`; the vector broadcasts to the site."""
    array = _single(vector)
    made = Intervention(_make(lib.mlxterp_intervention_add_vector, array._handle, float(strength)))
    return made._of("add_vector", array, float(strength))


def replace_with(value: Any) -> Intervention:
    """`value` in place of the value; it broadcasts to the site."""
    array = _single(value)
    return Intervention(_make(lib.mlxterp_intervention_replace_with, array._handle))._of("replace_with", array)


def _single(value: Any) -> Any:
    """numpy makes float64 of everything; no site is."""
    array = asarray(value)
    return array.astype(float32) if array.dtype == float64 else array


def clamp(low: float | None = None, high: float | None = None) -> Intervention:
    """Values below `low` become `low`, above `high` become `high`; None is no bound."""
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return Intervention(_make(lib.mlxterp_intervention_clamp, *bounds))


def noise(std: float = 1.0, seed: int = 0) -> Intervention:
    """Normal noise added; the same seed gives the same noise."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is not between 0 and 2**64 - 1")
    return Intervention(_make(lib.mlxterp_intervention_noise, float(std), seed))


def project_out(direction: Any) -> Intervention:
    """The value without its component along `direction` (its last axis is the site's features; its length is all one)."""
    return Intervention(_make(lib.mlxterp_intervention_project_out, _single(direction)._handle))


def set_component(direction: Any, value: float) -> Intervention:
    """The value with its component along `direction` set to `value`; `project_out` sets it to 0."""
    return Intervention(_make(lib.mlxterp_intervention_set_component, _single(direction)._handle, float(value)))


def compose(*parts: Any) -> Intervention:
    """One after another. Parts may be interventions, functions or lists of them."""
    if len(parts) == 1 and isinstance(parts[0], (list, tuple)):
        parts = tuple(parts[0])
    made = [intervention(p) for p in parts]
    handles = (c_void_p * max(len(made), 1))(*(m._handle for m in made))
    return Intervention(_make(lib.mlxterp_intervention_compose, handles, len(made)))._of("compose", made)


def custom(function: Callable[..., Any], name: str | None = None) -> Intervention:
    """Whatever a function makes of the value; None leaves it unchanged.

    The function gets an `Array`, which numpy and MLX functions take, and may return any of theirs. With two
    parameters it also gets the `Event`: site, step and each row's number of tokens.
    """
    if not callable(function):
        raise TypeError(f"{function!r} is no function")
    label = name or getattr(function, "__name__", None) or type(function).__name__
    c_text(label, "name")
    return Intervention(_hooks.custom(function, label, users_line()))._of("custom", function, label)


def from_json(text: str) -> Intervention:
    """From JSON such as {"kind": "scale", "factor": 0.5, "positions": [-1]}, or the short form scale(0.5)."""
    return Intervention(_make(lib.mlxterp_intervention_from_json, c_text(text, "text")))


Intervention.from_json = staticmethod(from_json)
