"""Interventions on MLX arrays: the library's own kinds and selections, done with `mlx.core`."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from .._hooks import Event, wants_event
from .._where import add_note
from ..errors import InvalidArgumentError, ShapeError, UnsupportedError
from ..interventions import Intervention
from .values import fit, own

_INTEGERS = (mx.int32, mx.int64, mx.uint32, mx.uint64, mx.int16, mx.uint16, mx.int8, mx.uint8)


def apply(intervention: Intervention, value: Any, site: str) -> Any:
    """What an intervention makes of a value, lazily: same shape, same dtype."""
    recipe = intervention.recipe
    if recipe is None:
        return _from_json(intervention, value, site)
    kind, *given = recipe
    if kind == "custom":
        return _custom(given[0], given[1], intervention, value, site)
    if kind == "compose":
        for part in given[0]:
            value = apply(part, value, site)
        return value
    if kind == "select":
        base, selection = given
        return mx.where(_mask(selection, value, site), apply(base, value, site), value)
    vector = fit(given[0], value, site)
    return vector if kind == "replace_with" else value + (vector if given[1] == 1.0 else vector * given[1])


def _custom(function: Callable[..., Any], name: str, made: Intervention, value: Any, site: str) -> Any:
    given = own(value)
    rows = value.shape[0] if value.ndim else 1
    event = Event(site, 0, (value.shape[1] if _position_axis(value) is not None else 1,) * rows)
    try:
        new = function(given, event) if wants_event(function) else function(given)
        return value if new is None else fit(new, value, site)
    except BaseException as e:
        place = f" (given at {made.given_at})" if made.given_at else ""
        add_note(e, f"raised by the intervention '{name}' at site '{site}'{place}")
        raise


def _from_json(intervention: Intervention, value: Any, site: str) -> Any:
    return _plain(json.loads(intervention.to_json()), value, site)


def _plain(said: dict[str, Any], value: Any, site: str) -> Any:
    new = _changed(said, value, site)
    selection = {axis: said[axis] for axis in ("rows", "positions", "heads", "neurons") if said.get(axis) is not None}
    return mx.where(_mask(selection, value, site), new, value) if selection else new


def _changed(said: dict[str, Any], value: Any, site: str) -> Any:
    kind = said["kind"]
    if kind == "zero_out":
        return mx.zeros_like(value)
    if kind == "scale":
        return value * said["factor"]
    if kind == "clamp":
        return mx.clip(value, said.get("low"), said.get("high"))
    if kind == "noise":
        return value + _noise(value, said["seed"], site).astype(value.dtype) * said.get("std", 1.0)
    if kind == "compose":
        return functools.reduce(lambda old, part: _plain(part, old, site), said["parts"], value)
    if kind in ("project_out", "set_component"):
        return _along(said["direction"], said.get("value", 0.0), value, site)
    written = said["vector" if kind == "add_vector" else "value"]
    array = mx.array(written["data"], dtype=mx.float32).reshape(written["shape"])
    vector = fit(array, value, site)
    return vector if kind == "replace_with" else value + vector * said.get("strength", 1.0)


def _along(written: dict[str, Any], component: float, value: Any, site: str) -> Any:
    """The value with its component along a direction set, in float32 as the library does it."""
    direction = mx.array(written["data"], dtype=mx.float32).reshape(written["shape"])
    if value.ndim == 0 or direction.shape[-1] != value.shape[-1]:
        raise ShapeError(
            f"a direction of shape {tuple(direction.shape)} at '{site}' of shape {tuple(value.shape)}: "
            "their last axes must be equal"
        )
    fit(direction, value, site)
    if bool(mx.any(mx.all(direction == 0, axis=-1)).item()):
        raise InvalidArgumentError("a direction of length 0 points nowhere: give one with a number other than 0")
    direction = direction / mx.max(mx.abs(direction), axis=-1, keepdims=True)
    unit = direction / mx.linalg.norm(direction, axis=-1, keepdims=True)
    wide = value.astype(mx.float32)
    there = mx.sum(wide * unit, axis=-1, keepdims=True)
    return (wide + (component - there) * unit).astype(value.dtype)


def _noise(value: Any, seed: int, site: str) -> Any:
    """Standard normal numbers, other ones at each site, the same ones in every row."""
    if value.ndim == 0:
        raise InvalidArgumentError(f"noise needs a site with rows; '{site}' is one number")
    key = mx.random.key((seed ^ (zlib.crc32(site.encode()) * 0x9E3779B97F4A7C15)) % 2**64)
    return mx.broadcast_to(mx.random.normal((1, *value.shape[1:]), key=key), value.shape)


def _position_axis(value: Any) -> int | None:
    tokens = value.ndim == 2 and value.dtype in _INTEGERS
    return 1 if value.ndim == 3 or tokens else None


def _mask(selection: dict[str, Any], value: Any, site: str) -> Any:
    """True where a selection points: rows on the first axis, positions on the second of three, neurons on the last."""
    mask = mx.array(True)
    for axis, chosen in selection.items():
        if axis == "heads":
            raise UnsupportedError(
                f"'{site}' is a module's value of shape {tuple(value.shape)}: nobody says which of its axes counts heads; "
                "slice it, or use a function"
            )
        at = {"rows": 0, "positions": _position_axis(value), "neurons": value.ndim - 1}[axis]
        if at is None or value.ndim == 0:
            raise InvalidArgumentError(f"'{site}' of shape {tuple(value.shape)} has no axis of {axis}: slice it yourself")
        if axis == "positions" and chosen and isinstance(chosen[0], list):
            if len(chosen) != value.shape[0]:
                raise InvalidArgumentError(f"positions for {len(chosen)} rows, but '{site}' has {value.shape[0]}")
            marks = mx.array([_marks(own_, value.shape[at], site, axis) for own_ in chosen])
            mask = mask & marks.reshape(value.shape[0], value.shape[at], *(1,) * (value.ndim - 2))
            continue
        shape = [1] * value.ndim
        shape[at] = value.shape[at]
        mask = mask & mx.array(_marks(chosen, value.shape[at], site, axis)).reshape(shape)
    return mask


def _marks(chosen: Sequence[int], n: int, site: str, axis: str) -> list[bool]:
    marked = [False] * n
    for i in chosen:
        if not -n <= i < n:
            raise InvalidArgumentError(f"'{site}' has no {axis.removesuffix('s')} {i}: there are {n}")
        marked[i] = True
    return marked


def norms(before: Any, after: Any) -> tuple[list[int], list[int], float]:
    """Rows and positions that a change touched, and its Euclidean norm."""
    squares = mx.square(after.astype(mx.float32) - before.astype(mx.float32))
    # Two equal infinities did not change, whatever their difference is.
    squares = mx.where(before == after, 0.0, squares)
    total = float(mx.sum(squares).item()) ** 0.5
    if squares.ndim == 0:
        return [], [], total

    def touched(axis: int) -> list[int]:
        flags = mx.any(squares != 0, axis=tuple(a for a in range(squares.ndim) if a != axis))
        return [i for i, flag in enumerate(flags.tolist()) if flag]

    axis = _position_axis(before)
    return touched(0), [] if axis is None else touched(axis), total
