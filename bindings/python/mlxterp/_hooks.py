"""Python functions as hooks of the library: called with a value, their own exceptions raised again as themselves."""

from __future__ import annotations

import ctypes
import inspect
import itertools
from collections.abc import Callable
from ctypes import byref, c_void_p, py_object
from typing import Any, NamedTuple

from . import _abi
from ._library import check, lib, pending
from ._where import Place, add_note


class Event(NamedTuple):
    """What a hook may know besides the value."""

    #: Full name of the site.
    site: str
    #: Generation step; 0 in a plain forward.
    step: int
    #: Tokens of each row of the batch.
    lengths: tuple[int, ...]


class _Hook(NamedTuple):
    function: Callable[..., Any]
    name: str
    wants_event: bool
    given_at: Place | None


#: Functions that the library may call, by a number of ours.
_hooks: dict[int, _Hook] = {}
_keys = itertools.count(1)


def _run(hook: _Hook, event: Any) -> int:
    """Calls a function; the handle of what it made, 0 for "unchanged"."""
    from .array import Array
    from .convert import operand

    lengths = tuple(event.lengths[: event.rows]) if event.rows else ()
    told = Event((event.site or b"").decode(), event.step, lengths)
    try:
        value = Array(lib.mlxterp_array_retain(event.value) or 0)
        made = hook.function(value, told) if hook.wants_event else hook.function(value)
        return 0 if made is None else operand(made, value).disown()
    except BaseException as e:
        place = f" (given at {hook.given_at})" if hook.given_at else ""
        add_note(e, f"raised by the intervention '{hook.name}' at site '{told.site}'{place}")
        raise


@_abi.mlxterp_hook_fn  # type: ignore[untyped-decorator]
def _call(key: int, event: Any, out_value: Any) -> int:
    try:
        out_value[0] = _run(_hooks[key], event.contents) or None
    except BaseException as e:  # KeyboardInterrupt too: nothing may unwind through the library
        pending.error = e
        return 1
    return 0


@_abi.mlxterp_destroy_fn  # type: ignore[untyped-decorator]
def _forget(key: int, take: Any = _hooks.pop) -> None:
    take(key, None)


# The library may let go of a hook while the interpreter ends: the functions must still be there.
for _callback in (_call, _forget):
    ctypes.pythonapi.Py_IncRef(py_object(_callback))


def wants_event(function: Callable[..., Any]) -> bool:
    """Whether a hook takes the event besides the value."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in functions may not say
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for p in parameters if p.kind in positional and p.default is p.empty) >= 2


def custom(function: Callable[..., Any], name: str, given_at: Place | None) -> int:
    """A new intervention handle on a function."""
    key = next(_keys)
    _hooks[key] = _Hook(function, name, wants_event(function), given_at)
    out = c_void_p()
    check(lib.mlxterp_intervention_custom(name.encode(), _call, key, _forget, byref(out)))
    return out.value or 0
