"""What goes in and out of modules: arrays, and tuples, lists, dicts and dataclasses of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..array import Array
from ..errors import ShapeError

if TYPE_CHECKING:
    from .trace import ModuleTrace

Keys = tuple[str, ...]


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def parts(value: Any) -> list[tuple[str, Any]] | None:
    """The named parts of a structure; None for anything else."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value))
    if isinstance(value, (list, tuple)):
        return [(str(i), v) for i, v in enumerate(value)]
    # A module is a dict too, but nobody hands its weights on as values.
    if isinstance(value, dict) and not hasattr(value, "parameters"):
        return [(str(k), v) for k, v in value.items()]
    if _is_record(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return None


def leaves(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Everything in a structure that is none itself, with the way there."""
    inner = parts(value)
    if inner is None:
        yield keys, value
        return
    for name, part in inner:
        yield from leaves(part, (*keys, name))


def rebuilt(value: Any, change: Callable[[Keys, Any], Any], keys: Keys = ()) -> Any:
    """The same structure of other leaves; the very same object when nothing changed."""
    inner = parts(value)
    if inner is None:
        return change(keys, value)
    made = [rebuilt(part, change, (*keys, name)) for name, part in inner]
    if all(new is old for new, (_, old) in zip(made, inner)):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*made)
    if isinstance(value, dict):
        return _like(value, zip(value, made))
    if isinstance(value, (list, tuple)):
        return type(value)(made)
    new = copy.copy(value)
    for (name, _), part in zip(inner, made):
        object.__setattr__(new, name, part)
    return new


def _like(value: dict[Any, Any], items: Any) -> Any:
    made = copy.copy(value)
    made.update(items)
    return made


def at(value: Any, keys: Keys) -> Any:
    """The part of a structure at the end of a way; KeyError when there is none."""
    for key in keys:
        value = dict(parts(value) or ())[key]
    return value


def own(value: Any) -> Any:
    """An array object of our own on the same value: what others do to theirs in place does not reach it."""
    return copy.copy(value) if isinstance(value, mx.array) else value


def to_mx(value: Any) -> Any:
    """Anything as an MLX array."""
    if isinstance(value, Array):
        return value.__mlx_array__()
    return value if isinstance(value, mx.array) else mx.array(value)


def fit(value: Any, old: Any, site: str) -> Any:
    """A written value in the dtype and shape of the old one: a write keeps both."""
    new = to_mx(value).astype(old.dtype)
    if new.shape == old.shape:
        return own(new)
    pairs = list(zip(reversed(new.shape), reversed(old.shape)))
    if new.ndim > old.ndim or any(n not in (o, 1) for n, o in pairs):
        raise ShapeError(
            f"'{site}': a value of shape {tuple(new.shape)} does not fit the site's shape {tuple(old.shape)}: it must be "
            "equal or broadcast to it"
        )
    return mx.broadcast_to(new, old.shape)


class SiteArray(mx.array):  # type: ignore[misc, unused-ignore]
    """A value of a trace: an `mlx.core.array` that knows where it was read. Assigning to part of it is a write there."""

    _trace: ModuleTrace
    _site: str

    @classmethod
    def of(cls, value: Any, trace: ModuleTrace, site: str) -> SiteArray:
        """The value as the user holds it."""
        made = cls(value)
        made._trace = trace
        made._site = site
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        self._trace.write_at(self._site, key, value)

    def save(self) -> SiteArray:
        """Says that the value is to outlive its trace. What you hold does so anyway."""
        return self

    # MLX's own change the object in place, which would then stand where the site's value stood.
    def __iadd__(self, other: Any) -> Any:
        return self + other

    def __isub__(self, other: Any) -> Any:
        return self - other

    def __imul__(self, other: Any) -> Any:
        return self * other

    def __itruediv__(self, other: Any) -> Any:
        return self / other


class SiteTuple(tuple):  # type: ignore[type-arg]
    """Several values of one site: each can be assigned."""

    _trace: ModuleTrace
    _site: str

    def __setitem__(self, index: int, value: Any) -> None:
        self._trace.write(f"{self._site}.{range(len(self))[index]}", value)


class SiteList(list):  # type: ignore[type-arg]
    """Several values of one site: each can be assigned."""

    _trace: ModuleTrace
    _site: str

    def __setitem__(self, index: Any, value: Any) -> None:
        self._trace.write(f"{self._site}.{range(len(self))[index]}", value)


class SiteDict(dict):  # type: ignore[type-arg]
    """Several values of one site: each can be assigned."""

    _trace: ModuleTrace
    _site: str

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self:
            raise KeyError(f"'{self._site}' has no value '{key}': it has {', '.join(map(str, self))}")
        self._trace.write(f"{self._site}.{key}", value)


def handed(value: Any, trace: ModuleTrace, base: str, number: str) -> Any:
    """A value or structure as the user gets it; `base` and `number` are its name and the `#k` behind it."""
    site = base + number
    if isinstance(value, mx.array):
        return SiteArray.of(value, trace, site)
    inner = parts(value)
    if inner is None:
        return value
    made = {name: handed(part, trace, f"{base}.{name}", number) for name, part in inner}
    kinds: dict[type, type] = {tuple: SiteTuple, list: SiteList}
    if type(value) in kinds:
        several: Any = kinds[type(value)](made.values())
    elif type(value) is dict:
        several = SiteDict(zip(value, made.values()))
    else:
        return rebuilt(value, lambda keys, leaf: at(made, keys))
    # The names of parts stand before the number of the call.
    several._trace, several._site = trace, base
    if number:
        several._trace = _Numbered(trace, number)
    return several


class _Numbered:
    """A trace in which names get the number of a call at their end."""

    def __init__(self, trace: ModuleTrace, number: str) -> None:
        self._of, self._number = trace, number

    def write(self, site: str, value: Any) -> None:
        self._of.write(site + self._number, value)
