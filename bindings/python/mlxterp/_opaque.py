"""Python functions as opaque modules: modules of a description that the host computes."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from ctypes import byref, c_void_p, py_object
from typing import Any

from . import _abi
from ._library import Handle, check, lib, pending
from ._where import Place, add_note, users_line
from .array import Array

#: Functions that the library may call, by a number of ours, with the line that gave them.
_functions: dict[int, tuple[Callable[..., Any], Place | None]] = {}
_keys = itertools.count(1)


def _run(function: Callable[..., Any], given_at: Place | None, call: Any, out_values: Any) -> None:
    from .convert import asarray

    path = (call.path or b"").decode()
    try:
        inputs = [Array(lib.mlxterp_array_retain(call.inputs[i]) or 0) for i in range(call.input_count)]
        made = function(*inputs)
        values = list(made) if isinstance(made, (list, tuple)) else [made]
        wanted = call.output_count
        if len(values) != wanted or any(v is None for v in values):
            shown = "None" if made is None else f"{len(values)} values"
            raise ValueError(f"the function of the opaque module '{path}' gave {shown}, the description wants {wanted}")
        arrays = [asarray(v) for v in values]
        for i, array in enumerate(arrays):
            # An input that is given back has an owner already: the library gets a handle of its own.
            out_values[i] = lib.mlxterp_array_retain(array._handle)
    except BaseException as e:
        place = f" (given at {given_at})" if given_at else ""
        add_note(e, f"raised by the function of the opaque module '{path}'{place}")
        raise


@_abi.mlxterp_opaque_fn  # type: ignore[untyped-decorator]
def _call(key: int, call: Any, out_values: Any) -> int:
    try:
        _run(*_functions[key], call.contents, out_values)
    except BaseException as e:  # KeyboardInterrupt too: nothing may unwind through the library
        pending.error = e
        return 1
    return 0


@_abi.mlxterp_destroy_fn  # type: ignore[untyped-decorator]
def _forget(key: int, take: Any = _functions.pop) -> None:
    take(key, None)


# The library may let go of a function while the interpreter ends: these must still be there.
for _callback in (_call, _forget):
    ctypes.pythonapi.Py_IncRef(py_object(_callback))


class Function(Handle):
    """A Python function that models can be given for their opaque modules."""

    __slots__ = ()
    _free = lib.mlxterp_opaque_free

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        if not callable(function):
            raise TypeError(f"opaque['{name}'] must be a function, not {type(function).__name__}")
        key = next(_keys)
        _functions[key] = (function, users_line())
        out = c_void_p()
        check(lib.mlxterp_opaque_new(_call, key, _forget, byref(out)))
        self._handle = out.value or 0
