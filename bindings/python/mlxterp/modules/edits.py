"""Writes: what is put in the place of a value, and what came of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx

from .._where import Place
from ..errors import InvalidArgumentError
from ..interventions import Intervention
from . import changes
from .recording import Leaf
from .values import fit, leaves, own, parts, to_mx

Change = Callable[[Any], Any]


class Edit:
    """One write at one leaf. What it did is kept, so that making a run again does not ask a function twice."""

    def __init__(self, leaf: Leaf, words: str, change: Change, place: Place | None) -> None:
        self.leaf = leaf
        self.words = words
        self.change = change
        self.place = place
        self.before: Any = None
        self.after: Any = None

    def applied(self, value: Any) -> Any:
        """The new value, worked out once."""
        if self.after is None:
            after = self.change(own(value))
            self.before, self.after = own(value), own(after)
        return own(self.after)

    def forget(self) -> None:
        """The value that it changes is about to be another."""
        self.before = self.after = None

    def copied(self) -> Edit:
        """The same for a fork, which may see another value there."""
        return copy.copy(self)

    def receipt(self, reached: bool) -> dict[str, Any]:
        """What it did, in numbers."""
        rows, positions, norm = changes.norms(self.before, self.after)
        return {
            "site": self.leaf.name, "change": self.words, "step": 0, "rows": rows, "positions": positions,
            "change_norm": norm, "reached": reached,
        }  # fmt: skip


def replacing(leaf: Leaf, old: Any, value: Any, place: Place | None) -> Edit:
    """A value in the place of a whole leaf; it keeps dtype and shape."""
    fitted = fit(value, old, leaf.name)
    return Edit(leaf, "value", lambda _: fitted, place)


def replacing_part(leaf: Leaf, old: Any, key: Any, value: Any, place: Place | None) -> Edit:
    """A value in the place of part of a leaf. What does not fit is an error here and not at some later read."""
    _check_key(key, old, leaf.name)
    new = to_mx(value).astype(old.dtype)

    def change(was: Any) -> Any:
        was[key] = new
        return was

    change(own(old))
    return Edit(leaf, "value", change, place)


def intervening(leaf: Leaf, made: Intervention, place: Place | None) -> Edit:
    """An intervention at a leaf."""
    return Edit(leaf, repr(made), lambda old: changes.apply(made, old, leaf.name), place)


def paired(arrays: list[tuple[Leaf, Any]], old: Any, value: Any, site: str) -> Iterator[tuple[Leaf, Any, Any]]:
    """Leaf, old and new value of a write to a value or a structure, in which None stands for "as it is"."""
    if not arrays:
        raise InvalidArgumentError(f"'{site}' is no array ({type(old).__name__}): it can be read, not changed")
    if parts(old) is None:
        yield (*arrays[0], value)
        return
    new, wanted = dict(leaves(value)), dict(leaves(old))
    if set(new) != set(wanted):
        raise InvalidArgumentError(
            f"'{site}' holds {len(wanted)} values; what was written has {len(new)} or another structure"
        )
    depth = len(arrays[0][0].keys) - len(next(k for k, v in wanted.items() if isinstance(v, mx.array)))
    for leaf, was in arrays:
        if new[leaf.keys[depth:]] is not None:
            yield leaf, was, new[leaf.keys[depth:]]


def _check_key(key: Any, value: Any, site: str) -> None:
    """MLX does not look whether an index is inside."""
    given = key if isinstance(key, tuple) else (key,)
    n = sum(1 for k in given if k is not None and k is not Ellipsis)
    axis = 0
    for k in given:
        if k is None:
            continue
        if k is Ellipsis:
            axis = value.ndim - (n - axis)
            continue
        if isinstance(k, int) and not isinstance(k, bool):
            size = value.shape[axis] if axis < value.ndim else 0
            if not -size <= k < size:
                raise IndexError(f"'{site}': index {k} is outside axis {axis} of shape {tuple(value.shape)}")
        axis += 1
